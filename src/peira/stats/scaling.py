"""Fits of an outcome on capability, over models.

Invariant: n is the number of models, never of games. A form is refused below its fewest models.
Information criteria count sigma. Bands for a new model are prediction bands, and they say where
they leave the observed range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, Seed, codes, complete, floats
from peira.stats._solve import bisect
from peira.stats.bootstrap import percentile_limits, refits
from peira.stats.intervals import is_constant, t_quantile
from peira.stats.result import (
    EMPTY,
    NOT_CONVERGED,
    NOT_IDENTIFIED,
    TOO_FEW_MODELS,
    ZERO_VARIANCE,
    Estimate,
    json_number,
    undefined,
)
from peira.stats.scaling_forms import FORMS, Form, isotonic

EXTRAPOLATION_SHARE = 0.25


def model_means(
    model: Labels, x: ArrayLike, y: ArrayLike | Sequence[float | None]
) -> tuple[list[Any], Floats, Floats, Floats]:
    """One row per model: names, mean x, mean y, standard error of y over its games (NaN if one).

    Games without x or y are left out; a model without any is not in the result.
    """
    coded, labels = codes(model)
    (at, capability, outcome), _ = complete(model=coded, x=x, y=y)
    group, present = codes(at.astype(np.int64))
    names = [labels[i] for i in present]
    xs, ys, errors = (np.empty(len(names)) for _ in range(3))
    for g in range(len(names)):
        rows = outcome[group == g]
        xs[g], ys[g] = capability[group == g].mean(), rows.mean()
        errors[g] = rows.std(ddof=1) / math.sqrt(rows.size) if rows.size > 1 else np.nan
    return names, xs, ys, errors


@dataclass(frozen=True, slots=True)
class ScalingFit:
    """A form fitted over models. `k` counts the parameters and sigma.

    `second_best_rss` is the next distinct optimum found from other starts (None for linear
    forms): close to `rss` with other parameters means the fit is not identified.
    """

    form: str
    parameters: Mapping[str, float]
    n: int
    k: int
    rss: float | None
    r_squared: float | None
    covariance: Floats | None
    x_range: tuple[float, float] | None
    second_best_rss: float | None = None
    reason: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def df(self) -> int:
        """Residual degrees of freedom."""
        return self.n - len(self.parameters)

    @property
    def exact(self) -> bool:
        """True if the curve passes through every model: nothing is known of its error."""
        return not self.reason and (self.r_squared is None or self.r_squared > 1 - 1e-15)

    @property
    def sigma(self) -> float | None:
        """Residual standard deviation over models."""
        return math.sqrt(self.rss / self.df) if self.rss is not None and self.df > 0 else None

    @property
    def log_likelihood(self) -> float | None:
        """Gaussian log likelihood at the maximum-likelihood sigma."""
        if self.rss is None or self.exact:
            return None
        return -self.n / 2 * (math.log(2 * math.pi * self.rss / self.n) + 1)

    @property
    def aic(self) -> float | None:
        """2k - 2 log L, sigma counted in k."""
        log = self.log_likelihood
        return None if log is None else 2 * self.k - 2 * log

    @property
    def aicc(self) -> float | None:
        """AIC with the small-sample correction; None when n is too small for it."""
        if self.aic is None or self.n - self.k - 1 <= 0:
            return None
        return self.aic + 2 * self.k * (self.k + 1) / (self.n - self.k - 1)

    @property
    def bic(self) -> float | None:
        """k log n - 2 log L."""
        log = self.log_likelihood
        return None if log is None else self.k * math.log(self.n) - 2 * log

    def predict(self, x: ArrayLike) -> Floats:
        """The curve at x.

        Raises:
            ValueError: the form was refused or did not converge.
        """
        if self.reason:
            raise ValueError(f"the {self.form} form has no fit: {self.reason}")
        theta = np.array(list(self.parameters.values()))
        return FORMS[self.form].curve(np.atleast_1d(floats(x)), theta)

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON-safe mapping."""
        numbers = ("n", "k", "rss", "r_squared", "sigma", "aic", "aicc", "bic", "second_best_rss")
        return {
            "form": self.form,
            "parameters": {name: json_number(v) for name, v in self.parameters.items()},
            "x_range": list(self.x_range) if self.x_range else None,
            "reason": self.reason,
            "flags": list(self.flags),
            **{name: json_number(getattr(self, name)) for name in numbers},
        }


def fit_form(form: str, x: ArrayLike, y: ArrayLike | Sequence[float | None]) -> ScalingFit:
    """Fit one of `FORMS` to model means by least squares.

    Refused (reason `too_few_models`) under 6 models for a line and under 10 for a form of four
    parameters. Non-linear forms start from a grid and keep the two best distinct optima.
    """
    known = _form(form)
    (capability, outcome), _ = complete(x=x, y=y)
    n, k = capability.size, len(known.parameters) + 1
    reason = None if n >= known.fewest else TOO_FEW_MODELS if n else EMPTY
    if reason is None and is_constant(capability) and len(known.parameters) > 1:
        reason = ZERO_VARIANCE
    if reason:
        return ScalingFit(form, {}, n, k, None, None, None, None, reason=reason)
    theta, rss, second = _solve(known, capability, outcome)
    total = 0.0 if is_constant(outcome) else float(((outcome - outcome.mean()) ** 2).sum())
    covariance = _covariance(known, capability, theta, rss)
    identified = covariance is not None and bool((np.diag(covariance) > -1e-12).all())
    return ScalingFit(
        form,
        dict(zip(known.parameters, theta.tolist(), strict=True)),
        n,
        k,
        rss,
        1 - rss / total if total > 0 else None,
        covariance,
        (float(capability.min()), float(capability.max())),
        second,
        flags=() if identified else (NOT_IDENTIFIED,),
    )


def _form(name: str) -> Form:
    if name not in FORMS:
        raise ValueError(f"form must be one of {sorted(FORMS)}; got {name!r}")
    return FORMS[name]


def _solve(form: Form, x: Floats, y: Floats) -> tuple[Floats, float, float | None]:
    if form.design is not None:
        design = form.design(x)
        theta = np.linalg.lstsq(design, y, rcond=None)[0]
        return theta, float(((y - design @ theta) ** 2).sum()), None
    assert form.starts is not None
    return best_of_starts(lambda theta: y - form.curve(x, theta), form.starts(x, y))


def best_of_starts(
    residuals: Callable[[Floats], Floats], starts: Iterable[Floats]
) -> tuple[Floats, float, float | None]:
    """Least squares from many starts: best parameters, its sum of squares, the next distinct."""
    ends = [end for start in starts for end in [_descend(residuals, start, 150)]]
    ends.sort(key=lambda end: end[0])
    best, theta = _descend(residuals, ends[0][1], 5000)
    others = [rss for rss, _ in ends if rss > best * (1 + 1e-6) + 1e-15]
    return np.asarray(theta), best, others[0] if others else None


def _descend(
    residuals: Callable[[Floats], Floats], start: Floats, evaluations: int
) -> tuple[float, Floats]:
    from scipy.optimize import least_squares

    with np.errstate(all="ignore"):
        found = least_squares(
            residuals, start, method="lm", xtol=1e-12, ftol=1e-12, max_nfev=evaluations
        )
    return (2 * float(found.cost) if np.isfinite(found.cost) else math.inf), found.x


def jacobian(curve: Callable[[Floats], Floats], theta: Floats) -> Floats:
    """Central-difference derivatives of the curve's values by each parameter."""
    columns = []
    for i, value in enumerate(theta):
        step = 1e-6 * max(1.0, abs(float(value)))
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        columns.append((curve(up) - curve(down)) / (2 * step))
    return np.column_stack(columns)


def _covariance(form: Form, x: Floats, theta: Floats, rss: float) -> Floats | None:
    df = x.size - theta.size
    if df <= 0:
        return None
    slopes = form.design(x) if form.design else jacobian(lambda t: form.curve(x, t), theta)
    information = slopes.T @ slopes
    if np.linalg.cond(information) > 1e14:
        return None
    return np.asarray(np.linalg.inv(information) * rss / df)


@dataclass(frozen=True, slots=True)
class Band:
    """A fit over x with its limits. `extrapolated` marks x outside the models' range."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    level: float
    kind: str
    extrapolated: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))


def band(
    fit: ScalingFit, x: ArrayLike, *, level: float = 0.95, kind: str = "new model"
) -> Band | str:
    """Limits of the fit at x: for a "new model" (prediction) or for the "mean".

    Exact t for linear forms, delta method for others. A reason code when there is no fit.
    """
    if kind not in ("new model", "mean"):
        raise ValueError(f"kind must be 'new model' or 'mean'; got {kind!r}")
    if fit.reason or fit.exact:
        return fit.reason or ZERO_VARIANCE
    if fit.covariance is None or fit.sigma is None or fit.x_range is None:
        return NOT_IDENTIFIED
    at, form = np.atleast_1d(floats(x)), FORMS[fit.form]
    theta = np.array(list(fit.parameters.values()))
    slopes = form.design(at) if form.design else jacobian(lambda t: form.curve(at, t), theta)
    variance = np.einsum("ij,jk,ik->i", slopes, fit.covariance, slopes)
    if kind == "new model":
        variance = variance + fit.sigma**2
    half = t_quantile(level, fit.df) * np.sqrt(variance)
    mean = form.curve(at, theta)
    outside = (at < fit.x_range[0]) | (at > fit.x_range[1])
    return Band(at, mean, mean - half, mean + half, level, kind, outside)


def extrapolation_grid(
    x_range: tuple[float, float], points: int = 101, share: float = EXTRAPOLATION_SHARE
) -> Floats:
    """x for drawing a band: the observed range and at most a quarter of it on either side."""
    reach = share * (x_range[1] - x_range[0])
    return np.linspace(x_range[0] - reach, x_range[1] + reach, points)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Forms side by side: fits, Akaike weights by AICc, leave-one-model-out RMSE.

    `identified` is the form with weight above 0.9, or None: "form not identified".
    """

    fits: Mapping[str, ScalingFit]
    weights: Mapping[str, float]
    lomo_rmse: Mapping[str, float | None]
    identified: str | None

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON-safe mapping."""
        return {
            "fits": {name: fit.to_dict() for name, fit in self.fits.items()},
            "akaike_weights": dict(self.weights),
            "leave_one_model_out_rmse": dict(self.lomo_rmse),
            "identified": self.identified,
        }


def compare_forms(
    x: ArrayLike,
    y: ArrayLike | Sequence[float | None],
    forms: Sequence[str] = ("constant", "linear", "quadratic", "logistic4"),
) -> Comparison:
    """Fit several forms to model means and weigh them. Refused forms take no weight."""
    fits = {name: fit_form(name, x, y) for name in forms}
    scores = {name: fit.aicc for name, fit in fits.items() if fit.aicc is not None}
    if any(fit.exact for fit in fits.values()):
        scores = {}  # no likelihood weighs a curve through every model against others
    best = min(scores.values(), default=0.0)
    raw = {name: math.exp(-(score - best) / 2) for name, score in scores.items()}
    total = sum(raw.values())
    weights = {name: value / total for name, value in raw.items()}
    errors = {name: lomo_rmse(name, x, y) for name in forms}
    sure = [name for name, weight in weights.items() if weight > 0.9]
    return Comparison(fits, weights, errors, sure[0] if sure and len(scores) > 1 else None)


def lomo_rmse(form: str, x: ArrayLike, y: ArrayLike | Sequence[float | None]) -> float | None:
    """Leave-one-model-out root mean square error of a form (or "isotonic") over model means.

    None when the form is refused on all but one model. Isotonic fits interpolate linearly and
    stay level beyond the ends.
    """
    return lofo_rmse(form, x, y, np.arange(floats(x).size))


def lofo_rmse(
    form: str, x: ArrayLike, y: ArrayLike | Sequence[float | None], family: Labels
) -> float | None:
    """Leave-one-family-out error of a form: each family's models predicted from all others.

    Larger than `lomo_rmse` when models of one family err alike, so that a model's siblings had
    given its residual away. None when the form is refused, or there are not two families.
    """
    (coded, capability, outcome), _ = complete(family=codes(family)[0], x=x, y=y)
    group, names = codes(coded)
    fewest = 6 if form == "isotonic" else _form(form).fewest
    if capability.size < fewest or len(names) < 2:
        return None
    if is_constant(capability) and form != "constant":
        return None
    # The fit to all models is one of the starts: the optimum is the same, found sooner.
    near = _solve(FORMS[form], capability, outcome)[0] if form != "isotonic" else None
    gaps = np.empty(capability.size)
    for fold in range(len(names)):
        out = group == fold
        fitted = capability[~out], outcome[~out]
        if np.unique(fitted[0]).size < (2 if near is None else near.size):
            return None
        gaps[out] = outcome[out] - _predicted(form, *fitted, capability[out], near)
    return float(np.sqrt((gaps**2).mean()))


def _predicted(form: str, x: Floats, y: Floats, at: Floats, near: Floats | None) -> Floats:
    if near is None:
        order = np.argsort(x, kind="stable")
        rising = bool((x - x.mean()) @ (y - y.mean()) >= 0)
        return np.asarray(np.interp(at, x[order], isotonic(x, y, increasing=rising)[order]))
    known = FORMS[form]
    if known.starts is None:
        theta = _solve(known, x, y)[0]
    else:
        starts = [near, *known.starts(x, y)[::8]]
        theta = best_of_starts(lambda t: y - known.curve(x, t), starts)[0]
    return known.curve(at, theta)


def parameter_interval(
    form: str,
    parameter: str,
    x: ArrayLike,
    y: ArrayLike | Sequence[float | None],
    level: float = 0.95,
) -> Estimate:
    """A parameter with its profile-likelihood interval (exact t for linear forms).

    A side on which the profile never rises enough is None, flagged `one_sided_interval`.
    """
    fit = fit_form(form, x, y)
    about: dict[str, Any] = {
        "level": level,
        "n": fit.n,
        "method": f"{form} fit over models, profile likelihood",
        "estimand": f"{parameter} of the {form} form",
    }
    if fit.reason:
        return undefined(fit.reason, **about)
    names = list(fit.parameters)
    if parameter not in names:
        raise ValueError(f"parameter must be one of {names}; got {parameter!r}")
    at = names.index(parameter)
    value = fit.parameters[parameter]
    if fit.exact or fit.covariance is None:
        return Estimate(value, reason=ZERO_VARIANCE if fit.exact else NOT_IDENTIFIED, **about)
    se = math.sqrt(fit.covariance[at, at])
    if FORMS[form].design is not None:
        half = t_quantile(level, fit.df) * se
        about["method"] = f"{form} fit over models, t"
        return Estimate(value, value - half, value + half, se=se, df=fit.df, **about)
    (x, y), _ = complete(x=x, y=y)
    low, high = (_profile_side(fit, at, se * side, x, y, level) for side in (-1, 1))
    flags = ("one_sided_interval",) if None in (low, high) else ()
    reason = NOT_IDENTIFIED if low is None and high is None else None
    return Estimate(value, low, high, se=se, flags=flags, reason=reason, **about)


def _profile_side(
    fit: ScalingFit, at: int, step: float, x: Floats, y: Floats, level: float
) -> float | None:
    form, theta = FORMS[fit.form], np.array(list(fit.parameters.values()))
    assert fit.rss is not None
    threshold = fit.rss * (1 + t_quantile(level, fit.df) ** 2 / fit.df)

    def rss_at(value: float) -> float:
        def residuals(free: Floats) -> Floats:
            return y - form.curve(x, np.insert(free, at, value))

        return best_of_starts(residuals, [np.delete(theta, at)])[1]

    reach = step
    for _ in range(12):
        if rss_at(theta[at] + reach) > threshold:
            inner = lambda move: rss_at(theta[at] + move) <= threshold  # noqa: E731
            return float(theta[at] + bisect(inner, 0.0, reach, steps=30))
        reach *= 1.7
    return None


def bootstrap_parameters(
    form: str,
    x: ArrayLike,
    y: ArrayLike | Sequence[float | None],
    *,
    seed: Seed,
    resamples: int = 999,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Percentile intervals of a form's parameters, resampling models.

    Resamples in which the form cannot be fitted are counted in `extra["failed"]`.
    """
    fit = fit_form(form, x, y)
    if fit.reason:
        return {name: undefined(fit.reason, n=fit.n) for name in FORMS[form].parameters}
    (capability, outcome), _ = complete(x=x, y=y)
    near = partial(_solve_near, form, fit=fit)
    drawn = refits((capability, outcome), near, len(fit.parameters), resamples, seed)
    reason = None if len(drawn) > resamples / 2 else NOT_CONVERGED
    reason = ZERO_VARIANCE if fit.exact else reason
    found = {}
    for i, name in enumerate(fit.parameters):
        base = Estimate(
            fit.parameters[name],
            level=level,
            n=fit.n,
            method=f"{form} fit, bootstrap over models ({resamples} resamples, percentile)",
            estimand=f"{name} of the {form} form",
            reason=reason,
            extra={"failed": resamples - len(drawn)},
        )
        found[name] = base if reason else percentile_limits(drawn[:, i], level, seed).on(base)
    return found


def _solve_near(form: str, x: Floats, y: Floats, fit: ScalingFit) -> Floats:
    known = FORMS[form]
    if known.design is not None:
        return _solve(known, x, y)[0]
    start = np.array(list(fit.parameters.values()))
    return best_of_starts(lambda theta: y - known.curve(x, theta), [start])[0]
