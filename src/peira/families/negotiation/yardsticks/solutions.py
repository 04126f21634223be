"""The solution points of an instance: utilitarian, egalitarian, Nash, Kalai–Smorodinsky.

Every one of these optima has a Pareto-optimal representative, so each is read off the frontier
where it is listed, and found by mixed-integer programming otherwise. Gains are measured from the
disagreement point d.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from peira.families.negotiation.game import Game
from peira.families.negotiation.yardsticks import milp
from peira.families.negotiation.yardsticks.frontier import Frontier, is_listable, pareto_frontier

TIE = 1e-9
Point = tuple[float, ...]


@dataclass(frozen=True)
class Solutions:
    """Frontier (None where it is not listed) and solution points, as utilities of each seat.

    `nash` lists every Nash-optimal utility vector (one representative beyond listable sizes).
    `kalai_smorodinsky` is None when no outcome is individually rational.
    """

    game: Game
    frontier: Frontier | None
    utilitarian: Point
    egalitarian: Point
    nash: tuple[Point, ...]
    nash_product: float
    nash_positive: int
    kalai_smorodinsky: Point | None
    ideal: Point

    @property
    def max_welfare(self) -> float:
        """Largest attainable sum of utilities."""
        return sum(self.utilitarian)


@lru_cache(maxsize=2048)
def solutions(game: Game) -> Solutions:
    """Frontier and solution points of an instance; cached, as role swaps share the instance."""
    return _listed(game) if is_listable(game) else _programmed(game)


def _listed(game: Game) -> Solutions:
    frontier = pareto_frontier(game)
    points, d = frontier.utilities, game.disagreement
    gains = points - d
    nash, product, positive = _nash(points, gains)
    return Solutions(
        game=game,
        frontier=frontier,
        utilitarian=_leximin_among(points, points.sum(axis=1)),
        egalitarian=_leximin(points),
        nash=nash,
        nash_product=product,
        nash_positive=positive,
        kalai_smorodinsky=kalai_smorodinsky(points, d),
        ideal=tuple(points.max(axis=0).tolist()),
    )


def _leximin_among(points: NDArray[np.float64], score: NDArray[np.float64]) -> Point:
    """The most even of the points with the best score."""
    return _leximin(points[score >= score.max() - TIE])


def _leximin(points: NDArray[np.float64], keys: NDArray[np.float64] | None = None) -> Point:
    """The point whose sorted coordinates (of `keys`) are lexicographically largest."""
    ordered = np.round(np.sort(points if keys is None else keys, axis=1), 9)
    best = np.lexsort(ordered.T[::-1])[-1]
    return tuple(points[best].tolist())


def _nash(
    points: NDArray[np.float64], gains: NDArray[np.float64]
) -> tuple[tuple[Point, ...], float, int]:
    """Most seats with a gain, then the largest product of those gains; all optima."""
    positive = (gains > TIE).sum(axis=1)
    most = int(positive.max())
    products = np.where(gains > TIE, gains, 1.0).prod(axis=1)
    best = float(products[positive == most].max())
    chosen = points[(positive == most) & (products >= best * (1 - 1e-12) - 1e-15)]
    return tuple(tuple(row) for row in chosen.tolist()), best if most else 0.0, most


def kalai_smorodinsky(points: NDArray[np.float64], d: float) -> Point | None:
    """Largest smallest share of the ideal gain over individually rational outcomes (leximin)."""
    rational = points[(points >= d - TIE).all(axis=1)]
    if not len(rational):
        return None
    ideal = rational.max(axis=0) - d
    shares = np.where(ideal > TIE, (rational - d) / np.where(ideal > TIE, ideal, 1.0), 1.0)
    return _leximin(rational, shares)


def _programmed(game: Game) -> Solutions:
    nash, product, positive = milp.nash(game)
    return Solutions(
        game=game,
        frontier=None,
        utilitarian=milp.utilitarian(game),
        egalitarian=milp.egalitarian(game),
        nash=(nash,),
        nash_product=product,
        nash_positive=positive,
        kalai_smorodinsky=milp.kalai_smorodinsky(game),
        ideal=milp.ideals(game, rational=False),
    )
