"""Linear mixed models with nested, crossed or multiple-membership random effects, by REML.

Invariant: an effect of condition comes with random item and item x condition terms; the
intercept-only model on rows is pseudo-replication (it turned p = .163 into .047). Degrees of
freedom are Satterthwaite's or Kenward and Roger's, never a z test. Own fitter, since the
library's has one grouping factor, drops random intercepts silently and gives no df.
Sources: Bates et al. 2015 (profiled deviance); Satterthwaite 1946, Kenward & Roger 1997.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, check_level, codes, floats, same_length
from peira.stats.intervals import from_t, is_constant
from peira.stats.result import (
    EMPTY,
    MISSING_ARM,
    NOT_CONVERGED,
    RANK_DEFICIENT,
    SINGLE_UNIT,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)

#: A variance below this share of the residual counts as zero.
_ZERO = 1e-7
#: Rows up to which Kenward and Roger's dense formulas are used.
MOST_ROWS = 3_000
METHODS = ("satterthwaite", "kenward-roger")
Sparse = Any


def indicator(labels: Labels) -> Sparse:
    """Rows x levels: one where the row has the level."""
    from scipy.sparse import csc_array

    coded, names = codes(labels)
    rows = np.arange(len(coded))
    return csc_array((np.ones(len(coded)), (rows, coded)), shape=(len(coded), len(names)))


@dataclass(frozen=True, slots=True)
class Sums:
    """All that the likelihood needs of y = X beta + sum_r Z_r u_r + e."""

    y: Floats
    x: Floats
    terms: tuple[Sparse, ...]
    z: Sparse
    ztz: Sparse
    zty: Floats
    cross: Floats

    @classmethod
    def of(cls, y: Floats, x: Floats, terms: Sequence[Sparse]) -> Sums:
        """Cross-products of the rows, taken once."""
        from scipy.sparse import hstack

        z, xy = hstack(terms, format="csc"), np.column_stack([x, y])
        return cls(y, x, tuple(terms), z, (z.T @ z).tocsc(), np.asarray(z.T @ xy), xy.T @ xy)

    def spread(self, ratios: Floats) -> Floats:
        """Relative standard deviation of every random effect."""
        sizes = [term.shape[1] for term in self.terms]
        return np.repeat(np.sqrt(np.abs(ratios)), sizes)

    def reduced(self, ratios: Floats) -> tuple[Floats, float]:
        """[X y]' V0^-1 [X y] and log|V0|, V0 = I + sum ratio_r Z_r Z_r'."""
        from scipy.sparse import diags_array, eye_array

        scale = self.spread(ratios)
        lift = diags_array(scale)
        inner = (lift @ self.ztz @ lift + eye_array(len(scale))).tocsc()
        solve, log_determinant = factorised(inner)
        side = scale[:, None] * self.zty
        return self.cross - side.T @ solve(side), log_determinant


def factorised(matrix: Sparse) -> tuple[Any, float]:
    """(solve, log determinant) of a sparse symmetric positive definite matrix."""
    from scipy.sparse.linalg import splu

    options = {"SymmetricMode": True, "ColPerm": "MMD_AT_PLUS_A"}
    factor: Any = splu(matrix, diag_pivot_thresh=0.0, options=options)
    return factor.solve, float(np.log(factor.U.diagonal()).sum())


@dataclass(frozen=True, slots=True)
class MixedFit:
    """Coefficients and variance components (one per term, the residual last) at the optimum.

    `deviance` is -2 x the restricted log likelihood, constants included.
    """

    sums: Sums
    beta: Floats
    components: Floats
    deviance: float

    @property
    def free(self) -> list[int]:
        """Components that are not at zero."""
        return np.flatnonzero(self.components > _ZERO * self.components[-1]).tolist()

    def covariance(self, components: Floats | None = None) -> Floats:
        """(X' V^-1 X)^-1 at these or at the fitted components."""
        v = self.components if components is None else components
        inside, _ = self.sums.reduced(v[:-1] / v[-1])
        return np.asarray(np.linalg.inv(inside[:-1, :-1]) * v[-1])


def fit_mixed(y: Floats, x: Floats, terms: Sequence[Sparse]) -> MixedFit | None:
    """Fit by REML: the deviance profiled over beta and sigma, minimised over variance ratios."""
    from scipy import optimize

    minimize: Any = optimize.minimize
    sums = Sums.of(y, x, terms)

    def profiled(theta: Floats) -> float:
        return _profiled(sums, theta**2)[0]

    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000, "maxfev": 4000}
    theta = np.ones(len(terms))
    for _ in range(2):  # a restart frees a simplex that has collapsed at a zero
        found = minimize(profiled, theta, method="Nelder-Mead", options=options)
        theta = np.abs(found.x)
    deviance, beta, sigma2 = _profiled(sums, theta**2)
    if not math.isfinite(deviance) or sigma2 <= 0:
        return None
    return MixedFit(sums, beta, np.append(theta**2 * sigma2, sigma2), deviance)


def _profiled(sums: Sums, ratios: Floats) -> tuple[float, Floats, float]:
    """REML criterion, beta and sigma^2 at these variance ratios."""
    inside, log_v = sums.reduced(ratios)
    information, right = inside[:-1, :-1], inside[:-1, -1]
    beta = np.linalg.solve(information, right)
    df = sums.y.size - beta.size
    sigma2 = max(float(inside[-1, -1] - right @ beta) / df, 1e-300)
    log_x = float(np.linalg.slogdet(information)[1])
    return log_v + log_x + df * (1 + math.log(2 * math.pi * sigma2)), beta, sigma2


def _deviance(sums: Sums, components: Floats) -> float:
    """-2 x the restricted log likelihood at these components, without its constant."""
    sigma2 = float(components[-1])
    inside, log_v = sums.reduced(components[:-1] / sigma2)
    information, right = inside[:-1, :-1], inside[:-1, -1]
    rss = float(inside[-1, -1] - right @ np.linalg.solve(information, right))
    log_x = float(np.linalg.slogdet(information)[1])
    return log_v + log_x + (sums.y.size - right.size) * math.log(sigma2) + rss / sigma2


def satterthwaite(fit: MixedFit, contrast: Floats) -> tuple[float, float]:
    """Standard error of contrast' beta and df = 2 f^2 / (g' A g).

    f is its variance, g the gradient of f by the components that are not zero, A their
    asymptotic covariance (twice the inverse of the deviance's second derivatives).
    """
    free = fit.free
    steps = np.diag(1e-3 * fit.components)[free]

    def variance(components: Floats) -> float:
        return float(contrast @ fit.covariance(components) @ contrast)

    def slope(move: Floats) -> float:
        return (variance(fit.components + move) - variance(fit.components - move)) / 2

    gradient = np.array([slope(move) for move in steps])
    hessian = second_differences(lambda v: _deviance(fit.sums, v), fit.components, steps)
    f = variance(fit.components)
    # Gradient and Hessian are both in units of the steps, which cancel.
    spread = 2 * float(gradient @ np.linalg.solve(hessian, gradient))
    return math.sqrt(f), 2 * f**2 / spread if spread > 0 else math.inf


def second_differences(function: Any, at: Floats, moves: Floats) -> Floats:
    """Second central differences of a function along each pair of moves (rows)."""
    size = len(moves)
    result = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            corners = sum(
                s * r * function(at + s * moves[i] + r * moves[j]) for s in (1, -1) for r in (1, -1)
            )
            result[i, j] = result[j, i] = corners / 4
    return result


def kenward_roger(fit: MixedFit, contrast: Floats) -> tuple[float, float]:
    """Standard error and df of one contrast with Kenward and Roger's small-sample correction.

    For a single contrast their scale is 1 and their df is 2 f^2 / (g' W g), W the covariance of
    the components from the expected information; the variance is inflated for their estimation.
    """
    x, v = fit.sums.x, fit.components
    roots = [fit.sums.terms[r].toarray() if r < len(v) - 1 else np.eye(len(x)) for r in fit.free]
    whole = sum(v[r] * root @ root.T for r, root in zip(fit.free, roots, strict=True))
    inverse = np.linalg.inv(whole)
    phi = np.linalg.inv(x.T @ inverse @ x)
    pulls = [x.T @ inverse @ root for root in roots]
    p = [-pull @ pull.T for pull in pulls]
    size = len(roots)
    q, information = {}, np.empty((size, size))
    for r in range(size):
        for s in range(size):
            between = roots[r].T @ inverse @ roots[s]
            q[r, s] = pulls[r] @ between @ pulls[s].T
            known = np.trace(phi @ p[r] @ phi @ p[s]) - 2 * np.trace(phi @ q[r, s])
            information[r, s] = float((between**2).sum()) + known
    w = 2 * np.linalg.inv(information)
    pairs = [(r, s) for r in range(size) for s in range(size)]
    extra = sum(w[r, s] * (q[r, s] - p[r] @ phi @ p[s]) for r, s in pairs)
    adjusted = phi + 2 * phi @ extra @ phi
    gradient = np.array([float(-contrast @ phi @ each @ phi @ contrast) for each in p])
    df = 2 * float(contrast @ phi @ contrast) ** 2 / float(gradient @ w @ gradient)
    return math.sqrt(float(contrast @ adjusted @ contrast)), df


def mixed_model(
    y: ArrayLike | Sequence[float | None],
    x: ArrayLike,
    groups: Mapping[str, Labels | Sparse],
    contrast: Sequence[float],
    *,
    df: str = "satterthwaite",
    level: float = 0.95,
) -> Estimate:
    """contrast' beta of y = X beta + random effects + error, by REML.

    `x` is rows x coefficients (a vector gets an intercept before it). Each of `groups` is a label
    per row, or a rows x levels matrix for multiple membership (a row that belongs to two models
    as +1 and -1). `df` is "satterthwaite" or "kenward-roger" (up to 3,000 rows). `extra` has
    `var_NAME` of each term, `var_residual` and the REML `deviance`; a variance at zero is
    flagged `singular`. n counts the levels of the smallest term.
    """
    if df not in METHODS:
        raise ValueError(f"df must be one of {METHODS}; got {df!r}")
    outcome, design = floats(y), floats(x, axes=2)
    if design.ndim == 1:
        design = np.column_stack([np.ones(design.size), design])
    same_length(y=outcome, x=design)
    if len(contrast) != design.shape[1]:
        raise ValueError(f"contrast must weigh {design.shape[1]} coefficients; got {contrast}")
    matrices = {name: _matrix(labels, outcome.size) for name, labels in groups.items()}
    seen = np.isfinite(outcome) & np.isfinite(design).all(axis=1)
    terms = {name: _observed(matrix, seen) for name, matrix in matrices.items()}
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": min((term.shape[1] for term in terms.values()), default=0),
        "n_rows": int(seen.sum()),
        "missing": int((~seen).sum()),
        "method": f"mixed model (REML), {', '.join(terms)} random, {_NAMES[df]} t",
        "estimand": "contrast of fixed effects",
    }
    reason = _why_no_model(outcome[seen], design[seen], about["n"])
    if reason:
        return undefined(reason, **about)
    fit = fit_mixed(outcome[seen], design[seen], list(terms.values()))
    if fit is None:
        return undefined(NOT_CONVERGED, **about)
    return _told(fit, np.asarray(contrast, dtype=float), list(terms), df, about)


_NAMES = {"satterthwaite": "Satterthwaite", "kenward-roger": "Kenward-Roger"}


def _told(
    fit: MixedFit, contrast: Floats, names: list[str], df: str, about: dict[str, Any]
) -> Estimate:
    extra = {f"var_{name}": float(v) for name, v in zip(names, fit.components, strict=False)}
    extra |= {"var_residual": float(fit.components[-1]), "deviance": fit.deviance}
    flags = ("singular",) if len(fit.free) < len(fit.components) else ()
    base = Estimate(float(contrast @ fit.beta), flags=flags, extra=extra, **about)
    if fit.components[-1] <= 1e-20 * max(1e-280, float((fit.sums.y**2).max())):
        return base.with_(reason=ZERO_VARIANCE)
    if df == "kenward-roger" and len(fit.sums.y) > MOST_ROWS:
        raise ValueError(f"kenward-roger takes at most {MOST_ROWS} rows; use satterthwaite")
    se, freedom = (satterthwaite if df == "satterthwaite" else kenward_roger)(fit, contrast)
    # Below one degree of freedom (or where the likelihood is flat) nothing is said of the error.
    if not (math.isfinite(freedom) and freedom >= 1 and se > 0):
        return base.with_(reason=TOO_FEW_UNITS)
    return from_t(base, se, freedom)


def _matrix(labels: Labels | Sparse, rows: int) -> Sparse:
    from scipy.sparse import csc_array, issparse

    shaped = issparse(labels) or (isinstance(labels, np.ndarray) and labels.ndim == 2)
    given: Any = labels
    matrix = csc_array(given) if shaped else indicator(given)
    if matrix.shape[0] != rows:
        raise ValueError(f"inputs must be aligned row by row; got {matrix.shape[0]} and {rows}")
    return matrix


def _observed(matrix: Sparse, seen: np.ndarray) -> Sparse:
    """The rows that are seen, without levels that none of them has."""
    kept = matrix[seen]
    return kept[:, np.flatnonzero(abs(kept).sum(axis=0))].tocsc()


def _why_no_model(y: Floats, x: Floats, levels: int) -> str | None:
    if not y.size:
        return EMPTY
    if levels < 3:
        return SINGLE_UNIT if levels == 1 else TOO_FEW_UNITS
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return RANK_DEFICIENT
    if y.size <= x.shape[1] + 1:
        return TOO_FEW_UNITS
    return ZERO_VARIANCE if is_constant(y) else None


def mixed_difference(
    values: ArrayLike | Sequence[float | None],
    item: Labels,
    treated: ArrayLike,
    *,
    df: str = "satterthwaite",
    level: float = 0.95,
) -> Estimate:
    """Treatment effect from rows (item, condition, replicate), item and item x condition random.

    y = a + b treated + u_item + v_(item, condition) + e. In a balanced design this equals the
    paired t over item means, which is the headline, unless a variance comes out at zero (flag
    `singular`) and its error is pooled with the residual; use this for unbalanced replicates.
    """
    t = floats(treated)
    same_length(values=values, item=item, treated=t)
    cell = list(zip(codes(item)[0].tolist(), t.tolist(), strict=True))
    groups = {"item": item, "item_condition": cell}
    found = mixed_model(values, t, groups, [0.0, 1.0], df=df, level=level)
    found = found.with_(estimand="mean difference, treatment - control")
    if found.reason == RANK_DEFICIENT:
        return found.with_(reason=MISSING_ARM)
    if found.df is None or found.se is None or found.df <= found.n - 1:
        return found
    # A component at zero makes Satterthwaite count rows: items stay the units.
    return from_t(found, found.se, found.n - 1.0)
