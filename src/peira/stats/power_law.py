"""Power laws with an offset, and success rates with a chance floor.

log L = log(exp(a - alpha log C) + exp(e)), that is L = A C^-alpha + E, fitted with a Huber loss
on log residuals (Hoffmann et al. 2022). Invariant: the loss is summed, not averaged, started
from a grid of at least 100 points and run to tight tolerances, since early stopping is what
went wrong before (Besiroglu et al. 2024). The best and the next optimum are both reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Seed, complete, floats
from peira.stats.bootstrap import percentile_limits, refits
from peira.stats.intervals import is_constant
from peira.stats.result import (
    EMPTY,
    NOT_CONVERGED,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
)

HUBER_DELTA = 1e-3
FEWEST_POINTS = 8


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """L = amplitude (C/unit)^-exponent + offset; `objective` is the summed loss."""

    amplitude: float | None
    exponent: float | None
    offset: float | None
    unit: float
    objective: float | None
    second_best: float | None
    starts: int
    n: int
    reason: str | None = None

    def predict(self, compute: ArrayLike) -> Floats:
        """Loss at compute. Raises ValueError when there is no fit."""
        if self.amplitude is None or self.exponent is None or self.offset is None:
            raise ValueError(f"the power law has no fit: {self.reason}")
        ratio = floats(compute) / self.unit
        return np.asarray(self.amplitude * ratio**-self.exponent + self.offset)


def fit_power_law(
    compute: ArrayLike,
    loss: ArrayLike,
    *,
    unit: float | None = None,
    delta: float | None = HUBER_DELTA,
) -> PowerLaw:
    """Fit the offset power law; `delta=None` is least squares on log residuals.

    `unit` divides compute (the smallest observed by default), so that the amplitude is in the
    loss's own range. Compute and loss must be positive.
    """
    (c, y), _ = complete(compute=compute, loss=loss)
    if (c <= 0).any() or (y <= 0).any():
        raise ValueError("compute and loss must be positive")
    base = float(c.min()) if unit is None and c.size else unit or 1.0
    reason = EMPTY if c.size == 0 else TOO_FEW_UNITS if c.size < FEWEST_POINTS else None
    if reason is None and (np.ptp(np.log(c)) == 0 or np.ptp(y) == 0):
        reason = ZERO_VARIANCE
    if reason:
        return PowerLaw(None, None, None, base, None, None, 0, c.size, reason)
    log_c, log_y = np.log(c / base), np.log(y)
    starts = _starts(log_y)
    ends = sorted((_descend(start, log_c, log_y, delta) for start in starts), key=lambda e: e[0])
    best, theta = ends[0]
    if not math.isfinite(best):
        return PowerLaw(None, None, None, base, None, None, len(starts), c.size, NOT_CONVERGED)
    a, alpha, e = theta
    second = next((value for value, _ in ends if value > best * (1 + 1e-6) + 1e-15), None)
    return PowerLaw(math.exp(a), float(alpha), math.exp(e), base, best, second, len(starts), c.size)


def _starts(log_y: Floats) -> list[Floats]:
    low, high = float(np.exp(log_y.min())), float(np.exp(log_y.max()))
    return [
        np.array(
            [math.log(max(high - share * low, 1e-3 * high) * lift), alpha, math.log(share * low)]
        )
        for share in (0.05, 0.3, 0.6, 0.8, 0.95, 0.99)
        for alpha in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
        for lift in (0.5, 1.0, 2.0)
    ]


def _descend(
    start: Floats, log_c: Floats, log_y: Floats, delta: float | None
) -> tuple[float, Floats]:
    """Gauss-Newton first (it is quick), then quasi-Newton on the exact loss."""
    from scipy import optimize

    minimize: Any = optimize.minimize
    least_squares: Any = optimize.least_squares

    def curve(theta: Floats) -> Floats:
        return np.asarray(np.logaddexp(theta[0] - theta[1] * log_c, theta[2]))

    with np.errstate(all="ignore"):
        near = least_squares(
            lambda t: curve(t) - log_y, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        if delta is None:
            return 2 * float(near.cost), near.x
        fine = minimize(
            lambda t: _huber(curve(t), t, log_c, log_y, delta),
            near.x,
            jac=True,
            method="BFGS",
            options={"gtol": 1e-12, "maxiter": 2000},
        )
    return float(fine.fun), fine.x


def _huber(
    fitted: Floats, theta: Floats, log_c: Floats, log_y: Floats, delta: float
) -> tuple[float, Floats]:
    gap = fitted - log_y
    size = np.abs(gap)
    loss = np.where(size <= delta, gap**2 / 2, delta * (size - delta / 2)).sum()
    pull = np.clip(gap, -delta, delta)
    share = np.exp(theta[0] - theta[1] * log_c - fitted)
    return float(loss), np.array(
        [(pull * share).sum(), -(pull * share * log_c).sum(), (pull * (1 - share)).sum()]
    )


def power_law_interval(
    compute: ArrayLike,
    loss: ArrayLike,
    *,
    seed: Seed,
    resamples: int = 200,
    level: float = 0.95,
    delta: float | None = HUBER_DELTA,
) -> Estimate:
    """The exponent with a percentile interval, resampling models and refitting from the best."""
    fit = fit_power_law(compute, loss, delta=delta)
    about: dict[str, Any] = {
        "level": level,
        "n": fit.n,
        "estimand": "exponent of the offset power law",
    }
    about["method"] = f"offset power law, bootstrap over models ({resamples} resamples)"
    if fit.exponent is None or fit.amplitude is None or fit.offset is None:
        return Estimate(None, reason=fit.reason, **about)
    (c, y), _ = complete(compute=compute, loss=loss)
    log_c, log_y = np.log(c / fit.unit), np.log(y)
    start = np.array([math.log(fit.amplitude), fit.exponent, math.log(fit.offset)])
    drawn = refits((log_c, log_y), lambda x, y: _descend(start, x, y, delta)[1], 4, resamples, seed)
    limits = percentile_limits(drawn[:, 1], level, seed)
    extra = {"failed": resamples - len(drawn), "second_best": fit.second_best}
    if limits.high - limits.low <= 1e-9 * abs(fit.exponent):
        return Estimate(fit.exponent, reason=ZERO_VARIANCE, extra=extra, **about)
    return limits.on(Estimate(fit.exponent, extra=extra, **about))


@dataclass(frozen=True, slots=True)
class SuccessCurve:
    """p = floor + (1 - floor - lapse) logistic(intercept + slope x), by binomial likelihood."""

    intercept: float | None
    slope: float | None
    floor: float
    lapse: float
    negative_log_likelihood: float | None
    deviance: float | None
    df: int
    aic: float | None
    n: int
    reason: str | None = None


def fit_success_curve(
    x: ArrayLike,
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    floor: float = 0.0,
    lapse: bool = False,
) -> SuccessCurve:
    """Success rate against capability, with a known chance floor and an estimated lapse rate."""
    from scipy import optimize
    from scipy.special import gammaln

    minimize: Any = optimize.minimize

    (at, k, n), _ = complete(x=x, successes=successes, trials=trials)
    if (k < 0).any() or (k > n).any() or (n < 1).any() or not 0 <= floor < 1:
        raise ValueError("need 0 <= successes <= trials, at least one trial, and 0 <= floor < 1")
    too_few = TOO_FEW_UNITS if at.size else EMPTY
    reason = too_few if at.size < 4 else ZERO_VARIANCE if is_constant(at) else None
    if reason:
        return SuccessCurve(None, None, floor, 0.0, None, None, 0, None, at.size, reason)
    constant = float((gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)).sum())

    def loss(theta: Floats) -> float:
        return -constant - _binomial_log_likelihood(_rate(theta, at, floor), k, n)

    slope = 1.0 / max(float(at.std()), 1e-9)
    starts = [[0.0, s, *([-4.0] if lapse else [])] for s in (slope, -slope, 0.3 * slope)]
    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    ends = [minimize(loss, s, method="Nelder-Mead", options=options) for s in starts]
    best = min(ends, key=lambda end: float(end.fun))
    saturated = -constant - _binomial_log_likelihood(k / n, k, n)
    count = 3 if lapse else 2
    nll = float(best.fun)
    return SuccessCurve(
        float(best.x[0]),
        float(best.x[1]),
        floor,
        _lapse(best.x, floor),
        nll,
        2 * (nll - saturated),
        at.size - count,
        2 * nll + 2 * count,
        at.size,
    )


def _lapse(theta: Floats, floor: float) -> float:
    from scipy.special import expit

    return float(expit(theta[2]) * (1 - floor)) if len(theta) == 3 else 0.0


def _rate(theta: Floats, x: Floats, floor: float) -> Floats:
    from scipy.special import expit

    return np.asarray(floor + (1 - floor - _lapse(theta, floor)) * expit(theta[0] + theta[1] * x))


def _binomial_log_likelihood(rate: Floats, k: Floats, n: Floats) -> float:
    from scipy.special import xlog1py, xlogy

    inside = np.clip(rate, 1e-300, 1.0)
    return float((xlogy(k, inside) + xlog1py(n - k, -np.minimum(inside, 1 - 1e-16))).sum())
