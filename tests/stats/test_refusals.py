"""What makes no sense is refused in words; what has replicates never counts them as units."""

from __future__ import annotations

import numpy as np
import pytest

import peira.stats as ps
from tests.stats.test_degenerate import NUMBERS, ON_SCORES, _estimates

NAN, INF = float("nan"), float("inf")
PAIRS, X = [0.4, 0.1, 0.5, 0.3], np.linspace(0, 1, 8)
GAMES = (["a", "b"], ["b", "a"], [1, 0])

NONSENSE = {
    "replicates as pairs of passes": (lambda: ps.paired_outcomes([[1, 0]] * 4, [[0, 0]] * 4), "average replicates"),
    "scores as passes": (lambda: ps.clustered_mcnemar([0.5, 1], [0, 1], ["a", "b"]), "0/1 outcomes"),
    "counts as passes": (lambda: ps.cochran_q([[1, 2], [0, 5]]), "0/1 outcomes"),
    "outcomes of a forecast": (lambda: ps.calibration([0.1, 0.2], [0, 2]), "0/1 outcomes"),
    "correct beyond one": (lambda: ps.risk_coverage([0.1, 0.2], [0, 7]), "correct must lie"),
    "arms of other lengths": (lambda: ps.max_t({"a": [1, 2], "b": [1]}, seed=1), "aligned unit by unit"),
    "a short pattern": (lambda: ps.mine_patterns([0, 1], {"p": [1]}, ["s", "t"], seed=1), "aligned"),
    "more hits than cases": (lambda: ps.rogan_gladen((60, 50), (4, 5), (4, 5)), "successes must lie"),
    "negative losses": (lambda: ps.theta_limits(3, -1), "need b, c"),
    "negative concordance": (lambda: ps.newcombe_limits(-1, 2, 3, 4), "need b, c"),
    "negative table": (lambda: ps.mantel_haenszel([[[1, 2], [3, -4]]]), "counts must be"),
    "no margin": (lambda: ps.noninferiority(PAIRS, margin=NAN), "margin must be positive"),
    "endless margin": (lambda: ps.equivalence(PAIRS, margin=INF), "margin must be positive"),
    "scores out of range": (lambda: ps.missing_bounds([5, None], [0, 1], (0, 1)), "stated range"),
    "range unknown": (lambda: ps.missing_bounds([1, None], [0, 1], (0, NAN)), "stated range"),
    "one resample": (lambda: ps.bca_limits(X, None, 0.95, 1, resamples=1), "at least two resamples"),
    "errors below zero": (lambda: ps.micro_average([1, 2], [0.1, -0.1], [1, 2]), "must not be negative"),
    "answers below zero": (lambda: ps.ratio_of_sums([1, 2], [-1, 2]), "must not be negative"),
    "ratio of errors": (lambda: ps.deming([1, 2, 3], [1, 2, 4], -1), "variance ratio must be positive"),
    "more successes than trials": (lambda: ps.fit_success_curve(X, [3] * 8, [2] * 8), "successes <= trials"),
    "parameter": (lambda: ps.parameter_interval("linear", "knee", X, X**2), "parameter must be one of"),
    "contrast of a regression": (lambda: ps.contrast_t(X**2, X, [0, 1, 1]), "contrast must weigh 2"),
    "contrast of nothing": (lambda: ps.contrast_t(X**2, X, [0, 0]), "contrast must weigh 2"),
    "contrast of a mixed model": (lambda: ps.mixed_model(X**2, X, {"g": [1, 2] * 4}, [1]), "contrast must weigh 2"),
    "reference": (lambda: ps.bradley_terry(*GAMES, reference="z"), "reference must be one of"),
    "no e-values": (lambda: ps.average_e_values([]), "e-values"),
    "level of a spread": (lambda: ps.pilot_sd(PAIRS, level=80), "level must lie"),
    "shares of pairs": (lambda: ps.mcnemar_power(0.6, 0.5, 10), "shares of n pairs"),
    "nothing to find": (lambda: ps.connor_units(0.1, 0.1), "alike"),
    "effect of zero": (lambda: ps.miller_units(ps.PairedMean(1.0), 0.0), "effect of zero"),
    "effect unknown": (lambda: ps.Goal(NAN), "effect must be finite"),
    "price below zero": (lambda: ps.Goal(0.1, unit_cost=-1), "unit cost must be positive"),
    "test of pairs": (lambda: ps.PairedBinary(0.2, test="chi2"), "test must be"),
    "design effect": (lambda: ps.ClusteredPairs(0.3, 4, -0.9), "design effect must be positive"),
    "icc": (lambda: ps.ClusteredPairs(0.3, 4, 3), "icc <= 1"),
    "no replicates": (lambda: ps.PairedMean(0.3, replicates=0), "replicates must be positive"),
    "rate": (lambda: ps.TwoRates(1.2), "control rate must lie"),
    "one level": (lambda: ps.ScenarioRuns(1.0, 1), "at least two levels"),
    "spread of models": (lambda: ps.RoundRobin(-0.1, 1.0), "must not be negative"),
    "no seeds": (lambda: ps.RoundRobin(0.1, 1.0, seeds=0), "seeds must be positive"),
    "alpha": (lambda: ps.spending_bounds([0.5, 1], alpha=2), "0 < alpha < 1"),
    "look unknown": (lambda: ps.spending_bounds([NAN, 1]), "fractions must increase"),
    "looks backwards": (lambda: ps.StopRule("group-sequential", 9, looks=(0.9, 0.5, 1.0)), "fractions"),
    "no looks": (lambda: ps.StopRule("group-sequential", 9, looks=()), "fractions"),
    "spending": (lambda: ps.StopRule("group-sequential", 9, spending="all"), "spending must be"),
    "range": (lambda: ps.StopRule("confidence-sequence", 9, value_range=(1, -1)), "lowest, highest"),
    "width": (lambda: ps.StopRule("confidence-sequence", 9, half_width=0.0), "half width must be positive"),
    "a rate of nothing": (lambda: ps.shrunken_rates([(1, 2), (0, 0)]), "n above zero"),
    "range of a sequence": (lambda: ps.betting_sequence([0.5], (1, 1)), "lowest value before"),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_in_words(what):
    ask, words = NONSENSE[what]
    with pytest.raises(ValueError, match=words):
        ask()


@pytest.mark.parametrize("name", ON_SCORES)
def test_replicates_are_averaged_or_refused_never_counted(name):
    t, c = ([[v, v + 0.02] for v in values] for values in (NUMBERS, NUMBERS[::-1]))
    try:
        found = ON_SCORES[name](t, c)
    except (ValueError, TypeError, IndexError):
        return
    for estimate in _estimates(found):
        assert estimate.n <= 2 * len(NUMBERS), estimate  # at most the units of two arms
        assert estimate.n_rows is None or estimate.n < estimate.n_rows or name == "pilot_sd"


def test_looks_that_fall_on_the_same_pair_are_one_look():
    rule = ps.StopRule("group-sequential", 3, looks=(0.1, 0.2, 0.5, 1.0))
    assert rule.look_sizes == (1, 2, 3)
    assert ps.decide(rule, [1.0, 2.0, 3.0]).why == "planned end"


def test_a_curve_through_every_model_says_nothing_of_its_error():
    fit = ps.fit_form("linear", X, 2 * X)
    assert fit.exact
    assert fit.aicc is None
    compared = ps.compare_forms(X, 2 * X, ("constant", "linear"))
    assert (compared.weights, compared.identified) == ({}, None)
    assert ps.band(fit, [0.5]) == "zero_variance"
    for found in (
        ps.parameter_interval("linear", "slope", X, 2 * X),
        ps.parameter_interval("linear", "slope", X, 0 * X),
        ps.bootstrap_parameters("linear", X, 2 * X, seed=1, resamples=20)["slope"],
    ):
        assert (found.low, found.reason) == (None, "zero_variance")


def test_groups_without_error_are_pooled_without_certainty():
    for found in (ps.micro_average([1, 2], [0, 0], [3, 4]), ps.macro_average([1, 2], [0, 0])):
        assert (found.estimate > 1, found.low, found.reason) == (True, None, "zero_variance")
    assert ps.shrunken_means([1, 2, 3], [0.1, 0.0, 0.2])[1] is None


def test_a_judge_that_cannot_err_as_stated_gives_no_rate():
    got = ps.rogan_gladen((500, 500), (400, 500), (450, 500))
    assert (got.estimate, got.reason) == (None, "not_identified")
    assert got.extra["unclipped"] > 1
