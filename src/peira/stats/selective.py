"""Selective prediction (answering only when confident) and calibration.

Invariant: within ties of confidence the order is random in expectation, so an all-tied
confidence has the base risk. Arms that cover different ranges have no comparable area.
Sources: Geifman & El-Yaniv 2017 (AURC); Traub et al. 2024 (AUGRC); Murphy 1973.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Seed, check_level, complete, generator, passes
from peira.stats.bootstrap import percentile_limits
from peira.stats.intervals import from_t
from peira.stats.result import EMPTY, SINGLE_UNIT, ZERO_VARIANCE, Estimate, undefined

Values = ArrayLike | Sequence[float | None]


def expected_errors(confidence: Floats, errors: Floats) -> Floats:
    """E[errors among the top k], k = 1..n, over random order within ties of confidence."""
    order = np.argsort(-confidence, kind="stable")
    _, starts, counts = np.unique(-confidence[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(errors[order], starts)
    return np.asarray(np.cumsum(np.repeat(sums / counts, counts)))


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk R_k at coverage k/n, and the areas: AURC, its excess over the oracle, AUGRC."""

    coverage: Floats
    risk: Floats
    aurc: float | None
    excess_aurc: float | None
    augrc: float | None
    base_risk: float | None
    n: int
    missing: int
    reason: str | None = None


def risk_coverage(confidence: Values, correct: Values) -> RiskCoverage:
    """The risk-coverage curve of answers with a confidence. Missing either way is counted."""
    (score, right), missing = complete(confidence=confidence, correct=correct)
    n = score.size
    if n == 0:
        empty = np.zeros(0)
        return RiskCoverage(empty, empty, None, None, None, None, 0, missing, EMPTY)
    if right.min() < 0 or right.max() > 1:
        raise ValueError("correct must lie in [0, 1]")
    wrong = 1 - right
    k = np.arange(1, n + 1)
    errors = expected_errors(score, wrong)
    oracle = np.maximum(0.0, k - (n - wrong.sum())) / k
    risk = errors / k
    return RiskCoverage(
        k / n,
        risk,
        float(risk.mean()),
        float((risk - oracle).mean()),
        float((errors / n).mean()),
        float(wrong.mean()),
        n,
        missing,
    )


def risk_at_coverage(confidence: Values, correct: Values, coverage: float) -> float | None:
    """Expected risk among the most confident ceil(coverage n) answers; None without answers."""
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1]; got {coverage}")
    curve = risk_coverage(confidence, correct)
    if curve.n == 0:
        return None
    return float(curve.risk[math.ceil(coverage * curve.n - 1e-9) - 1])


METRICS = ("aurc", "excess_aurc", "augrc")


def compare_risk_coverage(
    treatment: tuple[Values, Values],
    control: tuple[Values, Values],
    *,
    seed: Seed,
    metric: str = "augrc",
    coverage: float | None = None,
    resamples: int = 2_000,
    level: float = 0.95,
) -> Estimate:
    """Difference of a risk-coverage area on the same items, (confidence, correct) per arm; with
    `coverage`, of the risk when each arm answers that share of the items.

    Percentile bootstrap over items, paired. Items missing in either arm are left out of both:
    arms over different coverage ranges have no comparable area.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}; got {metric!r}")
    (t, t_correct), (c, c_correct) = treatment, control
    columns, missing = complete(
        treatment=t, treatment_correct=t_correct, control=c, control_correct=c_correct
    )
    data, n = np.column_stack(columns), columns[0].size
    told = metric.upper() if coverage is None else f"risk at coverage {coverage:g}"
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": n,
        "missing": missing,
        "method": f"paired bootstrap over items ({resamples} resamples, percentile)",
        "estimand": f"difference of {told}, treatment - control",
    }
    if n < 2:
        return undefined(SINGLE_UNIT if n else EMPTY, **about)

    def of(confidence: Floats, correct: Floats) -> float:
        if coverage is not None:
            return risk_at_coverage(confidence, correct, coverage) or 0.0
        return float(getattr(risk_coverage(confidence, correct), metric))

    def difference(rows: Floats) -> float:
        return of(rows[:, 0], rows[:, 1]) - of(rows[:, 2], rows[:, 3])

    rng = generator(seed)
    drawn = np.array([difference(data[rng.integers(0, n, n)]) for _ in range(resamples)])
    if np.ptp(drawn) == 0:
        return Estimate(difference(data), reason=ZERO_VARIANCE, **about)
    return percentile_limits(drawn, level, seed).on(Estimate(difference(data), **about))


def ratio_of_sums(numerator: ArrayLike, denominator: ArrayLike, *, level: float = 0.95) -> Estimate:
    """sum C_i / sum N_i over items with the delta-method error of items as clusters.

    Influence (C_i - theta N_i)/mean N. For selective accuracy: C = correct answers of an item
    over its replicates, N = answers it gave.
    """
    (c, n), missing = complete(numerator=numerator, denominator=denominator)
    if (n < 0).any():
        raise ValueError("denominators must not be negative")
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": c.size,
        "n_rows": int(n.sum()),
        "missing": missing,
        "method": "ratio of sums, delta method over items",
        "estimand": "ratio of totals",
    }
    if n.sum() == 0:
        return undefined(EMPTY, **about)
    theta = float(c.sum() / n.sum())
    if c.size < 2:
        return Estimate(theta, reason=SINGLE_UNIT, **about)
    influence = (c - theta * n) / n.mean()
    if not np.abs(influence).max() > 1e-12:
        return Estimate(theta, reason=ZERO_VARIANCE, **about)
    se = float(influence.std(ddof=1)) / math.sqrt(c.size)
    return from_t(Estimate(theta, **about), se, c.size - 1).with_(p=None)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Brier score = reliability - resolution + uncertainty (+ within-bin terms when binned).

    `ece` is expected calibration error with the binning stated; like `reliability` it is above
    zero by chance alone. `reliability_debiased` takes each bin's sampling variance off (Ferro &
    Fricker 2012) and may be negative; None if a bin has one forecast. `cox_intercept` and
    `cox_slope` regress outcomes on the logit of the forecast (0 and 1 when calibrated).
    """

    n: int
    missing: int
    brier: float | None
    log_loss: float | None
    reliability: float | None
    reliability_debiased: float | None
    resolution: float | None
    uncertainty: float | None
    ece: float | None
    binning: str
    cox_intercept: float | None
    cox_slope: float | None
    bins: tuple[tuple[float, float, int], ...]
    reason: str | None = None


def calibration(
    probability: Values, outcome: Values, *, bins: int = 10, binning: str = "equal width"
) -> Calibration:
    """Calibration of stated probabilities against 0/1 outcomes.

    `binning`: "equal width", "equal mass" or "distinct" (one bin per stated value: Murphy's
    decomposition is then exact). `bins` of the result: (mean forecast, rate, count).
    """
    if binning not in ("equal width", "equal mass", "distinct"):
        raise ValueError(f"binning must be equal width, equal mass or distinct; got {binning!r}")
    (p, y), missing = complete(probability=probability, outcome=passes(outcome))
    if not p.size:
        return Calibration(
            0, missing, None, None, None, None, None, None, None, binning, None, None, (), EMPTY
        )
    if p.min() < 0 or p.max() > 1 or bins < 1:
        raise ValueError("probabilities must lie in [0, 1], and bins be at least one")
    group = _bin(p, bins, binning)
    counts = np.bincount(group).astype(float)
    forecast = np.bincount(group, weights=p) / counts
    rate = np.bincount(group, weights=y) / counts
    weights, base = counts / p.size, float(y.mean())
    reliability = float(weights @ (forecast - rate) ** 2)
    spare = float((rate * (1 - rate) / np.maximum(counts - 1, 1)) @ weights)
    safe = np.clip(p, 1e-15, 1 - 1e-15)
    intercept, slope = _cox(safe, y) or (None, None)
    return Calibration(
        p.size,
        missing,
        float(((p - y) ** 2).mean()),
        float(-(y * np.log(safe) + (1 - y) * np.log(1 - safe)).mean()),
        reliability,
        reliability - spare if counts.min() > 1 else None,
        float(weights @ (rate - base) ** 2),
        base * (1 - base),
        float(weights @ np.abs(forecast - rate)),
        f"{binning}, {len(counts)} bins",
        intercept,
        slope,
        tuple((float(f), float(r), int(c)) for f, r, c in zip(forecast, rate, counts, strict=True)),
        ZERO_VARIANCE if slope is None else None,
    )


def _bin(p: Floats, bins: int, binning: str) -> np.ndarray:
    """Dense bin codes 0..B-1; empty bins disappear."""
    if binning == "equal width":
        raw = np.minimum((p * bins).astype(np.int64), bins - 1)
    elif binning == "equal mass":
        ranks = np.argsort(np.argsort(p, kind="stable"), kind="stable")
        raw = ranks * bins // p.size
    else:
        raw = p
    return np.asarray(np.unique(raw, return_inverse=True)[1])


def _cox(p: Floats, y: Floats) -> tuple[float, float] | None:
    from peira.stats.ratings import logistic_regression

    logit = np.log(p / (1 - p))
    if np.ptp(logit) < 1e-12 or np.ptp(y) == 0:
        return None
    solved = logistic_regression(np.column_stack([np.ones(p.size), logit]), y, np.ones(p.size))
    return None if solved is None else (float(solved[0][0]), float(solved[0][1]))
