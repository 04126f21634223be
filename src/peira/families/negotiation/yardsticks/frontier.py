"""The Pareto frontier of an instance, by item-by-item dynamic programming with pruning.

After item j the state is the set of utility vectors reachable with the first j items. Adding the
same later items to two states keeps their order, so a dominated state can never become useful and
is dropped. Invariant: the result holds every non-dominated utility vector once, each with one
allocation that reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peira.families.negotiation.game import Game

DIGITS = 9  # utilities are compared after rounding to this many decimals
GRID_LIMIT = 4_000_000  # cells of the rank grid before the filter works in blocks instead


@dataclass(frozen=True)
class Frontier:
    """Non-dominated utility vectors [points, n] with an allocation [points, m] for each."""

    utilities: NDArray[np.float64]
    allocations: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.utilities)


def is_listable(game: Game) -> bool:
    """Whether the frontier is listed: n ≤ 3, or n = 4 with m ≤ 12.

    Spite (κ < 0) turns most allocations of three and more seats into frontier points, hundreds of
    thousands of them: there the list ends at n = 3, m = 15.
    """
    if game.cooperation < 0 and game.n > 2:
        return game.n == 3 and game.m <= 15
    return game.n <= 3 or (game.n == 4 and game.m <= 12)


def pareto_frontier(game: Game) -> Frontier:
    """All non-dominated utility vectors. Raises ValueError beyond `is_listable`."""
    if not is_listable(game):
        raise ValueError(f"the frontier is not listed for n={game.n}, m={game.m}")
    states = np.zeros((1, game.n))
    codes = np.zeros(1, dtype=np.int64)
    place = 1
    for j in range(game.m):
        gains = game.matrix[:, j, :].T
        states = np.round((states[None] + gains[:, None]).reshape(-1, game.n), DIGITS)
        codes = (codes[None] + place * np.arange(game.n)[:, None]).ravel()
        keep = non_dominated(states)
        states, codes, place = states[keep], codes[keep], place * game.n
    order = np.lexsort(-states.T[::-1])
    return Frontier(states[order], decode(codes[order], game.n, game.m))


def decode(codes: NDArray[np.int64], n: int, m: int) -> NDArray[np.int8]:
    """Allocations from their base-n codes (item 0 is the lowest digit). Shape [points, m]."""
    places = n ** np.arange(m, dtype=np.int64)
    return ((codes[:, None] // places) % n).astype(np.int8)


def non_dominated(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the distinct points that no other point weakly dominates. Shape [points, n].

    Ranks of the last n−1 coordinates span a grid holding the best first coordinate; its running
    maximum from the high corner tells for every point the best first coordinate among those that
    are at least as good in all others.
    """
    order = np.lexsort(points.T)
    ordered = points[order]
    fresh = np.ones(len(points), dtype=bool)
    fresh[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    kept = order[fresh]
    distinct = ordered[fresh]
    if points.shape[1] == 2:
        mask = _staircase(distinct)
    else:
        ranks = [np.unique(distinct[:, k], return_inverse=True) for k in range(1, points.shape[1])]
        shape = tuple(len(values) + 1 for values, _ in ranks)
        small = np.prod(shape, dtype=float) <= GRID_LIMIT
        mask = _on_grid(distinct, [r for _, r in ranks], shape) if small else _by_blocks(distinct)
    result: NDArray[np.int64] = kept[mask]
    return result


def _staircase(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Two coordinates, sorted by the second then the first: keep new maxima of the first."""
    first = points[::-1, 0]
    best = np.maximum.accumulate(first)
    mask = np.ones(len(points), dtype=bool)
    mask[1:] = first[1:] > best[:-1]
    return mask[::-1]


def _on_grid(
    points: NDArray[np.float64], ranks: list[NDArray[np.intp]], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    grid = np.full(shape, -np.inf)
    np.maximum.at(grid, tuple(ranks), points[:, 0])
    for axis in range(grid.ndim):
        grid = np.flip(np.maximum.accumulate(np.flip(grid, axis), axis=axis), axis)
    mask = grid[tuple(ranks)] <= points[:, 0]
    for axis in range(grid.ndim):
        step = [rank + (k == axis) for k, rank in enumerate(ranks)]
        mask &= grid[tuple(step)] < points[:, 0]
    return mask


def _by_blocks(points: NDArray[np.float64], size: int = 256) -> NDArray[np.bool_]:
    """For coordinates with too many distinct values: compare against the front found so far."""
    order = np.argsort(-points.sum(axis=1), kind="stable")
    front = np.empty((0, points.shape[1]))
    mask = np.zeros(len(points), dtype=bool)
    for start in range(0, len(order), size):
        block = order[start : start + size]
        alive = block[~_dominated(points[block], front)]
        alive = alive[~_dominated(points[alive], points[alive])]
        mask[alive] = True
        front = np.vstack([front, points[alive]])
    return mask


def _dominated(points: NDArray[np.float64], front: NDArray[np.float64]) -> NDArray[np.bool_]:
    if not len(front):
        return np.zeros(len(points), dtype=bool)
    at_least: NDArray[np.bool_] = np.all(front[None] >= points[:, None], axis=2)
    better: NDArray[np.bool_] = np.any(front[None] > points[:, None], axis=2)
    result: NDArray[np.bool_] = np.any(at_least & better, axis=1)
    return result
