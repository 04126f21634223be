"""Value vectors meet their target, are fair to every seat, and depend on the game alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.families.negotiation.game import Game
from peira.families.negotiation.preferences import (
    PreferenceError,
    draw_game,
    tolerance,
    value_vectors,
)
from peira.families.negotiation.settings import NegotiationSettings


def cosines(values: np.ndarray) -> np.ndarray:
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return (unit @ unit.T)[np.triu_indices(len(values), 1)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(2, 4), (2, 5), (2, 15), (3, 5), (4, 12), (6, 15), (10, 30)]),
    c=st.floats(0.0, 1.0).map(lambda x: round(x, 2)),
)
def test_vectors_sum_to_100_and_meet_the_target_cosine(seed, shape, c):
    n, m = shape
    values = value_vectors(np.random.default_rng(seed), n, m, c)
    assert values.dtype.kind == "i" and (values >= 0).all()
    assert (values.sum(axis=1) == 100).all()
    assert np.abs(cosines(values) - c).max() <= tolerance(n) + 1e-12


def test_no_competition_means_disjoint_interests_of_near_equal_size():
    values = value_vectors(np.random.default_rng(3), 3, 8, 0.0)
    assert ((values > 0).sum(axis=0) == 1).all()
    assert sorted((values > 0).sum(axis=1)) == [2, 3, 3]


def test_full_competition_means_identical_values():
    values = value_vectors(np.random.default_rng(3), 4, 6, 1.0)
    assert (values == values[0]).all()


def test_no_seat_systematically_holds_the_smaller_support():
    larger = [
        np.argmax((value_vectors(np.random.default_rng(s), 2, 5, 0.0) > 0).sum(axis=1))
        for s in range(400)
    ]
    # 400 fair coins: 200 ± 4.5 standard deviations
    assert abs(sum(larger) - 200) < 45


def test_seats_are_exchangeable_between_the_extremes():
    top = [value_vectors(np.random.default_rng(s), 2, 5, 0.5).max(axis=1) for s in range(400)]
    first_higher = sum(a > b for a, b in top)
    second_higher = sum(b > a for a, b in top)
    assert abs(first_higher - second_higher) < 90


@pytest.mark.parametrize(("n", "m", "c"), [(3, 2, 0.0), (3, 2, 0.5), (2, 1, 0.3)])
def test_a_target_that_cannot_be_met_is_an_error_that_names_the_remedy(n, m, c):
    with pytest.raises(PreferenceError, match="num_items"):
        value_vectors(np.random.default_rng(0), n, m, c)


def test_the_instance_does_not_depend_on_models_or_order():
    a = NegotiationSettings(weak_model="a", strong_model="b", model_order="weak_first")
    b = NegotiationSettings(weak_model="a", strong_model="b", model_order="strong_first")
    c = NegotiationSettings(models=["x", "y"], max_rounds=3)
    assert draw_game(a, 7) == draw_game(b, 7) == draw_game(c, 7)
    assert draw_game(a, 7) != draw_game(a, 8)
    assert draw_game(a.model_copy(update={"random_seed": 8}), 7) == draw_game(a, 8)


def test_matrix_preferences_weigh_what_others_receive():
    game = Game(("a", "b"), ((60.0, 40.0), (30.0, 70.0)), cooperation=-0.5)
    assert game.matrix[0, 1, 1] == -35.0 and game.matrix[0, 1, 0] == 40.0
    assert game.utilities((0, 1)) == (60.0 - 35.0, 70.0 - 30.0)
    selfish = Game(("a", "b"), ((60.0, 40.0), (30.0, 70.0)))
    assert selfish.utilities((0, 1)) == (60.0, 70.0)


def test_matrix_utility_is_the_sum_of_matrix_entries():
    rng = np.random.default_rng(1)
    values = tuple(tuple(map(float, row)) for row in value_vectors(rng, 3, 5, 0.5))
    game = Game(tuple("abcde"), values, cooperation=0.3)
    for _ in range(20):
        allocation = tuple(int(k) for k in rng.integers(0, 3, 5))
        direct = [sum(game.matrix[i, j, k] for j, k in enumerate(allocation)) for i in range(3)]
        assert game.utilities(allocation) == pytest.approx(direct)
