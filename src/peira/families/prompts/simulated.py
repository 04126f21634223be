"""The simulated respondent: answers in text, with a truth that is known beforehand.

With sigma the logistic function and b an item's difficulty in logits,
P(abstain) = sigma(caution + b + abstain) on answerable items and sigma(caution + awareness +
abstain) on unanswerable ones; P(correct | answered) = sigma(skill + accuracy - b), where `abstain`
and `accuracy` are the effects planted in the arm's prompt. Invariant: what it says depends on
(seed, item, request key) alone; arms share the item's part of the draw (Gaussian copula, weight
sqrt(rho)), so paired analysis gains what it would gain from a real model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any

from peira.errors import InputError, ProviderFailure
from peira.families.prompts.abstention import phrases
from peira.families.prompts.data import Item
from peira.families.prompts.scoring import f1_score, normalise
from peira.subjects.simulated import SimSpec
from peira.subjects.subject import Reply, Request, Usage

NORMAL = NormalDist()
WRONG = ("Harlow", "1742", "Lake Orin", "copper sulphate", "Doctor Venn", "nine hundred", "Tamsin")
EFFECTS = ("accuracy", "abstain")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Dials of the respondent; logits, a correlation, and rates of faults."""

    skill: float = 0.5
    caution: float = -2.5
    awareness: float = 2.5
    rho: float = 0.5
    truncated: float = 0.0
    refused: float = 0.0
    error: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rho", "truncated", "refused", "error"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"simulated respondent: {name}={getattr(self, name)}\n  allowed: 0 to 1"
                )


@dataclass(frozen=True, slots=True)
class Effect:
    """What an arm's prompt changes, in logits."""

    accuracy: float = 0.0
    abstain: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What the respondent decides from; a real model never sees it."""

    item: Item
    request_key: str
    seed: int
    parameters: Parameters | None = None
    effect: Effect | None = None
    arms: tuple[str, ...] = ()


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def uniform(*parts: str | int) -> float:
    """A number in (0, 1) that the parts determine."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode("utf-8", "surrogatepass"))
    return (int.from_bytes(digest.digest()[:7], "big") + 0.5) / 2**56


def difficulty(item: Item) -> float:
    """The item's difficulty in logits; by default Phi^-1 of a hash of its key."""
    given = item.meta.get("difficulty")
    return float(given) if given is not None else NORMAL.inv_cdf(uniform("difficulty", item.key))


def abstain_probability(item: Item, dials: Parameters, effect: Effect) -> float:
    """P(abstain) of one complete reply."""
    pull = difficulty(item) if item.answerable else dials.awareness
    return logistic(dials.caution + pull + effect.abstain)


def correct_probability(item: Item, dials: Parameters, effect: Effect) -> float:
    """P(correct | answered); 0 on unanswerable items."""
    if item.is_unanswerable:
        return 0.0
    return logistic(dials.skill + effect.accuracy - difficulty(item))


def expected(items: Sequence[Item], dials: Parameters, effect: Effect) -> dict[str, float | None]:
    """Expected mean of each metric over the items, given a complete reply."""
    em, abstain, false_answer = [], [], []
    for item in items:
        quiet = abstain_probability(item, dials, effect)
        abstain.append(quiet)
        if item.is_unanswerable:
            em.append(quiet)
            false_answer.append(1 - quiet)
        else:
            em.append((1 - quiet) * correct_probability(item, dials, effect))
    return {
        "em": _mean(em),
        "f1": _mean(em),
        "abstain_rate": _mean(abstain),
        "false_answer_rate": _mean(false_answer),
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


class Respondent:
    """`sim:respondent`. Options are the dials, and `SET.ARM.accuracy`, `SET.ARM.abstain`."""

    def __init__(self, spec: SimSpec) -> None:
        numbers = {name: spec.number(name, 0.0) for name in spec.options if _is_dial(name)}
        self.effects = {n: v for n, v in numbers.items() if n.rpartition(".")[2] in EFFECTS}
        spec.only(*Parameters.__slots__, *self.effects)
        self.dials = {n: v for n, v in numbers.items() if n in Parameters.__slots__}

    def answer(self, request: Request) -> str | Reply:
        """One reply in text, cut or refused at the rates asked for. Raises ProviderFailure."""
        seen = request.observation
        if not isinstance(seen, Observation):
            raise InputError("sim:respondent answers items of the `prompts` family only")
        dials, effect = self.resolve(seen)
        fault = _fault(seen, dials)
        if fault == "error":
            raise ProviderFailure("simulated: HTTP 503, retries exhausted")
        text = reply_text(seen, dials, effect)
        usage = _usage(request, text)
        if fault == "refused":
            return Reply("", "", replace(usage, completion_tokens=0), "refusal", request.model)
        if fault == "truncated":
            return Reply(text[: len(text) // 2], "", usage, "length", request.model)
        return Reply(text, "", usage, "stop", request.model)

    def resolve(self, seen: Observation) -> tuple[Parameters, Effect]:
        """Dials and effect: the study's, overruled by this subject's own options."""
        return _resolved(
            tuple(self.dials.items()), tuple(self.effects.items()),
            seen.parameters or Parameters(), seen.effect or Effect(), seen.arms,
        )  # fmt: skip


@lru_cache(maxsize=1024)
def _resolved(
    dials: tuple[tuple[str, float], ...],
    effects: tuple[tuple[str, float], ...],
    parameters: Parameters,
    effect: Effect,
    arms: tuple[str, ...],
) -> tuple[Parameters, Effect]:
    own = {
        kind: value
        for name, value in effects
        for arm, _, kind in [name.rpartition(".")]
        if arm in arms
    }
    return replace(parameters, **dict(dials)), replace(effect, **own)


def _is_dial(name: str) -> bool:
    return name in Parameters.__slots__ or name.rpartition(".")[2] in EFFECTS


def _fault(seen: Observation, dials: Parameters) -> str | None:
    draw = (
        uniform(seen.request_key, "fault") if dials.truncated or dials.refused or dials.error else 1
    )
    for name in ("truncated", "refused", "error"):
        rate = getattr(dials, name)
        if draw < rate:
            return name
        draw -= rate
    return None


def draw(seen: Observation, what: str, rho: float) -> float:
    """A uniform draw whose item part arms share and whose row part the request key seeds."""
    shared = NORMAL.inv_cdf(uniform(seen.seed, seen.item.key, what))
    own = NORMAL.inv_cdf(uniform(seen.request_key, what))
    return NORMAL.cdf(math.sqrt(rho) * shared + math.sqrt(1 - rho) * own)


def reply_text(seen: Observation, dials: Parameters, effect: Effect) -> str:
    """A gold in some dress, a distractor, or a phrase that declines."""
    item = seen.item
    if draw(seen, "abstain", dials.rho) < abstain_probability(item, dials, effect):
        return _pick(_declining(item.answers), seen.request_key)
    if draw(seen, "correct", dials.rho) < correct_probability(item, dials, effect):
        return _dressed(item.answers[0], seen.request_key)
    return _distractor(item, seen.request_key)


def _pick(choices: Sequence[str], key: str) -> str:
    return choices[int(uniform(key, "text") * len(choices))]


@lru_cache(maxsize=64)
def _all_phrases() -> tuple[str, ...]:
    return tuple(phrases())


def _declining(golds: Iterable[str]) -> Sequence[str]:
    taken = {normalise(gold) for gold in golds}
    return [p for p in _all_phrases() if normalise(p) not in taken]


def _dressed(gold: str, key: str) -> str:
    """The gold in another case, with an article, in quotes or with a full stop."""
    dresses = (gold, gold.upper(), gold.lower(), f"the {gold}", f'"{gold}"', f"{gold}.")
    worn = dresses[int(uniform(key, "text") * len(dresses))]
    return worn if normalise(worn) == normalise(gold) else gold


def _distractor(item: Item, key: str) -> str:
    """A wrong answer that shares no token with a gold."""
    given = tuple(str(text) for text in item.meta.get("distractors") or ())
    for choices in (given, WRONG):
        start = int(uniform(key, "text") * len(choices))
        for text in (*choices[start:], *choices[:start]):
            if not item.answers or f1_score(text, item.answers) == 0:
                return text
    return "Zzyzx Qwv"


def _usage(request: Request, text: str) -> Usage:
    prompt = sum(len(message.content) for message in request.messages)
    return Usage(prompt // 4 + 1, len(text) // 4 + 1)


def truth(
    items: Sequence[Item], arms: Mapping[str, tuple[Parameters, Effect]]
) -> dict[str, dict[str, Any]]:
    """Per item type: each arm's expected means, and its expected difference from control."""
    types = {item.type for item in items}
    return {kind: _truth([i for i in items if i.type == kind], arms) for kind in sorted(types)}


def _truth(items: Sequence[Item], arms: Mapping[str, tuple[Parameters, Effect]]) -> dict[str, Any]:
    means = {arm: expected(items, *dials) for arm, dials in arms.items()}
    control = means["control"]
    deltas = {
        arm: {name: _minus(value, control[name]) for name, value in found.items()}
        for arm, found in means.items()
        if arm != "control"
    }
    return {"n_items": len(items), "means": means, "delta": deltas}


def _minus(value: float | None, control: float | None) -> float | None:
    return None if value is None or control is None else value - control
