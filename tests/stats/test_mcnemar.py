"""Paired pass/fail: against R on 18 tables, and the coherence of tests with intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from peira.stats import (
    bonett_price_limits,
    conditional_odds_ratio,
    connor_units,
    mcnemar_asymptotic_p,
    mcnemar_exact_p,
    mcnemar_mid_p,
    mcnemar_power,
    newcombe_limits,
    paired_binary,
    paired_outcomes,
    tango_limits,
)
from tests.stats.conftest import References

counts = st.integers(0, 40)


def _tables(refs: References):
    given = {row["id"]: row for row in refs.rows("01_paired_tables")}
    for expected in refs.expected("01_paired_binary_R")["tables"]:
        row = given[expected["id"]]
        yield (
            [int(row[k]) for k in ("both_pass", "b_gain", "c_loss", "both_fail")],
            expected,
        )


def _number(value):
    value = value[0] if isinstance(value, list) else value
    return math.inf if value == "Infinity" else value


def test_p_values_match_r_on_every_table(refs):
    tables = list(_tables(refs))
    assert len(tables) == 18
    for (_, b, c, _), expected in tables:
        assert mcnemar_exact_p(b, c) == pytest.approx(expected["p_exact"], rel=1e-10)
        assert mcnemar_mid_p(b, c) == pytest.approx(expected["p_midp"], rel=1e-10)
        for correction, key in ((False, "p_asymptotic"), (True, "p_asymptotic_cc")):
            p = mcnemar_asymptotic_p(b, c, correction=correction)
            assert p == (expected[key] and pytest.approx(expected[key], rel=1e-10))


@pytest.mark.parametrize(
    ("method", "key", "tolerance"),
    [
        ("exact", "or_ci_exact_central", 1e-6),
        ("mid-p", "or_ci_midp", 1e-6),
        ("minlike", "or_ci_minlike", 1e-4),
        ("blaker", "or_ci_blaker", 1e-4),
    ],
)
def test_odds_ratio_limits_match_r(refs, method, key, tolerance):
    for (_, b, c, _), expected in _tables(refs):
        ratio = conditional_odds_ratio(b, c, method=method)
        if b + c == 0:
            assert ratio.estimate is None
            assert ratio.reason == "no_discordant_pairs"
            continue
        assert ratio.estimate == pytest.approx(_number(expected["or_cond"]))
        for ours, theirs in zip((ratio.low, ratio.high), expected[key], strict=True):
            assert ours == pytest.approx(_number(theirs), rel=tolerance, abs=1e-12)


def test_risk_difference_limits_match_r(refs):
    for (a, b, c, d), expected in _tables(refs):
        n = a + b + c + d
        if n == 0:
            assert paired_binary(b, c, n).reason == "empty"
            continue
        for limits, key in (
            (newcombe_limits(a, b, c, d), "rd_ci_newcombe10"),
            (newcombe_limits(a, b, c, d, corrected=False), "rd_ci_newcombe_nocorr"),
            (tango_limits(b, c, n), "rd_ci_tango"),
            (bonett_price_limits(b, c, n), "rd_ci_bonett_price"),
        ):
            assert limits == pytest.approx(expected[key], abs=1e-7)


def test_power_matches_r(refs):
    for case in refs.expected("01_power_R")["cases"]:
        gain, loss, n = case["p01"], case["p10"], case["n"]
        assert mcnemar_power(gain, loss, n) == pytest.approx(case["power_exact_test"], abs=1e-9)
        assert mcnemar_power(gain, loss, n, test="mid-p") == pytest.approx(
            case["power_midp_test"], abs=1e-9
        )
        if gain != loss:
            assert connor_units(gain, loss) == case["n_connor_80"]


def test_coverage_and_size_by_enumeration_match_the_reference(refs):
    for name, expected in refs.expected("01_exact_coverage").items():
        n, _p11, loss, gain = (float(part.split("=")[1]) for part in name.split(","))
        n = int(n)
        b, c = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
        keep = b + c <= n
        b, c = b[keep].tolist(), c[keep].tolist()
        rest = [n - x - y for x, y in zip(b, c, strict=True)]
        chance = multinomial.pmf(np.column_stack([b, c, rest]), n, [gain, loss, 1 - gain - loss])
        tables = [t for t in zip(b, c, chance.tolist(), strict=True) if t[2] > 1e-8]
        for limits, key in ((tango_limits, "tango"), (bonett_price_limits, "bonett_price")):
            inside = 0.0
            for x, y, p in tables:
                low, high = limits(x, y, n)
                inside += p * (low - 1e-9 <= gain - loss <= high + 1e-9)
            assert inside == pytest.approx(expected["coverage"][key], abs=1e-4)
        if "size" in expected:
            for test, key in ((mcnemar_exact_p, "exact"), (mcnemar_mid_p, "midp")):
                size = sum(p for x, y, p in tables if test(x, y) <= 0.05)
                assert size == pytest.approx(expected["size"][key], abs=1e-4)


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
