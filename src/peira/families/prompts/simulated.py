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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peira.errors import InputError, ProviderFailure
from peira.families.prompts.abstention import phrases
from peira.families.prompts.data import Item
from peira.families.prompts.scoring import f1_score, normalise
from peira.subjects.simulated import SimSpec
from peira.subjects.subject import Reply, Request, Usage

NORMAL = NormalDist()
WRONG = ("Harlow", "1742", "Lake Orin", "copper sulphate", "Doctor Venn", "nine hundred", "Tamsin")


class _Dials(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Parameters(_Dials):
    """Dials of the respondent; logits, a correlation, and rates of faults."""

    skill: float = 0.5
    caution: float = -2.5
    awareness: float = 2.5
    rho: float = Field(0.5, ge=0, le=1)
    truncated: float = Field(0.0, ge=0, le=1)
    refused: float = Field(0.0, ge=0, le=1)
    error: float = Field(0.0, ge=0, le=1)


class Effect(_Dials):
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


def expected(items: Sequence[Item], dials: Parameters, effect: Effect) -> dict[str, Any]:
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
        effects = [name for name in spec.options if name.rpartition(".")[2] in Effect.model_fields]
        spec.only(*Parameters.model_fields, *effects)
        own = [name for name in spec.options if name in Parameters.model_fields] + effects
        numbers = {name: spec.number(name, 0.0) for name in own}
        self.effects = {name: numbers.pop(name) for name in effects}
        try:
            self.dials = Parameters(**numbers).model_dump(include=set(numbers))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            said = f"{fault['loc'][0]}={fault['input']}"
            raise InputError(f"simulated respondent: {said}\n  allowed: 0 to 1") from None
        self._resolved: dict[Any, tuple[Parameters, Effect]] = {}

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
        key = (seen.parameters, seen.effect, seen.arms)
        if key not in self._resolved:
            named = [(*name.rpartition("."), value) for name, value in self.effects.items()]
            own = {kind: value for arm, _, kind, value in named if arm in seen.arms}
            self._resolved[key] = (
                (seen.parameters or Parameters()).model_copy(update=self.dials),
                (seen.effect or Effect()).model_copy(update=own),
            )
        return self._resolved[key]


def _fault(seen: Observation, dials: Parameters) -> str | None:
    rates = {name: getattr(dials, name) for name in ("truncated", "refused", "error")}
    draw = uniform(seen.request_key, "fault") if any(rates.values()) else 1
    for name, rate in rates.items():
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
        taken = {normalise(gold) for gold in item.answers}
        return _pick([p for p in phrases() if normalise(p) not in taken], seen.request_key)
    if draw(seen, "correct", dials.rho) < correct_probability(item, dials, effect):
        gold = item.answers[0]
        dresses = (gold, gold.upper(), gold.lower(), f"the {gold}", f'"{gold}"', f"{gold}.")
        worn = _pick(dresses, seen.request_key)
        return worn if normalise(worn) == normalise(gold) else gold
    return _distractor(item, seen.request_key)


def _pick(choices: Sequence[str], key: str) -> str:
    return choices[int(uniform(key, "text") * len(choices))]


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
    found: dict[str, dict[str, Any]] = {}
    for kind in sorted({item.type for item in items}):
        own = [item for item in items if item.type == kind]
        means = {arm: expected(own, *dials) for arm, dials in arms.items()}
        control = means["control"]
        deltas = {
            arm: {n: None if v is None else v - control[n] for n, v in values.items()}
            for arm, values in means.items() if arm != "control"
        }  # fmt: skip
        found[kind] = {"n_items": len(own), "means": means, "delta": deltas}
    return found
