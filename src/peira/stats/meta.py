"""Putting estimates of several groups together.

Invariant: micro and macro averages have different errors; heterogeneity comes with
Hartung-Knapp's t and a prediction interval, and no standard error is ever computed back from
somebody's percentile interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, check_level, complete, floats, same_length
from peira.stats.intervals import from_normal, from_t, t_quantile
from peira.stats.result import EMPTY, SINGLE_UNIT, ZERO_VARIANCE, Estimate, undefined


def micro_average(means: ArrayLike, errors: ArrayLike, sizes: ArrayLike) -> Estimate:
    """Mean over all units: weights n_k/N, error sqrt(sum w_k^2 se_k^2)."""
    return _average(means, errors, floats(sizes), "micro")


def macro_average(means: ArrayLike, errors: ArrayLike) -> Estimate:
    """Mean over groups, each counting once: error sqrt(sum se_k^2)/K."""
    return _average(means, errors, np.ones(len(floats(means))), "macro")


def _average(means: ArrayLike, errors: ArrayLike, sizes: Floats, kind: str) -> Estimate:
    (y, se, n), missing = complete(means=means, errors=errors, sizes=sizes)
    if (se < 0).any() or (n < 0).any():
        raise ValueError("errors and sizes must not be negative")
    about: dict[str, Any] = {
        "n": y.size,
        "missing": missing,
        "method": f"{kind} average, normal",
        "estimand": f"{kind} average over groups",
    }
    if not n.sum():
        return undefined(EMPTY, **about)
    weights = n / n.sum()
    base = Estimate(float(weights @ y), **about)
    error = math.sqrt(float((weights**2) @ (se**2)))
    return from_normal(base, error) if error else base.with_(reason=ZERO_VARIANCE)


@dataclass(frozen=True, slots=True)
class MetaAnalysis:
    """Random-effects pooling. `random` uses Hartung-Knapp's t, `fixed` the normal.

    `i2` is the share of variation beyond chance (0..1), `prediction` the interval for a new
    group; None with fewer than three groups.
    """

    random: Estimate
    fixed: Estimate
    tau2: float | None
    q: float | None
    i2: float | None
    se_random_normal: float | None
    prediction: tuple[float, float] | None
    method: str


def meta_analysis(
    estimates: ArrayLike | Sequence[float | None],
    errors: ArrayLike | Sequence[float | None],
    *,
    tau: str = "DL",
    level: float = 0.95,
) -> MetaAnalysis:
    """Pool group estimates with standard errors; `tau` is "DL" or "REML".

    Sources: DerSimonian & Laird 1986; Hartung & Knapp 2001; Higgins et al. 2009 (prediction
    interval with K - 2 degrees of freedom).
    """
    if tau not in ("DL", "REML"):
        raise ValueError(f"tau must be 'DL' or 'REML'; got {tau!r}")
    y, se = floats(estimates), floats(errors)
    same_length(estimates=y, errors=se)
    seen = np.isfinite(y) & np.isfinite(se) & (se > 0)
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": int(seen.sum()),
        "missing": int((~seen).sum()),
        "estimand": "mean effect over groups",
    }
    y, v = y[seen], se[seen] ** 2
    name = f"random effects ({tau}), Hartung-Knapp t"
    if y.size < 2:
        reason = SINGLE_UNIT if y.size else EMPTY
        nothing = undefined(reason, method=name, **about)
        return MetaAnalysis(nothing, nothing, None, None, None, None, None, name)
    w = 1 / v
    fixed = float(w @ y / w.sum())
    plain = Estimate(fixed, method="fixed effect, normal", **about)
    plain = from_normal(plain, 1 / math.sqrt(float(w.sum())))
    q = float(w @ (y - fixed) ** 2)
    tau2 = _dersimonian_laird(w, q) if tau == "DL" else _reml(y, v)
    w = 1 / (v + tau2)
    mean, normal_se = float(w @ y / w.sum()), 1 / math.sqrt(float(w.sum()))
    df = y.size - 1
    hksj = math.sqrt(float(w @ (y - mean) ** 2) / df / float(w.sum()))
    base = Estimate(mean, method=name, **about)
    random = from_t(base, hksj, df) if hksj > 0 else base.with_(reason=ZERO_VARIANCE)
    prediction = None
    if y.size >= 3:
        reach = t_quantile(level, y.size - 2) * math.sqrt(tau2 + normal_se**2)
        prediction = (mean - reach, mean + reach)
    i2 = max(0.0, (q - df) / q) if q > 0 else 0.0
    return MetaAnalysis(random, plain, tau2, q, i2, normal_se, prediction, name)


def shrunken_means(estimates: ArrayLike, errors: ArrayLike) -> list[float | None]:
    """Each group's estimate drawn toward the pooled mean by its unreliability (empirical Bayes).

    For "the best variation": the largest of many noisy estimates is too large. None where an
    estimate or its error is missing.
    """
    pooled = meta_analysis(estimates, errors)
    mean, tau2 = pooled.random.estimate, pooled.tau2
    return [
        None
        if mean is None or tau2 is None or not (math.isfinite(y) and se > 0)
        else float(mean + tau2 / (tau2 + se**2) * (y - mean))
        for y, se in zip(floats(estimates), floats(errors), strict=True)
    ]


def shrunken_rates(counts: Iterable[tuple[int, int]]) -> list[float]:
    """Rates of (successes, n) drawn towards their mean by the share of their variance that is
    sampling error (empirical Bayes, by moments). Raises ValueError where n is zero."""
    hits, n = np.array(list(counts), dtype=np.float64).reshape(-1, 2).T
    if not ((hits >= 0) & (hits <= n) & (n > 0)).all():
        raise ValueError("each rate needs 0 <= successes <= n, and n above zero")
    rates = hits / n
    if rates.size < 2:
        return list(map(float, rates))
    mean = float(rates.mean())
    within = max(mean * (1 - mean), 1e-12) / n
    between = max(0.0, float(rates.var(ddof=1) - within.mean()))
    return list(map(float, mean + between / (between + within) * (rates - mean)))


def _dersimonian_laird(w: Floats, q: float) -> float:
    scale = float(w.sum() - (w**2).sum() / w.sum())
    return max(0.0, (q - (w.size - 1)) / scale)


def _reml(y: Floats, v: Floats) -> float:
    """tau^2 by Fisher scoring of the restricted likelihood."""
    tau2 = max(0.0, float(y.var(ddof=1) - v.mean()))
    for _ in range(1000):
        w = 1 / (v + tau2)
        mean = w @ y / w.sum()
        step = float(((w**2) @ ((y - mean) ** 2 - v)) / (w**2).sum() + 1 / w.sum())
        new = max(0.0, step)
        if abs(new - tau2) < 1e-14:
            break
        tau2 = new
    return tau2
