"""Least squares with errors that respect clusters or unequal variances.

Invariant: designs are matrices, never formulas built from a user's column names; a design that
does not identify the contrast gives no estimate, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import (
    Floats,
    Ints,
    Labels,
    Seed,
    check_level,
    codes,
    floats,
    generator,
    kept,
    same_length,
)
from peira.stats.clustered import (
    FEWEST_CLUSTERS,
    FEWEST_FOR_CR2,
    MOST_FOR_WEBB,
    all_weighted_sums,
    invert,
    weight_points,
)
from peira.stats.intervals import from_t
from peira.stats.permutation import ENUMERATION_LIMIT, PValue, in_blocks, monte_carlo_p
from peira.stats.result import (
    EMPTY,
    RANK_DEFICIENT,
    SINGLE_UNIT,
    TOO_FEW_CLUSTERS,
    TOO_FEW_UNITS,
    UNBOUNDED,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


@dataclass(frozen=True, slots=True)
class Fit:
    """An ordinary least squares fit: y = X beta + residuals, `bread` = (X'X)^-1."""

    x: Floats
    y: Floats
    beta: Floats
    residuals: Floats
    bread: Floats
    missing: int

    @property
    def df(self) -> int:
        """Residual degrees of freedom."""
        return len(self.y) - int(self.x.shape[1])

    @property
    def sigma2(self) -> float:
        """Residual variance."""
        return float(self.residuals @ self.residuals) / self.df


def least_squares(y: ArrayLike, x: ArrayLike) -> Fit | str:
    """Fit by least squares; rows with a missing value are left out and counted.

    A vector `x` gets an intercept before it. Returns the reason code instead when there are no
    rows, no residual degrees of freedom, or X lacks full rank.
    """
    outcome, design = floats(y), floats(x, axes=2)
    if design.ndim == 1:
        design = np.column_stack([np.ones(design.size), design])
    same_length(y=outcome, x=design)
    keep = np.isfinite(outcome) & np.isfinite(design).all(axis=1)
    outcome, design = outcome[keep], design[keep]
    if outcome.size == 0:
        return EMPTY
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return RANK_DEFICIENT if len(design) >= design.shape[1] else TOO_FEW_UNITS
    if len(design) == design.shape[1]:
        return TOO_FEW_UNITS
    bread = np.linalg.inv(design.T @ design)
    beta = np.linalg.lstsq(design, outcome, rcond=None)[0]
    return Fit(design, outcome, beta, outcome - design @ beta, bread, int((~keep).sum()))


def slope(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Slope of the least-squares line with the classical t interval; `extra`: intercept, R^2."""
    fit = least_squares(y, x)
    about: dict[str, Any] = {
        "level": check_level(level),
        "n_rows": len(floats(y)),
        "method": "least squares, t",
        "estimand": "slope",
    }
    if isinstance(fit, str):
        return undefined(fit, **about)
    total = float(((fit.y - fit.y.mean()) ** 2).sum())
    extra = {
        "intercept": float(fit.beta[0]),
        "r_squared": 1 - float(fit.residuals @ fit.residuals) / total if total > 0 else None,
    }
    base = Estimate(float(fit.beta[1]), n=len(fit.y), missing=fit.missing, extra=extra, **about)
    if _exact(fit):
        return base.with_(reason=ZERO_VARIANCE)
    return from_t(base, math.sqrt(fit.sigma2 * fit.bread[1, 1]), fit.df)


def _group_scores(fit: Fit, group: Ints, adjusted: Floats) -> Floats:
    """Sum of x_i e_i over each cluster: clusters x coefficients."""
    scores = np.zeros((int(group.max()) + 1, fit.x.shape[1]))
    np.add.at(scores, group, fit.x * adjusted[:, None])
    return scores


def cluster_covariance(fit: Fit, group: Ints, kind: str = "CR1") -> Floats:
    """Sandwich covariance. CR0 plain, CR1 times G/(G-1), CR1S also times (n-1)/(n-k)."""
    scores = _group_scores(fit, group, fit.residuals)
    clusters = len(scores)
    factor = 1.0 if kind == "CR0" else clusters / (clusters - 1)
    if kind == "CR1S":
        factor *= (len(fit.y) - 1) / fit.df
    return np.asarray(factor * fit.bread @ (scores.T @ scores) @ fit.bread)


def cr2(fit: Fit, group: Ints, contrast: Floats) -> tuple[float, float] | None:
    """CR2 standard error and Satterthwaite degrees of freedom of contrast' beta.

    A_g = (I - H_gg)^(-1/2), the working model being independence. With every row its own
    cluster this is HC2. None if the contrast hangs on one cluster alone (the only unit of an
    arm), whose residual is zero whatever its error. Sources: Bell & McCaffrey 2002; Pustejovsky &
    Tipton 2018.
    """
    loading = fit.bread @ contrast
    clusters = int(group.max()) + 1
    parts, norms, through = np.zeros(clusters), np.zeros(clusters), []
    order = np.argsort(group, kind="stable")
    for g, rows in enumerate(np.split(order, np.cumsum(np.bincount(group))[:-1])):
        x = fit.x[rows]
        a = _lifted(np.eye(len(x)) - x @ fit.bread @ x.T, x @ loading)
        if a is None:
            return None
        parts[g] = a @ fit.residuals[rows]
        norms[g] = a @ a
        through.append(x.T @ a)
    b = np.array(through)
    gram = np.diag(norms) - b @ fit.bread @ b.T
    df = float(np.trace(gram)) ** 2 / float((gram**2).sum())
    return math.sqrt(float((parts**2).sum())), df


def _lifted(matrix: Floats, vector: Floats) -> Floats | None:
    """matrix^(-1/2) vector; None if the vector has a part in the matrix's null space."""
    values, vectors = np.linalg.eigh(matrix)
    parts, seen = vectors.T @ vector, values > 1e-10
    if np.abs(parts[~seen]).max(initial=0.0) > 1e-8 * np.abs(vector).max(initial=0.0):
        return None
    return np.asarray(vectors[:, seen] @ (parts[seen] / np.sqrt(values[seen])))


def contrast_t(
    y: ArrayLike,
    x: ArrayLike,
    contrast: Sequence[float] | Floats,
    *,
    cluster: Labels | None = None,
    level: float = 0.95,
) -> Estimate:
    """contrast' beta with HC2 (no clusters) or CR2 (12 clusters or more), Satterthwaite t.

    `x` is rows x coefficients (a vector gets an intercept before it). From 6 to 11 clusters p and
    limits are those of the wild cluster bootstrap-t, every pattern enumerated (`wild_cluster_p`),
    with CR2's error and degrees of freedom beside; below six the estimate stands alone.
    """
    weights = np.asarray(contrast, dtype=np.float64)
    method = "OLS, HC2 with Satterthwaite df" if cluster is None else "OLS, CR2"
    about: dict[str, Any] = {
        "level": check_level(level),
        "n_rows": len(floats(y)),
        "method": method,
        "estimand": "contrast of least-squares coefficients",
    }
    fit = least_squares(y, x)
    if isinstance(fit, str):
        return undefined(fit, **about)
    if weights.shape != fit.beta.shape or not weights.any():
        raise ValueError(f"contrast must weigh {fit.beta.size} coefficients; got {contrast}")
    group, clusters = _groups_of(y, x, fit, cluster)
    base = Estimate(
        float(weights @ fit.beta),
        n=clusters,
        missing=fit.missing,
        extra={"clusters": clusters if cluster is not None else None},
        **about,
    )
    if cluster is not None and clusters < FEWEST_CLUSTERS:
        return base.with_(reason=TOO_FEW_CLUSTERS)
    if _exact(fit):
        return base.with_(reason=ZERO_VARIANCE)
    found = cr2(fit, group, weights)
    if found is None:
        return base.with_(reason=SINGLE_UNIT)
    if not found[0] > 0:
        return base.with_(reason=ZERO_VARIANCE)
    if cluster is None or clusters >= FEWEST_FOR_CR2:
        return from_t(base, *found)
    return _wild_contrast(base.with_(se=found[0], df=found[1]), fit, group, weights)


def _wild_contrast(base: Estimate, fit: Fit, group: Ints, weights: Floats) -> Estimate:
    """p of a zero contrast, and the nulls that the same test accepts."""
    assert base.estimate is not None and base.se is not None
    value, se = base.estimate, base.se
    points = weight_points(base.n)
    kind = "Webb" if base.n <= MOST_FOR_WEBB else "Rademacher"
    base = base.with_(method=f"OLS, wild cluster bootstrap-t, {kind} weights enumerated")
    # In coordinates whose first is the contrast, its rest any basis of what it does not weigh.
    basis = np.vstack([weights, np.linalg.svd(weights[None])[2][1:]])
    p_at = _wild_p_function(_in_basis(fit, basis), group, 0, _patterns(points, base.n, None))
    limits = invert(p_at, value, se, 1 - base.level)
    if limits is None:
        return base.with_(p=p_at(0.0), reason=UNBOUNDED)
    return base.with_(p=p_at(0.0), low=limits[0], high=limits[1])


def _in_basis(fit: Fit, basis: Floats) -> Fit:
    """The same fit with coefficients basis @ beta."""
    x = fit.x @ np.linalg.inv(basis)
    return replace(fit, x=x, beta=basis @ fit.beta, bread=basis @ fit.bread @ basis.T)


def _exact(fit: Fit) -> bool:
    """True when the fit passes through every point, up to rounding."""
    return float(np.abs(fit.residuals).max()) <= 1e-12 * max(1.0, float(np.abs(fit.y).max()))


def _groups_of(y: ArrayLike, x: ArrayLike, fit: Fit, cluster: Labels | None) -> tuple[Ints, int]:
    if cluster is None:
        return np.arange(len(fit.y)), len(fit.y)
    outcome, design = floats(y), floats(x, axes=2)
    same_length(y=outcome, cluster=cluster)
    keep = np.isfinite(outcome) & np.isfinite(design.reshape(len(outcome), -1)).all(axis=1)
    group, names = codes(kept(cluster, keep))
    return group, len(names)


def wild_cluster_p(
    y: ArrayLike,
    x: ArrayLike,
    cluster: Labels,
    coefficient: int = -1,
    *,
    weights: str = "auto",
    null: float = 0.0,
    seed: Seed | None = None,
) -> PValue | str:
    """Wild cluster bootstrap-t p of one coefficient, the null imposed; a reason code without one.

    `weights`: "rademacher", "webb" or "auto" (Webb up to 8 clusters). All patterns are
    enumerated when at most 2^20 differ in |t|, else 9,999 are drawn from `seed`.
    Sources: Cameron, Gelbach & Miller 2008; Webb 2023; Roodman et al. 2019.
    """
    fit = least_squares(y, x)
    if isinstance(fit, str):
        return fit
    group, clusters = _groups_of(y, x, fit, cluster)
    if clusters < FEWEST_CLUSTERS:
        return TOO_FEW_CLUSTERS
    if _exact(fit):
        return ZERO_VARIANCE
    points = weight_points(8 if weights == "webb" else 9)
    if weights == "auto":
        points = weight_points(clusters)
    drawn = _patterns(points, clusters, seed)
    share = _wild_p_function(fit, group, coefficient, drawn)(null)
    if _enumerable(points, clusters):
        return PValue(share, None, "exact", len(points) ** clusters)
    return monte_carlo_p(round(share * len(drawn)), len(drawn), seed)


def _wild_p_function(
    fit: Fit, group: Ints, coefficient: int, drawn: Floats
) -> Callable[[float], float]:
    """Share of patterns whose |t| reaches the observed, by null: t's parts are linear in it."""
    at = [_wild_forms(fit, group, coefficient, null) for null in (0.0, 1.0)]

    def powers(rows: Floats) -> Floats:
        """Top and squared spread of t as polynomials in the null: five numbers a pattern."""
        (top0, part0), (top1, part1) = ((rows @ top, rows @ scores.T) for top, scores in at)
        part1 = part1 - part0
        squares = [(a * b).sum(axis=1) for a, b in ((part0, part0), (part0, part1), (part1, part1))]
        return np.array([top0, top1 - top0, *squares])

    def parts_at(known: Floats, null: float) -> tuple[Floats, Floats]:
        top0, top1, square0, square1, square2 = known
        return (top0 + null * top1) ** 2, square0 + 2 * null * square1 + null * null * square2

    every = np.concatenate([powers(rows) for rows in in_blocks(drawn)], axis=1)
    as_observed = powers(np.ones((1, drawn.shape[1])))

    def p_at(null: float) -> float:
        (top, spread), (observed, own) = parts_at(every, null), parts_at(as_observed, null)
        return float((top * own >= observed * spread * (1 - 1e-9)).mean())

    return p_at


def _enumerable(points: Floats, clusters: int) -> bool:
    """True for at most 2^20 patterns, a pattern and its mirror (of the same |t|) being one."""
    return bool(len(points) ** clusters <= 2 * ENUMERATION_LIMIT)


def _patterns(points: Floats, clusters: int, seed: Seed | None) -> Floats:
    if _enumerable(points, clusters):
        half = points[: len(points) // 2]
        columns = np.eye(clusters)
        return np.column_stack([all_weighted_sums(e, points, half) for e in columns])
    if seed is None:
        raise ValueError("too many patterns to enumerate: give an explicit seed")
    return generator(seed).choice(points, size=(9_999, clusters))


def _wild_forms(fit: Fit, group: Ints, coefficient: int, null: float) -> tuple[Floats, Floats]:
    """beta* - null and the cluster scores of the bootstrap sample, linear in the weights."""
    column = coefficient % fit.x.shape[1]
    rest = np.delete(fit.x, column, axis=1)
    target = fit.y - null * fit.x[:, column]
    restricted = target - rest @ np.linalg.lstsq(rest, target, rcond=None)[0]
    z = fit.x @ fit.bread[:, column]
    clusters = int(group.max()) + 1
    pulls = np.zeros((clusters, fit.x.shape[1]))
    np.add.at(pulls, group, fit.x * restricted[:, None])
    loads = np.zeros((clusters, fit.x.shape[1]))
    np.add.at(loads, group, fit.x * z[:, None])
    own = np.bincount(group, weights=z * restricted)
    return pulls @ fit.bread[:, column], np.diag(own) - loads @ fit.bread @ pulls.T
