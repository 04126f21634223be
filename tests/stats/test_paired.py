"""Paired scores: exact references, the default path, missing data, degenerate inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    cliffs_delta,
    dominance,
    equivalence,
    hodges_lehmann,
    noninferiority,
    paired_difference,
    sign_flip,
    standardised_difference,
    t_interval,
    wilcoxon,
)
from peira.stats.bootstrap import acceleration, bca_levels, bca_limits

scores = st.lists(st.integers(-20, 20), min_size=2, max_size=14)


def test_exact_rank_and_sign_flip_values_match_r(refs):
    expected = refs.expected("02_paired_continuous_R")["sets"]
    for name, (t, c) in refs.paired_sets().items():
        want = expected[name]
        assert sign_flip(t, c, seed=1).p == pytest.approx(want["signflip_mean_exact_p"], abs=1e-9)
        for zeros, key in (("pratt", "wilcoxon_pratt"), ("drop", "wilcoxon_zeros_dropped")):
            got = wilcoxon(t, c, zeros=zeros)
            assert got.p == pytest.approx(want[key]["p_exact"], abs=1e-9)
            assert got.extra["W_plus"] == want[key]["W_plus"]
        assert wilcoxon(t, c).estimate == (
            None
            if want["rank_biserial_matched"] is None
            else pytest.approx(want["rank_biserial_matched"])
        )


def test_hodges_lehmann_matches_r_and_has_no_point_interval(refs):
    expected = refs.expected("02_paired_continuous_R")["sets"]
    for name, (t, c) in refs.paired_sets().items():
        want, got = expected[name], hodges_lehmann(t, c)
        assert got.estimate == pytest.approx(want["hodges_lehmann"], abs=1e-9)
        low, high = want["hl_ci_walsh_exact"]
        if low is None or low == high:
            assert got.low is None
            assert got.reason in ("single_unit", "zero_variance")
        else:
            assert (got.low, got.high) == pytest.approx((low, high), abs=1e-9)
            assert got.extra["achieved_level"] == pytest.approx(want["hl_ci_achieved_conf"])


def test_t_effect_sizes_and_margins_match_r(refs):
    expected = refs.expected("02_paired_continuous_R")["sets"]
    for name, (t, c) in refs.paired_sets().items():
        want, d_z = expected[name], standardised_difference(t, c, kind="d_z")
        if want["d_z"] is None:
            assert d_z.estimate is None
            assert d_z.reason in ("single_unit", "zero_variance")
            continue
        assert d_z.estimate == pytest.approx(want["d_z"], abs=1e-9)
        assert (d_z.low, d_z.high) == pytest.approx(want["d_z_ci_nct"], abs=1e-9)
        assert standardised_difference(t, c).estimate == pytest.approx(want["hedges_gz"], abs=1e-9)
        assert standardised_difference(t, c, kind="d_av").estimate == pytest.approx(want["d_av"])
        mean = t_interval(t - c)
        assert mean.p == pytest.approx(want["t_p"], rel=1e-9)
        assert (mean.low, mean.high) == pytest.approx(want["t_ci"], abs=1e-9)
        for margin in (0.01, 0.05):
            case = want["tost"][f"margin_{margin}"]
            result = noninferiority(t, c, margin=margin)
            assert result.p == pytest.approx(case["p_noninferiority"], rel=1e-9)
            assert (result.low, result.high) == pytest.approx(case["ci90"], abs=1e-9)
            assert equivalence(t, c, margin=margin).p == pytest.approx(case["p_tost"], rel=1e-9)


def test_dominance_and_cliff_are_different_quantities(refs):
    expected = refs.expected("02_paired_continuous_R")["sets"]
    for name, (t, c) in refs.paired_sets().items():
        got = dominance(t, c)
        assert got.estimate == pytest.approx(expected[name]["sign_stat_paired"])
        assert got.extra["probability_of_superiority"] == pytest.approx(
            expected[name]["prob_superiority_paired"]
        )
        cross = np.sign(np.subtract.outer(t, c).round(10)).mean()
        assert cliffs_delta(t, c).estimate == pytest.approx(cross)


def test_bca_matches_the_exhaustive_bootstrap(refs):
    want = refs.expected("02_paired_continuous_R")["sets"]["G_exhaustive_boot"]["boot_exhaustive"]
    t, c = refs.paired_sets()["G_exhaustive_boot"]
    d = t - c
    means = np.array([sum(p) for p in itertools.product(d.round(10), repeat=7)]).round(9) / 7
    estimate = round(d.round(10).sum(), 9) / 7
    below, at_or_below = (means < estimate - 1e-12).mean(), (means <= estimate + 1e-12).mean()
    assert (below, at_or_below) == pytest.approx((want["P_less"], want["P_less_eq"]), abs=1e-9)
    left_out = np.array([np.delete(d, i).mean() for i in range(7)])
    assert acceleration(left_out) == pytest.approx(want["acceleration"], abs=1e-9)
    levels = bca_levels(below, at_or_below, acceleration(left_out), 0.95)
    assert levels == pytest.approx(want["bca_midtie"]["levels"], abs=1e-9)
    limits = np.quantile(means, levels, method="inverted_cdf")
    assert limits == pytest.approx(want["bca_midtie"]["ci"], abs=1e-9)


def test_bca_by_resampling_matches_r_on_set_c(refs):
    want = refs.expected("02_paired_continuous_R")["sets"]["C_f1_60"]["boot_mean"]
    t, c = refs.paired_sets()["C_f1_60"]
    limits = bca_limits(t - c, None, 0.95, 7, resamples=100_000)
    assert limits == pytest.approx(want["bca"], abs=want["mc_tol"])


def test_default_path_by_size():
    rng = np.random.default_rng(4)
    small, medium, large = (rng.normal(0.2, 1, n) for n in (12, 60, 1500))
    by_size = [paired_difference(d, np.zeros(d.size), seed=1) for d in (small, medium, large)]
    assert "interval_unreliable" in by_size[0].flags
    assert "bootstrap-t" in by_size[1].method
    assert by_size[2].method == "paired t"
    assert all(r.low < r.estimate < r.high for r in by_size)


def test_same_seed_same_answer_other_seed_other_interval():
    d = np.random.default_rng(4).normal(0.2, 1, 60)
    one, again = (paired_difference(d, np.zeros(60), seed=5) for _ in range(2))
    assert one == again
    assert paired_difference(d, np.zeros(60), seed=6).low != one.low


def test_seed_is_required():
    with pytest.raises(TypeError):
        paired_difference([1.0, 2.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="seed"):
        paired_difference(np.arange(30.0) ** 1.5, np.zeros(30), seed=None)


@given(scores, st.integers(-5, 5), st.randoms(use_true_random=False))
def test_sign_flip_is_symmetric_shift_free_and_order_free(values, shift, random):
    control = [random.randint(-9, 9) for _ in values]
    treatment = [c + v for c, v in zip(control, values, strict=True)]
    forward = sign_flip(treatment, control, seed=1)
    assert sign_flip(control, treatment, seed=1).p == pytest.approx(forward.p)
    moved = sign_flip([t + shift for t in treatment], [c + shift for c in control], seed=1)
    assert moved.p == pytest.approx(forward.p)
    order = random.sample(range(len(values)), len(values))
    shuffled = sign_flip([treatment[i] for i in order], [control[i] for i in order], seed=1)
    assert shuffled.p == pytest.approx(forward.p)
    assert 0 < forward.p <= 1


@given(scores)
def test_exact_tests_agree_with_brute_force_over_all_signs(values):
    d = np.array(values, dtype=float)
    signs = np.array(list(itertools.product([1, -1], repeat=d.size)))
    sums = np.abs(signs @ d)
    assert sign_flip(d, seed=1).p == pytest.approx((sums >= abs(d.sum()) - 1e-9).mean())
    if not d.any():
        assert wilcoxon(d).reason == "all_tied"
        return
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(d)) * (d != 0)
    statistic = np.abs(signs @ (ranks * np.sign(d)))
    observed = abs((ranks * np.sign(d)).sum())
    assert wilcoxon(d).p == pytest.approx((statistic >= observed - 1e-9).mean())


@given(scores)
def test_hodges_lehmann_is_the_median_of_walsh_averages(values):
    d = np.array(values, dtype=float)
    walsh = [(d[i] + d[j]) / 2 for i in range(d.size) for j in range(i, d.size)]
    assert hodges_lehmann(d).estimate == pytest.approx(np.median(walsh), abs=1e-9)


@given(scores, st.sampled_from([1e-6, 0.001, 10.0, 1e6]))
def test_intervals_scale_with_the_unit(values, factor):
    d = np.array(values, dtype=float)
    one, scaled = hodges_lehmann(d), hodges_lehmann(d * factor)
    assert scaled.estimate == pytest.approx(one.estimate * factor)
    if one.low is not None:
        assert (scaled.low, scaled.high) == pytest.approx((one.low * factor, one.high * factor))


def test_rounding_noise_does_not_break_ties():
    assert wilcoxon([0.3 - 0.2, 0.1, -0.1, 0.2]).p == wilcoxon([0.1, 0.1, -0.1, 0.2]).p


def test_replicates_are_averaged_and_duplicating_them_changes_nothing():
    rng = np.random.default_rng(1)
    t, c = rng.normal(0.3, 1, (30, 4)), rng.normal(0, 1, (30, 4))
    once, twice = (
        paired_difference(np.tile(t, (1, k)), np.tile(c, (1, k)), seed=1) for k in (1, 2)
    )
    assert (once.n, once.n_rows, twice.n_rows) == (30, 240, 480)
    assert twice.se == pytest.approx(once.se)
    assert twice.low == pytest.approx(once.low)


def test_missing_is_counted_by_arm_and_never_silently_dropped():
    t, c = [1.0, None, 3.0, 4.0, 2.0], [0.0, 1.0, float("nan"), None, 1.5]
    result = paired_difference(t, c, seed=1)
    assert (result.n, result.missing) == (2, 3)
    assert result.extra == {"missing_treatment": 1, "missing_control": 2}


@pytest.mark.parametrize(
    ("treatment", "control", "reason"),
    [
        ([], [], "empty"),
        ([0.5], [0.2], "single_unit"),
        ([0.5] * 9, [0.2] * 9, "zero_variance"),
        ([0.5] * 30, [0.2] * 30, "zero_variance"),
        ([0.5, 0.1], [None, None], "missing_arm"),
        ([0.5, 0.1], [], "missing_arm"),
        ([None, 0.1], [0.2, None], "missing_arm"),
    ],
)
def test_degenerate_pairs_have_a_reason_and_no_interval(treatment, control, reason):
    result = paired_difference(treatment, control, seed=1)
    assert result.reason == reason
    assert result.low is None
    assert result.high is None
    assert result.p is None or result.p > 0
    for function in (hodges_lehmann, wilcoxon, standardised_difference, dominance):
        got = function(treatment, control)
        assert got.p is None or got.p > 0
        assert got.low is None or got.low < got.high
    assert standardised_difference(treatment, control).estimate is None
    assert noninferiority(treatment, control, margin=0.1).p is None


def test_identical_arms_give_no_false_certainty():
    result = paired_difference([0.4, 0.6, 0.1] * 10, [0.4, 0.6, 0.1] * 10, seed=1)
    assert result.p == 1
    assert result.low is None
    assert result.reason == "zero_variance"


def test_arms_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="aligned unit by unit"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0], seed=1)


def test_the_logical_range_caps_an_interval_and_says_so():
    t = np.array([1.0] * 24 + [0.0])
    result = paired_difference(t, np.zeros(25), seed=1, score_range=(0, 1))
    assert result.high <= 1
    assert ("interval_capped" in result.flags) == (result.high == 1)


def test_monte_carlo_p_has_an_error_and_is_never_zero():
    d = np.random.default_rng(3).normal(3, 1, 60)
    result = sign_flip(d * np.pi, seed=1)
    assert result.p == pytest.approx(1e-4)
    assert result.mc_error > 0


def test_rounding_noise_is_not_variance_and_tiny_values_do_not_overflow():
    noise = paired_difference([0.1 + 0.2] * 15 + [0.3] * 15, [0.3] * 30, seed=1)
    assert noise.reason == "zero_variance"
    assert hodges_lehmann([1e-300, 2e-300, 5e-300]).estimate == pytest.approx(2.25e-300, rel=0.2)


@given(st.integers(2, 60), st.integers(0, 10_000), st.floats(-5, 5))
def test_default_path_mirrors_under_arm_swap_and_ignores_a_shift_of_both_arms(n, seed, shift):
    rng = np.random.default_rng(seed)
    t, c = rng.integers(-50, 50, n) / 10, rng.integers(-50, 50, n) / 10
    one, other = (paired_difference(*arms, seed=3, resamples=500) for arms in ((t, c), (c, t)))
    assert one.estimate == pytest.approx(-other.estimate, abs=1e-12)
    assert one.p == pytest.approx(other.p)
    moved = paired_difference(t + round(shift, 1), c + round(shift, 1), seed=3, resamples=500)
    assert moved.estimate == pytest.approx(one.estimate, abs=1e-9)
    if one.low is not None:
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
        assert one.low <= one.estimate <= one.high
        assert (moved.low, moved.high) == pytest.approx((one.low, one.high), abs=1e-9)
