"""The ladder of forms a scaling relation may take.

Invariant: a form is data: its name, its parameters, how to start and how to evaluate it. Forms
with fewer models than `fewest` are refused by `scaling.fit_form`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from peira.stats._arrays import Floats

Curve = Callable[[Floats, Floats], Floats]
Starts = Callable[[Floats, Floats], list[Floats]]


@dataclass(frozen=True, slots=True)
class Form:
    """A parametric form y = curve(x, parameters) + error.

    `linear` forms give their design matrix instead of starting points.
    """

    name: str
    parameters: tuple[str, ...]
    curve: Curve
    fewest: int
    design: Callable[[Floats], Floats] | None = None
    starts: Starts | None = None


def _polynomial(degree: int) -> tuple[Curve, Callable[[Floats], Floats]]:
    def design(x: Floats) -> Floats:
        return np.vander(x, degree + 1, increasing=True)

    return lambda x, theta: np.asarray(design(x) @ theta), design


def logistic4(x: Floats, theta: Floats) -> Floats:
    """floor + range / (1 + exp(-(x - midpoint)/scale))."""
    from scipy.special import expit

    floor, height, midpoint, scale = theta
    return np.asarray(floor + height * expit((x - midpoint) / scale))


def _logistic_starts(x: Floats, y: Floats) -> list[Floats]:
    low, high, width = float(y.min()), float(y.max()), float(np.ptp(x))
    sign = 1.0 if (x - x.mean()) @ (y - y.mean()) >= 0 else -1.0
    return [
        np.array([low - spare * (high - low), (1 + 2 * spare) * (high - low), middle, sign * s])
        for middle in np.quantile(x, [0.1, 0.3, 0.5, 0.7, 0.9])
        for s in width * np.array([0.03, 0.1, 0.3, 0.6])
        for spare in (0.02, 0.3)
    ]


def double_relu(x: Floats, theta: Floats) -> Floats:
    """Two plateaus joined by a line: low until `left`, then slope until `right` (Engels 2025)."""
    low, slope, left, right = theta
    return np.asarray(low + slope * (np.clip(x, min(left, right), max(left, right)) - left))


def _relu_starts(x: Floats, y: Floats) -> list[Floats]:
    points = np.quantile(x, [0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0])
    starts = []
    for i, left in enumerate(points[:-1]):
        for right in points[i + 1 :]:
            below, above = y[x <= left], y[x >= right]
            low = float(below.mean()) if below.size else float(y.min())
            high = float(above.mean()) if above.size else float(y.max())
            starts.append(np.array([low, (high - low) / max(right - left, 1e-9), left, right]))
    return starts


def power(x: Floats, theta: Floats) -> Floats:
    """A level plus a power of capability, `level + gain * x**exponent`; x below 0 counts as 0."""
    level, gain, exponent = theta
    return np.asarray(level + gain * np.power(np.maximum(x, 1e-12), exponent))


def _power_starts(x: Floats, y: Floats) -> list[Floats]:
    top = max(float(x.max()), 1e-12)
    reach = float(y.max() - y.min()) or 1.0
    return [
        np.array([float(y.min()), sign * reach / top**exponent, exponent])
        for exponent in (0.3, 0.5, 1.0, 2.0, 4.0)
        for sign in (1.0, -1.0)
    ]


_constant, _constant_design = _polynomial(0)
_linear, _linear_design = _polynomial(1)
_quadratic, _quadratic_design = _polynomial(2)

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("constant", ("level",), _constant, 3, _constant_design),
        Form("linear", ("intercept", "slope"), _linear, 6, _linear_design),
        Form("quadratic", ("intercept", "slope", "curvature"), _quadratic, 8, _quadratic_design),
        Form(
            "logistic4",
            ("floor", "range", "midpoint", "scale"),
            logistic4,
            10,
            starts=_logistic_starts,
        ),
        Form("power", ("level", "gain", "exponent"), power, 8, starts=_power_starts),
        Form(
            "double_relu",
            ("low", "slope", "left", "right"),
            double_relu,
            10,
            starts=_relu_starts,
        ),
    )
}


def isotonic(x: Floats, y: Floats, *, increasing: bool = True) -> Floats:
    """Monotone least squares by pooling adjacent violators; tied x are pooled first.

    Fitted values are in the order of the input. No extrapolation beyond the observed x.
    """
    from scipy.optimize import isotonic_regression

    levels, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=y) / counts
    if not levels.size:
        return means
    fitted = isotonic_regression(means, weights=counts, increasing=increasing)
    return np.asarray(fitted.x[inverse])
