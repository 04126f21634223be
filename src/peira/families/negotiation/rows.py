"""One tidy row a game, from a run's records: what every table and figure is made of.

Invariant: every planned trial gives a row; one without an outcome has `outcome` None and counts as
missing in its cell, never as "no deal".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from peira.families.negotiation.outcome import COUNTS
from peira.families.negotiation.settings import seat_name

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

AXES = ("mmlu_pro", "arena_elo", "params_b", "skill")
AXIS_LABELS = {
    "mmlu_pro": "MMLU-Pro (%)",
    "arena_elo": "Arena Elo",
    "log10_params_b": "log10 parameters (billions)",
    "skill": "planted skill",
}

DRAWN = ("num_items", "num_agents", "preferences", "cooperation", "disagreement", "instance")


@dataclass(frozen=True)
class Row:
    """One game. `models` are the subjects in seat order; `outcome` is the record's, or None."""

    number: int
    slug: str
    models: tuple[str, ...]
    weak: str | None
    strong: str | None
    level: float
    seed: int
    order: str | None
    extra: tuple[tuple[str, Any], ...]
    rounds_allowed: int
    disagreement: float
    state: str
    cause: str | None
    cost: int
    tokens: int
    outcome: Mapping[str, Any] | None = field(hash=False, compare=False, default=None)

    @property
    def done(self) -> bool:
        return self.outcome is not None

    @property
    def deal(self) -> bool:
        return self.outcome is not None and bool(self.outcome["consensus"])

    @property
    def pair(self) -> tuple[str, str] | None:
        """(weak, strong) of a two-seat game between different models; None otherwise."""
        if self.weak is None or self.strong is None:
            return None
        return (self.weak, self.strong)

    @cached_property
    def strong_seat(self) -> int | None:
        """Seat of the strong model."""
        return None if self.pair is None else self.models.index(self.strong or "")

    @property
    def block(self) -> tuple[Any, ...]:
        """The instance: games that share it are role swaps, other rules or repetitions, not new
        units."""
        return (self.level, self.seed, self.drawn)

    @cached_property
    def drawn(self) -> tuple[tuple[str, Any], ...]:
        """Factors that change what is divided; all others only change how."""
        return tuple(pair for pair in self.extra if pair[0] in DRAWN)

    def seat_value(self, key: str, seat: int) -> float | None:
        """A per-seat number of the outcome (`utility`, `raw`, `share`)."""
        value = self.outcome[key][seat] if self.outcome is not None else None
        return None if value is None else float(value)

    def yardstick(self, key: str, seat: int) -> float | None:
        """A per-seat yardstick; None where undefined or without an outcome."""
        if self.outcome is None:
            return None
        row = self.outcome["yardsticks"][key]
        return None if row is None or row[seat] is None else float(row[seat])

    def difference(self, key: str = "utility") -> float | None:
        """Strong's less weak's."""
        if self.outcome is None or self.strong_seat is None:
            return None
        row = self.outcome[key]
        return float(row[self.strong_seat] - row[1 - self.strong_seat])

    def nash_share(self, seat: int) -> float | None:
        """Raw utility as a share of the nearest Nash point's: 1 is fair."""
        nash, raw = self.yardstick("nash", seat), self.seat_value("raw", seat)
        return raw / nash if raw is not None and nash else None

    def position(self, seat: int) -> float | None:
        """Raw utility between disagreement (0) and the seat's ideal (1)."""
        ideal, raw = self.yardstick("ideal", seat), self.seat_value("raw", seat)
        if ideal is None or raw is None or ideal <= self.disagreement:
            return None
        return (raw - self.disagreement) / (ideal - self.disagreement)

    def count(self, seat: int, what: str) -> int:
        """One of the counts of illegal offers, repairs, …"""
        if self.outcome is None:
            return 0
        return int(self.outcome["counts"].get(seat_name(seat), {}).get(what, 0))

    def phases(self, seat: int) -> Mapping[str, Mapping[str, int]]:
        """phase -> calls, tokens and cost of one seat."""
        if self.outcome is None:
            return {}
        name = seat_name(seat)
        return {p: seats[name] for p, seats in self.outcome["spent"].items() if name in seats}


@dataclass(frozen=True)
class Games:
    """All rows of a run, with the capability of every model."""

    rows: tuple[Row, ...]
    capability: Mapping[str, Mapping[str, float]]
    simulated: bool

    @cached_property
    def models(self) -> tuple[str, ...]:
        """All models, weakest first on the main axis."""
        names = {model for row in self.rows for model in row.models}
        return tuple(sorted(names, key=lambda name: (self.score(name), name)))

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Capability axes known for every model, the main one first."""
        names = {model for row in self.rows for model in row.models}
        found = [a for a in AXES if names and all(a in self.capability.get(n, {}) for n in names)]
        return tuple("log10_params_b" if a == "params_b" else a for a in found)

    def on_axis(self, model: str, axis: str) -> float:
        """A model's place on an axis."""
        import math

        scores = self.capability.get(model, {})
        return math.log10(scores["params_b"]) if axis == "log10_params_b" else scores[axis]

    def score(self, model: str) -> float:
        """Place on the main axis; unknown models last."""
        known = self.capability.get(model, {})
        return next((known[axis] for axis in AXES if axis in known), float("inf"))

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(weak, strong) pairs played, in order of capability."""
        found = {row.pair for row in self.rows if row.pair is not None}
        return tuple(sorted(found, key=lambda p: (self.score(p[0]), p[0], self.score(p[1]), p[1])))

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """Competition levels, ascending."""
        return tuple(sorted({row.level for row in self.rows}))

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row.done]

    @cached_property
    def dyadic(self) -> bool:
        """True when every game has two seats."""
        return all(len(row.models) == 2 for row in self.rows)

    @cached_property
    def swapped(self) -> bool:
        """True when some instance was planned in both seat orders for the same pair."""
        orders: dict[Any, set[str | None]] = {}
        for row in self.rows:
            if row.pair is not None:
                orders.setdefault((row.pair, row.block), set()).add(row.order)
        return any(len(seen) > 1 for seen in orders.values())

    def of(self, pair: tuple[str, str], level: float | None = None) -> list[Row]:
        """Rows of a pair, at one level or all."""
        return [r for r in self.rows if r.pair == pair and (level is None or r.level == level)]


def games_of(run: RunView) -> Games:
    """Read a run's records into rows."""
    records = list(run.records())
    merge = _same_models(records)
    names = {merge.get(m, m) for r in records for m in r.settings["models"]}
    overrides = run.study.subjects
    capability = {name: capability_of(name, overrides.get(name)) for name in names}
    rows = tuple(_row(record, merge, capability) for record in records)
    return Games(rows, capability, run.simulated)


def capability_of(model: str, overrides: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Scores of a model from the registry; a `sim:skill` subject's score is its skill."""
    from peira.subjects.cards import capability
    from peira.subjects.simulated import PREFIX, parse_sim

    if not model.startswith(PREFIX):
        return dict(capability(model, overrides))
    spec = parse_sim(model)
    return {"skill": spec.level(0.5)} if spec.kind == "skill" else {}


def _same_models(records: Iterable[Record]) -> dict[str, str]:
    """Names that reached the same served model -> one name (the first in order of the alphabet)."""
    by_served: dict[str, set[str]] = {}
    for record in records:
        for seat in record.subjects.values():
            served = seat.get("served_model")
            if served and not seat.get("simulated"):
                by_served.setdefault(served, set()).add(str(seat["name"]))
    return {name: min(group) for group in by_served.values() for name in group if len(group) > 1}


NAMED = ("weak_model", "strong_model", "models", "model_order", "competition_level")


def _row(
    record: Record, merge: Mapping[str, str], capability: Mapping[str, Mapping[str, float]]
) -> Row:
    settings = record.settings
    models = tuple(merge.get(m, m) for m in settings["models"])
    weak, strong = _weak_strong(settings, models, merge, capability)
    return Row(
        number=record.number, slug=record.slug, models=models, weak=weak, strong=strong,
        level=float(settings["competition_level"]),
        seed=record.seed if settings.get("random_seed") is None else settings["random_seed"],
        order=_order(models, weak, strong),
        extra=tuple((k, str(v)) for k, v in record.cell.items() if k not in NAMED),
        rounds_allowed=int(settings["max_rounds"]),
        disagreement=float(settings["disagreement"]),
        state=str(record.state), cause=record.cause, cost=record.cost, tokens=sum(record.tokens),
        outcome=record.outcome if record.done else None,
    )  # fmt: skip


def _weak_strong(
    settings: Mapping[str, Any],
    models: Sequence[str],
    merge: Mapping[str, str],
    capability: Mapping[str, Mapping[str, float]],
) -> tuple[str | None, str | None]:
    """The guide's naming; else by the first capability axis both have; else by name."""
    if len(models) != 2 or models[0] == models[1]:
        return None, None
    if settings.get("weak_model"):
        weak, strong = settings["weak_model"], settings["strong_model"]
        return merge.get(weak, weak), merge.get(strong, strong)
    low, high = sorted(models)
    for axis in AXES:
        a, b = capability.get(low, {}).get(axis), capability.get(high, {}).get(axis)
        if a is not None and b is not None and a != b:
            return (low, high) if a < b else (high, low)
    return low, high


def _order(models: Sequence[str], weak: str | None, strong: str | None) -> str | None:
    if weak is None or strong is None:
        return None
    return "weak_first" if models[0] == weak else "strong_first"


def totals(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Parser and protocol counts by model, over seats."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        for seat, model in enumerate(row.models):
            mine = found.setdefault(model, dict.fromkeys((*COUNTS, "games"), 0))
            mine["games"] += row.done
            for what in COUNTS:
                mine[what] += row.count(seat, what)
    return found
