"""Emergence over context lengths, and bootstrap intervals over contexts.

The unit is the context, always the first axis. Invariant: an interval is given only where the
statistic existed in nine resamples of ten and its limits differ; otherwise a reason stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from peira.stats.bootstrap import percentile_limits
from peira.stats.columns import means, nanmean
from peira.stats.result import NOT_IDENTIFIED, NOT_REACHED, ZERO_VARIANCE, Estimate, undefined

RESAMPLES = 1000


def crossing(curve: Any, level: float, lengths: Sequence[int]) -> float:
    """First length at which the curve reaches `level`, linear in log N between lengths; NaN if never."""
    y = np.asarray(curve, float)
    keep = np.isfinite(y)
    y, at = y[keep], np.log(np.asarray(lengths, float)[keep])
    hit = np.flatnonzero(y >= level)
    if not len(hit):
        return float("nan")
    k = int(hit[0])
    part = (level - y[k - 1]) / (y[k] - y[k - 1]) if k else 0.0
    return float(np.exp(at[k - 1] + part * (at[k] - at[k - 1])) if k else np.exp(at[0]))


def half_length(curve: Any, null: float, lengths: Sequence[int]) -> float:
    """N½: first length where the curve is halfway from `null` to its end; NaN if it never is."""
    y = np.asarray(curve, float)
    goal = y[-1] - null
    if np.isfinite(y).sum() < 2 or not abs(goal) >= 1e-12:
        return float("nan")
    return crossing((y - null) / goal, 0.5, lengths)


def by_bootstrap(
    statistic: Callable[[Any], float], count: int, rng: np.random.Generator, **about: Any
) -> Estimate:
    """A statistic of context indices with its percentile interval; undefined, for the `reason`
    given, where it does not exist in the whole sample."""
    about = {"n": count, "method": "bootstrap over contexts (percentile)", **about}
    missing = about.pop("reason", NOT_IDENTIFIED)
    point = float(statistic(np.arange(count)))
    if not np.isfinite(point):
        return undefined(missing, **about)
    draws = np.array([statistic(rng.integers(0, count, count)) for _ in range(RESAMPLES)])
    real = draws[np.isfinite(draws)]
    if len(real) < 0.9 * len(draws):
        return Estimate(point, reason=NOT_IDENTIFIED, **about)
    limits = percentile_limits(real, 0.95, rng)
    if limits.high - limits.low <= 1e-9 * max(abs(point), 1e-9):
        return Estimate(point, reason=ZERO_VARIANCE, **about)
    return limits.on(Estimate(point, **about))


def emergence(
    values: Any, null: float, lengths: Sequence[int], rng: np.random.Generator, estimand: str
) -> Estimate:
    """N½ of values (C, N) with a bootstrap interval over contexts, or `not_reached`.

    Not reached: the mean at the longest N does not differ from its structure-free value.
    """
    x = np.asarray(values, float)
    last = means(x[:, -1] - null)
    if not last.low > 0 and not last.high < 0:
        return undefined(NOT_REACHED, n=int(last.n), estimand=estimand,
                         method="bootstrap over contexts (percentile)")  # fmt: skip
    return by_bootstrap(
        lambda rows: half_length(nanmean(x[rows]), null, lengths), len(x), rng,
        n=int(last.n), estimand=estimand, reason=NOT_REACHED,
    )  # fmt: skip


def order_of(
    first: Any, second: Any, nulls: tuple[float, float], lengths: Sequence[int],
    rng: np.random.Generator, estimand: str,
) -> Estimate:  # fmt: skip
    """log(N½ of first / N½ of second) with its bootstrap interval; negative: first comes first."""
    sides = [np.asarray(x, float) for x in (first, second)]

    def statistic(rows: Any) -> float:
        a, b = (half_length(nanmean(x[rows]), null, lengths)
                for x, null in zip(sides, nulls, strict=True))  # fmt: skip
        return float(np.log(a / b))

    return by_bootstrap(statistic, len(sides[0]), rng, estimand=estimand)
