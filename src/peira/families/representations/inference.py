"""Inference over contexts: means, paired differences, sensitivity, emergence.

The unit is the context, always the first axis. Invariant: NaN marks a context without a value; it
is left out and n says how many remain; an interval needs two contexts that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peira.stats.multiplicity import benjamini_hochberg
from peira.stats.result import NOT_REACHED, SINGLE_UNIT, ZERO_VARIANCE, Estimate, undefined

Floats = np.ndarray[Any, np.dtype[np.float64]]
FEW = 20  # contexts below which an interval is flagged
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Means:
    """Mean over contexts with a t interval, elementwise over the other axes."""

    mean: Floats
    low: Floats
    high: Floats
    n: Any
    p: Floats

    def estimate(self, index: Any = (), **about: Any) -> Estimate:
        """One element as an Estimate."""
        value, n = float(self.mean[index]), int(self.n[index])
        flags = ("interval_unreliable",) if n < FEW else ()
        if not np.isfinite(value):
            return undefined(about.pop("reason", "empty"), n=n, **about)
        low, high, p = (_optional(x[index]) for x in (self.low, self.high, self.p))
        reason = None if low is not None else (SINGLE_UNIT if n < 2 else ZERO_VARIANCE)
        about.pop("reason", None)
        return Estimate(value, low, high, p=p, n=n, reason=reason, flags=flags,
                        method="t over contexts", **about)  # fmt: skip


def _optional(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def means(values: Any) -> Means:
    """Mean, 95 % t interval and two-sided p of zero, over axis 0, NaN left out."""
    from scipy.special import stdtr, stdtrit

    x = np.asarray(values, dtype=float)
    n = np.isfinite(x).sum(0)
    safe = np.where(np.isfinite(x), x, 0.0)
    mean = np.where(n > 0, safe.sum(0) / np.maximum(n, 1), np.nan)
    spread = np.where(np.isfinite(x), x - mean, 0.0)
    variance = (spread**2).sum(0) / np.maximum(n - 1, 1)
    real = (n > 1) & (variance > 1e-24 * (1 + mean**2))
    error = np.sqrt(variance / np.maximum(n, 1))
    half = np.where(real, stdtrit(np.maximum(n - 1, 1), 0.975) * error, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = np.where(real, mean / np.where(error > 0, error, 1), np.nan)
    p = np.where(real, 2 * stdtr(np.maximum(n - 1, 1), -np.abs(statistic)), np.nan)
    return Means(mean, mean - half, mean + half, n, np.clip(p, np.finfo(float).tiny, 1))


def q_values(p: Any) -> Floats:
    """Benjamini-Hochberg over every planned element (a missing p counts, and stays missing)."""
    flat = np.asarray(p, dtype=float).ravel()
    given = [None if not np.isfinite(x) else float(x) for x in flat]
    adjusted = benjamini_hochberg(given, planned=len(given)).adjusted
    return np.array([np.nan if q is None else q for q in adjusted]).reshape(np.shape(p))


# -- context sensitivity --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """−Cov over contexts of loss and Φ (…, T): jackknife error, t interval; Pearson r, Fisher z."""

    css: Floats
    se: Floats
    low: Floats
    high: Floats
    r: Floats
    r_low: Floats
    r_high: Floats
    p: Floats
    n: Any


def sensitivity(losses: Any, phi: Any) -> Sensitivity:
    """CSS of losses (C, T) with Φ (C, L): arrays (L, T). Contexts with a NaN are left out per cell.

    css = −Σ(L−L̄)(Φ−Φ̄)/(C−1); its SE by the jackknife; r is −Pearson's (t_{C−2}).
    """
    from scipy.special import stdtr, stdtrit

    x, y = np.asarray(losses, float)[:, None, :], np.asarray(phi, float)[:, :, None]
    both = np.isfinite(x) & np.isfinite(y)
    n = both.sum(0)
    m = np.maximum(n, 1)
    dx = np.where(both, x - _mean(x, both, m), 0.0)
    dy = np.where(both, y - _mean(y, both, m), 0.0)
    product = dx * dy
    total = product.sum(0)
    cov = total / np.maximum(n - 1, 1)
    left = np.where(both, (total - m / np.maximum(m - 1, 1) * product) / np.maximum(n - 2, 1), 0.0)
    centre = left.sum(0) / m
    se = np.sqrt((m - 1) / m * np.where(both, (left - centre) ** 2, 0.0).sum(0))
    scale = np.sqrt((dx**2).sum(0) * (dy**2).sum(0))
    good = (n > 2) & (scale > 1e-12)
    half = stdtrit(np.maximum(n - 1, 1), 0.975) * se
    r = np.clip(np.where(good, -total / np.where(scale > 0, scale, 1), np.nan), -1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt((n - 2) / np.maximum(1 - r**2, 1e-300))
        z, width = np.arctanh(r), 1.959963984540054 / np.sqrt(np.maximum(n - 3, 1))
    p = np.where(good, 2 * stdtr(np.maximum(n - 2, 1), -np.abs(t)), np.nan)
    enough = good & (n > 3)
    blank = np.where(good, 1.0, np.nan)
    return Sensitivity(
        -cov * blank, se * blank, (-cov - half) * blank, (-cov + half) * blank, r,
        np.where(enough, np.tanh(z - width), np.nan), np.where(enough, np.tanh(z + width), np.nan),
        np.clip(p, np.finfo(float).tiny, 1), n,
    )  # fmt: skip


def _mean(x: Any, both: Any, m: Any) -> Any:
    return np.where(both, x, 0.0).sum(0) / m


def partial_losses(losses: Any) -> Floats:
    """Losses (C, T) less what each context's mean loss elsewhere predicts (linear, per token)."""
    x = np.asarray(losses, float)
    total, count = np.nansum(x, 1, keepdims=True), np.isfinite(x).sum(1, keepdims=True)
    elsewhere = (total - np.nan_to_num(x)) / np.maximum(count - np.isfinite(x), 1)
    dx, de = x - nanmean(x), elsewhere - elsewhere.mean(0)
    slope = np.nansum(dx * de, 0) / np.maximum((de**2).sum(0), 1e-300)
    return np.asarray(dx - slope * de)


# -- emergence ------------------------------------------------------------------------------------


def half_length(curve: Any, null: float, lengths: Sequence[int]) -> float:
    """N½: first length where the curve is halfway from `null` to its end; NaN if it never is.

    Linear in log N between the lengths.
    """
    y = np.asarray(curve, float)
    keep = np.isfinite(y)
    if keep.sum() < 2 or not keep[-1]:
        return float("nan")
    y, at = y[keep], np.log(np.asarray(lengths, float)[keep])
    goal = y[-1] - null
    if abs(goal) < 1e-12:
        return float("nan")
    share = (y - null) / goal
    hit = int(np.argmax(share >= 0.5))
    if hit == 0:
        return float(np.exp(at[0]))
    part = (0.5 - share[hit - 1]) / (share[hit] - share[hit - 1])
    return float(np.exp(at[hit - 1] + part * (at[hit] - at[hit - 1])))


def bootstrap(
    statistic: Callable[[Any], float], count: int, rng: np.random.Generator, draws: int = RESAMPLES
) -> Floats:
    """Values of `statistic(rows)` over resampled context indices."""
    return np.array([statistic(rng.integers(0, count, count)) for _ in range(draws)])


def emergence(
    values: Any, null: float, lengths: Sequence[int], rng: np.random.Generator, estimand: str
) -> Estimate:
    """N½ of values (C, N) with a bootstrap interval over contexts, or `not_reached`.

    Not reached: the mean at the longest N does not differ from its structure-free value.
    """
    x = np.asarray(values, float)
    last = means(x[:, -1:] - null)
    about: dict[str, Any] = {"n": int(last.n[0]), "method": "bootstrap over contexts (percentile)",
                             "estimand": estimand}  # fmt: skip
    if not np.isfinite(last.low[0]) or last.low[0] <= 0 <= last.high[0]:
        return undefined(NOT_REACHED, **about)
    point = half_length(nanmean(x), null, lengths)
    if not np.isfinite(point):
        return undefined(NOT_REACHED, **about)
    low, high, _ = percentiles(
        lambda rows: half_length(nanmean(x[rows]), null, lengths), len(x), rng
    )
    return _bounded(point, low, high, about)


def _bounded(
    point: float, low: float | None, high: float | None, about: dict[str, Any]
) -> Estimate:
    """An estimate with its limits; limits that coincide are no interval."""
    if low is None or high is None:
        return Estimate(point, reason="not_identified", **about)
    if high - low <= 1e-9 * max(abs(point), 1e-9):
        return Estimate(point, reason=ZERO_VARIANCE, **about)
    return Estimate(point, low, high, **about)


def nanmean(x: Any, axis: int = 0) -> Floats:
    """Mean along an axis, NaN left out; NaN where nothing is left."""
    n = np.isfinite(x).sum(axis)
    return np.where(n > 0, np.nansum(x, axis) / np.maximum(n, 1), np.nan)


def percentiles(
    statistic: Callable[[Any], float], count: int, rng: np.random.Generator
) -> tuple[float | None, float | None, float]:
    """95 % bootstrap limits, and the share of resamples in which the statistic existed."""
    draws = bootstrap(statistic, count, rng)
    real = draws[np.isfinite(draws)]
    if len(real) < 0.9 * len(draws):
        return None, None, len(real) / len(draws)
    low, high = np.quantile(real, (0.025, 0.975))
    return float(low), float(high), len(real) / len(draws)


def estimate_by_bootstrap(
    statistic: Callable[[Any], float], count: int, rng: np.random.Generator, **about: Any
) -> Estimate:
    """A statistic of context indices with its percentile interval; `not_identified` if undefined."""
    point = statistic(np.arange(count))
    about = {"n": count, "method": "bootstrap over contexts (percentile)", **about}
    if not np.isfinite(point):
        return undefined("not_identified", **about)
    low, high, _ = percentiles(statistic, count, rng)
    return _bounded(float(point), low, high, about)


def order_of(
    first: Any, second: Any, nulls: tuple[float, float], lengths: Sequence[int],
    rng: np.random.Generator, estimand: str,
) -> Estimate:  # fmt: skip
    """log(N½ of first / N½ of second) with its bootstrap interval; negative: first comes first."""
    x, y = np.asarray(first, float), np.asarray(second, float)

    def statistic(rows: Any) -> float:
        a = half_length(nanmean(x[rows]), nulls[0], lengths)
        b = half_length(nanmean(y[rows]), nulls[1], lengths)
        return float(np.log(a / b))

    return estimate_by_bootstrap(statistic, len(x), rng, estimand=estimand)
