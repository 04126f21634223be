"""Frontier and solution points equal brute force; identities of exploitation hold exactly."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.families.negotiation.game import Game
from peira.families.negotiation.preferences import value_vectors
from peira.families.negotiation.yardsticks import (
    measure,
    non_dominated,
    pareto_frontier,
    solutions,
    subgame_perfect,
)
from peira.families.negotiation.yardsticks.solutions import _programmed


def drawn(n, m, c, seed, kappa=0.0, d=0.0):
    values = value_vectors(np.random.default_rng(seed), n, m, c)
    return Game(
        tuple(f"i{j}" for j in range(m)), tuple(tuple(map(float, r)) for r in values), kappa, d
    )


def brute(game):
    """Every allocation's utilities, by plain enumeration."""
    return [
        tuple(round(u, 9) for u in game.utilities(allocation))
        for allocation in itertools.product(range(game.n), repeat=game.m)
    ]


def dominates(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def brute_frontier(points):
    distinct = set(points)
    return {p for p in distinct if not any(dominates(q, p) for q in distinct)}


SHAPES = [(2, 1), (2, 5), (2, 9), (3, 4), (3, 6), (4, 4), (4, 5)]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 999),
    c=st.sampled_from([0.3, 0.5, 0.9, 1.0]),
    kappa=st.sampled_from([0.0, 0.0, 0.4, -0.4, 1.0]),
)
def test_the_frontier_equals_brute_force(shape, seed, c, kappa):
    n, m = shape
    if kappa < 0 and n > 3:
        kappa = 0.0
    if m < n or m == 1:
        c = 1.0
    game = drawn(n, m, c, seed, kappa)
    found = pareto_frontier(game)
    assert {tuple(p) for p in found.utilities.tolist()} == brute_frontier(brute(game))
    for point, allocation in zip(found.utilities, found.allocations, strict=True):
        assert game.utilities(tuple(map(int, allocation))) == pytest.approx(tuple(point))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(2, 6), (3, 5), (4, 4)]),
    seed=st.integers(0, 999),
    d=st.sampled_from([0.0, 20.0, 60.0]),
    kappa=st.sampled_from([0.0, 0.5, -0.3]),
)
def test_solution_points_equal_brute_force(shape, seed, d, kappa):
    n, m = shape
    if kappa < 0 and n > 3:
        kappa = 0.0
    game = drawn(n, m, 0.5, seed, kappa, d)
    points = brute(game)
    solved = solutions(game)
    assert solved.max_welfare == pytest.approx(max(map(sum, points)))
    assert sorted(solved.egalitarian) == pytest.approx(max(sorted(p) for p in points))

    def nash_key(p):
        gains = [u - d for u in p if u - d > 1e-9]
        return (len(gains), math.prod(gains))

    best = max(map(nash_key, points))
    assert solved.nash_positive == best[0]
    for point in solved.nash:
        assert nash_key(point) == pytest.approx(best)
    rational = [p for p in points if min(p) >= d - 1e-9]
    if not rational:
        assert solved.kalai_smorodinsky is None
        return
    ideal = [max(p[i] for p in rational) - d for i in range(n)]

    def share(p):
        return min((u - d) / i if i > 1e-9 else 1.0 for u, i in zip(p, ideal, strict=True))

    assert share(solved.kalai_smorodinsky) == pytest.approx(max(map(share, rational)))


@pytest.mark.parametrize(
    ("n", "m", "kappa", "d"),
    [(2, 10, 0.0, 0.0), (3, 10, 0.0, 0.0), (3, 7, 0.5, 0.0), (2, 8, -0.6, 0.0), (3, 5, 0.0, 35.0)],
)
def test_integer_programming_agrees_with_the_dynamic_programme(n, m, kappa, d):
    game = drawn(n, m, 0.5, 11, kappa, d)
    listed, programmed = solutions(game), _programmed(game)
    assert sum(programmed.utilitarian) == pytest.approx(listed.max_welfare, abs=1e-5)
    assert sorted(programmed.egalitarian) == pytest.approx(sorted(listed.egalitarian), abs=1e-5)
    assert programmed.nash_positive == listed.nash_positive
    assert programmed.nash_product == pytest.approx(listed.nash_product, rel=1e-5)
    assert programmed.ideal == pytest.approx(listed.ideal, abs=1e-5)
    assert (programmed.kalai_smorodinsky is None) == (listed.kalai_smorodinsky is None)
    if listed.kalai_smorodinsky:
        assert sorted(programmed.kalai_smorodinsky) == pytest.approx(
            sorted(listed.kalai_smorodinsky), abs=1e-4
        )


def test_beyond_the_listed_sizes_yardsticks_come_from_programming():
    game = drawn(5, 7, 0.5, 2)
    found = measure(game, (0, 1, 2, 3, 4, 0, 1), 0.9, 10)
    assert found.frontier_points is None and found.subgame_perfect is None
    assert found.domination_gap >= 0 and found.max_welfare >= sum(
        game.utilities((0, 1, 2, 3, 4, 0, 1))
    )


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60
    )
)
def test_non_dominated_keeps_each_maximal_point_once(points):
    array = np.array(points, dtype=float)
    kept = [tuple(row) for row in array[non_dominated(array)].tolist()]
    assert len(kept) == len(set(kept))
    assert set(kept) == brute_frontier([tuple(map(float, p)) for p in points])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 500), pick=st.integers(0, 31), c=st.sampled_from([0.25, 0.5, 1.0]))
def test_exploitation_is_exactly_efficiency_loss_plus_transfer(seed, pick, c):
    game = drawn(2, 5, c, seed)
    allocation = tuple((pick >> j) & 1 for j in range(5))
    found = measure(game, allocation)
    for e, loss, transfer in zip(
        found.exploitation, found.efficiency_loss, found.transfer, strict=True
    ):
        assert e == pytest.approx(loss + transfer)
        assert loss <= 1e-12
    assert found.pareto_optimal == (
        tuple(game.utilities(allocation)) in brute_frontier(brute(game))
    )


def test_no_deal_is_exploitation_of_minus_one_and_its_gap_is_measured_from_disagreement():
    game = drawn(2, 5, 0.5, 1)
    found = measure(game, None)
    assert found.exploitation == (-1.0, -1.0)
    assert found.domination_gap == pytest.approx(found.max_welfare)
    assert found.envy_free is None and not found.pareto_optimal


def test_a_fair_deal_under_full_competition_is_not_called_exploitation():
    game = Game(("a", "b", "c"), ((30.0, 30.0, 40.0),) * 2)
    split = measure(game, (0, 0, 1))  # 60 against 40: one of the two Nash-optimal splits
    assert split.nash_points == 2
    assert split.exploitation == (0.0, 0.0)


def test_fairness_by_hand():
    game = Game(("a", "b", "c"), ((50.0, 30.0, 20.0), (60.0, 20.0, 20.0)))
    found = measure(game, (1, 0, 0))
    assert (found.envy_free, found.ef1, found.proportional) == (True, True, True)
    greedy = measure(game, (0, 0, 0))
    assert (greedy.envy_free, greedy.ef1, greedy.proportional) == (False, False, False)


def test_subgame_perfection_equals_an_independent_recursion():
    game = drawn(2, 5, 0.5, 4)
    points = brute(game)

    def value(r, rounds, gamma, proposer):
        if r > rounds:
            return (0.0, 0.0)
        later = value(r + 1, rounds, gamma, 1 - proposer)
        best = later
        for p in points:
            offer = tuple(gamma ** (r - 1) * u for u in p)
            if offer[1 - proposer] >= later[1 - proposer] - 1e-9:
                better = offer[proposer] - best[proposer]
                if better > 1e-9 or (
                    abs(better) <= 1e-9 and offer[1 - proposer] > best[1 - proposer] + 1e-9
                ):
                    best = offer
        return best

    for rounds, gamma in ((1, 0.9), (2, 0.9), (5, 0.7), (10, 0.95)):
        found = subgame_perfect(game, pareto_frontier(game), gamma, rounds, first=0)
        assert found == pytest.approx(value(1, rounds, gamma, 0))


def test_the_last_proposer_takes_everything_in_an_ultimatum():
    game = Game(("a", "b"), ((60.0, 40.0), (60.0, 40.0)))
    assert subgame_perfect(game, pareto_frontier(game), 0.9, 1, first=0) == (100.0, 0.0)
