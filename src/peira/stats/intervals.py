"""Single means, rates and differences of independent groups, with intervals.

Invariant: Wald intervals for rates are not offered; 0 of n and n of n have a proper interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, check_level, complete, unit_means
from peira.stats._solve import bisect
from peira.stats.result import (
    EMPTY,
    MISSING_ARM,
    SINGLE_UNIT,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def normal_quantile(level: float) -> float:
    """z with P(|Z| <= z) = level."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + check_level(level) / 2))


def t_quantile(level: float, df: float) -> float:
    """t with P(|T| <= t) = level for T of `df` degrees of freedom (need not be whole)."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + check_level(level) / 2))


def t_p_value(statistic: float, df: float) -> float:
    """Two-sided p of a t statistic."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(statistic)))


def is_constant(values: Floats) -> bool:
    """True if all values are equal up to rounding error."""
    spread = float(np.ptp(values)) if values.size else 0.0
    return spread <= 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0)))


def t_interval(values: ArrayLike | Sequence[float | None], level: float = 0.95) -> Estimate:
    """Mean of independent units with Student's t interval; p tests a mean of zero.

    One unit or equal units keep the mean, without interval or p, and carry a reason.
    """
    array, rows = unit_means(values)
    seen = array[np.isfinite(array)]
    n = seen.size
    base = Estimate(
        float(seen.mean()) if n else None,
        level=check_level(level),
        n=n,
        n_rows=rows,
        missing=array.size - n,
        method="t",
        estimand="mean over units",
        reason=EMPTY if n == 0 else SINGLE_UNIT if n == 1 else None,
    )
    if base.reason:
        return base
    if is_constant(seen):
        return base.with_(reason=ZERO_VARIANCE)
    se = float(seen.std(ddof=1)) / math.sqrt(n)
    return from_t(base, se, n - 1)


def from_normal(base: Estimate, se: float) -> Estimate:
    """`base` with the normal interval that its standard error gives."""
    assert base.estimate is not None
    half = normal_quantile(base.level) * se
    return base.with_(low=base.estimate - half, high=base.estimate + half, se=se)


def from_t(base: Estimate, se: float, df: float) -> Estimate:
    """`base` with the t interval and the two-sided p that its standard error gives."""
    assert base.estimate is not None
    half = t_quantile(base.level, df) * se
    return base.with_(
        low=base.estimate - half,
        high=base.estimate + half,
        p=t_p_value(base.estimate / se, df),
        se=se,
        df=df,
    )


def mean_interval(
    values: ArrayLike | Sequence[float | None],
    cluster: Labels | None = None,
    level: float = 0.95,
) -> Estimate:
    """Mean over units with its interval.

    Without `cluster`: Student's t. With it: CR2 with Satterthwaite degrees of freedom from 12
    clusters on, the wild cluster bootstrap-t from 6 to 11, no interval below 6.
    `p` is None: a mean by itself tests nothing. A two-dimensional input is units x replicates.
    """
    if cluster is None:
        return t_interval(values, level).with_(p=None)
    from peira.stats.clustered import cluster_mean

    return cluster_mean(values, cluster, level).with_(p=None)


def independent_difference(
    treatment: ArrayLike | Sequence[float | None],
    control: ArrayLike | Sequence[float | None],
    level: float = 0.95,
) -> Estimate:
    """Difference of the means of two independent groups, treatment - control: Welch's t (1947).

    For two arms on the same units use `paired_difference`.
    """
    arms = [unit_means(arm) for arm in (treatment, control)]
    t, c = (values[np.isfinite(values)] for values, _ in arms)
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": t.size + c.size,
        "n_rows": sum(rows for _, rows in arms),
        "missing": sum(values.size for values, _ in arms) - t.size - c.size,
        "method": "Welch t",
        "estimand": "difference of means, treatment - control",
        "extra": {"n_treatment": t.size, "n_control": c.size},
    }
    if 0 in (t.size, c.size):
        return undefined(EMPTY if t.size == c.size else MISSING_ARM, **about)
    base = Estimate(float(t.mean() - c.mean()), **about)
    if min(t.size, c.size) < 2:
        return base.with_(reason=SINGLE_UNIT)
    if is_constant(t) and is_constant(c):
        return base.with_(reason=ZERO_VARIANCE)
    a, b = float(t.var(ddof=1)) / t.size, float(c.var(ddof=1)) / c.size
    df = (a + b) ** 2 / (a**2 / (t.size - 1) + b**2 / (c.size - 1))
    return from_t(base, math.sqrt(a + b), df)


def check_share(successes: float, n: float) -> None:
    """Raise ValueError unless 0 <= successes <= n."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n; got {successes} of {n}")


def _rate(successes: int, n: int, level: float, method: str) -> Estimate | None:
    check_level(level)
    check_share(successes, n)
    if n == 0:
        return undefined(EMPTY, level=level, method=method, estimand="rate")
    return None


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Rate with Wilson's score interval (Wilson 1927)."""
    absent = _rate(successes, n, level, "Wilson score")
    if absent:
        return absent
    low, high = wilson_limits(successes / n, n, normal_quantile(level))
    return Estimate(successes / n, low, high, level, n=n, method="Wilson score", estimand="rate")


def wilson_limits(rate: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's limits for an observed rate; exactly 0 and 1 at the ends."""
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (
        0.0 if rate == 0 else max(0.0, centre - half),
        1.0 if rate == 1 else min(1.0, centre + half),
    )


def jeffreys(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Rate with Jeffreys' interval: quantiles of Beta(x + 1/2, n - x + 1/2), ends pinned."""
    absent = _rate(successes, n, level, "Jeffreys")
    if absent:
        return absent
    from scipy.special import betaincinv

    a, b, tail = successes + 0.5, n - successes + 0.5, (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(a, b, tail))
    high = 1.0 if successes == n else float(betaincinv(a, b, 1 - tail))
    return Estimate(successes / n, low, high, level, n=n, method="Jeffreys", estimand="rate")


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Rate with the exact (conservative) Clopper-Pearson interval."""
    absent = _rate(successes, n, level, "Clopper-Pearson")
    if absent:
        return absent
    low, high = beta_limits(successes, n, level)
    return Estimate(successes / n, low, high, level, n=n, method="Clopper-Pearson", estimand="rate")


def beta_limits(successes: int, n: int, level: float) -> tuple[float, float]:
    """Clopper-Pearson limits as beta quantiles."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def risk_difference(
    successes_treatment: int,
    n_treatment: int,
    successes_control: int,
    n_control: int,
    level: float = 0.95,
) -> Estimate:
    """Difference of two independent rates, treatment - control: Miettinen-Nurminen score.

    The p value is that of the same score at a difference of zero, so interval and test agree.
    For paired outcomes use `paired_binary`. Source: Miettinen & Nurminen 1985.
    """
    from scipy.special import ndtr

    method = "Miettinen-Nurminen score"
    for successes, n in ((successes_treatment, n_treatment), (successes_control, n_control)):
        absent = _rate(successes, n, level, method)
        if absent:
            return absent.with_(estimand="difference of rates", n=n_treatment + n_control)
    counts = (successes_treatment, n_treatment, successes_control, n_control)
    difference = successes_treatment / n_treatment - successes_control / n_control
    low, high = _score_limits(counts, normal_quantile(level))
    statistic = _miettinen_score(counts, 0.0)
    return Estimate(
        difference,
        low,
        high,
        level,
        p=float(2 * ndtr(-abs(statistic))),
        n=n_treatment + n_control,
        method=method,
        estimand="difference of rates, treatment - control",
        extra={
            "rate_treatment": successes_treatment / n_treatment,
            "rate_control": successes_control / n_control,
        },
    )


def _miettinen_score(counts: tuple[int, int, int, int], delta: float) -> float:
    """Score statistic of rate1 - rate2 = delta, with the constrained rates in closed form."""
    x1, n1, x2, n2 = counts
    n = n1 + n2
    a3, a2 = n, (n1 + 2 * n2) * delta - n - x1 - x2
    a1 = (n2 * delta - n - 2 * x2) * delta + x1 + x2
    a0 = x2 * delta * (1 - delta)
    q = (a2 / (3 * a3)) ** 3 - a1 * a2 / (6 * a3 * a3) + a0 / (2 * a3)
    p = math.copysign(math.sqrt(max((a2 / (3 * a3)) ** 2 - a1 / (3 * a3), 0.0)), q)
    cosine = 0.0 if p == 0 else min(1.0, max(-1.0, q / p**3))
    r2 = 2 * p * math.cos((math.pi + math.acos(cosine)) / 3) - a2 / (3 * a3)
    r2 = min(1.0, max(0.0, r2))
    r1 = min(1.0, max(0.0, r2 + delta))
    variance = (r1 * (1 - r1) / n1 + r2 * (1 - r2) / n2) * n / max(n - 1, 1)
    gap = x1 / n1 - x2 / n2 - delta
    if abs(gap) < 1e-14:
        return 0.0
    return gap / math.sqrt(variance) if variance > 1e-300 else math.copysign(math.inf, gap)


def _score_limits(counts: tuple[int, int, int, int], z: float) -> tuple[float, float]:
    observed = counts[0] / counts[1] - counts[2] / counts[3]
    return (
        bisect(lambda d: _miettinen_score(counts, d) > z, -1.0, observed),
        bisect(lambda d: _miettinen_score(counts, d) >= -z, observed, 1.0),
    )


def correlation(
    x: ArrayLike | Sequence[float | None],
    y: ArrayLike | Sequence[float | None],
    *,
    kind: str = "pearson",
    level: float = 0.95,
) -> Estimate:
    """Correlation of paired values with Fisher's z interval; p by t with n - 2 df.

    `kind` is "pearson" or "spearman" (variance (1 + r^2/2)/(n - 3), Bonett & Wright 2000).
    Pairs with a missing value are counted and left out. Needs four pairs for an interval.
    """
    if kind not in ("pearson", "spearman"):
        raise ValueError(f"kind must be 'pearson' or 'spearman'; got {kind!r}")
    columns, missing = complete(x=x, y=y)
    pairs: Floats = np.column_stack(columns)
    n = len(pairs)
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": n,
        "missing": missing,
        "method": f"{kind} with Fisher z",
        "estimand": f"{kind} correlation",
    }
    if n < 3:
        reasons = {0: EMPTY, 1: SINGLE_UNIT, 2: TOO_FEW_UNITS}
        return undefined(reasons[n], **about)
    if kind == "spearman":
        from scipy.stats import rankdata

        pairs = np.column_stack([rankdata(pairs[:, 0]), rankdata(pairs[:, 1])])
    if is_constant(pairs[:, 0]) or is_constant(pairs[:, 1]):
        return undefined(ZERO_VARIANCE, **about)
    r = float(np.asarray(np.corrcoef(pairs.T))[0, 1])
    return _fisher_z(min(1.0, max(-1.0, r)), kind, about)


def _fisher_z(r: float, kind: str, about: dict[str, Any]) -> Estimate:
    result = Estimate(r, **about)
    n = result.n
    if abs(r) > 1 - 1e-12:
        return result.with_(reason=ZERO_VARIANCE, flags=("perfect_correlation",))
    p = t_p_value(r * math.sqrt((n - 2) / (1 - r * r)), n - 2)
    if n < 4:
        return result.with_(p=p, df=n - 2, reason=TOO_FEW_UNITS)
    widen = 1 + r * r / 2 if kind == "spearman" else 1.0
    half = normal_quantile(result.level) * math.sqrt(widen / (n - 3))
    z = math.atanh(r)
    return result.with_(low=math.tanh(z - half), high=math.tanh(z + half), p=p, df=n - 2)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that at least one of k draws is correct, unbiased: 1 - C(n-c,k)/C(n,k).

    Source: Chen et al. 2021. Raises ValueError unless 1 <= k <= n and 0 <= correct <= n.
    """
    _check_draws(n, correct, k)
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def pass_hat_k(n: int, correct: int, k: int) -> float:
    """Chance that all of k draws are correct, unbiased: C(c,k)/C(n,k).

    The plug-in (c/n)^k is biased upward: for p = .8 and n = k = 5 it averages .478, not .328.
    """
    _check_draws(n, correct, k)
    return math.comb(correct, k) / math.comb(n, k)


def _check_draws(n: int, correct: int, k: int) -> None:
    if not (1 <= k <= n and 0 <= correct <= n):
        raise ValueError(f"need 1 <= k <= n and 0 <= correct <= n; got n={n}, {correct=}, k={k}")
