"""Paired scores: exact references, the default path, missing data, degenerate inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    bca_limits,
    bootstrap_t_limits,
    derived_generator,
    dominance,
    hodges_lehmann,
    noninferiority,
    paired_difference,
    sign_flip,
    standardised_difference,
    wilcoxon,
)

scores = st.lists(st.integers(-20, 20), min_size=2, max_size=14)


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


def test_hodges_lehmann_has_no_interval_of_one_point(refs):
    for name in ("D_all_zero", "E_single", "H_constant"):
        got = hodges_lehmann(*refs.paired_sets()[name])
        assert (got.low, got.reason) in [(None, "single_unit"), (None, "zero_variance")]


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
    assert result.extra["p_seed"] == 1
    exact = sign_flip(d[:12] * np.pi, seed=1)
    assert (exact.mc_error, exact.extra.get("p_seed")) == (None, None)


def test_resampled_limits_carry_their_seed_and_their_monte_carlo_error():
    d = np.random.default_rng(3).exponential(size=40) * np.pi
    result = paired_difference(d, np.zeros(40), seed=11)
    assert result.extra["interval_seed"] == result.extra["p_seed"] == 11
    told = [result.extra[f"{side}_mc_error"] for side in ("low", "high")]
    again = [bootstrap_t_limits(d, 0.95, seed) for seed in range(60)]
    scatter = np.std([tuple(limits) for limits in again], axis=0, ddof=1)
    assert told == pytest.approx(scatter, rel=0.4)


@pytest.mark.parametrize(
    ("seed", "told"),
    [
        (7, 7),
        (np.random.default_rng(7), 7),
        (np.random.SeedSequence(7), 7),
        (np.random.SeedSequence(2**70), str(2**70)),
        (np.random.SeedSequence(7).spawn(1)[0], None),
        (derived_generator("frozen", "bootstrap"), None),
    ],
)
def test_a_seed_is_told_when_it_is_one_number(seed, told):
    assert bca_limits(np.arange(9.0), None, 0.95, seed, resamples=50).seed == told


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


@given(st.integers(20, 60), st.integers(0, 10_000), st.sampled_from([1e-3, 7.0, 1e4]))
def test_default_path_follows_the_unit_of_scores_and_not_the_order_of_rows(n, seed, factor):
    rng = np.random.default_rng(seed)
    t, c = rng.integers(-50, 50, n) / 10, rng.integers(-50, 50, n) / 10
    one = paired_difference(t, c, seed=3, resamples=400)
    scaled = paired_difference(factor * t, factor * c, seed=3, resamples=400)
    assert scaled.p == pytest.approx(one.p)
    order = rng.permutation(n)
    moved = paired_difference(t[order], c[order], seed=3, resamples=400)
    assert (moved.estimate, moved.p, moved.se) == pytest.approx((one.estimate, one.p, one.se))
    if one.low is not None:
        limits = (one.low * factor, one.high * factor)
        assert (scaled.low, scaled.high) == pytest.approx(limits, rel=1e-6, abs=1e-9 * factor)
        # The order only changes which draws are made.
        assert abs(moved.low - one.low) < one.high - one.low
