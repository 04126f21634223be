"""Paired pass/fail outcomes: McNemar tests, conditional odds ratio, risk difference, power.

Over N pairs, b pairs are gains (control fails, treatment passes) and c are losses; m = b + c.
Invariant: test and interval reported together come from one family, so p < alpha exactly when
the interval excludes no effect. With no discordant pair p is 1 and the odds ratio undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, check_level, passes, same_length
from peira.stats._solve import bisect
from peira.stats.intervals import beta_limits, normal_quantile, wilson_limits
from peira.stats.result import (
    EMPTY,
    MISSING_ARM,
    NO_DISCORDANT_PAIRS,
    Estimate,
    as_p,
    undefined,
)

Limits = tuple[float, float]
_Limits = Callable[[int, int, float], Limits]
_PValue = Callable[[int, int], float | None]


def check_counts(b: int, c: int, n: int | None = None) -> None:
    """Raise ValueError unless gains and losses are counts that fit among n pairs."""
    if not (b >= 0 and c >= 0 and (n is None or b + c <= n)):
        raise ValueError(f"need b, c >= 0 and b + c <= n; got {b=}, {c=}, {n=}")


def mcnemar_exact_p(b: int, c: int) -> float:
    """Exact McNemar p: min(1, 2 P(X <= min(b, c))), X ~ Bin(b + c, 1/2)."""
    from scipy.special import bdtr

    check_counts(b, c)
    m = b + c
    return 1.0 if m == 0 else as_p(2 * float(bdtr(min(b, c), m, 0.5)))


def mcnemar_mid_p(b: int, c: int) -> float:
    """Mid-p McNemar: the exact p less half the probability of what was observed, doubled.

    No discordant pairs give 1 by convention. Source: Fagerland, Lydersen & Laake 2013.
    """
    from scipy.special import bdtr

    check_counts(b, c)
    m = b + c
    if m == 0:
        return 1.0
    point = float(_binomial_pmf(np.array([min(b, c)]), m, 0.5)[0])
    if b == c:
        return 1.0 - point / 2
    return as_p(2 * float(bdtr(min(b, c), m, 0.5)) - point)


def mcnemar_asymptotic_p(b: int, c: int, *, correction: bool = False) -> float | None:
    """McNemar's chi-squared p; None with no discordant pairs (the library gives 0 there)."""
    from scipy.special import chdtrc

    check_counts(b, c)
    if b + c == 0:
        return None
    gap = max(abs(b - c) - (1 if correction else 0), 0)
    return as_p(float(chdtrc(1, gap * gap / (b + c))))


def _binomial_pmf(k: Floats | np.ndarray, m: int, theta: float) -> Floats:
    from scipy.special import gammaln, xlog1py, xlogy

    log = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1)
    return np.asarray(np.exp(log + xlogy(k, theta) + xlog1py(m - k, -theta)))


def _odds(theta: float) -> float:
    return math.inf if theta >= 1 else theta / (1 - theta)


def conditional_odds_ratio(
    b: int, c: int, *, method: str = "mid-p", level: float = 0.95
) -> Estimate:
    """Conditional odds ratio b/c with its limits and the p of the same family.

    `method` is "mid-p", "exact" (Clopper-Pearson), "minlike" (all theta at which outcomes no
    likelier than the observed hold more than alpha: Sterne's principle, the paired analogue of
    Baptista-Pike), "blaker" or "wilson" (the score limits of McNemar's chi-squared). For minlike
    and Blaker the limits are the hull of the accepted set.
    """
    check_counts(b, c)
    solvers: dict[str, tuple[_Limits, _PValue]] = {
        "mid-p": (_mid_p_limits, mcnemar_mid_p),
        "exact": (_central_limits, mcnemar_exact_p),
        "minlike": (_minlike_limits, lambda b, c: _minlike_p(b, b + c, 0.5)),
        "blaker": (_blaker_limits, lambda b, c: _blaker_p(b, b + c, 0.5)),
        "wilson": (_wilson_limits, mcnemar_asymptotic_p),
    }
    if method not in solvers:
        raise ValueError(f"method must be one of {sorted(solvers)}; got {method!r}")
    limits, p_value = solvers[method]
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": b + c,
        "method": f"{method} binomial",
        "estimand": "conditional odds ratio of passing, treatment against control",
        "extra": {"gains": b, "losses": c},
    }
    if b + c == 0:
        return undefined(NO_DISCORDANT_PAIRS, p=1.0, **about)
    low, high = limits(b, c, 1 - level)
    ratio = b / c if c else math.inf
    return Estimate(ratio, _odds(low), _odds(high), p=p_value(b, c), **about)


def _central_limits(b: int, c: int, alpha: float) -> Limits:
    return beta_limits(b, b + c, 1 - alpha)


def _wilson_limits(b: int, c: int, alpha: float) -> Limits:
    return wilson_limits(b / (b + c), b + c, normal_quantile(1 - alpha))


def _mid_p_limits(b: int, c: int, alpha: float) -> Limits:
    from scipy.special import bdtr, bdtrc

    m = b + c

    def above(theta: float) -> float:
        return float(bdtrc(b, m, theta) + _binomial_pmf(np.array([b]), m, theta)[0] / 2)

    def below(theta: float) -> float:
        tail = float(bdtr(b - 1, m, theta)) if b else 0.0
        return tail + float(_binomial_pmf(np.array([b]), m, theta)[0]) / 2

    low = bisect(lambda t: above(t) < alpha / 2, 0.0, b / m) if b else 0.0
    high = bisect(lambda t: below(t) >= alpha / 2, b / m, 1.0) if c else 1.0
    return low, high


def _minlike_p(b: int, m: int, theta: float) -> float:
    pmf = _binomial_pmf(np.arange(m + 1), m, theta)
    return min(1.0, float(pmf[pmf <= pmf[b] * (1 + 1e-7)].sum()))


def _blaker_p(b: int, m: int, theta: float) -> float:
    """Blaker's p: the smaller tail plus the largest opposite tail not exceeding it."""
    pmf = _binomial_pmf(np.arange(m + 1), m, theta)
    lower, upper = np.cumsum(pmf), np.cumsum(pmf[::-1])[::-1]
    smaller = np.minimum(lower, upper)
    return min(1.0, float(pmf[smaller <= smaller[b] * (1 + 1e-7)].sum()))


def _hull(b: int, c: int, accepted: Callable[[float], bool]) -> Limits:
    """Hull of the accepted theta. The p function jumps: scan, then bisect."""
    grid = np.linspace(0.0, 1.0, 2001)
    inside = grid[[accepted(theta) for theta in grid]]
    observed = b / (b + c)
    lowest = min(float(inside.min(initial=observed)), observed)
    highest = max(float(inside.max(initial=observed)), observed)
    step = grid[1]
    low, high = 0.0, 1.0
    if b:
        low = bisect(lambda t: not accepted(t), max(lowest - step, 0.0), lowest)
    if c:
        high = bisect(accepted, highest, min(highest + step, 1.0))
    return low, high


def _minlike_limits(b: int, c: int, alpha: float) -> Limits:
    return _hull(b, c, lambda theta: _minlike_p(b, b + c, theta) > alpha)


def _blaker_limits(b: int, c: int, alpha: float) -> Limits:
    return _hull(b, c, lambda theta: _blaker_p(b, b + c, theta) > alpha)


def tango_limits(b: int, c: int, n: int, level: float = 0.95) -> Limits:
    """Tango's score limits for (b - c)/n. Its test at zero is McNemar's chi-squared.

    Source: Tango 1998.
    """
    check_counts(b, c, n)
    z = normal_quantile(level)
    if b == c == 0:
        edge = z * z / (n + z * z)
        return -edge, edge
    observed = (b - c) / n
    low = bisect(lambda d: _tango_score(b, c, n, d) > z, -1.0, observed)
    high = bisect(lambda d: _tango_score(b, c, n, d) >= -z, observed, 1.0)
    return (-1.0 if c == n else low), (1.0 if b == n else high)


def _tango_score(b: int, c: int, n: int, delta: float) -> float:
    a2 = 2.0 * n
    a1 = -b - c + (2.0 * n - b + c) * delta
    a0 = -c * delta * (1 - delta)
    q = (math.sqrt(max(a1 * a1 - 4 * a2 * a0, 0.0)) - a1) / (2 * a2)
    variance = n * (2 * q + delta * (1 - delta))
    gap = b - c - n * delta
    if abs(gap) < 1e-13 * n:
        return 0.0
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap)


def newcombe_limits(
    a: int, b: int, c: int, d: int, level: float = 0.95, *, corrected: bool = True
) -> Limits:
    """Newcombe's method 10 for the paired difference (Newcombe 1998).

    `corrected` takes n/2 off a positive numerator of the correlation, as the paper does;
    packages differ, so both are here. Without pairs it is the whole range.
    """
    check_counts(a, d)
    check_counts(b, c)
    n = a + b + c + d
    if n == 0:
        return -1.0, 1.0
    z = normal_quantile(level)
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson_limits(p1, n, z), wilson_limits(p2, n, z)
    margins = float(a + b) * float(c + d) * float(a + c) * float(b + d)
    numerator = float(a) * d - float(b) * c
    if corrected and numerator > 0:
        numerator = max(numerator - n / 2, 0.0)
    phi = numerator / math.sqrt(margins) if margins else 0.0

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    return p1 - p2 - distance(p1 - l1, u2 - p2), p1 - p2 + distance(u1 - p1, p2 - l2)


def bonett_price_limits(b: int, c: int, n: int, level: float = 0.95) -> Limits:
    """Bonett & Price 2012: Wald with one added to each discordant count, n + 2 pairs."""
    check_counts(b, c, n)
    p1, p2 = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = normal_quantile(level) * math.sqrt((p1 + p2 - (p1 - p2) ** 2) / (n + 2))
    return max(-1.0, p1 - p2 - half), min(1.0, p1 - p2 + half)


def paired_binary(b: int, c: int, n: int, *, test: str = "mid-p", level: float = 0.95) -> Estimate:
    """Paired difference of pass rates (b - c)/n: mid-p McNemar test, Tango score interval.

    `test` may be "exact". `extra` carries gains, losses, the conditional odds ratio and its
    limits by the same family as the test. One row per pair: replicates must be averaged and go
    to `paired_difference`, never majority-voted into this table.
    """
    check_counts(b, c, n)
    if test not in ("mid-p", "exact"):
        raise ValueError(f"test must be 'mid-p' or 'exact'; got {test!r}")
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": n,
        "n_rows": 2 * n,
        "method": f"{test} McNemar + Tango score",
        "estimand": "difference of pass rates over pairs, treatment - control",
    }
    if n == 0:
        return undefined(EMPTY, **about)
    ratio = conditional_odds_ratio(b, c, method=test, level=level)
    low, high = tango_limits(b, c, n, level)
    p = mcnemar_mid_p(b, c) if test == "mid-p" else mcnemar_exact_p(b, c)
    return Estimate(
        (b - c) / n,
        low,
        high,
        p=p,
        flags=() if b + c else (NO_DISCORDANT_PAIRS,),
        extra={
            "gains": b,
            "losses": c,
            "odds_ratio": ratio.estimate,
            "odds_ratio_low": ratio.low,
            "odds_ratio_high": ratio.high,
        },
        **about,
    )


def paired_outcomes(
    treatment: ArrayLike | Sequence[float | None],
    control: ArrayLike | Sequence[float | None],
    *,
    test: str = "mid-p",
    level: float = 0.95,
) -> Estimate:
    """`paired_binary` from two aligned lists of 0/1 outcomes; None or NaN marks missing.

    Pairs with a missing side are counted per arm in `extra`, and left out.
    """
    same_length(treatment=treatment, control=control)
    t, k = passes(treatment), passes(control)
    both = np.isfinite(t) & np.isfinite(k)
    b = int(((t == 1) & (k == 0)).sum())
    c = int(((t == 0) & (k == 1)).sum())
    result = paired_binary(b, c, int(both.sum()), test=test, level=level)
    if result.reason == EMPTY and t.size:
        result = result.with_(reason=MISSING_ARM)
    lost = {
        "missing_treatment": int(np.isnan(t).sum()),
        "missing_control": int(np.isnan(k).sum()),
    }
    return result.with_(missing=int((~both).sum()), extra={**result.extra, **lost})
