"""The rules of a round that need no subject: who speaks when, what passes, who wins.

Invariant: pure functions; the same votes always give the same deal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peira.families.negotiation.game import Allocation
from peira.families.negotiation.settings import Acceptance, NegotiationSettings
from peira.study.seeds import generator


@dataclass(frozen=True, slots=True)
class Proposal:
    """A legal proposal: number as listed (from 1), proposer's seat, owner of each item."""

    number: int
    seat: int
    allocation: Allocation
    reasoning: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Proposal:
        """A proposal as a transcript's event tells it."""
        allocation = tuple(entry["allocation"])
        return cls(entry["number"], entry["seat"], allocation, entry["reasoning"])

    def told(self) -> dict[str, Any]:
        """The inverse of `of`."""
        return {"number": self.number, "seat": self.seat, "allocation": self.allocation,
                "reasoning": self.reasoning}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tally:
    """Public counts of one proposal."""

    number: int
    accepts: int
    rejects: int


def votes_needed(acceptance: Acceptance, n: int) -> int:
    """Accepting votes a proposal needs: n, ceil(2n/3), or more than n/2."""
    if acceptance == "unanimity":
        return n
    return math.ceil(2 * n / 3) if acceptance == "two_thirds" else n // 2 + 1


def tabulate(proposals: Sequence[Proposal], votes: Sequence[Sequence[bool]]) -> list[Tally]:
    """Counts for each proposal; `votes[seat][index]` is True for accept."""
    tallies = []
    for index, proposal in enumerate(proposals):
        accepts = sum(seat[index] for seat in votes)
        tallies.append(Tally(proposal.number, accepts, len(votes) - accepts))
    return tallies


def votes_said(proposals: Sequence[Proposal], votes: Sequence[bool]) -> str:
    """A seat's votes in words: `accept 1, reject 2`."""
    said = [f"{'accept' if vote else 'reject'} {p.number}"
            for p, vote in zip(proposals, votes, strict=True)]  # fmt: skip
    return ", ".join(said)


def passed(tallies: Sequence[Tally], needed: int) -> Tally | None:
    """The deal: most accepts among those that pass, then the lowest number."""
    winners = [tally for tally in tallies if tally.accepts >= needed]
    return min(winners, key=lambda tally: (-tally.accepts, tally.number), default=None)


def speaking_order(settings: NegotiationSettings, round_number: int, seed: int) -> tuple[int, ...]:
    """Seats in the order they speak (and proposals are numbered) in a round."""
    n = settings.num_agents
    if settings.speaking_order == "rotate":
        start = (round_number - 1) % n
        return tuple((start + k) % n for k in range(n))
    if settings.speaking_order == "random":
        rng = generator(seed, "negotiation/speaking order", round_number)
        return tuple(int(k) for k in rng.permutation(n))
    return tuple(range(n))
