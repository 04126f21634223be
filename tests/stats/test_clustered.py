"""Clusters, replicates, regressions, dyads and ratings against R and against brute force."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.stats import (
    bootstrap_ratings,
    bradley_terry,
    capability_permutation,
    capability_slope,
    cluster_mean,
    contrast_t,
    davidson,
    dyadic_errors,
    half_win_logit,
    least_squares,
    model_scores,
    optimal_replicates,
    paired_difference,
    simultaneous_ranks,
    variance_split,
    wild_cluster_p,
    wild_mean_p,
)


def test_wild_bootstrap_agrees_with_refitting_every_sign_pattern():
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(9), rng.integers(1, 5, 9))
    d = rng.normal(0.4, 1, cluster.size)

    def t_of(values, null):
        total = np.bincount(cluster, weights=values - values.mean())
        return (values.mean() - null) / math.sqrt((total**2).sum())

    for null in (0.0, 0.3):
        stars = [
            t_of(null + np.array(w)[cluster] * (d - null), null)
            for w in itertools.product([1, -1], repeat=9)
        ]
        expected = (np.abs(stars) >= abs(t_of(d, null)) - 1e-9).mean()
        assert wild_mean_p(d, cluster, null) == pytest.approx(expected)
        x = np.ones((d.size, 1))
        assert wild_cluster_p(d, x, cluster, 0, null=null).p == pytest.approx(expected)


def test_a_regression_on_few_clusters_has_the_wild_bootstrap_p_and_the_nulls_it_accepts():
    rng = np.random.default_rng(8)
    cluster = np.repeat(np.arange(9), 4)
    x, arm = rng.normal(size=36), np.tile([0.0, 1.0], 18)
    y = 0.4 * x + arm + rng.normal(size=9)[cluster] + rng.normal(size=36)
    design = np.column_stack([np.ones(36), x, arm])
    got = contrast_t(y, design, [0, 0, 1], cluster=cluster)
    assert "wild cluster bootstrap-t, Rademacher" in got.method
    assert got.p == pytest.approx(wild_cluster_p(y, design, cluster).p)
    width = got.high - got.low
    for limit, inwards in ((got.low, 0.01 * width), (got.high, -0.01 * width)):
        assert wild_cluster_p(y, design, cluster, null=limit - inwards).p <= 0.05
        assert wild_cluster_p(y, design, cluster, null=limit + inwards).p > 0.05
    # A contrast of two coefficients is a coefficient of the design in other coordinates.
    both = contrast_t(y, design, [0, 1, 1], cluster=cluster)
    other = np.column_stack([np.ones(36), x - arm, arm])
    assert both.p == pytest.approx(wild_cluster_p(y, other, cluster).p)
    assert both.estimate == pytest.approx(least_squares(y, other).beta[2])


@pytest.mark.parametrize(
    ("clusters", "told"), [(5, "too_few_clusters"), (6, "Webb"), (8, "Webb"), (12, "CR2")]
)
def test_the_error_of_a_regression_follows_from_its_number_of_clusters(clusters, told):
    rng = np.random.default_rng(8)
    cluster = np.repeat(np.arange(clusters), 3)
    got = contrast_t(rng.normal(size=cluster.size), cluster * 1.0, [0, 1], cluster=cluster)
    assert told in (got.reason or got.method)


def test_wild_interval_holds_exactly_the_nulls_its_test_accepts():
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(10), 3)
    d = rng.normal(0.4, 1, 30) + rng.normal(0, 0.5, 10)[cluster]
    got = cluster_mean(d, cluster)
    width = got.high - got.low
    assert wild_mean_p(d, cluster, got.low - 0.01 * width) <= 0.05
    assert wild_mean_p(d, cluster, got.high + 0.01 * width) <= 0.05
    assert wild_mean_p(d, cluster, got.low + 0.01 * width) > 0.05
    assert wild_mean_p(d, cluster, got.high - 0.01 * width) > 0.05


@pytest.mark.parametrize(
    ("values", "cluster", "reason"),
    [
        ([], [], "empty"),
        ([1.0], ["a"], "single_unit"),
        ([1.0, 2.0, 3.0], ["a", "a", "b"], "too_few_clusters"),
        ([0.5] * 20, list(range(10)) * 2, "zero_variance"),
        ([None] * 4, list("abcd"), "empty"),
    ],
)
def test_degenerate_clusters_have_a_reason(values, cluster, reason):
    got = cluster_mean(values, cluster)
    assert got.reason == reason
    assert got.low is None
    assert got.p is None


def test_paired_difference_respects_clusters():
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(20), 5)
    t = rng.normal(0, 1, 20)[cluster] + rng.normal(0, 0.1, 100)
    got = paired_difference(t, np.zeros(100), cluster=cluster, seed=1)
    assert got.se > 2 * got.extra["se_if_independent"]
    few = paired_difference(t[:20], np.zeros(20), cluster=cluster[:20], seed=1)
    assert few.reason == "too_few_clusters"
    assert few.estimate is not None


def test_variance_split_of_single_draws_leaves_the_within_part_open():
    got = variance_split([[1.0], [2.0], [4.0]], [[0.0], [1.0], [1.0]])
    assert got.within_part is None
    assert got.between is None
    assert variance_split([[1.0]], [[0.0]]).reason == "single_unit"
    assert optimal_replicates(1.0, 0.1, 0.2, 0.0) == math.inf
    assert optimal_replicates(4.0, 1.0, 1.0, 1.0) == 2


@pytest.fixture
def tournament(refs):
    first, second = (refs.labels("03_dyadic_games", c) for c in ("first", "second"))
    u1, u2, c1, c2 = refs.columns(
        "03_dyadic_games", "u_first", "u_second", "cap_first", "cap_second"
    )
    capability = dict(zip(first, c1, strict=True)) | dict(zip(second, c2, strict=True))
    return first, second, u1 - u2, c1 - c2, capability


def test_capability_slope_is_that_of_games_with_the_degrees_of_models(refs, tournament):
    first, second, y, _, capability = tournament
    got = capability_slope(first, second, y, capability)
    want = refs.expected("03_clustered_R")["refs"]["dyadic"]
    assert got.estimate == pytest.approx(want["slope"], rel=1e-8)
    assert (got.n, got.n_rows, got.df) == (9, 216, 7)
    assert got.extra["order_effect"] == pytest.approx(want["intercept_first_mover"])
    qap = capability_permutation(first, second, y, capability, seed=1)
    assert qap.p == pytest.approx(want["qap_p_two_sided_20000"], abs=want["qap_mc_tol"])


def test_more_seeds_do_not_shrink_the_error_between_models(tournament):
    first, second, y, _, capability = tournament
    once = capability_slope(first, second, y, capability)
    thrice = capability_slope(first * 3, second * 3, np.tile(y, 3), capability)
    assert thrice.se == pytest.approx(once.se)


def test_balanced_model_scores_have_the_closed_form():
    rng = np.random.default_rng(0)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    y = rng.normal(size=len(pairs))
    got = model_scores([p[0] for p in pairs], [p[1] for p in pairs], y).as_mapping()
    for i in range(5):
        won = sum(v for (a, _), v in zip(pairs, y, strict=True) if a == i)
        lost = sum(v for (_, b), v in zip(pairs, y, strict=True) if b == i)
        assert got[i] == pytest.approx((won - lost) / 10)


def test_unlinked_star_and_tiny_designs_say_so():
    assert model_scores(["a", "c"], ["b", "d"], [1.0, 2.0]).reason == "not_identified"
    assert capability_slope([], [], [], {}).reason == "empty"
    two = capability_slope(["a", "b"], ["b", "a"], [1.0, 2.0], {"a": 0, "b": 1})
    assert two.reason == "too_few_models"
    star = capability_slope(
        ["z"] * 4, list("abcd"), [1.0, 2.0, 0.5, 3.0], dict(zip("zabcd", range(5), strict=True))
    )
    assert "conditional_on_one_baseline" in star.flags
    # The baseline always goes first: what that is worth moves its own skill, but no opponent's.
    line = np.polyfit(range(1, 5), [-1.0, -2.0, -0.5, -3.0], 1)
    assert (star.estimate, star.n, star.df) == (pytest.approx(line[0]), 4, 2)
    scored = model_scores(["z"] * 4, list("abcd"), [11.0, 12.0, 10.5, 13.0])
    assert (scored.baseline, scored.models) == ("z", tuple("abcd"))
    assert scored.scores == pytest.approx([0.625, -0.375, 1.125, -1.375])
    with pytest.raises(ValueError, match="no capability given for: b"):
        capability_slope(["a"], ["b"], [1.0], {"a": 1.0})
    with pytest.raises(ValueError, match="itself"):
        model_scores(["a"], ["a"], [1.0])


def test_one_pair_of_models_has_no_sandwich():
    first, second = ["a", "b", "a", "b"], ["b", "a", "b", "a"]
    assert dyadic_errors(first, second, [1, -0.5, 2, -1], [1, -1, 1, -1]) == "single_unit"


def test_a_clean_sweep_is_finite_and_marked(refs):
    want = refs.expected("08_misc_R")["refs"]["bt_separation"]
    got = bradley_terry(["a"] * 5, ["b"] * 5, [1] * 5, reference="b")
    assert got.penalised
    assert got.ability[0] == pytest.approx(want["jeffreys_half_pseudo_logit"])
    assert got.elo[0] == pytest.approx(want["elo"])
    assert half_win_logit(5, 0) == pytest.approx(want["jeffreys_half_pseudo_logit"])
    assert davidson(["a"] * 5, ["b"] * 5, [1] * 5).reason == "separation"
    assert bradley_terry([], [], []).reason == "empty"
    assert bradley_terry(["a", "c"], ["b", "d"], [1, 0]).reason == "not_identified"


def test_equal_models_with_ties_only_are_equal():
    got = bradley_terry(["a", "b"] * 20, ["b", "a"] * 20, [0.5] * 40)
    assert got.ability == pytest.approx((0, 0))


def _league(seed):
    rng = np.random.default_rng(seed)
    first, second = (list(side) for side in zip(*itertools.permutations("abcdef", 2), strict=True))
    return first, second, (rng.random(30) < 0.5).astype(float), np.arange(30) % 7


@pytest.mark.parametrize("by", ["scenarios", "models"])
def test_bootstrap_of_ratings_agrees_with_refitting_every_draw(by):
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    first, second, won, scenario = _league(3)
    drawn = np.random.default_rng(9).standard_exponential((20, 7 if by == "scenarios" else 6))
    i, j = (np.array(["abcdef".index(name) for name in side]) for side in (first, second))
    x = np.column_stack([np.eye(6)[i, 1:] - np.eye(6)[j, 1:], np.ones(30)])
    found = [
        GLM(won, x, Binomial(), freq_weights=w[scenario] if by == "scenarios" else w[i] * w[j])
        .fit(tol=1e-12).params
        for w in drawn
    ]  # fmt: skip
    correction = 8 / 6 if by == "scenarios" else 7 / 5
    got = bootstrap_ratings(
        first, second, won, seed=9, scenario=scenario if by == "scenarios" else None, resamples=20
    )
    covariance = np.cov(np.array(found), rowvar=False) * correction
    np.testing.assert_allclose(got.covariance[1:, 1:], covariance[:5, :5], rtol=1e-6)
    assert got.order_se == pytest.approx(math.sqrt(covariance[5, 5]), rel=1e-6)
    assert (got.errors, got.ability) == (by, bradley_terry(first, second, won).ability)


def test_more_games_of_a_scenario_are_no_more_scenarios():
    first, second, won, scenario = _league(3)
    once = bootstrap_ratings(first, second, won, seed=1, scenario=scenario, resamples=50)
    twice = bootstrap_ratings(
        first * 2, second * 2, [*won, *won], seed=1, scenario=[*scenario, *scenario], resamples=50
    )
    assert twice.se == pytest.approx(once.se)
    assert bradley_terry(first * 2, second * 2, [*won, *won]).se[1] < 0.8 * bradley_terry(
        first, second, won
    ).se[1]  # fmt: skip


def test_what_reweighting_cannot_tell_about_ratings():
    first, second, won, scenario = _league(3)
    few = bootstrap_ratings(first, second, won, seed=1, scenario=scenario % 5, resamples=20)
    assert few.reason == "too_few_clusters"
    star = bootstrap_ratings(["a"] * 10, list("bcdef") * 2, [1, 0] * 5, seed=1, resamples=20)
    assert star.reason == "not_identified"
    swept = bootstrap_ratings(first, second, [a < b for a, b in zip(first, second, strict=True)],
                              seed=1, scenario=scenario, resamples=20)  # fmt: skip
    assert swept.penalised
    assert np.isfinite(swept.se).all()


def test_joint_ranks_of_independent_ratings_are_tukeys_differences():
    from scipy.stats import studentized_range

    gap = 0.3 * studentized_range.ppf(0.95, 5, np.inf)
    for distance, best in ((0.97 * gap, 1), (1.03 * gap, 2)):
        middle = (distance / 2,) * 3
        rated = dataclasses.replace(
            bradley_terry(["a"], ["b"], [0.5]), models=tuple("abcde"),
            ability=(0.0, distance, *middle), covariance=np.eye(5) * 0.3**2,
        )  # fmt: skip
        last, first, *_ = simultaneous_ranks(rated, seed=1, draws=40_000)
        assert (last.rank, last.best, last.worst) == (5, best, 5)
        assert (first.rank, first.best, first.worst) == (1, 1, 6 - best)


@settings(max_examples=25)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_hc2_is_cr2_with_singletons_and_df_of_a_balanced_contrast(per_arm, seed):
    rng = np.random.default_rng(seed)
    arm = np.repeat([0.0, 1.0], per_arm)
    y = rng.normal(size=arm.size)
    got = contrast_t(y, arm, [0, 1])
    a, b = y[arm == 0], y[arm == 1]
    assert got.se == pytest.approx(math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / per_arm))
    assert got.df == pytest.approx(2 * per_arm - 2)


@pytest.mark.parametrize(
    ("y", "x", "reason"),
    [
        ([], [], "empty"),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "rank_deficient"),
        ([1.0, 2.0], [0.0, 1.0], "too_few_units"),
        ([2.0, 2.0, 2.0], [0.0, 1.0, 2.0], "zero_variance"),
    ],
)
def test_degenerate_regressions_have_a_reason(y, x, reason):
    got = contrast_t(y, x, [0, 1])
    assert got.reason == reason
    assert got.p is None
