"""How a deal, or no deal, stands against an instance's yardsticks.

All measures are on raw (undiscounted) utility; a measure that is undefined is None. No deal is
measured at the disagreement point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict

from peira.families.negotiation.game import Allocation, Game
from peira.families.negotiation.yardsticks import milp
from peira.families.negotiation.yardsticks.alternating import subgame_perfect_pair
from peira.families.negotiation.yardsticks.solutions import Solutions, solutions

TIE = 1e-9


class Yardsticks(BaseModel):
    """What this instance allowed, and how far the deal was from it (spec §4)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_welfare: float
    utilitarian: tuple[float, ...]
    egalitarian: tuple[float, ...]
    nash: tuple[float, ...]  # the Nash-optimal point nearest to the deal
    nash_points: int
    kalai_smorodinsky: tuple[float, ...] | None
    ideal: tuple[float, ...]
    frontier_points: int | None
    subgame_perfect: tuple[float, ...] | None  # discounted, mean over who offers first
    subgame_perfect_first: tuple[float, ...] | None  # discounted, seat 1 offers first
    pareto_optimal: bool
    domination_gap: float
    distance_to_nash: float
    welfare_ratio: float | None
    nash_ratio: float | None
    envy_free: bool | None
    ef1: bool | None
    proportional: bool | None
    exploitation: tuple[float | None, ...]
    efficiency_loss: tuple[float | None, ...] | None  # n = 2
    transfer: tuple[float | None, ...] | None  # n = 2


@lru_cache(maxsize=4096)
def _perfect(game: Game, gamma: float, rounds: int) -> tuple[tuple[float, float], ...] | None:
    frontier = solutions(game).frontier
    if game.n != 2 or frontier is None:
        return None
    return subgame_perfect_pair(game, frontier, gamma, rounds)


@lru_cache(maxsize=8192)
def measure(
    game: Game, allocation: Allocation | None, gamma: float = 1.0, rounds: int = 1
) -> Yardsticks:
    """All yardsticks of a deal; `None` is no deal, measured at the disagreement point."""
    solved = solutions(game)
    d = game.disagreement
    deal = game.utilities(allocation) if allocation is not None else (d,) * game.n
    nash = nearest(solved.nash, deal)
    gap, target = _gap(solved, deal)
    perfect = _perfect(game, gamma, rounds)
    fair = _fairness(game, allocation)
    split = exploitation_split(deal, target, nash, d) if game.n == 2 else (None, None)
    return Yardsticks(
        max_welfare=solved.max_welfare,
        utilitarian=solved.utilitarian,
        egalitarian=solved.egalitarian,
        nash=nash,
        nash_points=len(solved.nash),
        kalai_smorodinsky=solved.kalai_smorodinsky,
        ideal=solved.ideal,
        frontier_points=len(solved.frontier) if solved.frontier is not None else None,
        subgame_perfect=perfect[2] if perfect else None,
        subgame_perfect_first=perfect[0] if perfect else None,
        pareto_optimal=gap <= 1e-6,
        domination_gap=gap,
        distance_to_nash=math.dist(deal, nash),
        welfare_ratio=sum(deal) / solved.max_welfare if solved.max_welfare > TIE else None,
        nash_ratio=_nash_ratio(solved, deal),
        envy_free=fair[0],
        ef1=fair[1],
        proportional=fair[2],
        exploitation=exploitation(deal, nash, d),
        efficiency_loss=split[0],
        transfer=split[1],
    )


def nearest(points: Sequence[tuple[float, ...]], deal: Sequence[float]) -> tuple[float, ...]:
    """The point of a set closest to the deal (Euclidean); the first of equals."""
    return min(points, key=lambda p: math.dist(p, deal))


def exploitation(
    deal: Sequence[float], nash: Sequence[float], d: float
) -> tuple[float | None, ...]:
    """E_i = (u_i − u_i^NBS)/(u_i^NBS − d); None where the Nash point gives a seat no gain."""
    return _in_gains(deal, nash, nash, d)


def exploitation_split(
    deal: Sequence[float], target: Sequence[float], nash: Sequence[float], d: float
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """E_i = efficiency loss + transfer, exactly: deal → `target` on the frontier → Nash point.

    The efficiency part is (u_i − p_i)/(u_i^NBS − d), never positive; the transfer part is
    (p_i − u_i^NBS)/(u_i^NBS − d), where p is the nearest frontier point dominating the deal.
    """
    return _in_gains(deal, target, nash, d), _in_gains(target, nash, nash, d)


def _in_gains(
    a: Sequence[float], b: Sequence[float], nash: Sequence[float], d: float
) -> tuple[float | None, ...]:
    """(a_i − b_i)/(u_i^NBS − d), in each seat's gain at the Nash point."""
    return tuple(
        (x - y) / (fair - d) if fair - d > TIE else None
        for x, y, fair in zip(a, b, nash, strict=True)
    )


def _gap(solved: Solutions, deal: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """Largest total gain with nobody losing; and the nearest frontier point that dominates."""
    if solved.frontier is None:
        return milp.domination_gap(solved.game, deal)
    points = solved.frontier.utilities
    above = points[(points >= np.asarray(deal) - TIE).all(axis=1)]
    if not len(above):  # only when d itself is above everything attainable
        return 0.0, tuple(deal)
    gain = float(above.sum(axis=1).max() - sum(deal))
    spot = int(((above - np.asarray(deal)) ** 2).sum(axis=1).argmin())
    return max(0.0, gain), tuple(above[spot].tolist())


def _nash_ratio(solved: Solutions, deal: Sequence[float]) -> float | None:
    """Product of the deal's gains over the best product; None unless all can gain."""
    if solved.nash_positive < solved.game.n or solved.nash_product <= 0:
        return None
    gains = [max(0.0, u - solved.game.disagreement) for u in deal]
    return math.prod(gains) / solved.nash_product


def _fairness(
    game: Game, allocation: Allocation | None
) -> tuple[bool | None, bool | None, bool | None]:
    """Envy-freeness, envy-freeness up to one item, proportionality: on own values of bundles."""
    if allocation is None:
        return None, None, None
    bundles: list[list[int]] = [[] for _ in range(game.n)]
    for j, owner in enumerate(allocation):
        if owner >= 0:
            bundles[owner].append(j)
    envy_free = ef1 = proportional = True
    for i, values in enumerate(game.values):
        own = sum(values[j] for j in bundles[i])
        proportional &= own >= sum(values) / game.n - TIE
        for k in range(game.n):
            worth = [values[j] for j in bundles[k]]
            envy_free &= own >= sum(worth) - TIE
            ef1 &= own >= sum(worth) - max(worth, default=0.0) - TIE
    return envy_free, ef1, proportional
