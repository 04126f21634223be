"""Scaling fits: R's numbers, refusals, bands, and errors in the axis."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    band,
    bootstrap_parameters,
    compare_forms,
    contrast_t,
    corrected_slope,
    deming,
    extrapolation_grid,
    fit_form,
    fit_power_law,
    fit_success_curve,
    isotonic,
    lomo_rmse,
    model_means,
    parameter_interval,
    power_law_interval,
    reliability,
    simex_slope,
    york,
    york_with_scatter,
)


@pytest.fixture(scope="module")
def games(refs):
    model = refs.labels("06_scaling_games", "model")
    x, y, se = refs.columns("06_scaling_games", "elo_gap_obs", "exploitation", "elo_gap_se")
    errors = dict(zip(model, se / 100, strict=True))
    return model, x / 100, y, errors


@pytest.fixture(scope="module")
def models(games):
    model, x, y, errors = games
    names, xs, ys, se_y = model_means(model, x, y)
    return xs, ys, np.array([errors[name] for name in names]), se_y


def test_games_by_cr2_and_models_by_ols_match_r(refs, games, models):
    want = refs.expected("06_scaling_R")["refs"]["ols"]
    model, x, y, _ = games
    by_game = contrast_t(y, x, [0, 1], cluster=model)
    assert by_game.estimate == pytest.approx(want["slope_per_100elo"])
    assert (by_game.se, by_game.df) == pytest.approx((want["se_CR2"], want["df_CR2"]), rel=1e-8)
    slope = parameter_interval("linear", "slope", models[0], models[1])
    assert slope.se == pytest.approx(want["model_means"]["se"], rel=1e-8)
    assert (slope.n, slope.df) == (14, 12)
    assert fit_form("linear", models[0], models[1]).r_squared == pytest.approx(
        want["model_means"]["r2"]
    )


def test_bands_match_r_and_mark_extrapolation(refs, models):
    want = refs.expected("06_scaling_R")["refs"]["ols"]
    fit = fit_form("linear", models[0], models[1])
    for kind, key in (("new model", "new_model_pi"), ("mean", "mean_ci")):
        got = band(fit, [0, 2, 4, 6], kind=kind)
        assert np.column_stack([got.mean, got.low, got.high]) == pytest.approx(
            np.array(want[key]), abs=1e-8
        )
        assert got.extrapolated.tolist() == [False, False, True, True]
    grid = extrapolation_grid(fit.x_range)
    reach = 0.25 * (fit.x_range[1] - fit.x_range[0])
    assert grid[-1] == pytest.approx(fit.x_range[1] + reach)


def test_forms_are_compared_as_in_r(refs, models):
    want = refs.expected("06_scaling_R")["refs"]["model_comparison"]
    got = compare_forms(models[0], models[1])
    for name, numbers in want["ic"].items():
        fit = got.fits[name]
        assert fit.k == numbers["k_with_sigma"]
        for key in ("rss", "aic", "aicc", "bic"):
            assert getattr(fit, key) == pytest.approx(numbers[key], abs=1e-5)
        assert got.weights[name] == pytest.approx(want["akaike_weights_aicc"][name], abs=1e-5)
        assert got.lomo_rmse[name] == pytest.approx(want["lomo_rmse"][name], abs=1e-5)
    assert got.fits["logistic4"].parameters == pytest.approx(want["logistic4_params"], abs=1e-3)
    assert got.identified is None
    assert lomo_rmse("isotonic", models[0], models[1]) == pytest.approx(
        want["lomo_rmse"]["isotonic"]
    )
    json.dumps(got.to_dict(), allow_nan=False)


def test_isotonic_matches_r(refs):
    want = refs.expected("06_scaling_R")["refs"]["isotonic"]
    fitted = isotonic(np.array(want["x"]), np.array(want["y"]))
    assert fitted == pytest.approx(want["fit"], abs=1e-8)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-9, 9)), min_size=1, max_size=15))
def test_isotonic_is_monotone_and_keeps_the_mean(points):
    x, y = np.array(points, dtype=float).T
    fitted = isotonic(x, y)
    order = np.argsort(x, kind="stable")
    assert (np.diff(fitted[order]) >= -1e-9).all()
    assert fitted.mean() == pytest.approx(y.mean())


def test_errors_in_the_axis_match_r(refs, models):
    want = refs.expected("06_scaling_R")["refs"]["measurement_error"]
    x, y, se_x, se_y = models
    assert reliability(x, se_x) == pytest.approx(want["reliability_lambda"], rel=1e-8)
    assert corrected_slope(x, y, se_x).estimate == pytest.approx(
        want["slope_moment_corrected"], rel=1e-8
    )
    line = deming(x, y, want["deming"]["delta_var_y_over_var_x"])
    assert (line.slope, line.intercept) == pytest.approx(
        (want["deming"]["slope"], want["deming"]["intercept"]), rel=1e-8
    )
    line = york(x, y, se_x, se_y)
    for name in ("slope", "intercept", "se_slope", "chi2", "df"):
        assert getattr(line, name) == pytest.approx(want["york"][name], rel=1e-8)
    scattered = york_with_scatter(x, y, se_x, se_y)
    assert scattered.intrinsic_scatter > 0
    assert scattered.chi2 == pytest.approx(12)
    assert scattered.se_slope > line.se_slope
    naive = parameter_interval("linear", "slope", x, y).estimate
    assert naive < simex_slope(x, y, se_x, seed=1).estimate < 0.19


def test_power_law_with_offset_matches_r(refs):
    want = refs.expected("06_scaling_R")["refs"]["powerlaw"]
    compute, loss = refs.columns("06_powerlaw", "compute", "loss")
    for delta, key in ((1e-3, "huber_delta_1e3"), (None, "least_squares_log")):
        got = fit_power_law(compute, loss, unit=1e18, delta=delta)
        assert got.objective == pytest.approx(want[key]["objective"], abs=1e-5, rel=1e-6)
        assert (got.amplitude, got.exponent, got.offset) == pytest.approx(
            (want[key]["A"], want[key]["alpha"], want[key]["E"]), abs=1e-3
        )
        assert got.starts >= 100
    interval = power_law_interval(compute, loss, seed=1, resamples=30)
    assert interval.low < want["truth"]["alpha"] < interval.high


def test_success_curves_match_r(refs):
    want = refs.expected("06_scaling_R")["refs"]["saturating"]
    cap, n, k = refs.columns("06_saturating", "cap", "n", "k")
    plain = fit_success_curve(cap, k, n)
    reference = want["binomial_logit_no_floor"]
    assert (plain.intercept, plain.slope) == pytest.approx(
        (reference["intercept"], reference["slope"]), abs=1e-3
    )
    assert (plain.deviance, plain.aic, plain.df) == pytest.approx(
        (reference["deviance"], reference["aic"], reference["df"]), abs=1e-5
    )
    floored = fit_success_curve(cap, k, n, floor=0.25, lapse=True)
    reference = want["floor25_lapse"]
    assert floored.negative_log_likelihood == pytest.approx(reference["nll"], abs=1e-5)
    assert (floored.intercept, floored.slope, floored.lapse) == pytest.approx(
        (reference["intercept"], reference["slope"], reference["lapse"]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("form", "models", "reason"),
    [
        ("linear", 0, "empty"),
        ("linear", 2, "too_few_models"),
        ("linear", 5, "too_few_models"),
        ("logistic4", 9, "too_few_models"),
        ("double_relu", 9, "too_few_models"),
        ("constant", 2, "too_few_models"),
    ],
)
def test_too_few_models_are_refused(form, models, reason):
    x = np.linspace(0, 1, models)
    fit = fit_form(form, x, x**2)
    assert fit.reason == reason
    assert fit.r_squared is None
    assert band(fit, [0.5]) == reason
    with pytest.raises(ValueError, match=reason):
        fit.predict([0.5])


def test_degenerate_axes_have_a_reason():
    assert fit_form("linear", [1.0] * 8, np.arange(8.0)).reason == "zero_variance"
    assert reliability([1.0, 1.0], [0.1, 0.1]) is None
    assert corrected_slope([1.0, 1.1], [1, 2], [3.0, 3.0]).reason == "not_identified"
    assert york([1, 1, 1], [1, 2, 3], [1, 1, 1], [1, 1, 1]).reason == "zero_variance"
    assert fit_power_law([], []).reason == "empty"
    assert fit_power_law([1, 2, 3], [3, 2, 1]).reason == "too_few_units"
    assert fit_success_curve([], [], []).reason == "empty"
    assert simex_slope([1, 2], [1, 2], [0.1, 0.1], seed=1).reason == "too_few_models"
    with pytest.raises(ValueError, match="positive"):
        fit_power_law([-1.0] * 9, [1.0] * 9)
    with pytest.raises(ValueError, match="form must be"):
        fit_form("cubic", [1], [1])


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_curve_is_recovered(seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-3, 3, 20))
    y = 0.1 + 0.7 / (1 + np.exp(-(x - 0.4) / 0.5)) + rng.normal(0, 0.01, 20)
    got = compare_forms(x, y, ("linear", "logistic4"))
    assert got.identified == "logistic4"
    assert got.fits["logistic4"].parameters["midpoint"] == pytest.approx(0.4, abs=0.1)


def test_bootstrap_of_models_is_seeded_and_holds_the_estimate(models):
    one, again = (
        bootstrap_parameters("linear", models[0], models[1], seed=3, resamples=200)["slope"]
        for _ in range(2)
    )
    assert one == again
    assert one.low < one.estimate < one.high


def test_profile_interval_is_open_where_the_data_are_silent():
    x = np.linspace(-3, 0, 12)
    y = 0.05 + 0.9 / (1 + np.exp(-(x - 1.0))) + 0.004 * np.cos(7 * x)
    got = parameter_interval("logistic4", "range", x, y)
    assert got.high is None or got.high > 1.5
    assert got.estimate is not None
