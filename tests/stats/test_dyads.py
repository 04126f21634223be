"""Games between one pair of models say nothing about other models."""

from peira.stats.dyads import dyadic_errors


def test_one_pair_of_models_has_no_sandwich() -> None:
    first, second = ["a", "b", "a", "b"], ["b", "a", "b", "a"]
    assert dyadic_errors(first, second, [1, -0.5, 2, -1], [1, -1, 1, -1]) == "single_unit"
