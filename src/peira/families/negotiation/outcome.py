"""What one negotiation leaves: the deal, what it was worth, how it came about, what it cost.

Invariant: no deal is an outcome of its own, paid at the disagreement point; a trial in which a
seat's reply failed at its provider leaves no outcome at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from peira.families.negotiation import prompts
from peira.families.negotiation.game import Allocation, Game, payoff
from peira.families.negotiation.protocol import Proposal, Tally
from peira.families.negotiation.settings import NegotiationSettings
from peira.families.negotiation.yardsticks import Yardsticks, measure
from peira.subjects.subject import Reply

COUNTS = ("illegal_offers", "repairs", "missing_votes", "truncated", "refusals", "reasks")
SPENT = ("calls", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cost")


class RoundResult(BaseModel):
    """One round in short: proposals as owner lists, counts, and each seat's private votes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: tuple[int, ...]
    proposers: tuple[int, ...]
    allocations: tuple[Allocation, ...]
    accepts: tuple[int, ...]
    votes: tuple[tuple[bool, ...], ...]


class NegotiationOutcome(BaseModel):
    """Outcome of one trial (specs/negotiation.md §4). Seats are counted from 0 in seat order.

    `utility` is the discounted payoff (γ^(r−1)·raw; `disagreement` when there is no deal), `raw`
    the undiscounted one. `utility_difference` is strong − weak in the guide's form, else first −
    second seat (n = 2 only). `spent` maps phase → seat label → calls, tokens, cost (micro-dollars).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    consensus: bool
    final_round: int
    items: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    cosines: tuple[float, ...]
    allocation: Allocation | None
    raw: tuple[float, ...]
    utility: tuple[float, ...]
    share: tuple[float | None, ...]
    winner: int | None
    total_utility: float
    utility_difference: float | None
    weak_utility: float | None
    strong_utility: float | None
    rounds: tuple[RoundResult, ...]
    counts: dict[str, dict[str, int]]
    spent: dict[str, dict[str, dict[str, int]]]
    yardsticks: Yardsticks
    ratings: dict[str, dict[str, float | None]] | None = None  # judge's means: seat -> rubric
    prompt_hash: str


def compared(outcome: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What two runs are compared by, of a stored outcome: (name, number or None)."""
    seats = {"utility": outcome["utility"], "exploitation": outcome["yardsticks"]["exploitation"]}
    yield "deal", outcome["consensus"]
    for name in ("final_round", "total_utility", "utility_difference"):
        yield name.replace("_", " "), outcome[name]
    for name, values in seats.items():
        yield from ((f"{name} of seat {k}", value) for k, value in enumerate(values, start=1))
    for name in ("welfare_ratio", "nash_ratio", "pareto_optimal"):
        yield name.replace("_", " "), outcome["yardsticks"][name]


@dataclass
class Book:
    """What is gathered while a trial is played."""

    rounds: list[RoundResult] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: list[tuple[str, str, Reply]] = field(default_factory=list)  # phase, seat, answer

    def count(self, seat: str, what: str) -> None:
        """One more of `what` (one of COUNTS) for a seat."""
        self.counts.setdefault(seat, dict.fromkeys(COUNTS, 0))[what] += 1

    @property
    def spent(self) -> dict[str, dict[str, dict[str, int]]]:
        """Phase → seat → calls, tokens, cost."""
        told: dict[str, dict[str, dict[str, int]]] = {}
        for phase, seat, reply in self.calls:
            row = told.setdefault(phase, {}).setdefault(seat, dict.fromkeys(SPENT, 0))
            row["calls"] += 1
            row["prompt_tokens"] += reply.usage.prompt_tokens
            row["completion_tokens"] += reply.usage.completion_tokens
            row["reasoning_tokens"] += reply.usage.reasoning_tokens
            row["cost"] += reply.cost
        return told

    def close_round(
        self, order: Sequence[int], proposals: Sequence[Proposal], tallies: Sequence[Tally],
        votes: Sequence[Sequence[bool]],
    ) -> None:  # fmt: skip
        """Keep a round's proposals, counts and votes."""
        self.rounds.append(RoundResult(
            order=tuple(order), proposers=tuple(p.seat for p in proposals),
            allocations=tuple(p.allocation for p in proposals),
            accepts=tuple(t.accepts for t in tallies), votes=tuple(map(tuple, votes)),
        ))  # fmt: skip


def conclude(
    settings: NegotiationSettings, game: Game, book: Book, deal: Allocation | None, final_round: int
) -> NegotiationOutcome:
    """The outcome of a finished game; `deal` None is no deal."""
    d = game.disagreement
    gamma = settings.gamma_discount
    raw = game.utilities(deal) if deal is not None else (d,) * game.n
    utility = tuple(payoff(u, final_round, gamma) for u in raw) if deal is not None else raw
    total = sum(utility)
    best = max(utility)
    weak, strong, difference = _pair(settings, utility)
    return NegotiationOutcome(
        consensus=deal is not None,
        final_round=final_round,
        items=game.items,
        values=game.values,
        cosines=tuple(game.cosines()),
        allocation=deal,
        raw=raw,
        utility=utility,
        share=tuple(u / total if total > 0 else None for u in utility),
        winner=utility.index(best) if deal is not None and utility.count(best) == 1 else None,
        total_utility=total,
        utility_difference=difference,
        weak_utility=weak,
        strong_utility=strong,
        rounds=tuple(book.rounds),
        counts=book.counts,
        spent=book.spent,
        yardsticks=measure(game, deal, gamma, settings.max_rounds),
        prompt_hash=prompts.prompt_hash(),
    )


def _pair(
    settings: NegotiationSettings, utility: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """(weak, strong, strong − weak) in the guide's form; else (None, None, first − second)."""
    if len(utility) != 2:
        return None, None, None
    first, second = utility
    if settings.first_is_weak is None:
        return None, None, first - second
    weak, strong = (first, second) if settings.first_is_weak else (second, first)
    return weak, strong, strong - weak
