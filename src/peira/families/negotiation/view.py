"""What a simulated seat may see: its own values, the rules, and the public record.

Invariant: nothing here that a real subject would not be told in its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from peira.families.negotiation.game import Allocation, Game
from peira.families.negotiation.protocol import Proposal
from peira.families.negotiation.settings import NegotiationSettings, Phase


@dataclass(frozen=True, slots=True)
class SeatView:
    """A seat's private and constant knowledge. `rows[k][j]`: what it gets when seat k owns j."""

    seat: int
    labels: tuple[str, ...]
    items: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    rounds: int
    gamma: float
    disagreement: float
    unanimous: bool

    @classmethod
    def of(cls, settings: NegotiationSettings, game: Game, seat: int) -> SeatView:
        """The view of one seat of a game."""
        other = tuple(tuple(game.cooperation * v for v in row) for row in game.values)
        rows = tuple(game.values[seat] if k == seat else other[k] for k in range(game.n))
        return cls(
            seat, settings.seats, game.items, rows,
            settings.max_rounds, settings.gamma_discount, game.disagreement,
            settings.acceptance == "unanimity",
        )  # fmt: skip

    @property
    def values(self) -> tuple[float, ...]:
        """Own value of each item."""
        return self.rows[self.seat]

    def utility(self, allocation: Allocation) -> float:
        """Own utility of an allocation, undiscounted."""
        rows = self.rows
        return sum([rows[owner][j] for j, owner in enumerate(allocation)])


class Observation(NamedTuple):
    """The state a simulated negotiator decides from; a real subject never sees it. One a call, so a
    tuple: a frozen dataclass takes four times as long to make."""

    view: SeatView
    offers: Sequence[Sequence[Allocation]]  # each seat's public proposals so far, in order
    listed: Sequence[Proposal]  # those of this round, once they are public
    phase: Phase
    round: int
    lap: int = 1
    ask: int = 0
