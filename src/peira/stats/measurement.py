"""Errors in the capability axis: attenuation, and slopes that allow for it.

Invariant: classical error shrinks a slope by the axis' reliability; each correction says which
errors it takes as known. When York's chi-squared exceeds its degrees of freedom, models scatter
beyond their stated errors and the intrinsic-scatter fit is the one to read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Seed, check_positive, complete, generator
from peira.stats._solve import bisect
from peira.stats.intervals import from_t, is_constant
from peira.stats.result import (
    EMPTY,
    NOT_CONVERGED,
    NOT_IDENTIFIED,
    SINGLE_UNIT,
    TOO_FEW_MODELS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def reliability(x: ArrayLike, se_x: ArrayLike) -> float | None:
    """Share of the axis' variance that is not measurement error; None if x does not vary."""
    (values, errors), _ = complete(x=x, se_x=se_x)
    variance = float(values.var(ddof=1)) if values.size > 1 else 0.0
    if variance == 0:
        return None
    return (variance - float((errors**2).mean())) / variance


def corrected_slope(x: ArrayLike, y: ArrayLike, se_x: ArrayLike) -> Estimate:
    """Least-squares slope divided by the axis' reliability (Fuller 1987)."""
    (values, outcome, errors), missing = complete(x=x, y=y, se_x=se_x)
    about: dict[str, Any] = {
        "n": values.size,
        "missing": missing,
        "method": "moment correction",
        "estimand": "slope on the true axis",
    }
    share = reliability(values, errors)
    if share is None:
        reason = ZERO_VARIANCE if values.size > 1 else SINGLE_UNIT if values.size else EMPTY
        return undefined(reason, **about)
    naive = float(np.cov(values, outcome)[0, 1] / values.var(ddof=1))
    if share <= 0:
        return undefined(NOT_IDENTIFIED, extra={"reliability": share, "naive": naive}, **about)
    return Estimate(naive / share, extra={"reliability": share, "naive": naive}, **about)


@dataclass(frozen=True, slots=True)
class Line:
    """A line fitted with errors in both variables."""

    slope: float | None
    intercept: float | None
    se_slope: float | None = None
    chi2: float | None = None
    df: int | None = None
    intrinsic_scatter: float = 0.0
    reason: str | None = None


def deming(x: ArrayLike, y: ArrayLike, variance_ratio: float) -> Line:
    """Deming regression; `variance_ratio` is var(error in y) / var(error in x)."""
    check_positive(variance_ratio=variance_ratio)
    (values, outcome), _ = complete(x=x, y=y)
    if values.size < 3:
        return Line(None, None, reason=TOO_FEW_MODELS)
    (sxx, sxy), (_, syy) = np.cov(values, outcome)
    if sxy == 0:
        return Line(None, None, reason=NOT_IDENTIFIED)
    gap = syy - variance_ratio * sxx
    slope = float((gap + math.sqrt(gap**2 + 4 * variance_ratio * sxy**2)) / (2 * sxy))
    return Line(slope, float(outcome.mean() - slope * values.mean()))


def york(x: ArrayLike, y: ArrayLike, se_x: ArrayLike, se_y: ArrayLike) -> Line:
    """York's line with known, uncorrelated errors in both variables (York et al. 2004)."""
    (values, outcome, sx, sy), _ = complete(x=x, y=y, se_x=se_x, se_y=se_y)
    if values.size < 3:
        return Line(None, None, reason=TOO_FEW_MODELS)
    if np.ptp(values) == 0:
        return Line(None, None, reason=ZERO_VARIANCE)
    slope = float(np.polyfit(values, outcome, 1)[0])
    for _ in range(500):
        w = 1 / (sy**2 + slope**2 * sx**2)
        x_bar, y_bar = (w @ values) / w.sum(), (w @ outcome) / w.sum()
        u, v = values - x_bar, outcome - y_bar
        beta = w * (u * sy**2 + slope * v * sx**2)
        new = float((w * beta) @ v / ((w * beta) @ u))
        if abs(new - slope) <= 1e-15 * max(1.0, abs(new)):
            return _york_line(new, (values, outcome, sx, sy))
        slope = new
    return Line(None, None, reason=NOT_CONVERGED)


def _york_line(slope: float, data: tuple[Floats, Floats, Floats, Floats]) -> Line:
    x, y, sx, sy = data
    w = 1 / (sy**2 + slope**2 * sx**2)
    x_bar, y_bar = (w @ x) / w.sum(), (w @ y) / w.sum()
    beta = w * ((x - x_bar) * sy**2 + slope * (y - y_bar) * sx**2)
    adjusted = x_bar + beta
    spread = adjusted - (w @ adjusted) / w.sum()
    intercept = float(y_bar - slope * x_bar)
    chi2 = float((w * (y - intercept - slope * x) ** 2).sum())
    return Line(slope, intercept, 1 / math.sqrt(float(w @ spread**2)), chi2, x.size - 2)


def york_with_scatter(x: ArrayLike, y: ArrayLike, se_x: ArrayLike, se_y: ArrayLike) -> Line:
    """York's line with the extra scatter in y that brings chi-squared to its df (0 if none)."""
    plain = york(x, y, se_x, se_y)
    if plain.reason or plain.chi2 is None or plain.df is None or plain.chi2 <= plain.df:
        return plain
    (values, outcome, sx, sy), _ = complete(x=x, y=y, se_x=se_x, se_y=se_y)

    def excessive(scatter: float) -> bool:
        line = york(values, outcome, sx, np.sqrt(sy**2 + scatter**2))
        return line.chi2 is not None and line.df is not None and line.chi2 > line.df

    scatter = bisect(excessive, 0.0, 10 * float(np.ptp(outcome)))
    line = york(values, outcome, sx, np.sqrt(sy**2 + scatter**2))
    return Line(line.slope, line.intercept, line.se_slope, line.chi2, line.df, scatter)


def simex_slope(
    x: ArrayLike, y: ArrayLike, se_x: ArrayLike, *, seed: Seed, draws: int = 200
) -> Estimate:
    """Slope by simulation-extrapolation: add error, watch the slope shrink, extrapolate back.

    Quadratic extrapolant over lambda = 0.5, 1, 1.5, 2 (Cook & Stefanski 1994); the error is the
    jackknife over models.
    """
    (values, outcome, errors), missing = complete(x=x, y=y, se_x=se_x)
    about: dict[str, Any] = {
        "n": values.size,
        "missing": missing,
        "method": "SIMEX, quadratic",
        "estimand": "slope on the true axis",
    }
    if values.size < 6:
        return undefined(TOO_FEW_MODELS if values.size else EMPTY, **about)
    if is_constant(values) or is_constant(outcome):
        return undefined(ZERO_VARIANCE, **about)
    noise = generator(seed).standard_normal((draws, values.size))
    estimate = _simex(values, outcome, errors, noise)
    n = values.size
    rest = [np.arange(n) != i for i in range(n)]
    left_out = np.array([_simex(values[r], outcome[r], errors[r], noise[:, r]) for r in rest])
    se = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    return from_t(Estimate(estimate, **about), se, n - 2)


def _simex(x: Floats, y: Floats, errors: Floats, noise: Floats) -> float:
    lambdas = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    slopes = []
    for factor in lambdas:
        noisy = x + math.sqrt(factor) * errors * noise
        centred = noisy - noisy.mean(axis=1, keepdims=True)
        slopes.append(float(((centred @ (y - y.mean())) / (centred**2).sum(axis=1)).mean()))
    return float(np.polyval(np.polyfit(lambdas, slopes, 2), -1.0))
