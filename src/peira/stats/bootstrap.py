"""Bootstrap intervals over units.

Invariant: resampling draws units (with all their rows), from a generator the caller seeds, and
a sample with no spread yields no interval. Limits carry their seed and their Monte Carlo error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from peira.stats._arrays import Floats, Seed, generator, seed_of
from peira.stats.result import Estimate

#: Draws held in memory at once.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Two limits from resamples, with the Monte Carlo standard error of each and the seed.

    Unpacks as `low, high`.
    """

    low: float
    high: float
    low_error: float
    high_error: float
    seed: int | str | None

    def __iter__(self) -> Iterator[float]:
        return iter((self.low, self.high))

    def on(self, found: Estimate) -> Estimate:
        """The estimate with these limits, and in `extra` their seed and Monte Carlo errors."""
        told = {
            "interval_seed": self.seed,
            "low_mc_error": self.low_error,
            "high_mc_error": self.high_error,
        }
        return found.with_(low=self.low, high=self.high, extra={**found.extra, **told})


def _quantile(draws: Floats, share: float) -> tuple[float, float]:
    """A quantile of the draws and its Monte Carlo standard error.

    The number of draws below a quantile is binomial, so the order statistics one standard error,
    sqrt(share (1 - share)/B), to either side enclose it; the error is half their distance
    (David & Nagaraja 2003, Order Statistics, section 7.1).
    """
    reach = math.sqrt(share * (1 - share) / draws.size)
    around = np.clip([share, share - reach, share + reach], 0.0, 1.0)
    value, below, above = np.quantile(draws, around).tolist()
    return value, (above - below) / 2


def resampled_moments(
    values: Floats, resamples: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation of each of `resamples` draws with replacement.

    Values should be centred: the variance is taken as E x^2 - (E x)^2.
    """
    n = values.size
    means, squares = np.empty(resamples), np.empty(resamples)
    for rows, drawn in _draws(values, resamples, rng):
        means[rows] = drawn.mean(axis=1)
        squares[rows] = np.einsum("ij,ij->i", drawn, drawn) / n
    variance = np.maximum(squares - means * means, 0.0) * n / (n - 1)
    return means, np.sqrt(variance)


def _draws(
    values: Floats, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[slice, Floats]]:
    if resamples < 2:
        raise ValueError(f"a bootstrap needs at least two resamples; got {resamples}")
    n = values.size
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        rows = slice(start, min(start + step, resamples))
        index = rng.integers(0, n, size=(rows.stop - start, n), dtype=np.int32)
        yield rows, np.take(values, index)


def bootstrap_t_limits(
    values: Floats, level: float, seed: Seed, resamples: int = 10_000
) -> Limits | None:
    """Studentised bootstrap limits of the mean (Efron & Tibshirani 1993, ch. 12).

    None for fewer than two units, or if the sample, or more than a twentieth of the resamples, has no spread.
    """
    n = values.size
    if n < 2:
        return None
    mean = float(values.mean())
    centred = values - mean
    means, deviations = resampled_moments(centred, resamples, generator(seed))
    scale = float(centred.std(ddof=1))
    spread = deviations > 1e-9 * scale
    if scale == 0 or spread.mean() < 0.95:
        return None
    t = means[spread] / (deviations[spread] / math.sqrt(n))
    tail = (1 - level) / 2
    (q_low, low_error), (q_high, high_error) = _quantile(t, tail), _quantile(t, 1 - tail)
    se = scale / math.sqrt(n)
    errors = high_error * se, low_error * se
    return Limits(mean - q_high * se, mean - q_low * se, *errors, seed_of(seed))


def bca_levels(
    below: float, at_or_below: float, acceleration: float, level: float
) -> tuple[float, float]:
    """The two quantile levels of a BCa interval (Efron 1987), with mid-tie bias correction.

    `below` and `at_or_below` are the shares of resamples under and not above the estimate.
    """
    from scipy.special import ndtr, ndtri

    z0 = float(ndtri((below + at_or_below) / 2))
    z = float(ndtri(0.5 + level / 2))

    def adjusted(quantile: float) -> float:
        return float(ndtr(z0 + (z0 + quantile) / (1 - acceleration * (z0 + quantile))))

    return adjusted(-z), adjusted(z)


def acceleration(leave_one_out: Floats) -> float:
    """BCa acceleration from the leave-one-out estimates: sum L^3 / (6 (sum L^2)^1.5)."""
    influence = leave_one_out.mean() - leave_one_out
    power = float((influence**2).sum()) ** 1.5
    return 0.0 if power == 0 else float((influence**3).sum()) / (6 * power)


def bca_limits(
    values: Floats,
    statistic: Callable[[Floats], Floats] | None,
    level: float,
    seed: Seed,
    resamples: int = 10_000,
) -> Limits | None:
    """BCa limits of a statistic of independent units.

    `statistic` maps an array whose last axis is the units to one value per row; None is the
    mean. None for fewer than two units, or when all resamples agree or lie on one side.
    """
    if values.size < 2:
        return None
    function = statistic if statistic is not None else _row_mean
    estimate = float(function(values[None])[0])
    rng = generator(seed)
    replicates = np.concatenate([function(drawn) for _, drawn in _draws(values, resamples, rng)])
    jackknife = _leave_one_out(values, statistic)
    below = float((replicates < estimate).mean())
    at_or_below = float((replicates <= estimate).mean())
    middle = (below + at_or_below) / 2
    if np.ptp(replicates) == 0 or not 0 < middle < 1:
        return None
    levels = bca_levels(below, at_or_below, acceleration(jackknife), level)
    return _between(replicates, levels, seed)


def _leave_one_out(values: Floats, statistic: Callable[[Floats], Floats] | None) -> Floats:
    n = values.size
    if statistic is None:
        return np.asarray((values.sum() - values) / (n - 1))
    rest = (np.delete(values, i)[None] for i in range(n))
    return np.array([float(statistic(rows)[0]) for rows in rest])


def _row_mean(rows: Floats) -> Floats:
    return np.asarray(rows.mean(axis=-1))


def refits(
    data: tuple[Floats, Floats],
    fit: Callable[[Floats, Floats], Floats],
    distinct: int,
    resamples: int,
    seed: Seed,
) -> Floats:
    """Parameters of a curve refitted to resampled points (x, y), one draw a row; draws with no more
    than `distinct` different x are left out."""
    x, y = data
    rng, drawn = generator(seed), []
    for _ in range(resamples):
        rows = rng.choice(x.size, size=x.size)
        if np.unique(x[rows]).size > distinct:
            drawn.append(fit(x[rows], y[rows]))
    return np.array(drawn)


def percentile_limits(replicates: Floats, level: float, seed: Seed | None = None) -> Limits:
    """Plain percentile limits of draws made from `seed`. Not a small-sample method: below 200
    units prefer bootstrap-t."""
    tail = (1 - level) / 2
    return _between(replicates, (tail, 1 - tail), seed)


def _between(replicates: Floats, levels: tuple[float, float], seed: Seed | None) -> Limits:
    (low, low_error), (high, high_error) = (_quantile(replicates, share) for share in levels)
    return Limits(low, high, low_error, high_error, seed_of(seed))
