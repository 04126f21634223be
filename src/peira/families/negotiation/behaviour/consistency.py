"""Consistency of private thinking with public words, on the items both name in one round.

Public words call an item wanted (`value` aside, the claims `top` and `high`) or not (`low`);
private thinking lists it under priorities or under possible concessions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from peira.families.negotiation.behaviour.claims import Found


@dataclass(frozen=True, slots=True)
class Consistency:
    """Items on which public word and private plan agree, or contradict each other."""

    agree: int = 0
    contradict: int = 0

    def __add__(self, other: Consistency) -> Consistency:
        return Consistency(self.agree + other.agree, self.contradict + other.contradict)


def compare(
    public: Iterable[Found], priorities: frozenset[int], concessions: frozenset[int]
) -> Consistency:
    """One seat's public claims of a round against its private plan of the same round."""
    said: dict[int, bool] = {}
    for claim in public:
        if claim.kind in ("top", "high", "low"):
            said.update(dict.fromkeys(claim.items, claim.kind != "low"))
    agree = contradict = 0
    for item, wanted in said.items():
        planned = item in priorities
        if planned == (item in concessions):
            continue  # named in neither list, or in both: nothing to compare with
        agree += planned == wanted
        contradict += planned != wanted
    return Consistency(agree, contradict)
