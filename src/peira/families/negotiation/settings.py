"""What one negotiation may be asked: the game, the protocol, who sits where.

Invariant: `models` is always resolved (2 to 10 names in seat order), whichever form was given; the
guide's form (`weak_model`, `strong_model`, `model_order`) stays in the record beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from peira.study.reader import misfit
from peira.subjects.subject import Sampling

Phase = Literal["discussion", "thinking", "proposal", "vote", "reflection"]
PHASES: tuple[Phase, ...] = get_args(Phase)
Acceptance = Literal["unanimity", "two_thirds", "majority"]
SpeakingOrder = Literal["fixed", "rotate", "random"]
ModelOrder = Literal["weak_first", "strong_first"]

DEFAULT_MAX_TOKENS: dict[Phase, int] = {
    "discussion": 2048,
    "thinking": 4096,
    "proposal": 4096,
    "vote": 2048,
    "reflection": 2048,
}
JUDGE_TOKENS = 1024


class SubjectSampling(BaseModel):
    """How one subject's replies are drawn. `max_tokens` is one number or one for each phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | dict[Phase, int] | None = None
    reasoning_effort: str | None = None

    def limit(self, phase: Phase) -> int:
        """Output tokens a reply of this phase may use."""
        if isinstance(self.max_tokens, int):
            return self.max_tokens
        return (self.max_tokens or {}).get(phase, DEFAULT_MAX_TOKENS[phase])


class Instance(BaseModel):
    """A stated instance in place of a drawn one: for replaying recorded games, or a game of one's
    own. `labels` are what prompts call the seats."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[str, ...] = Field(min_length=1, max_length=30)
    values: tuple[tuple[float, ...], ...] = Field(min_length=2, max_length=10)
    labels: tuple[str, ...] | None = None


class Fork(BaseModel):
    """What makes a trial a fork of another (`peira fork`): from `turn` on, other subjects in seats,
    stated words in place of a seat's first statement, and chances of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    turn: int = Field(ge=1)
    arm: Literal["changed", "control"]
    sample: int = Field(ge=1)
    models: tuple[str, ...] | None = None
    say: dict[int, str] = Field(default_factory=dict, description="seat, from 0 -> words")


class NegotiationSettings(BaseModel):
    """Settings of one trial (specs/negotiation.md §1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(description="2 to 10 subject names, in seat order")
    weak_model: str | None = Field(None, description="guide form; needs strong_model")
    strong_model: str | None = Field(None, description="guide form; needs weak_model")
    model_order: ModelOrder | None = Field(None, description="guide form: who sits first")
    num_items: int = Field(5, ge=1, le=30)
    num_agents: int = Field(2, ge=2, le=10, description="must agree with `models`")
    max_rounds: int = Field(10, ge=1, le=1000)
    gamma_discount: float = Field(0.9, gt=0, le=1, description="payoff factor per round of delay")
    competition_level: float = Field(0.5, ge=0, le=1, description="cosine of any two value vectors")
    preferences: Literal["vector", "matrix"] = "vector"
    cooperation: float = Field(
        0.0, ge=-1, le=1, description="matrix only: weight on others' values"
    )
    acceptance: Acceptance = "unanimity"
    discussion_turns: int = Field(2, ge=0, le=20, description="laps of public talk; 0 is none")
    thinking: bool = True
    reflection: bool = True
    speaking_order: SpeakingOrder = "fixed"
    anonymous: bool = Field(True, description="prompts say Agent 1..n, never a model's name")
    disagreement: float = Field(0.0, description="payoff of no deal, for every seat")
    sampling: dict[str, SubjectSampling] = Field(
        default_factory=dict, description="by subject name, or `default` for all"
    )
    random_seed: int | None = Field(None, description="default: the trial's seed")
    judge: str | None = Field(None, description="a subject that rates every public message")
    judge_repeats: int = Field(1, ge=1, le=5, description="2 or more give test-retest agreement")
    instance: Instance | None = Field(None, description="default: drawn by seed")
    fork: Fork | None = Field(None, description="set by `peira fork`")
    run_number: int | None = Field(None, ge=1, description="guide form: names the trial's folder")

    @model_validator(mode="before")
    @classmethod
    def _resolve_models(cls, data: Any) -> Any:
        return _resolved(dict(data)) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _consistent(self) -> NegotiationSettings:
        for path, allowed in _faults(self):
            steps = tuple(path.split("."))
            raise misfit(steps, getattr(self, steps[0]), allowed)
        return self

    def sampling_of(self, model: str) -> SubjectSampling:
        """The sampling of one subject: its own, else `default`, else the provider's defaults."""
        return self.sampling.get(model) or self.sampling.get("default") or SubjectSampling()

    def samplings(self, model: str) -> dict[Phase, Sampling]:
        """How one subject's replies are drawn, phase by phase."""
        own = self.sampling_of(model)
        return {
            phase: Sampling(
                temperature=own.temperature, top_p=own.top_p, max_tokens=own.limit(phase),
                reasoning_effort=own.reasoning_effort,
            )
            for phase in PHASES
        }  # fmt: skip

    @property
    def judging(self) -> Sampling:
        """How the judge's ratings are drawn."""
        temperature = self.sampling_of(self.judge or "").temperature
        return Sampling(max_tokens=JUDGE_TOKENS, temperature=temperature)

    @property
    def first_is_weak(self) -> bool | None:
        """Whether seat 1 holds the guide's weak model; None outside the guide's form."""
        return None if self.weak_model is None else self.model_order != "strong_first"

    @property
    def seats(self) -> tuple[str, ...]:
        """Seat labels as prompts show them, in seat order."""
        stated = self.instance.labels if self.instance is not None else None
        return stated or seat_labels(self.models, self.anonymous)


@lru_cache(maxsize=64)
def seat_name(seat: int) -> str:
    """Name of a seat in records, whatever prompts call it."""
    return f"Agent {seat + 1}"


def seat_labels(models: tuple[str, ...], anonymous: bool = True) -> tuple[str, ...]:
    """`Agent k`, or the model's name with its seat where names are shown (`gpt_4o_1`)."""
    if anonymous:
        return tuple(seat_name(k) for k in range(len(models)))
    plain = ("".join(c if c.isalnum() else "_" for c in model) for model in models)
    return tuple(f"{name}_{k + 1}" for k, name in enumerate(plain))


def _resolved(data: dict[str, Any]) -> dict[str, Any]:
    """Fill `models` from the guide's form, and `num_agents` from `models`."""
    weak, strong = data.get("weak_model"), data.get("strong_model")
    if weak and strong:
        order = data.setdefault("model_order", "weak_first")
        pair = (weak, strong) if order == "weak_first" else (strong, weak)
        given = data.get("models")
        names = list(given) if isinstance(given, list | tuple) else [given]
        if given is not None and sorted(map(str, names)) != sorted(map(str, pair)):
            raise ValueError(
                f"models: {names}: allowed: {list(pair)}, as weak_model and strong_model say: "
                "give one form"
            )
        data["models"] = pair
    models = data.get("models")
    if isinstance(models, list | tuple) and data.get("num_agents") is None:
        data["num_agents"] = max(2, min(10, len(models)))
    stated = data.get("instance")
    if isinstance(stated, dict) and isinstance(stated.get("items"), list | tuple):
        data.setdefault("num_items", len(stated["items"]))
    return data


def _misfits(settings: NegotiationSettings, stated: Instance) -> Iterator[tuple[str, str]]:
    """Faults of a stated instance."""
    n, m = len(settings.models), len(stated.items)
    if settings.num_items != m:
        yield "num_items", f"{m}, the number of instance.items"
    if len(stated.values) != n or any(len(row) != m for row in stated.values):
        yield "instance.values", f"{n} rows of {m} numbers: one row a seat, one number an item"
    if any(value < 0 for row in stated.values for value in row):
        yield "instance.values", "0 or more: values are points gained"
    if len(set(stated.items)) != m:
        yield "instance.items", "names that differ: each item once"
    if stated.labels is not None and len(set(stated.labels)) != n:
        yield "instance.labels", f"{n} names that differ: one a seat"


def _possible(settings: NegotiationSettings) -> bool:
    from peira.families.negotiation.preferences import possible

    return possible(len(settings.models), settings.num_items, settings.competition_level)


def _faults(settings: NegotiationSettings) -> Iterator[tuple[str, str]]:
    """Cross-field faults: the place, and what is allowed there."""
    count = len(settings.models)
    if not 2 <= count <= 10:
        yield "models", f"2 to 10 names, one for each seat; here {count}"
    elif settings.num_agents != count:
        yield "num_agents", f"{count}, the number of `models`"
    if (settings.weak_model is None) != (settings.strong_model is None):
        yield "weak_model", "it needs strong_model: give both, or `models` alone"
    if settings.model_order and settings.weak_model is None:
        yield "model_order", "it needs weak_model and strong_model: or give `models` in seat order"
    drawn = settings.instance is None
    if drawn and settings.competition_level == 0 and count > settings.num_items:
        yield (
            "competition_level",
            f"above 0 with {count} agents and {settings.num_items} items: disjoint interests need"
            f" num_items >= {count}",
        )
    elif drawn and count > settings.num_items and not _possible(settings):
        yield (
            "competition_level",
            f"nearer 1 with {count} agents and {settings.num_items} items: no such values exist;"
            f" or raise num_items to {count}",
        )
    if settings.cooperation and settings.preferences == "vector":
        yield "cooperation", "0 here: set preferences to matrix"
    if settings.instance is not None:
        yield from _misfits(settings, settings.instance)
    unknown = set(settings.sampling) - {*settings.models, "default"}
    if unknown:
        yield (
            "sampling",
            f"{', '.join(['default', *settings.models])}; here {', '.join(sorted(unknown))}",
        )
