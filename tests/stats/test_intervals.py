"""Single rates, means, independent differences, correlations, and the result type itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    Estimate,
    clopper_pearson,
    correlation,
    independent_difference,
    jeffreys,
    mcnemar_asymptotic_p,
    mcnemar_exact_p,
    mean_interval,
    paired_binary,
    risk_difference,
    sign_flip,
    t_interval,
    undefined,
    wilcoxon,
    wilson,
)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_no_rate_has_an_interval_of_zero_width(case):
    successes, n = case
    for function in (wilson, jeffreys, clopper_pearson):
        got = function(successes, n)
        assert 0 <= got.low <= got.estimate <= got.high <= 1
        assert got.low < got.high


def test_rates_of_nothing_and_nonsense():
    assert wilson(0, 0).reason == "empty"
    with pytest.raises(ValueError, match=r"0\.\.n"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, level=1.0)


@given(
    st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
)
def test_risk_difference_agrees_with_its_own_test_and_with_arm_swap(a, b):
    one, other = risk_difference(*a, *b), risk_difference(*b, *a)
    assert one.estimate == pytest.approx(-other.estimate)
    assert one.low == pytest.approx(-other.high, abs=1e-9)
    assert one.low <= one.estimate <= one.high
    assert 0 < one.p <= 1
    if abs(one.p - 0.05) > 1e-6:
        assert (one.low > 0 or one.high < 0) == (one.p < 0.05)


def test_constrained_rates_of_the_score_maximise_the_likelihood():
    from scipy.optimize import minimize_scalar

    from peira.stats.intervals import _miettinen_score

    x1, n1, x2, n2, delta = 7, 10, 3, 12, 0.1

    def loss(r2):
        r1 = r2 + delta
        return -(
            x1 * math.log(r1)
            + (n1 - x1) * math.log(1 - r1)
            + x2 * math.log(r2)
            + (n2 - x2) * math.log(1 - r2)
        )

    r2 = minimize_scalar(
        loss, bounds=(1e-6, 0.9 - 1e-6), method="bounded", options={"xatol": 1e-12}
    ).x
    r1 = r2 + delta
    variance = (r1 * (1 - r1) / n1 + r2 * (1 - r2) / n2) * 22 / 21
    expected = (0.7 - 0.25 - delta) / math.sqrt(variance)
    assert _miettinen_score((x1, n1, x2, n2), delta) == pytest.approx(expected, rel=1e-5)


def test_mean_interval_matches_the_library_and_counts_missing():
    from scipy.stats import ttest_1samp

    values = [0.1, 0.5, None, 0.9, float("nan"), 0.3]
    got = mean_interval(values)
    clean = [0.1, 0.5, 0.9, 0.3]
    low, high = ttest_1samp(clean, 0).confidence_interval()
    assert (got.n, got.missing, got.p) == (4, 2, None)
    assert (got.low, got.high) == pytest.approx((low, high))
    assert t_interval(clean).p == pytest.approx(ttest_1samp(clean, 0).pvalue)


def test_two_independent_groups_match_the_librarys_welch():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(1)
    t, c = rng.normal(0.5, 2, 9), rng.normal(0, 1, 14)
    got, want = independent_difference([*t, None], c), ttest_ind(t, c, equal_var=False)
    low, high = want.confidence_interval()
    assert (got.p, got.low, got.high, got.df) == pytest.approx((want.pvalue, low, high, want.df))
    assert (got.n, got.missing) == (23, 1)
    assert independent_difference([1.0], [2.0, 3.0]).reason == "single_unit"
    assert independent_difference([], [2.0, 3.0]).reason == "missing_arm"


@pytest.mark.parametrize(
    ("values", "reason"),
    [([], "empty"), ([None], "empty"), ([1.0], "single_unit"), ([0.3] * 9, "zero_variance")],
)
def test_degenerate_means_have_a_reason(values, reason):
    for cluster in (None, list(range(len(values)))):
        got = mean_interval(values, cluster)
        assert got.low is None
        assert got.reason in (reason, "too_few_clusters")
    assert mean_interval(values).reason == reason


def test_correlations_match_the_library():
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    want = pearsonr(x, y)
    got = correlation(x, y)
    assert (got.estimate, got.p) == pytest.approx((want.statistic, want.pvalue))
    limits = want.confidence_interval()
    assert (got.low, got.high) == pytest.approx((limits.low, limits.high))
    assert correlation(x, y, kind="spearman").estimate == pytest.approx(spearmanr(x, y).statistic)


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "empty"),
        ([1, 2], [2, 1], "too_few_units"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "zero_variance"),
        ([1, None, 3], [1, 2, None], "single_unit"),
        ([1, 2, 3, 4], [2, 4, 6, 8], "zero_variance"),
    ],
)
def test_degenerate_correlations_have_a_reason(x, y, reason):
    got = correlation(x, y)
    assert got.reason == reason
    assert got.p is None


def test_results_are_strict_json_whatever_they_hold():
    result = Estimate(
        float("inf"),
        1.5,
        float("inf"),
        se=float("nan"),
        extra={"a": float("inf"), "b": np.int64(3)},
    )
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["estimate"] is None
    assert told["reason"] == "unbounded"
    assert told["extra"] == {"a": "Infinity", "b": 3, "estimate": "Infinity", "high": "Infinity"}
    assert told["se"] is None


def test_an_undefined_estimate_must_say_why():
    with pytest.raises(ValueError, match="reason"):
        Estimate(None)
    with pytest.raises(ValueError, match="reason"):
        Estimate(float("nan"))
    assert undefined("empty").to_dict()["reason"] == "empty"


def test_p_never_underflows_to_zero():
    d = np.random.default_rng(0).normal(5, 1, 4000)
    assert t_interval(d).p > 0
    assert sign_flip(np.ones(3000), seed=1).p > 0
    assert paired_binary(9000, 0, 9000).p > 0
    assert mcnemar_exact_p(9000, 0) > 0
    assert mcnemar_asymptotic_p(9000, 0) > 0
    assert wilcoxon(d).p > 0


def test_infinite_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, math.inf])
