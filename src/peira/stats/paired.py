"""Paired scores: treatment minus control on the same units.

Invariant: the unit is the pair. A pair with a missing side is counted, per arm, and left out;
the direction is always treatment - control. Replicates are never units: adding them shrinks the
within-item part of the error only, and the item-level standard error already has both parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import (
    Floats,
    Labels,
    Seed,
    check_level,
    floats,
    generator,
    kept,
    same_length,
    unit_means,
)
from peira.stats.bootstrap import bootstrap_t_limits
from peira.stats.intervals import from_t, is_constant, t_interval
from peira.stats.permutation import sign_flip_p
from peira.stats.result import (
    EMPTY,
    INTERVAL_AND_TEST_DISAGREE,
    INTERVAL_CAPPED,
    INTERVAL_UNRELIABLE,
    MISSING_ARM,
    SINGLE_UNIT,
    ZERO_VARIANCE,
    Estimate,
)

SMALL, LARGE = 20, 1000
ESTIMAND = "mean difference over units, treatment - control"
Values = ArrayLike | Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Complete pairs: their differences, the two arms, and what was lost per arm."""

    differences: Floats
    treatment: Floats
    control: Floats
    keep: np.ndarray
    rows: int
    missing: int
    missing_treatment: int
    missing_control: int

    @property
    def absent(self) -> str | None:
        """Why there is no complete pair; None if there is one."""
        nothing = MISSING_ARM if self.missing else EMPTY
        return None if self.differences.size else nothing

    @property
    def reason(self) -> str | None:
        """Why no difference exists or none has an error; None if all is well."""
        if self.absent:
            return self.absent
        if self.differences.size == 1:
            return SINGLE_UNIT
        return ZERO_VARIANCE if is_constant(self.differences) else None

    def about(self, level: float) -> dict[str, Any]:
        """The fields of an `Estimate` that tell where its number comes from."""
        return {
            "level": check_level(level),
            "n": self.differences.size,
            "n_rows": self.rows,
            "missing": self.missing,
            "extra": {
                "missing_treatment": self.missing_treatment,
                "missing_control": self.missing_control,
            },
        }


def pairs(treatment: Values, control: Values) -> Pairs:
    """Align two arms unit by unit (or units x replicates, averaged within each arm).

    An empty arm beside a full one is a missing arm.

    Raises:
        ValueError: the arms have different numbers of units.
    """
    (t, rows_t), (c, rows_c) = unit_means(treatment), unit_means(control)
    if 0 in (t.size, c.size):
        size = max(t.size, c.size)
        t, c = (a if a.size else np.full(size, np.nan) for a in (t, c))
    same_length(treatment=t, control=c)
    keep = np.isfinite(t) & np.isfinite(c)
    return Pairs(
        t[keep] - c[keep],
        t[keep],
        c[keep],
        keep,
        rows_t + rows_c,
        int((~keep).sum()),
        int(np.isnan(t).sum()),
        int(np.isnan(c).sum()),
    )


def paired_difference(
    treatment: Values,
    control: Values,
    *,
    cluster: Labels | None = None,
    seed: Seed,
    level: float = 0.95,
    resamples: int = 10_000,
    score_range: tuple[float, float] | None = None,
) -> Estimate:
    """Mean paired difference by the default path for its size.

    Clustered: see `clustered.cluster_mean`. Independent pairs: below 20 the t interval, flagged
    `interval_unreliable`; from 20 to 1,000 bootstrap-t; beyond, t. The p value below 1,000 is
    that of the sign-flip test of the mean. `score_range` is the range a score can take: limits
    are kept within the differences it allows, and flagged when that cut them.
    """
    data = pairs(treatment, control)
    about: dict[str, Any] = data.about(level)
    if data.absent:
        return Estimate(None, reason=data.absent, method="paired", estimand=ESTIMAND, **about)
    if cluster is not None:
        result = _clustered(data, cluster, about)
    elif data.reason:
        result = _without_spread(data, about, seed)
    elif data.differences.size < SMALL:
        result = _small(data, about, seed)
    elif data.differences.size < LARGE:
        result = _medium(data, about, seed, resamples)
    else:
        result = t_interval(data.differences, level).with_(method="paired t", **about)
    return _flagged(_capped(result.with_(estimand=ESTIMAND), score_range))


def _clustered(data: Pairs, cluster: Labels, about: dict[str, Any]) -> Estimate:
    from peira.stats.clustered import cluster_mean

    same_length(pairs=data.keep, cluster=cluster)
    labels = kept(cluster, data.keep)
    result = cluster_mean(data.differences, labels, about["level"])
    return result.with_(**about | {"extra": {**result.extra, **about["extra"]}})


def _without_spread(data: Pairs, about: dict[str, Any], seed: Seed) -> Estimate:
    """One pair, or equal differences: a mean without interval. Sign-flip still has a p."""
    mean = float(data.differences.mean())
    found = Estimate(mean, reason=data.reason, method="sign-flip", **about)
    return sign_flip_p(data.differences, seed).on(found) if data.differences.size > 1 else found


def _small(data: Pairs, about: dict[str, Any], seed: Seed) -> Estimate:
    test = sign_flip_p(data.differences, seed)
    found = t_interval(data.differences, about["level"]).with_(
        method=f"paired t + sign-flip ({test.how})", flags=(INTERVAL_UNRELIABLE,), **about
    )
    return test.on(found)


def _medium(data: Pairs, about: dict[str, Any], seed: Seed, resamples: int) -> Estimate:
    rng = generator(seed)
    d = data.differences
    test = sign_flip_p(d, rng)
    base = from_t(Estimate(float(d.mean()), **about), float(d.std(ddof=1)) / math.sqrt(d.size), 1)
    base = test.on(base).with_(df=None)
    limits = bootstrap_t_limits(d, about["level"], rng, resamples)
    if limits is None:
        t = t_interval(d, about["level"])
        return base.with_(
            low=t.low,
            high=t.high,
            df=t.df,
            method=f"paired t + sign-flip ({test.how})",
            flags=(INTERVAL_UNRELIABLE,),
        )
    method = f"bootstrap-t ({resamples} resamples) + sign-flip ({test.how})"
    return limits.on(base.with_(method=method))


def _capped(result: Estimate, score_range: tuple[float, float] | None) -> Estimate:
    if score_range is None or result.low is None or result.high is None:
        return result
    width = abs(score_range[1] - score_range[0])
    low, high = max(result.low, -width), min(result.high, width)
    if (low, high) == (result.low, result.high):
        return result
    return result.with_(low=low, high=high, flags=(*result.flags, INTERVAL_CAPPED))


def _flagged(result: Estimate) -> Estimate:
    """Say so when the interval (by one method) and the test (by another) disagree about zero."""
    if result.p is None or result.low is None or result.high is None:
        return result
    excludes = result.low > 0 or result.high < 0
    if excludes == (result.p <= 1 - result.level):
        return result
    return result.with_(flags=(*result.flags, INTERVAL_AND_TEST_DISAGREE))


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
