"""Replicates: how much of an error comes from items and how much from repeated draws.

Invariant: replicates are never units. Adding them shrinks the within-item part of the error
only, and the item-level standard error already contains both parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, floats
from peira.stats.result import EMPTY, SINGLE_UNIT


@dataclass(frozen=True, slots=True)
class VarianceSplit:
    """Var(item difference) = between items + within (draws) part.

    `between` (omega^2) is unbiased and may be negative: report it, truncate only in planning.
    `within_*` are mean within-item variances (sigma^2); None where no item has two draws.
    """

    n_items: int
    mean_difference: float | None
    variance_of_differences: float | None
    within_treatment: float | None
    within_control: float | None
    within_part: float | None
    between: float | None
    se: float | None
    reason: str | None = None


def variance_split(treatment: ArrayLike, control: ArrayLike) -> VarianceSplit:
    """Split the variance of item-mean differences, from items x replicates arrays.

    omega^2 = var(d) - mean(s_A^2/K_A + s_B^2/K_B) over items (Miller 2024). Missing replicates
    are NaN; items without both arms are left out.
    """
    t, c = (floats(a, axes=2) for a in (treatment, control))
    t, c = (a[:, None] if a.ndim == 1 else a for a in (t, c))
    if len(t) != len(c):
        raise ValueError(f"arms must hold the same items; got {len(t)} and {len(c)}")
    keep = np.isfinite(t).any(axis=1) & np.isfinite(c).any(axis=1)
    t, c = t[keep], c[keep]
    n = len(t)
    if n < 2:
        reason = SINGLE_UNIT if n else EMPTY
        mean = float(np.nanmean(t) - np.nanmean(c)) if n else None
        return VarianceSplit(n, mean, None, None, None, None, None, None, reason)
    d = np.nanmean(t, axis=1) - np.nanmean(c, axis=1)
    variance = float(d.var(ddof=1))
    (sigma_t, part_t), (sigma_c, part_c) = _within(t), _within(c)
    known = part_t is not None and part_c is not None
    within = part_t + part_c if part_t is not None and part_c is not None else None
    return VarianceSplit(
        n,
        float(d.mean()),
        variance,
        sigma_t,
        sigma_c,
        within,
        variance - within if known and within is not None else None,
        math.sqrt(variance / n),
    )


def _within(rows: Floats) -> tuple[float | None, float | None]:
    """Mean within-item variance, and mean of sigma^2/K: each over the draws an item has."""
    counts = np.isfinite(rows).sum(axis=1)
    repeated = counts >= 2
    if not repeated.any():
        return None, None
    sigma = float(np.nanvar(rows[repeated], axis=1, ddof=1).mean())
    return sigma, sigma * float((1 / counts).mean())


def optimal_replicates(
    cost_item: float, cost_replicate: float, within: float, between: float
) -> float:
    """Replicates per item that minimise the error at a given cost: sqrt(c0 w / (c1 b)).

    At least 1; infinite when items do not differ (`between` <= 0).
    """
    if min(cost_item, cost_replicate, within) < 0 or cost_replicate == 0:
        raise ValueError("costs and variances must be non-negative, the replicate's cost positive")
    if between <= 0:
        return math.inf
    return max(1.0, math.sqrt(cost_item / cost_replicate * within / between))
