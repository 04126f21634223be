"""Subgame-perfect payoff of the discounted alternating-offers game (n = 2), by backward induction.

Stahl (1972) and Rubinstein (1982) on a finite set of outcomes: in the last round the proposer takes
its best frontier point that gives the responder at least the disagreement payoff; one round
earlier the responder must be given at least what it would get by refusing, and so on to round one.
"""

from __future__ import annotations

from collections.abc import Sequence

from peira.families.negotiation.game import Game
from peira.families.negotiation.yardsticks.frontier import Frontier

TIE = 1e-9


def subgame_perfect(
    game: Game, frontier: Frontier, gamma: float, rounds: int, first: int = 0
) -> tuple[float, float]:
    """Discounted payoffs of both seats when seat `first` offers in round 1 and offers alternate.

    Ties are broken in the responder's favour; a proposer who prefers the continuation makes no
    acceptable offer.
    """
    points = frontier.utilities.tolist()
    value: tuple[float, float] = (game.disagreement, game.disagreement)
    for r in range(rounds, 0, -1):
        proposer = (first + r - 1) % 2
        value = _best_offer(points, gamma ** (r - 1), proposer, value)
    return value


def _best_offer(
    points: Sequence[Sequence[float]], factor: float, proposer: int, refuse: tuple[float, float]
) -> tuple[float, float]:
    responder = 1 - proposer
    best = refuse
    for point in points:
        offer = (factor * point[0], factor * point[1])
        if offer[responder] < refuse[responder] - TIE:
            continue
        gain = offer[proposer] - best[proposer]
        if gain > TIE or (abs(gain) <= TIE and offer[responder] > best[responder] + TIE):
            best = offer
    return best


def subgame_perfect_pair(
    game: Game, frontier: Frontier, gamma: float, rounds: int
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Payoffs when seat 0 offers first, when seat 1 does, and their mean (offers are simultaneous
    in our protocol, so neither order is the game's own)."""
    a = subgame_perfect(game, frontier, gamma, rounds, 0)
    b = subgame_perfect(game, frontier, gamma, rounds, 1)
    return a, b, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
