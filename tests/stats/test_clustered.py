"""Clusters, replicates, regressions, dyads and ratings against R and against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.stats import (
    bradley_terry,
    capability_permutation,
    capability_slope,
    cluster_covariance,
    cluster_mean,
    clustered_mcnemar,
    contrast_t,
    davidson,
    dyadic_errors,
    half_win_logit,
    least_squares,
    logistic_random_intercept,
    mixed_difference,
    model_scores,
    optimal_replicates,
    paired_difference,
    simultaneous_ranks,
    variance_split,
    wild_cluster_p,
    wild_mean_p,
)
from peira.stats._arrays import codes


def test_clustered_means_match_clubsandwich(refs):
    expected = refs.expected("03_clustered_R")["refs"]["clustered"]
    a, b, sa, sb = refs.columns("03_clustered_pairs", "cont_a", "cont_b", "score_a", "score_b")
    cluster = refs.labels("03_clustered_pairs", "cluster")
    for name, values in {
        "cont_a": a,
        "cont_b": b,
        "paired_diff": b - a,
        "score_a": sa,
        "score_b": sb,
        "paired_diff_binary": sb - sa,
    }.items():
        want, got = expected[name], cluster_mean(values, cluster)
        assert got.se == pytest.approx(want["se_CR2"], rel=1e-8)
        assert got.df == pytest.approx(want["df_CR2"], rel=1e-8)
        assert got.p == pytest.approx(want["p_CR2"], rel=1e-8)
        assert (got.low, got.high) == pytest.approx(want["ci_CR2"], abs=1e-8)
        assert got.extra["se_if_independent"] == pytest.approx(want["se_iid"])
        assert got.extra["design_effect"] == pytest.approx(want["design_effect"])
        general = contrast_t(values, np.ones((len(values), 1)), [1.0], cluster=cluster)
        assert (general.se, general.df) == pytest.approx((got.se, got.df))


def test_clustered_mcnemar_variants_match_r(refs):
    want = refs.expected("03_clustered_R")["refs"]["clustered_mcnemar"]
    a, b = refs.columns("03_clustered_pairs", "score_a", "score_b")
    cluster = refs.labels("03_clustered_pairs", "cluster")
    for variant in ("obuchowski", "durkalski", "yang"):
        got = clustered_mcnemar(b, a, cluster, variant=variant)
        assert got.extra["chi2"] == pytest.approx(want[f"{variant}_chi2"], rel=1e-8)
        assert got.p == pytest.approx(want[f"{variant}_p"], rel=1e-8)


def test_few_clusters_match_r(refs):
    want = refs.expected("03_clustered_R")["refs"]["few_clusters"]
    x, y = refs.columns("03_few_clusters", "x", "y")
    cluster = refs.labels("03_few_clusters", "cluster")
    got = contrast_t(y, x, [0, 1], cluster=cluster)
    assert got.estimate == pytest.approx(want["beta"])
    assert (got.se, got.df, got.p) == pytest.approx(
        (want["se_CR2"], want["df_CR2"], want["p_CR2"]), rel=1e-8
    )
    fit = least_squares(y, x)
    cr1 = cluster_covariance(fit, codes(cluster)[0], "CR1S")
    assert math.sqrt(cr1[1, 1]) == pytest.approx(want["se_CR1"], rel=1e-8)
    wild = wild_cluster_p(y, x, cluster, weights="rademacher")
    assert wild.p == want["p_wild_restricted_rademacher_exhaustive"]
    assert wild.arrangements == want["n_draws"]


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


def test_variance_split_matches_r(refs):
    want = refs.expected("03_clustered_R")["refs"]["replicates"]
    rows = refs.rows("03_replicates")
    items = sorted({row["item"] for row in rows})
    for column, key in (("y_cont", "cont"), ("y_binary", "binary")):
        arms = [
            np.array(
                [
                    [float(r[column]) for r in rows if r["item"] == i and r["condition"] == c]
                    for i in items
                ]
            )
            for c in ("treatment", "control")
        ]
        got = variance_split(*arms)
        assert got.se == pytest.approx(want[key]["se_item_level"], rel=1e-8)
        assert got.within_part == pytest.approx(want[key]["within_part"], rel=1e-8)
        assert got.between == pytest.approx(want[key]["between_item_var_of_true_diff"], rel=1e-8)


def test_variance_split_of_single_draws_leaves_the_within_part_open():
    got = variance_split([[1.0], [2.0], [4.0]], [[0.0], [1.0], [1.0]])
    assert got.within_part is None
    assert got.between is None
    assert variance_split([[1.0]], [[0.0]]).reason == "single_unit"
    assert optimal_replicates(1.0, 0.1, 0.2, 0.0) == math.inf
    assert optimal_replicates(4.0, 1.0, 1.0, 1.0) == 2


@pytest.mark.filterwarnings("default")
def test_mixed_model_keeps_the_random_intercept_and_items_as_units(refs):
    want = refs.expected("03_clustered_R")["refs"]["mixed"]["item_plus_item_by_condition"]
    rows = refs.rows("03_replicates")
    got = mixed_difference(
        [float(r["y_cont"]) for r in rows],
        [r["item"] for r in rows],
        [r["condition"] == "treatment" for r in rows],
    )
    assert got.estimate == pytest.approx(want["beta"], abs=1e-4)
    assert got.se == pytest.approx(want["se"], abs=1e-4)
    assert got.df == pytest.approx(39, abs=1e-2)
    assert got.p == pytest.approx(want["p_satterthwaite"], abs=1e-4)
    variances = [c["vcov"] for c in want["varcomp"]]
    named = ("var_item_condition", "var_item", "var_residual")
    assert [got.extra[name] for name in named] == pytest.approx(variances, abs=1e-3)


def test_logistic_random_intercept_matches_lme4_quadrature(refs):
    want = refs.expected("03_clustered_R")["refs"]["glmm_binary_item_only_agq25"]
    rows = refs.rows("03_replicates")
    y, item, treated = (
        [float(r["y_binary"]) for r in rows],
        [r["item"] for r in rows],
        [r["condition"] == "treatment" for r in rows],
    )
    got = logistic_random_intercept(y, item, treated)
    assert got.estimate == pytest.approx(want["beta_logit"], abs=1e-3)
    assert got.se == pytest.approx(want["se"], abs=1e-3)
    assert got.extra["item_variance"] == pytest.approx(want["item_var"], abs=1e-3)
    assert got.extra["log_likelihood"] == pytest.approx(want["loglik"], abs=1e-3)
    assert got.extra["average_marginal_difference"] == pytest.approx(0.095, abs=0.005)
    assert got.estimate > 4 * got.extra["average_marginal_difference"]
    assert (
        logistic_random_intercept([1, 1, 0, 1], list("aabb"), [1, 1, 0, 0]).reason == "separation"
    )
    assert logistic_random_intercept([], [], []).reason == "empty"
    assert logistic_random_intercept([1, 0], ["a", "b"], [1, 1]).reason == "missing_arm"


def test_mixed_model_refuses_what_it_cannot_fit():
    assert mixed_difference([], [], []).reason == "empty"
    assert mixed_difference([1.0, 2.0], ["a", "b"], [1, 1]).reason == "missing_arm"
    assert mixed_difference([1.0, 1.0] * 3, list("aabbcc"), [0, 1] * 3).reason == "zero_variance"


@pytest.fixture
def tournament(refs):
    first, second = (refs.labels("03_dyadic_games", c) for c in ("first", "second"))
    u1, u2, c1, c2 = refs.columns(
        "03_dyadic_games", "u_first", "u_second", "cap_first", "cap_second"
    )
    capability = dict(zip(first, c1, strict=True)) | dict(zip(second, c2, strict=True))
    return first, second, u1 - u2, c1 - c2, capability


def test_dyadic_errors_match_r(refs, tournament):
    want = refs.expected("03_clustered_R")["refs"]["dyadic"]
    first, second, y, x, _ = tournament
    got = dyadic_errors(first, second, y, x)
    for ours, theirs in {
        "slope": "slope",
        "intercept": "intercept_first_mover",
        "se_iid": "se_iid",
        "se_pair": "se_cluster_dyad_CR0",
        "se_first": "se_cluster_first_CR0",
        "se_two_way": "se_twoway_first_second_CGM",
        "se_dyadic": "se_dyadic_aronow",
        "se_intercept_dyadic": "se_intercept_dyadic",
    }.items():
        assert getattr(got, ours) == pytest.approx(want[theirs], rel=1e-8)
    assert got.jackknife == pytest.approx(want["node_jackknife"]["estimates"], rel=1e-8)
    assert got.se_jackknife == pytest.approx(
        want["node_jackknife"]["se_dyadic_scaled_Mm2_over_2M"], rel=1e-8
    )


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
    with pytest.raises(ValueError, match="no capability given for: b"):
        capability_slope(["a"], ["b"], [1.0], {"a": 1.0})
    with pytest.raises(ValueError, match="itself"):
        model_scores(["a"], ["a"], [1.0])


def test_bradley_terry_matches_r(refs, tournament):
    want = refs.expected("03_clustered_R")["refs"]["bradley_terry"]
    first, second, y, _, _ = tournament
    won = [None if v == 0 else float(v > 0) for v in y]
    got = bradley_terry(first, second, won, reference="m0")
    abilities = dict(zip(got.models, got.ability, strict=True))
    errors = dict(zip(got.models, got.se, strict=True))
    for name, value in want["ability"].items():
        assert abilities[name.removeprefix("player")] == pytest.approx(value, abs=1e-5)
        assert errors[name.removeprefix("player")] == pytest.approx(want["se"][name], abs=1e-5)
    assert (got.n, got.order) == (want["n"], pytest.approx(want["order_effect"], abs=1e-5))
    assert got.log_likelihood == pytest.approx(want["loglik"], abs=1e-5)
    ranks = simultaneous_ranks(got, seed=1)
    assert all(r.best <= r.rank <= r.worst for r in ranks)


def test_davidson_matches_r(refs):
    want = refs.expected("08_misc_R")["refs"]["davidson_ties"]
    games = [
        (row["i"], row["j"], outcome)
        for row in want["table"]
        for key, outcome in (("wi", 1.0), ("wj", 0.0), ("t", 0.5))
        for _ in range(row[key])
    ]
    got = davidson(*(list(column) for column in zip(*games, strict=True)))
    assert got.ability[1:] == pytest.approx(want["theta"], abs=1e-5)
    assert got.log_nu == pytest.approx(want["log_nu"], abs=1e-5)
    assert (*got.se[1:], got.log_nu_se) == pytest.approx(want["se"], abs=1e-5)
    assert got.log_likelihood == pytest.approx(-want["negloglik"], abs=1e-5)


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
