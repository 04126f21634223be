"""Scaling fits: R's numbers, refusals, bands, and errors in the axis."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    backtest,
    band,
    bootstrap_parameters,
    compare_forms,
    corrected_slope,
    extrapolation_grid,
    fit_form,
    fit_power_law,
    fit_success_curve,
    isotonic,
    lofo_rmse,
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


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-9, 9)), min_size=1, max_size=15))
def test_isotonic_is_monotone_and_keeps_the_mean(points):
    x, y = np.array(points, dtype=float).T
    fitted = isotonic(x, y)
    order = np.argsort(x, kind="stable")
    assert (np.diff(fitted[order]) >= -1e-9).all()
    assert fitted.mean() == pytest.approx(y.mean())


def test_bands_mark_extrapolation_and_stay_near(models):
    fit = fit_form("linear", models[0], models[1])
    for kind in ("new model", "mean"):
        assert band(fit, [0, 2, 4, 6], kind=kind).extrapolated.tolist() == [
            False,
            False,
            True,
            True,
        ]
    grid = extrapolation_grid(fit.x_range)
    reach = 0.25 * (fit.x_range[1] - fit.x_range[0])
    assert grid[-1] == pytest.approx(fit.x_range[1] + reach)


def test_a_form_that_is_not_identified_is_said_to_be_so(models):
    got = compare_forms(models[0], models[1])
    assert got.identified is None
    json.dumps(got.to_dict(), allow_nan=False)


def test_leaving_out_families_shows_what_siblings_give_away():
    rng = np.random.default_rng(4)
    family = np.repeat(np.arange(6), 4)
    x = rng.normal(0, 1, 24) + rng.normal(0, 1, 6)[family]
    y = 0.3 * x + rng.normal(0, 0.5, 6)[family] + rng.normal(0, 0.05, 24)
    one = lomo_rmse("linear", x, y)
    gaps = np.empty(24)
    for f in range(6):
        out = family == f
        gaps[out] = y[out] - np.polyval(np.polyfit(x[~out], y[~out], 1), x[out])
    assert lofo_rmse("linear", x, y, family) == pytest.approx(np.sqrt((gaps**2).mean()))
    assert lofo_rmse("linear", x, y, family) > one
    assert lofo_rmse("linear", x, y, np.arange(24)) == one
    assert lofo_rmse("linear", x, y, np.zeros(24)) is None
    assert lofo_rmse("linear", x[:5], y[:5], family[:5]) is None


def test_yorks_line_takes_the_scatter_that_the_stated_errors_leave(models):
    line, scattered = york(*models), york_with_scatter(*models)
    assert scattered.intrinsic_scatter > 0
    assert scattered.chi2 == pytest.approx(12)
    assert scattered.se_slope > line.se_slope


def test_simex_undoes_the_attenuation_that_a_noisy_axis_brings():
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 1, 400)
    y = 2.0 * truth + rng.normal(0, 0.1, 400)
    noisy, errors = truth + rng.normal(0, 0.5, 400), np.full(400, 0.5)
    naive = parameter_interval("linear", "slope", noisy, y).estimate
    assert naive == pytest.approx(2.0 / 1.25, abs=0.1)
    moments = corrected_slope(noisy, y, errors).estimate
    assert moments == pytest.approx(2.0, abs=0.1)
    # The quadratic extrapolant stops a little short of the moment correction (Cook & Stefanski).
    assert naive < simex_slope(noisy, y, errors, seed=1, draws=50).estimate < moments
    exact = simex_slope(truth, y, np.zeros(400), seed=1, draws=2)
    assert exact.estimate == pytest.approx(np.polyfit(truth, y, 1)[0])


def test_a_power_law_is_fitted_from_many_starts_and_its_interval_holds_the_truth(refs):
    compute, loss = refs.columns("06_powerlaw", "compute", "loss")
    truth = refs.expected("06_scaling_R")["refs"]["powerlaw"]["truth"]
    assert fit_power_law(compute, loss, unit=1e18).starts >= 100
    interval = power_law_interval(compute, loss, seed=1, resamples=30)
    assert interval.low < truth["alpha"] < interval.high


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


def test_a_backtest_holds_newer_models_against_a_fit_of_older_ones_alone():
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 12)
    y = 3 * x + rng.normal(0, 0.1, 12)
    newer = np.arange(12) >= 9
    got = backtest("linear", x, y, newer)
    slope, intercept = np.polyfit(x[:9], y[:9], 1)
    assert got.predicted == pytest.approx(intercept + slope * x[9:])
    limits = band(fit_form("linear", x[:9], y[:9]), x[9:])
    assert (got.low, got.high) == (pytest.approx(limits.low), pytest.approx(limits.high))
    assert got.rmse == pytest.approx(np.sqrt(np.mean((y[9:] - got.predicted) ** 2)))
    assert got.rmse_of_mean == pytest.approx(np.sqrt(np.mean((y[9:] - y[:9].mean()) ** 2)))
    assert (got.older, got.newer, got.inside, got.extrapolated) == (9, 3, (True,) * 3, (True,) * 3)
    moved = backtest("linear", x, np.where(newer, y + 5, y), newer)
    assert moved.predicted == got.predicted and moved.inside == (False,) * 3


@pytest.mark.parametrize(
    ("older", "newer", "reason"),
    [(5, 3, "too_few_models"), (0, 3, "too_few_models"), (8, 0, "empty")],
)
def test_a_backtest_without_models_has_a_reason(older, newer, reason):
    x = np.arange(older + newer) * 1.0
    got = backtest("linear", x, x**2, x >= older)
    assert (got.reason, got.rmse, got.predicted) == (reason, None, ())


def test_a_backtest_of_an_exact_fit_has_points_and_no_limits():
    x = np.arange(9.0)
    got = backtest("linear", x, 2 * x, x >= 7)
    assert (got.reason, got.low, got.inside) == ("zero_variance", (), ())
    assert got.predicted == pytest.approx([14, 16])
