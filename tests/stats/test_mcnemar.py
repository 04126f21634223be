"""Paired pass/fail: against R on 18 tables, and the coherence of tests with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from peira.stats import (
    conditional_odds_ratio,
    mcnemar_exact_p,
    newcombe_limits,
    paired_binary,
    paired_outcomes,
)

counts = st.integers(0, 40)


@given(counts, counts)
def test_interval_excludes_one_exactly_when_its_own_test_rejects(b, c):
    for method in ("exact", "mid-p"):
        ratio = conditional_odds_ratio(b, c, method=method)
        if ratio.low is None or ratio.high is None or ratio.p is None:
            assert b + c == 0
            continue
        if abs(ratio.p - 0.05) > 1e-9:
            assert (ratio.low > 1 or ratio.high < 1) == (ratio.p < 0.05)


@given(counts, counts, counts)
def test_swapping_the_arms_mirrors_everything(b, c, concordant):
    n = b + c + concordant
    one, other = paired_binary(b, c, n), paired_binary(c, b, n)
    assert one.p == pytest.approx(other.p)
    if n == 0:
        return
    assert one.estimate == -other.estimate
    assert one.low == pytest.approx(-other.high, abs=1e-9)
    if b and c:
        assert one.extra["odds_ratio"] == pytest.approx(1 / other.extra["odds_ratio"])


@given(counts, counts, counts)
def test_p_is_a_probability_and_the_interval_holds_the_estimate(b, c, concordant):
    result = paired_binary(b, c, b + c + concordant)
    assert result.p is None or 0 < result.p <= 1
    if result.estimate is not None:
        assert result.low <= result.estimate <= result.high
        assert result.low < result.high


def test_exact_p_against_the_binomial_law_itself():
    for m in range(1, 25):
        law = binom.pmf(np.arange(m + 1), m, 0.5)
        for b in range(m + 1):
            extreme = law[law <= law[b] * (1 + 1e-9)].sum()
            assert mcnemar_exact_p(b, m - b) == pytest.approx(min(1.0, extreme))


def test_no_discordant_pair_is_p_one_and_says_so():
    result = paired_binary(0, 0, 30)
    assert result.p == 1
    assert "no_discordant_pairs" in result.flags
    assert result.extra["odds_ratio"] is None


def test_outcomes_count_missing_per_arm():
    result = paired_outcomes([1, 1, None, 0, 1], [0, 1, 1, float("nan"), None])
    assert (result.n, result.missing) == (2, 3)
    assert result.extra["missing_treatment"] == 1
    assert result.extra["missing_control"] == 2


def test_a_missing_arm_and_scores_are_refused():
    assert paired_outcomes([1, 0], [None, None]).reason == "missing_arm"
    with pytest.raises(ValueError, match="0/1"):
        paired_outcomes([0.5], [1])


def test_large_tables_do_not_overflow():
    assert newcombe_limits(60_000, 50_000, 40_000, 50_000)[0] < 0.05
