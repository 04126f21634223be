"""A logistic model with a random intercept per item, for replicated pass/fail outcomes.

Invariant: its log odds are conditional on the item and larger in size than the marginal ones, so
the average marginal difference is reported beside them and stays the headline. The likelihood is
integrated by adaptive Gauss-Hermite quadrature (Pinheiro & Bates 1995), 25 nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Ints, Labels, check_level, codes, floats, same_length
from peira.stats.intervals import normal_quantile
from peira.stats.result import (
    EMPTY,
    MISSING_ARM,
    NOT_CONVERGED,
    SEPARATION,
    SINGLE_UNIT,
    Estimate,
    undefined,
)

_NODES = 25


@dataclass(frozen=True, slots=True)
class _Rows:
    """Outcomes in the order of their items; `starts` is where each item's rows begin."""

    y: Floats
    x: Floats
    group: Ints
    starts: Ints

    def by_item(self, values: Floats) -> Floats:
        """Sums over the rows of each item."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0))


def logistic_random_intercept(
    outcome: ArrayLike | Sequence[float | None],
    item: Labels,
    treated: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Log odds ratio of treatment given the item, by maximum likelihood with a normal intercept.

    `extra`: `item_variance`, `log_likelihood` and `average_marginal_difference`, the difference
    of pass rates it implies over items. Wald limits. All rows of an arm alike: `separation`.
    """
    y, t = floats(outcome), floats(treated)
    same_length(outcome=y, treated=t, item=item)
    seen = np.isfinite(y) & np.isfinite(t)
    group, names = codes([v for v, inside in zip(item, seen, strict=True) if inside])
    y, t = y[seen], t[seen]
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": len(names),
        "n_rows": y.size,
        "missing": int((~seen).sum()),
        "method": f"logistic, random item intercept ({_NODES}-node quadrature), Wald",
        "estimand": "log odds ratio given the item, treatment against control",
    }
    reason = _why_not(y, t, len(names))
    if reason:
        return undefined(reason, **about)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(names)))
    rows = _Rows(y[order], np.column_stack([np.ones(y.size), t])[order], group[order], starts)
    theta, covariance, log_likelihood = _fit(rows)
    if covariance is None or not covariance[1, 1] > 0:
        return undefined(NOT_CONVERGED, **about)
    se = math.sqrt(covariance[1, 1])
    half = normal_quantile(level) * se
    beta = float(theta[1])
    from scipy.special import ndtr

    return Estimate(
        beta,
        beta - half,
        beta + half,
        p=float(2 * ndtr(-abs(beta / se))),
        se=se,
        extra={
            "item_variance": math.exp(2 * theta[2]),
            "log_likelihood": log_likelihood,
            "average_marginal_difference": _marginal_difference(theta),
        },
        **about,
    )


def _why_not(y: Floats, t: Floats, items: int) -> str | None:
    if not y.size:
        return EMPTY
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    if np.unique(t).size < 2:
        return MISSING_ARM
    if items < 2:
        return SINGLE_UNIT
    return SEPARATION if any(np.ptp(y[t == arm]) == 0 for arm in np.unique(t)) else None


def _fit(rows: _Rows) -> tuple[Floats, Floats | None, float]:
    """Parameters (intercept, effect, log sd of items), their covariance, log likelihood."""
    from scipy import optimize

    minimize: Any = optimize.minimize

    def loss(theta: Floats) -> float:
        return -_log_likelihood(theta, rows)

    found = minimize(loss, np.array([0.0, 0.0, -0.3]), method="BFGS", options={"gtol": 1e-5})
    theta = np.asarray(found.x)
    hessian = _hessian(loss, theta)
    # Without variance between items the log sd runs to minus infinity: fix it there.
    if theta[2] < -5:
        hessian[2, :2] = hessian[:2, 2] = 0.0
        hessian[2, 2] = 1.0
    try:
        covariance = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        return theta, None, -float(found.fun)
    return theta, covariance, -float(found.fun)


def _log_likelihood(theta: Floats, rows: _Rows) -> float:
    from scipy.special import logsumexp

    fixed, sd = rows.x @ theta[:2], math.exp(theta[2])
    modes, scales = _modes(fixed, sd, rows)
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    u = modes[:, None] + math.sqrt(2) * scales[:, None] * nodes
    eta = fixed[:, None] + sd * u[rows.group]
    each = rows.by_item(rows.y[:, None] * eta - np.logaddexp(0.0, eta))
    log_terms = each - u**2 / 2 + nodes**2 + np.log(weights)
    per_item = logsumexp(log_terms, axis=1) + np.log(scales) - math.log(math.pi) / 2
    return float(per_item.sum())


def _modes(fixed: Floats, sd: float, rows: _Rows) -> tuple[Floats, Floats]:
    """Mode and spread of each item's standardised intercept given its rows, by Newton steps."""
    from scipy.special import expit

    u: Floats = np.zeros(rows.starts.size)
    curvature: Floats = np.ones(rows.starts.size)
    for _ in range(50):
        p = expit(fixed + sd * u[rows.group])
        gradient = sd * rows.by_item(rows.y - p) - u
        curvature = sd**2 * rows.by_item(p * (1 - p)) + 1
        step = np.clip(gradient / curvature, -2, 2)
        u = u + step
        if float(np.abs(step).max()) < 1e-10:
            break
    return u, 1 / np.sqrt(curvature)


def _hessian(function: Any, at: Floats, step: float = 1e-3) -> Floats:
    size = at.size
    moves = np.eye(size) * step
    result = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            corners = sum(
                s * r * function(at + s * moves[i] + r * moves[j]) for s in (1, -1) for r in (1, -1)
            )
            result[i, j] = result[j, i] = corners / (4 * step * step)
    return result


def _marginal_difference(theta: Floats) -> float:
    """Mean over items of P(pass | treated) - P(pass | control)."""
    from scipy.special import expit

    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    u = math.sqrt(2) * math.exp(theta[2]) * nodes
    gap = expit(theta[0] + theta[1] + u) - expit(theta[0] + u)
    return float(weights @ gap) / math.sqrt(math.pi)
