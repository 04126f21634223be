"""Mixed models against closed forms, brute force and each other; see also `test_references.py`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peira.stats import (
    capability_slope,
    crossed_slope,
    logistic_mixed,
    logistic_random_intercept,
    mixed_difference,
    mixed_model,
    paired_difference,
    social_relations,
)
from peira.stats.mixed import Sums, _deviance, indicator


def _items(seed=0, items=30, draws=4):
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(items), 2 * draws)
    treated = np.tile(np.repeat([0.0, 1.0], draws), items)
    each = rng.normal(0, 0.6, (items, 2))
    y = rng.normal(0, 1, items)[item] + each[item, treated.astype(int)] + 0.2 * treated
    return y + rng.normal(0, 0.5, item.size), item, treated


def test_a_balanced_mixed_model_is_the_paired_t_over_items():
    y, item, treated = _items()
    arms = [y[treated == a].reshape(30, 4) for a in (1.0, 0.0)]
    d = arms[0].mean(axis=1) - arms[1].mean(axis=1)
    for df in ("satterthwaite", "kenward-roger"):
        got = mixed_difference(y, item, treated, df=df)
        assert got.estimate == pytest.approx(d.mean())
        assert got.se == pytest.approx(d.std(ddof=1) / math.sqrt(30), rel=1e-5)
        assert got.df == pytest.approx(29, rel=1e-3)
    assert paired_difference(*arms, seed=1).estimate == pytest.approx(got.estimate)


def test_the_sparse_deviance_is_that_of_the_dense_covariance():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, 40), rng.integers(0, 4, 40)
    x, y = np.column_stack([np.ones(40), rng.normal(size=40)]), rng.normal(size=40)
    terms = [indicator(a), indicator(b)]
    v = np.array([0.7, 0.2, 0.4])
    whole = sum(s * t.toarray() @ t.toarray().T for s, t in zip(v, terms, strict=False))
    whole = whole + v[2] * np.eye(40)
    inverse = np.linalg.inv(whole)
    information = x.T @ inverse @ x
    r = y - x @ np.linalg.solve(information, x.T @ inverse @ y)
    want = np.linalg.slogdet(whole)[1] + np.linalg.slogdet(information)[1] + r @ inverse @ r
    assert _deviance(Sums.of(y, x, terms), v) == pytest.approx(want)


def test_unbalanced_rows_of_one_grouping_agree_with_statsmodels():
    from statsmodels.regression.mixed_linear_model import MixedLM

    y, item, treated = _items(seed=3)
    keep = np.random.default_rng(0).random(y.size) < 0.6
    y, item, treated = y[keep], item[keep], treated[keep]
    want = MixedLM(y, np.column_stack([np.ones(y.size), treated]), groups=item).fit(reml=True)
    got = mixed_model(y, treated, {"item": item}, [0, 1])
    assert got.estimate == pytest.approx(want.fe_params[1], abs=1e-4)
    assert got.se == pytest.approx(want.bse_fe[1], abs=1e-4)
    assert got.extra["var_item"] == pytest.approx(want.cov_re[0, 0], abs=1e-3)


def test_a_variance_of_zero_is_flagged_and_items_stay_the_units():
    rng = np.random.default_rng(5)
    item, treated = np.repeat(np.arange(12), 6), np.tile([0.0, 1.0], 36)
    got = mixed_difference(rng.normal(size=72), item, treated)
    assert "singular" in got.flags
    assert got.df <= 11


def test_missing_rows_are_counted_and_unknown_methods_refused():
    y, item, treated = _items(items=8)
    y[:3] = np.nan
    got = mixed_difference(y, item, treated)
    assert (got.n, got.n_rows, got.missing) == (8, 61, 3)
    with pytest.raises(ValueError, match="df must be"):
        mixed_difference(y, item, treated, df="z")
    with pytest.raises(ValueError, match="row by row"):
        mixed_model(y, treated, {"item": item[:-1]}, [0, 1])


@pytest.mark.parametrize(
    ("y", "item", "treated", "reason"),
    [
        ([], [], [], "empty"),
        ([1.0, 2.0, 3.0, 4.0], list("abcd"), [1] * 4, "missing_arm"),
        ([1.0, 1.0] * 3, list("aabbcc"), [0, 1] * 3, "zero_variance"),
        ([1.0, 2.0], ["a", "a"], [0, 1], "single_unit"),
    ],
)
def test_what_cannot_be_fitted_has_a_reason(y, item, treated, reason):
    assert mixed_difference(y, item, treated).reason == reason


def test_one_grouping_by_quadrature_agrees_with_brute_integration():
    rng = np.random.default_rng(2)
    item, treated = np.repeat(np.arange(15), 4), np.tile([0.0, 1.0], 30)
    chance = 1 / (1 + np.exp(-(rng.normal(0, 1, 15)[item] + 0.5 * treated)))
    y = (rng.random(60) < chance).astype(float)
    got = logistic_random_intercept(y, item, treated)
    assert got.estimate > 3 * got.extra["average_marginal_difference"]
    u, step = np.linspace(-8, 8, 4001, retstep=True)
    sd = math.sqrt(got.extra["var_item"])

    def likelihood(intercept):
        eta = intercept + got.estimate * treated[:, None] + sd * u
        rows = y[:, None] * eta - np.logaddexp(0, eta)
        each = np.exp(np.add.reduceat(rows, np.arange(0, 60, 4)) - u**2 / 2)
        return np.log(each.sum(axis=1) * step / math.sqrt(2 * math.pi)).sum()

    best = max(likelihood(b) for b in np.linspace(-2, 2, 401))
    assert got.extra["log_likelihood"] == pytest.approx(best, abs=1e-3)


def test_the_marginal_difference_has_the_librarys_error_where_items_do_not_differ():
    from statsmodels.discrete.discrete_model import Logit

    item, treated = np.repeat(np.arange(30), 4), np.tile([0.0, 1.0], 60)
    y = (np.random.default_rng(3).random(120) < 0.4 + 0.25 * treated).astype(float)
    got = logistic_random_intercept(y, item, treated)
    assert got.extra["var_item"] < 1e-3
    fit = Logit(y, np.column_stack([np.ones(120), treated])).fit(disp=False)
    gap = fit.get_margeff(dummy=True)
    told = [got.extra[f"average_marginal_difference{side}"] for side in ("", "_low", "_high")]
    assert told == pytest.approx([gap.margeff[0], *gap.conf_int()[0]], abs=1e-3)


def test_crossed_groupings_of_passes_are_told_apart():
    rng = np.random.default_rng(1)
    item, judge = np.repeat(np.arange(40), 20), np.tile(np.repeat(np.arange(10), 2), 40)
    treated = np.tile([0.0, 1.0], 400)
    eta = 1.2 * rng.normal(size=40)[item] + 0.5 * rng.normal(size=10)[judge] + 0.8 * treated - 0.4
    y = (rng.random(800) < 1 / (1 + np.exp(-eta))).astype(float)
    got = logistic_mixed(y, treated, {"item": item, "judge": judge})
    assert got.low < 0.8 < got.high
    assert got.extra["var_item"] > 3 * got.extra["var_judge"]
    assert (got.n, got.n_rows) == (10, 800)


def test_passes_without_information_have_a_reason():
    assert (
        logistic_random_intercept([1, 1, 0, 1], list("aabb"), [1, 1, 0, 0]).reason == "separation"
    )
    assert logistic_random_intercept([], [], []).reason == "empty"
    assert logistic_random_intercept([1, 0], ["a", "b"], [1, 1]).reason == "missing_arm"


def _round_robin(seed, models=8, games=2):
    """Two utilities per game from planted actor, partner and relationship effects."""
    rng = np.random.default_rng(seed)
    effects = rng.multivariate_normal([0, 0], [[1.0, -0.4], [-0.4, 0.5]], models)
    related = np.zeros((models, models))
    for i in range(models):
        for j in range(i + 1, models):
            related[i, j], related[j, i] = rng.multivariate_normal([0, 0], [[0.6, 0.2], [0.2, 0.6]])
    pairs = [(i, j) for i in range(models) for j in range(models) if i != j] * games

    def utility(i, j):
        return 5 + effects[i, 0] + effects[j, 1] + related[i, j] + rng.normal()

    first, second = zip(*pairs, strict=True)
    return (
        list(first),
        list(second),
        np.array([utility(i, j) for i, j in pairs]),
        np.array([utility(j, i) for i, j in pairs]),
    )


def test_the_social_relations_split_recovers_what_was_planted():
    runs = [social_relations(*_round_robin(seed)) for seed in range(60)]
    planted = {
        "actor": 1.0,
        "partner": 0.5,
        "relationship": 0.6,
        "reciprocity": -0.4,
        "dyadic": 0.2,
    }
    for name, truth in planted.items():
        values = np.array([getattr(run, name).estimate for run in runs])
        assert values.mean() == pytest.approx(truth, abs=3.5 * values.std() / math.sqrt(60))
    assert np.mean([run.error for run in runs]) == pytest.approx(1.0, abs=0.1)
    assert sum(runs[0].shares.values()) == pytest.approx(1)
    inside = np.mean([run.actor.low < 1.0 < run.actor.high for run in runs])
    assert inside > 0.8


def test_the_split_agrees_with_a_crossed_model_of_the_same_rows():
    first, second, u, v = _round_robin(3, models=14)
    actor, partner = first + second, second + first
    cell = list(zip(actor, partner, strict=True))
    terms = {"actor": actor, "partner": partner, "cell": cell}
    rows = np.concatenate([u, v])
    want = mixed_model(rows, np.ones((rows.size, 1)), terms, [1.0])
    got = social_relations(first, second, u, v)
    assert got.mean == pytest.approx(want.estimate, abs=0.02)
    assert got.actor.estimate == pytest.approx(want.extra["var_actor"], rel=0.1)
    assert got.partner.estimate == pytest.approx(want.extra["var_partner"], rel=0.1)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([], [], "empty"),
        (["a", "b"], ["b", "c"], "too_few_models"),
        (["a", "b", "c", "d"], ["b", "c", "d", "a"], "not_identified"),
    ],
)
def test_a_split_needs_a_whole_round_robin_of_four(first, second, reason):
    got = social_relations(first, second, [1.0] * len(first), [0.0] * len(first))
    assert (got.reason, got.actor.reason, got.shares) == (reason, reason, {})


def test_the_crossed_slope_of_a_balanced_round_robin_is_that_of_model_scores():
    first, second, u, v = _round_robin(0)
    capability = {m: m / 8 + 0.1 * (m % 3) for m in range(8)}
    plain = capability_slope(first, second, u - v, capability)
    crossed = crossed_slope(first, second, u - v, capability, df="kenward-roger")
    assert crossed.estimate == pytest.approx(plain.estimate, rel=1e-6)
    assert crossed.se == pytest.approx(plain.se, rel=0.02)
    assert crossed.df == pytest.approx(6, abs=0.1)
    by_scenario = crossed_slope(
        first, second, u - v, capability, scenario=[k % 5 for k in range(len(first))]
    )
    assert "var_scenario" in by_scenario.extra
    assert crossed_slope([], [], [], {}).reason == "empty"
    assert crossed_slope(["a"], ["b"], [1.0], {"a": 0, "b": 1}).reason == "too_few_models"
