"""Logistic models with random intercepts, nested or crossed, for replicated pass/fail outcomes.

Invariant: the log odds are conditional on the random effects and larger in size than the marginal
ones, so the average marginal difference is reported beside them and stays the headline. One
grouping is integrated by adaptive Gauss-Hermite quadrature of 25 nodes, several by Laplace's
approximation (Pinheiro & Bates 1995; Bates et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, check_level, floats, kept, passes, same_length
from peira.stats.intervals import from_normal, normal_quantile
from peira.stats.mixed import Sparse, factorised, indicator, second_differences
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


def logistic_mixed(
    outcome: ArrayLike | Sequence[float | None],
    treated: ArrayLike,
    groups: Mapping[str, Labels],
    *,
    level: float = 0.95,
) -> Estimate:
    """Log odds ratio of treatment given the random intercepts, by maximum likelihood.

    Each of `groups` is a label per row: items, models, scenarios, and pairs of them. `extra`:
    `var_NAME` of each, `log_likelihood`, and `average_marginal_difference`, the difference of pass
    rates implied over the groups, with delta-method limits (`_low`, `_high`). Wald limits. All rows
    of an arm alike: `separation`. n counts the levels of the smallest grouping.
    """
    y, t = passes(outcome), floats(treated)
    same_length(outcome=y, treated=t, **groups)
    seen = np.isfinite(y) & np.isfinite(t)
    labels = {name: kept(g, seen) for name, g in groups.items()}
    y, t, levels = y[seen], t[seen], min((len(set(g)) for g in labels.values()), default=0)
    how = f"{_NODES}-node quadrature" if len(groups) == 1 else "Laplace"
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": levels,
        "n_rows": y.size,
        "missing": int((~seen).sum()),
        "method": f"logistic, {', '.join(groups)} random ({how}), Wald",
        "estimand": "log odds ratio given the random effects, treatment against control",
    }
    reason = _why_not(y, t, levels)
    if reason:
        return undefined(reason, **about)
    model = _Model.of(y, t, [indicator(each) for each in labels.values()])
    theta, covariance = model.fit()
    if covariance is None or not covariance[1, 1] > 0:
        return undefined(NOT_CONVERGED, **about)
    variances = {f"var_{n}": float(s) for n, s in zip(groups, theta[2:] ** 2, strict=True)}
    extra: dict[str, Any] = variances | _marginal(theta, covariance, level)
    extra["log_likelihood"] = model.log_likelihood(theta)
    return _wald(float(theta[1]), math.sqrt(covariance[1, 1]), {"extra": extra, **about})


def logistic_random_intercept(
    outcome: ArrayLike | Sequence[float | None],
    item: Labels,
    treated: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """`logistic_mixed` with one random intercept, that of the item."""
    return logistic_mixed(outcome, treated, {"item": item}, level=level)


def _wald(beta: float, se: float, about: dict[str, Any]) -> Estimate:
    from scipy.special import ndtr

    return from_normal(Estimate(beta, p=float(2 * ndtr(-abs(beta / se))), **about), se)


def _why_not(y: Floats, t: Floats, levels: int) -> str | None:
    if not y.size:
        return EMPTY
    if np.unique(t).size < 2:
        return MISSING_ARM
    if levels < 2:
        return SINGLE_UNIT
    return SEPARATION if any(np.ptp(y[t == arm]) == 0 for arm in np.unique(t)) else None


@dataclass(slots=True)
class _Model:
    """y ~ logistic(x beta + sum_r sd_r Z_r u_r), u standard normal; theta = (beta, sds).

    `u` is kept from one evaluation to the next: the modes move little.
    """

    y: Floats
    x: Floats
    terms: list[Sparse]
    z: Sparse
    u: Floats

    @classmethod
    def of(cls, y: Floats, treated: Floats, terms: list[Sparse]) -> _Model:
        from scipy.sparse import hstack

        z = hstack(terms, format="csr")
        return cls(y, np.column_stack([np.ones(y.size), treated]), terms, z, np.zeros(z.shape[1]))

    def fit(self) -> tuple[Floats, Floats | None]:
        """Parameters and their covariance (None if the information is singular)."""
        from scipy import optimize

        minimize: Any = optimize.minimize

        def loss(theta: Floats) -> float:
            return -self.log_likelihood(theta)

        start = np.array([0.0, 0.0, *[0.7] * len(self.terms)])
        # Central differences over a step well above the modes' own rounding.
        options = {"gtol": 1e-4, "finite_diff_rel_step": 1e-4}
        found = minimize(loss, start, method="BFGS", jac="3-point", options=options)
        theta = np.asarray(found.x)
        information = second_differences(loss, theta, np.eye(theta.size) * 1e-3) * 1e6
        try:
            return theta, np.linalg.inv(information)
        except np.linalg.LinAlgError:
            return theta, None

    def log_likelihood(self, theta: Floats) -> float:
        """By Laplace; with one grouping, by quadrature about its modes."""
        fixed = self.x @ theta[:2]
        scaled = self._scaled(theta[2:])
        log_determinant, diagonal = self._to_modes(fixed, scaled)
        if len(self.terms) > 1:
            inside = _bernoulli(self.y, fixed + scaled @ self.u).sum()
            return float(inside - self.u @ self.u / 2 - log_determinant / 2)
        return self._quadrature(fixed, scaled, 1 / np.sqrt(diagonal))

    def _scaled(self, sds: Floats) -> Sparse:
        from scipy.sparse import diags_array

        spread = np.repeat(np.abs(sds), [term.shape[1] for term in self.terms])
        return self.z @ diags_array(spread)

    def _to_modes(self, fixed: Floats, scaled: Sparse) -> tuple[float, Floats]:
        """Move `u` to its modes by Newton steps; log|M| and diag M of the curvature M there."""
        from scipy.sparse import diags_array, eye_array
        from scipy.special import expit

        for _ in range(50):
            p = expit(fixed + scaled @ self.u)
            curvature = (scaled.T @ diags_array(p * (1 - p)) @ scaled).tocsc()
            curvature = (curvature + eye_array(self.u.size)).tocsc()
            solve, log_determinant = factorised(curvature)
            step = solve(scaled.T @ (self.y - p) - self.u)
            self.u = self.u + np.clip(step, -2, 2)
            if float(np.abs(step).max()) < 1e-9:
                break
        return log_determinant, np.asarray(curvature.diagonal())

    def _quadrature(self, fixed: Floats, scaled: Sparse, spread: Floats) -> float:
        from scipy.special import logsumexp

        nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
        u = self.u[:, None] + math.sqrt(2) * spread[:, None] * nodes
        each = self.z.T @ _bernoulli(self.y[:, None], fixed[:, None] + scaled @ u)
        log_terms = each - u**2 / 2 + nodes**2 + np.log(weights)
        per_item = logsumexp(log_terms, axis=1) + np.log(spread) - math.log(math.pi) / 2
        return float(per_item.sum())


def _bernoulli(y: Floats, eta: Floats) -> Floats:
    return np.asarray(y * eta - np.logaddexp(0.0, eta))


def _marginal(theta: Floats, covariance: Floats, level: float) -> dict[str, float]:
    """The average marginal difference with its delta-method limits."""
    moves = np.eye(theta.size) * 1e-5
    slopes = [_marginal_difference(theta + m) - _marginal_difference(theta - m) for m in moves]
    gradient = np.array(slopes) / 2e-5
    value = _marginal_difference(theta)
    half = normal_quantile(level) * math.sqrt(float(gradient @ covariance @ gradient))
    name = "average_marginal_difference"
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def _marginal_difference(theta: Floats) -> float:
    """Mean over the random effects of P(pass | treated) - P(pass | control)."""
    from scipy.special import expit

    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    u = math.sqrt(2) * math.sqrt(float((theta[2:] ** 2).sum())) * nodes
    gap = expit(theta[0] + theta[1] + u) - expit(theta[0] + u)
    return float(weights @ gap) / math.sqrt(math.pi)
