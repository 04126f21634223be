"""Inference that stays valid at every look: e-processes and confidence sequences.

Invariant: with probability at least 1 - alpha the interval holds the truth at all times at once,
so one may stop whenever one likes. Every bound here at time t uses the data up to t only.
Multiplying e-values of dependent experiments is invalid; average them (`average_e_values`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, floats
from peira.stats._solve import bisect
from peira.stats.mcnemar import check_counts


def log_e_value(gains: ArrayLike, losses: ArrayLike) -> Floats:
    """log E of b gains and c losses against theta = 1/2: E = 2^m B(b+1/2, c+1/2)/B(1/2, 1/2).

    The Krichevsky-Trofimov mixture of likelihood ratios over discordant pairs.
    """
    from scipy.special import betaln

    b, c = np.asarray(gains, dtype=float), np.asarray(losses, dtype=float)
    return np.asarray((b + c) * math.log(2) + betaln(b + 0.5, c + 0.5) - math.log(math.pi))


def anytime_p(differences: ArrayLike) -> float:
    """Anytime-valid p of a sequence of paired differences by sign: min over time of 1/E, at most 1.

    Zeros (concordant pairs) do not move it.
    """
    d = floats(differences)
    if not d.size:
        return 1.0
    log_e = log_e_value(np.cumsum(d > 0), np.cumsum(d < 0))
    return float(min(1.0, math.exp(-max(0.0, float(log_e.max())))))


def theta_limits(gains: int, losses: int, alpha: float = 0.05) -> tuple[float, float]:
    """Confidence sequence at one time for theta = P(gain | discordant), inverting the mixture."""
    from scipy.special import betaln, xlog1py, xlogy

    check_counts(gains, losses)
    mixture = float(betaln(gains + 0.5, losses + 0.5)) - math.log(math.pi)

    def excluded(theta: float) -> bool:
        log = float(xlogy(gains, theta) + xlog1py(losses, -theta))
        return mixture - log >= math.log(1 / alpha)

    if gains + losses == 0:
        return 0.0, 1.0
    middle = gains / (gains + losses)
    low = bisect(excluded, 0.0, middle) if gains else 0.0
    high = bisect(lambda t: not excluded(t), middle, 1.0) if losses else 1.0
    if not gains:
        high = bisect(lambda t: not excluded(t), 0.0, 1.0)
    if not losses:
        low = bisect(excluded, 0.0, 1.0)
    return low, high


def average_e_values(e_values: Sequence[float]) -> float:
    """The mean of e-values is an e-value under any dependence."""
    if not len(e_values) or min(e_values) < 0:
        raise ValueError("needs e-values, none below zero")
    return float(np.mean(e_values))


def e_benjamini_hochberg(e_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """e-BH (Wang & Ramdas 2022): false discovery rate under any dependence."""
    e = np.asarray(e_values, dtype=float)
    m = e.size
    ordered = np.sort(e)[::-1]
    passing = np.flatnonzero(np.arange(1, m + 1) * ordered >= m / alpha)
    if passing.size == 0:
        return [False] * m
    return [bool(value >= ordered[passing[-1]]) for value in e]


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """Running limits, one per observation, each the intersection of all before it."""

    low: Floats
    high: Floats
    centre: Floats
    level: float
    method: str


def _running(
    low: Floats, high: Floats, centre: Floats, level: float, method: str
) -> ConfidenceSequence:
    return ConfidenceSequence(
        np.maximum.accumulate(low), np.minimum.accumulate(high), centre, level, method
    )


def normal_mixture_radius(variance: ArrayLike, rho: float, alpha: float = 0.05) -> Floats:
    """Two-sided normal-mixture bound on a sum with intrinsic time V (Howard et al. 2021, eq. 14).

    sqrt((V + rho) log((V + rho)/(rho alpha^2))); tightest near V = rho * about 10.
    """
    v = np.asarray(variance, dtype=float)
    return np.asarray(np.sqrt((v + rho) * np.log((v + rho) / (rho * alpha**2))))


def best_rho(variance: float, alpha: float = 0.05) -> float:
    """rho that makes the normal mixture tightest at intrinsic time V (Howard et al., sec. 3.5)."""
    from scipy.special import lambertw

    return variance / (-float(np.real(lambertw(-(alpha**2) / math.e, -1))) - 1)


def sub_gaussian_sequence(
    values: ArrayLike, sigma: float, *, best_at: int = 100, alpha: float = 0.05
) -> ConfidenceSequence:
    """Normal-mixture sequence for a mean of sigma-sub-Gaussian values (bounded: range/2)."""
    x = floats(values)
    t = np.arange(1, x.size + 1)
    centre = np.cumsum(x) / t
    radius = normal_mixture_radius(t * sigma**2, best_rho(best_at * sigma**2, alpha), alpha) / t
    return _running(centre - radius, centre + radius, centre, 1 - alpha, "normal mixture")


def asymptotic_sequence(
    values: ArrayLike, *, best_at: int = 500, alpha: float = 0.05
) -> ConfidenceSequence:
    """Asymptotic confidence sequence for a mean (Waudby-Smith et al. 2024): large samples only.

    The variance is the running one; the first 20 observations give no limits.
    """
    x = floats(values)
    t = np.arange(1, x.size + 1)
    centre = np.cumsum(x) / t
    variance = np.maximum(np.cumsum(x**2) / t - centre**2, 0.0)
    rho2 = best_rho(best_at, alpha) ** -1
    scaled = t * rho2 + 1
    radius = np.sqrt(variance * 2 * scaled / (t**2 * rho2) * np.log(np.sqrt(scaled) / alpha))
    radius[:20] = np.inf
    return _running(centre - radius, centre + radius, centre, 1 - alpha, "asymptotic")


def empirical_bernstein_sequence(
    values: ArrayLike, bounds: tuple[float, float], *, alpha: float = 0.05
) -> ConfidenceSequence:
    """Predictable plug-in empirical Bernstein sequence for a mean of bounded values.

    Source: Waudby-Smith & Ramdas 2024, theorem 2; the centre is the lambda-weighted mean.
    """
    low, high = bounds
    x = _within_unit(values, bounds)
    lambdas, means = _predictable(x, 2 / alpha, cap=0.5)
    before = np.concatenate([[0.5], means[:-1]])
    penalty = (-np.log1p(-lambdas) - lambdas) * (x - before) ** 2
    total = np.cumsum(lambdas)
    centre = np.cumsum(lambdas * x) / total
    radius = (math.log(2 / alpha) + np.cumsum(penalty)) / total
    lows, highs = np.maximum(centre - radius, 0.0), np.minimum(centre + radius, 1.0)
    lows, highs, centre = (part * (high - low) + low for part in (lows, highs, centre))
    return _running(lows, highs, centre, 1 - alpha, "predictable empirical Bernstein")


def _within_unit(values: ArrayLike, bounds: tuple[float, float]) -> Floats:
    """Values of a stated range, moved to (0, 1)."""
    low, high = bounds
    if not low < high:
        raise ValueError(f"a range needs its lowest value before its highest; got {bounds}")
    x = (floats(values) - low) / (high - low)
    if x.size and (x.min() < -1e-12 or x.max() > 1 + 1e-12):
        raise ValueError(f"values must lie within the stated range {bounds}")
    return x


def _predictable(x: Floats, odds: float, cap: float) -> tuple[Floats, Floats]:
    """Bets for each time from the data before it, and the regularised running mean."""
    t = np.arange(1, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.sqrt(2 * math.log(odds) / (before * t * np.log1p(t)))
    return np.minimum(bets, cap), means


def betting_sequence(
    values: ArrayLike,
    bounds: tuple[float, float],
    *,
    alpha: float = 0.05,
    grid: int = 1000,
) -> ConfidenceSequence:
    """Hedged-capital betting sequence for a mean of bounded values: the tightest here.

    Wealth of two bettors, one on each side, at every candidate mean m on a grid; m leaves when
    half of either's wealth reaches 1/alpha. Source: Waudby-Smith & Ramdas 2024, section 4.4.
    Limits are rounded outward to the grid.
    """
    low, high = bounds
    x = _within_unit(values, bounds)
    lambdas, _ = _predictable(x, 2 / alpha, cap=math.inf)
    m = np.linspace(0.0, 1.0, grid + 1)
    up_cap = 0.5 / np.maximum(m, 1e-12)
    down_cap = 0.5 / np.maximum(1 - m, 1e-12)
    up, down = np.zeros(m.size), np.zeros(m.size)
    alive = np.ones(m.size, dtype=bool)
    lows, highs = np.empty(x.size), np.empty(x.size)
    threshold = math.log(2 / alpha)
    for i, (value, bet) in enumerate(zip(x, lambdas, strict=True)):
        up += np.log1p(np.minimum(bet, up_cap) * (value - m))
        down += np.log1p(-np.minimum(bet, down_cap) * (value - m))
        alive &= np.maximum(up, down) < threshold
        inside = np.flatnonzero(alive)
        first, last = (inside[0], inside[-1]) if inside.size else (grid, 0)
        lows[i], highs[i] = m[max(first - 1, 0)], m[min(last + 1, grid)]
    centre = np.cumsum(x) / np.arange(1, x.size + 1)
    lows, highs, centre = (part * (high - low) + low for part in (lows, highs, centre))
    return _running(lows, highs, centre, 1 - alpha, "betting")
