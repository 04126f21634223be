"""What simulated negotiators say: statements with claims and promises, true or false by a dial.

Each claim is planned as data first (`Claim`), then spoken; so the behaviour measures have a truth
to be checked against. Invariant: with `lie` = 0 every claim is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from peira.families.negotiation.bidding import by_worth
from peira.families.negotiation.view import Observation

ClaimKind = Literal["value", "top", "low", "limit"]
MASK = (1 << 64) - 1


class Dice:
    """A small deterministic stream (splitmix64, Steele et al. 2014): seeding costs nothing, which
    matters at a hundred calls a game."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & MASK

    def uniform(self) -> float:
        """A number in [0, 1)."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        return ((state ^ (state >> 31)) >> 11) / 9007199254740992.0

    def below(self, n: int) -> int:
        """A whole number in 0..n−1."""
        return int(self.uniform() * n)

    def normal(self) -> float:
        """Nearly standard normal: twelve uniforms less six would be slow; four are enough here."""
        u = self.uniform
        return (u() + u() + u() + u() - 2.0) * 1.7320508075688772


class Claim(NamedTuple):
    """A planned statement about oneself: item index (or −1), number said, whether it is true."""

    kind: ClaimKind
    item: int
    number: float
    true: bool


def claims(values: tuple[float, ...], target: float, lie: float, dice: Dice) -> list[Claim]:
    """Three claims: what an item is worth, what matters most, and a limit or what matters least."""
    order = by_worth(values)
    said = [_value_claim(values, order, lie, dice)]
    if dice.uniform() < lie and len(order) > 1 and values[order[1]] < values[order[0]]:
        said.append(Claim("top", order[1 + dice.below(len(order) - 1)], 0.0, False))
    else:
        said.append(Claim("top", order[0], 0.0, True))
    if dice.uniform() < 0.5:
        said.append(Claim("low", order[-1], 0.0, True))
    else:
        inflate = dice.uniform() < lie
        number = round(min(95.0, target + (25.0 if inflate else 0.0)))
        said.append(Claim("limit", -1, float(number), not inflate))
    return said


def _value_claim(values: Sequence[float], order: Sequence[int], lie: float, dice: Dice) -> Claim:
    item = order[dice.below(min(3, len(order)))]
    if dice.uniform() < lie:
        return Claim("value", item, round(values[item]) + 10.0 + dice.below(30), False)
    return Claim("value", item, round(values[item]), True)


def spoken(claim: Claim, items: Sequence[str]) -> str:
    """A claim in words."""
    if claim.kind == "limit":
        return f"I need at least {claim.number:.0f} points."
    name = items[claim.item]
    if claim.kind == "value":
        return f"The {name} is worth {claim.number:.0f} points to me."
    return f"My top priority is the {name}." if claim.kind == "top" else (
        f"The {name} matters least to me."
    )  # fmt: skip


OPENINGS = (
    "Let us look for a deal that works for both of us.",
    "Time costs us both, so let us be concrete.",
    "I have listened to what you said.",
    "I think we can find common ground.",
)


def statement(seen: Observation, said: Sequence[Claim], keeping: Sequence[int]) -> str:
    """A whole message: an opening, the claims, and what will be proposed."""
    items = seen.view.items
    words = [OPENINGS[(seen.round + seen.lap + seen.view.seat) % len(OPENINGS)]]
    words += [spoken(claim, items) for claim in said]
    if keeping:
        words.append(f"I will propose that I keep the {_join([items[j] for j in keeping])}.")
    return " ".join(words)


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', the '.join(names[:-1])} and the {names[-1]}"
