"""One instance of the game: the items, what each seat values, what a deal is worth.

Invariant: an instance depends on the seed and the game's settings alone, never on models or order,
so that role swaps are paired by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Allocation = tuple[int, ...]  # owner (seat index) of each item; -1 only in imported games

ITEM_NAMES = (
    "Apple", "Jewel", "Stone", "Quill", "Pencil", "Lantern", "Basket", "Kettle", "Blanket",
    "Mirror", "Candle", "Hammer", "Ribbon", "Teapot", "Compass", "Violin", "Umbrella", "Saddle",
    "Bottle", "Carpet", "Ladder", "Clock", "Book", "Shovel", "Pillow", "Bicycle", "Camera",
    "Guitar", "Wallet", "Helmet",
)  # fmt: skip


@dataclass(frozen=True)
class Game:
    """Items and private values. `values[i][j]` is what seat i gets from owning item j.

    With `cooperation` κ ≠ 0 (matrix preferences) seat i also gets κ·values[k][j] when seat k owns
    item j: M_i[j, k] = κ·v_k[j] for k ≠ i. κ = 0 is the vector game. `disagreement` is every seat's
    payoff when there is no deal.
    """

    items: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    cooperation: float = 0.0
    disagreement: float = 0.0

    @property
    def n(self) -> int:
        """Number of seats."""
        return len(self.values)

    @property
    def m(self) -> int:
        """Number of items."""
        return len(self.items)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Weights M[i, j, k]: what seat i gets when seat k owns item j. Shape (n, m, n)."""
        own = np.asarray(self.values, dtype=float)
        weights = np.repeat(self.cooperation * own.T[None], self.n, axis=0)
        for i in range(self.n):
            weights[i, :, i] = own[i]
        return weights

    def bundle_values(self, allocation: Sequence[int]) -> list[float]:
        """Each seat's own value of the items it owns."""
        totals = [0.0] * self.n
        for j, owner in enumerate(allocation):
            if owner >= 0:
                totals[owner] += self.values[owner][j]
        return totals

    def utilities(self, allocation: Sequence[int]) -> tuple[float, ...]:
        """U_i = Σ_j M_i[j, owner(j)], undiscounted."""
        own = self.bundle_values(allocation)
        if not self.cooperation:
            return tuple(own)
        total = sum(own)
        return tuple(u + self.cooperation * (total - u) for u in own)

    def cosines(self) -> list[float]:
        """Realised cosine similarity of each pair of seats (i < k), in order."""
        own = np.asarray(self.values, dtype=float)
        unit = own / np.linalg.norm(own, axis=1, keepdims=True)
        gram = unit @ unit.T
        return [float(gram[i, k]) for i in range(self.n) for k in range(i + 1, self.n)]


def payoff(raw: float, round_number: int, gamma: float) -> float:
    """Payoff of a deal in round r (from 1): γ^(r−1)·raw."""
    return float(gamma ** (round_number - 1) * raw)
