"""Statistics of many columns at once: the first axis is the unit, all others are columns.

Invariant: NaN marks a unit without a value; it is left out of its column alone, and n says how many
remain; an interval needs two units that differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from peira.stats.multiplicity import benjamini_hochberg
from peira.stats.result import (  # fmt: skip
    EMPTY,
    INTERVAL_UNRELIABLE,
    SINGLE_UNIT,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)

Floats = np.ndarray[Any, np.dtype[np.float64]]
FEW = 20  # units below which an interval is flagged


@dataclass(frozen=True, eq=False)
class Columns:
    """Arrays of one shape, cut together by indexing."""

    def __getitem__(self, index: Any) -> Self:
        return type(self)(*(getattr(self, f.name)[index] for f in fields(self)))

    def repeated(self, count: int) -> Self:
        """The same under each of `count` rows of a new first axis."""
        parts = (np.asarray(getattr(self, f.name)) for f in fields(self))
        return type(self)(*(np.broadcast_to(x, (count, *x.shape)) for x in parts))


@dataclass(frozen=True, eq=False)
class Means(Columns):
    """Mean over units with a 95 % t interval, elementwise; p is two-sided, of a mean of zero."""

    mean: Floats
    low: Floats
    high: Floats
    n: Any
    p: Floats

    def estimate(
        self, index: Any = (), *, reason: str = EMPTY, method: str = "t over contexts", **about: Any
    ) -> Estimate:
        """One element as an Estimate; `reason` says why, where there is no mean."""
        value, n = float(self.mean[index]), int(self.n[index])
        if not np.isfinite(value):
            return undefined(reason, n=n, **about)
        low, high, p = (float(x[index]) for x in (self.low, self.high, self.p))
        alone = SINGLE_UNIT if n < 2 else ZERO_VARIANCE
        return Estimate(
            value, low, high, p=p, n=n, reason=None if np.isfinite(low) else alone,
            flags=(INTERVAL_UNRELIABLE,) if n < FEW else (), method=method, **about,
        )  # fmt: skip


def means(values: ArrayLike) -> Means:
    """Mean, 95 % t interval and two-sided p of zero, over axis 0."""
    from scipy.special import stdtr, stdtrit

    x = np.asarray(values, dtype=float)
    n = np.isfinite(x).sum(0)
    mean = nanmean(x)
    spread = np.where(np.isfinite(x), x - mean, 0.0)
    variance = (spread**2).sum(0) / np.maximum(n - 1, 1)
    real = (n > 1) & (variance > 1e-24 * (1 + mean**2))
    error = np.sqrt(variance / np.maximum(n, 1))
    half = np.where(real, stdtrit(np.maximum(n - 1, 1), 0.975) * error, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = np.where(real, mean / np.where(error > 0, error, 1), np.nan)
    p = np.where(real, 2 * stdtr(np.maximum(n - 1, 1), -np.abs(statistic)), np.nan)
    return Means(mean, mean - half, mean + half, n, np.clip(p, np.finfo(float).tiny, 1))


def nanmean(x: Any, axis: int = 0) -> Floats:
    """Mean along an axis, NaN left out; NaN, without a warning, where nothing is left."""
    n = np.isfinite(x).sum(axis)
    return np.where(n > 0, np.nansum(x, axis) / np.maximum(n, 1), np.nan)


def q_values(p: ArrayLike) -> Floats:
    """Benjamini-Hochberg over every planned element (a missing p counts, and stays missing)."""
    flat = np.asarray(p, dtype=float).ravel()
    given = [None if np.isnan(x) else float(x) for x in flat]
    adjusted = benjamini_hochberg(given, planned=len(given)).adjusted
    return np.array([np.nan if q is None else q for q in adjusted]).reshape(np.shape(p))


@dataclass(frozen=True, eq=False)
class Sensitivity(Columns):
    """−Cov over units of a loss and Φ, `css`, with its jackknife error and t interval; −Pearson's r
    with its Fisher z interval and p."""

    css: Floats
    se: Floats
    low: Floats
    high: Floats
    r: Floats
    r_low: Floats
    r_high: Floats
    p: Floats
    n: Any


def sensitivity(losses: ArrayLike, phi: ArrayLike) -> Sensitivity:
    """−Cov of losses (C, T) with Φ (C, L) over units C: arrays (L, T).

    css = −Σ(x−x̄)(y−ȳ)/(C−1), jackknife SE, interval by t_{C−1}; p of r by t_{C−2}. Source: Efron &
    Tibshirani 1993, §11; Fisher 1921.
    """
    from scipy.special import stdtr, stdtrit

    x, y = np.asarray(losses, float)[:, None, :], np.asarray(phi, float)[:, :, None]
    both = np.isfinite(x) & np.isfinite(y)
    n = both.sum(0)
    m = np.maximum(n, 1)
    dx, dy = (
        np.where(both, v - np.where(both, v, 0.0).sum(0) / m, 0.0) for v in (x, y)
    )  # fmt: skip
    product = dx * dy
    total = product.sum(0)
    cov = total / np.maximum(n - 1, 1)
    left = np.where(both, (total - m / np.maximum(m - 1, 1) * product) / np.maximum(n - 2, 1), 0.0)
    se = np.sqrt((m - 1) / m * np.where(both, (left - left.sum(0) / m) ** 2, 0.0).sum(0))
    scale = np.sqrt((dx**2).sum(0) * (dy**2).sum(0))
    good = (n > 2) & (scale > 1e-12)
    half = stdtrit(np.maximum(n - 1, 1), 0.975) * se
    r = np.clip(np.where(good, -total / np.where(scale > 0, scale, 1), np.nan), -1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt((n - 2) / np.maximum(1 - r**2, 1e-300))
        z, width = np.arctanh(r), 1.959963984540054 / np.sqrt(np.maximum(n - 3, 1))
    p = np.where(good, 2 * stdtr(np.maximum(n - 2, 1), -np.abs(t)), np.nan)
    low, high = (np.where(good & (n > 3), np.tanh(z + s * width), np.nan) for s in (-1, 1))
    blank = np.where(good, 1.0, np.nan)
    return Sensitivity(-cov * blank, se * blank, (-cov - half) * blank, (-cov + half) * blank, r,
                       low, high, np.clip(p, np.finfo(float).tiny, 1), n)  # fmt: skip


def partial_losses(losses: ArrayLike) -> Floats:
    """Losses (C, T) less what each unit's mean loss elsewhere predicts (linear, per column)."""
    x = np.asarray(losses, float)
    total, count = np.nansum(x, 1, keepdims=True), np.isfinite(x).sum(1, keepdims=True)
    elsewhere = (total - np.nan_to_num(x)) / np.maximum(count - np.isfinite(x), 1)
    dx, de = x - nanmean(x), elsewhere - elsewhere.mean(0)
    slope = np.nansum(dx * de, 0) / np.maximum((de**2).sum(0), 1e-300)
    return np.asarray(dx - slope * de)
