"""Mixed models of replicated items, fitted by statsmodels with its traps avoided.

Invariant: an effect of condition always comes with random item and item x condition terms; the
intercept-only model on rows is pseudo-replication (it turned p = .163 into .047). The degrees
of freedom are Satterthwaite's, since the library's p is a z test. No formula is built from a
user's column name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, codes, floats
from peira.stats.intervals import from_t
from peira.stats.result import (
    EMPTY,
    MISSING_ARM,
    NOT_CONVERGED,
    SINGLE_UNIT,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def mixed_difference(
    values: ArrayLike | Sequence[float | None],
    item: Labels,
    treated: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Treatment effect from rows (item, condition, replicate) by REML, Satterthwaite t.

    y = a + b treated + u_item + v_(item, condition) + e. In a balanced design this equals the
    paired t over item means, which is the headline; use this for unbalanced replicates. `extra`
    has the variance components. A component at zero is flagged `singular`.
    """
    y, t = floats(values), floats(treated)
    seen = np.isfinite(y) & np.isfinite(t)
    group, names = codes([v for v, inside in zip(item, seen, strict=True) if inside])
    y, t = y[seen], t[seen]
    about: dict[str, Any] = {
        "level": level,
        "n": len(names),
        "n_rows": y.size,
        "missing": int((~seen).sum()),
        "method": "mixed model (REML), item and item x condition random, Satterthwaite t",
        "estimand": "mean difference, treatment - control",
    }
    reason = _why_no_model(y, t, len(names))
    if reason:
        return undefined(reason, **about)
    fitted = _fit(y, t, group)
    if fitted is None:
        return undefined(NOT_CONVERGED, **about)
    beta, components = fitted
    blocks = [(t[group == g], y[group == g]) for g in range(len(names))]
    se = math.sqrt(_slope_variance(components, blocks))
    extra = dict(
        zip(("var_item", "var_item_condition", "var_residual"), components.tolist(), strict=True)
    )
    singular = ("singular",) if float(components[:2].min()) < 1e-8 * components[2] else ()
    base = Estimate(beta, flags=singular, extra=extra, **about)
    # A component at zero makes Satterthwaite count rows: items stay the units.
    return from_t(base, se, min(_satterthwaite(components, blocks), len(names) - 1.0))


def _why_no_model(y: Floats, t: Floats, items: int) -> str | None:
    if not y.size:
        return EMPTY
    if np.unique(t).size < 2:
        return MISSING_ARM
    if items < 3:
        return SINGLE_UNIT if items == 1 else TOO_FEW_UNITS
    return ZERO_VARIANCE if np.ptp(y) == 0 else None


def _fit(y: Floats, t: Floats, group: np.ndarray) -> tuple[float, Floats] | None:
    """Slope and (item, item x condition, residual) variances; None if the fit fails."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    rows = [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]
    columns = [(t[r][:, None] == np.unique(t)).astype(float) for r in rows]
    labels = [["control", "treatment"]] * len(rows)
    spec = VCSpec(["item_condition"], [labels], [columns])
    model = MixedLM(
        y,
        np.column_stack([np.ones(y.size), t]),
        groups=group,
        exog_re=np.ones((y.size, 1)),
        exog_vc=spec,
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result: Any = model.fit(reml=True, method=["bfgs", "lbfgs", "powell"])
    components = np.array([float(result.cov_re[0, 0]), float(result.vcomp[0]), float(result.scale)])
    if not np.isfinite(components).all():
        return None
    return float(result.fe_params[1]), components


Blocks = Sequence[tuple[Floats, Floats]]


def _block_covariance(theta: Floats, t: Floats) -> Floats:
    """V of one item's rows: item + item x condition + residual."""
    same = (t[:, None] == t[None, :]).astype(float)
    return np.asarray(theta[0] + theta[1] * same + theta[2] * np.eye(t.size))


def _information(theta: Floats, blocks: Blocks) -> tuple[Floats, Floats, float]:
    """X'V^-1 X, X'V^-1 y and log|V| + y'V^-1 y, summed over items."""
    a, b, c = np.zeros((2, 2)), np.zeros(2), 0.0
    for t, y in blocks:
        v = _block_covariance(theta, t)
        x = np.column_stack([np.ones(t.size), t])
        solved = np.linalg.solve(v, np.column_stack([x, y]))
        a += x.T @ solved[:, :2]
        b += x.T @ solved[:, 2]
        c += float(np.linalg.slogdet(v)[1]) + float(y @ solved[:, 2])
    return a, b, c


def _slope_variance(theta: Floats, blocks: Blocks) -> float:
    return float(np.linalg.inv(_information(theta, blocks)[0])[1, 1])


def _deviance(theta: Floats, blocks: Blocks) -> float:
    """-2 x restricted log likelihood, up to a constant."""
    a, b, c = _information(theta, blocks)
    return c - float(b @ np.linalg.solve(a, b)) + float(np.linalg.slogdet(a)[1])


def _satterthwaite(theta: Floats, blocks: Blocks) -> float:
    """2 f^2 / (g' A g): f the slope's variance, g its gradient, A the covariance of theta."""
    free = [i for i in range(3) if theta[i] > 1e-8 * theta[2]]
    steps = {i: 1e-3 * theta[i] for i in free}

    def moved(*moves: tuple[int, float]) -> Floats:
        shifted = theta.copy()
        for i, move in moves:
            shifted[i] += move
        return shifted

    def central(function: Any, i: int) -> float:
        up, down = function(moved((i, steps[i]))), function(moved((i, -steps[i])))
        return float((up - down) / (2 * steps[i]))

    gradient = np.array([central(lambda th: _slope_variance(th, blocks), i) for i in free])
    hessian = np.empty((len(free), len(free)))
    for row, i in enumerate(free):
        for column, j in enumerate(free):
            corners = [
                s * r * _deviance(moved((i, s * steps[i]), (j, r * steps[j])), blocks)
                for s in (1, -1)
                for r in (1, -1)
            ]
            hessian[row, column] = sum(corners) / (4 * steps[i] * steps[j])
    covariance = 2 * np.linalg.inv((hessian + hessian.T) / 2)
    return 2 * _slope_variance(theta, blocks) ** 2 / float(gradient @ covariance @ gradient)
