"""Errors of means and regressions when rows come in clusters.

Invariant: the cluster is the unit. From 12 clusters on the error is CR2 with Satterthwaite
degrees of freedom, from 6 to 11 the wild cluster bootstrap-t with the null imposed and every
sign pattern enumerated, below 6 there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import (
    Floats,
    Ints,
    Labels,
    check_level,
    codes,
    kept,
    same_length,
    unit_means,
)
from peira.stats._solve import bisect
from peira.stats.intervals import from_t, is_constant, t_interval
from peira.stats.result import (
    EMPTY,
    SINGLE_UNIT,
    TOO_FEW_CLUSTERS,
    UNBOUNDED,
    ZERO_VARIANCE,
    Estimate,
)

FEWEST_CLUSTERS, FEWEST_FOR_CR2, MOST_FOR_WEBB = 6, 12, 8


def cluster_mean(
    values: ArrayLike | Sequence[float | None], cluster: Labels, level: float = 0.95
) -> Estimate:
    """Mean over units that come in clusters, with the interval the number of clusters allows.

    `p` tests a mean of zero. `extra` has the number of clusters, the error had the units been
    independent, and the design effect. Sources: Bell & McCaffrey 2002, Pustejovsky & Tipton
    2018 (CR2); Cameron, Gelbach & Miller 2008, Webb 2023 (wild bootstrap).
    """
    same_length(values=values, cluster=cluster)
    array, rows = unit_means(values)
    seen = np.isfinite(array)
    group, names = codes(kept(cluster, seen))
    d, clusters = array[seen], len(names)
    base = Estimate(
        float(d.mean()) if d.size else None,
        level=check_level(level),
        n=d.size,
        n_rows=rows,
        missing=array.size - d.size,
        method="CR2",
        estimand="mean over units",
        reason=_why_no_cluster_error(d, clusters),
        extra={"clusters": clusters},
    )
    if base.reason:
        return base
    if clusters == d.size:
        return t_interval(d, level).with_(n_rows=rows, missing=base.missing, extra=base.extra)
    sizes = np.bincount(group).astype(float)
    if np.abs(np.bincount(group, weights=d - d.mean())).max() <= 1e-12 * max(1, np.abs(d).max()):
        return base.with_(reason=ZERO_VARIANCE)  # within every cluster gains and losses cancel
    base = base.with_(extra=_design(d, group, sizes))
    if clusters < FEWEST_FOR_CR2:
        return _wild_mean(base, d, group, sizes)
    se, df = _cr2_mean(d, group, sizes)
    return from_t(base.with_(method="CR2 with Satterthwaite df"), se, df)


def _why_no_cluster_error(d: Floats, clusters: int) -> str | None:
    if d.size == 0:
        return EMPTY
    if d.size == 1:
        return SINGLE_UNIT
    if clusters < FEWEST_CLUSTERS:
        return TOO_FEW_CLUSTERS
    return ZERO_VARIANCE if is_constant(d) else None


def _design(d: Floats, group: Ints, sizes: Floats) -> dict[str, float | int | str | None]:
    independent = float(d.std(ddof=1)) / math.sqrt(d.size)
    cr1 = cluster_se_of_mean(d, group, sizes)
    return {
        "clusters": sizes.size,
        "se_if_independent": independent,
        "design_effect": (cr1 / independent) ** 2,
    }


def cluster_se_of_mean(d: Floats, group: Ints, sizes: Floats) -> float:
    """Clustered standard error of a mean: Miller's sum (CR0) times G/(G-1)."""
    sums = np.bincount(group, weights=d - d.mean(), minlength=sizes.size)
    variance = float((sums**2).sum()) / d.size**2
    return math.sqrt(variance * (sizes.size / (sizes.size - 1)))


def cluster_sums(values: Floats, group: Ints) -> Floats:
    """Sum of the values in each cluster."""
    return np.asarray(np.bincount(group, weights=values), dtype=np.float64)


def _cr2_mean(d: Floats, group: Ints, sizes: Floats) -> tuple[float, float]:
    """CR2 error and Satterthwaite df of a mean, in closed form (H_gg is rank one)."""
    n = d.size
    share = sizes / n
    sums = np.bincount(group, weights=d - d.mean())
    scale = 1 / (1 - share)
    variance = float((sums**2 * scale).sum()) / n**2
    root = np.sqrt(scale)
    gram = np.outer(root, root) * (np.diag(sizes) - np.outer(sizes, sizes) / n)
    df = float(np.trace(gram)) ** 2 / float((gram**2).sum())
    return math.sqrt(variance), df


def weight_points(clusters: int) -> Floats:
    """Weights of the wild bootstrap: signs from 9 clusters on, Webb's six points up to 8.

    The first half of the points mirrors the second, and the first point is one.
    """
    if clusters > MOST_FOR_WEBB:
        return np.array([1.0, -1.0])
    half = np.sqrt([1.0, 0.5, 1.5])
    return np.concatenate([half, -half])


def all_weighted_sums(coefficients: Floats, points: Floats, first: Floats) -> Floats:
    """Sum of weight x coefficient for every pattern; the first cluster's weights are `first`.

    Half the points suffice there, since a pattern and its mirror have the same |t|.
    """
    sums = first * coefficients[0]
    for coefficient in coefficients[1:]:
        sums = (sums[:, None] + points * coefficient).ravel()
    return np.asarray(sums)


def wild_mean_p(
    values: ArrayLike | Sequence[float | None], cluster: Labels, null: float = 0.0
) -> float | None:
    """p of one null mean by the wild cluster bootstrap-t; None below six clusters.

    The interval of `cluster_mean` below 12 clusters holds exactly the nulls with p > 1 - level.
    """
    same_length(values=values, cluster=cluster)
    array, _ = unit_means(values)
    seen = np.isfinite(array)
    group, names = codes(kept(cluster, seen))
    d = array[seen]
    if _why_no_cluster_error(d, len(names)):
        return None
    sizes = np.bincount(group).astype(float)
    spread = cluster_se_of_mean(d, group, sizes) * d.size
    return _wild_p_function(float(d.mean()), spread, cluster_sums(d, group), sizes)(null)


def _wild_mean(base: Estimate, d: Floats, group: Ints, sizes: Floats) -> Estimate:
    assert base.estimate is not None
    mean, se = base.estimate, cluster_se_of_mean(d, group, sizes)
    p_at = _wild_p_function(mean, se * d.size, cluster_sums(d, group), sizes)
    kind = "Webb" if sizes.size <= MOST_FOR_WEBB else "Rademacher"
    base = base.with_(
        method=f"wild cluster bootstrap-t, {kind} weights enumerated", se=se, p=p_at(0.0)
    )
    limits = invert(p_at, mean, se, 1 - base.level)
    if limits is None:
        return base.with_(reason=UNBOUNDED)
    return base.with_(low=limits[0], high=limits[1])


def _wild_p_function(
    mean: float, spread: float, totals: Floats, sizes: Floats
) -> Callable[[float], float]:
    """p of each null mean. Every sum over clusters is a polynomial in the null, taken once."""
    n, points = float(sizes.sum()), weight_points(sizes.size)
    first = points[: points.size // 2]

    def summed(coefficients: Floats, power: int = 1) -> Floats:
        return all_weighted_sums(coefficients, points**power, first**power)

    products = totals * sizes
    gap0, gap1 = summed(totals), summed(sizes)
    square0, square1, square2 = summed(totals**2, 2), summed(products, 2), summed(sizes**2, 2)
    cross0, cross1 = summed(products), summed(sizes**2)
    ratio = float((sizes**2).sum()) / n**2
    correction = sizes.size / (sizes.size - 1)

    def p_at(null: float) -> float:
        gaps = gap0 - null * gap1
        variances = square0 - 2 * null * square1 + null * null * square2
        variances -= 2 * gaps / n * (cross0 - null * cross1) - gaps * gaps * ratio
        observed = (n * (mean - null)) ** 2 * correction * (1 - 1e-9)
        return float((gaps * gaps * spread**2 >= observed * variances).mean())

    return p_at


def invert(
    p_at: Callable[[float], float], mean: float, se: float, alpha: float
) -> tuple[float, float] | None:
    """Limits of the nulls that a test accepts; None if one side is never rejected."""

    def accepted(reach: float) -> bool:
        return p_at(mean + reach) > alpha

    limits = []
    for side in (-1.0, 1.0):
        width = 2.0 * side * se
        while accepted(width):
            width *= 2
            if abs(width) > 1e3 * se:
                return None
        inner = width / 2 if abs(width) > 2.0 * se else 0.0
        limits.append(mean + bisect(accepted, inner, width, steps=16))
    return limits[0], limits[1]
