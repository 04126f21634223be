"""Adjusting p values of a declared family of hypotheses, and several arms against one control.

Invariant: m counts the hypotheses that were planned. A p value that is missing (a planned test
that could not be run) still counts in m and has no adjusted value of its own. A shared control
makes contrasts correlated: they are never corrected as if they were independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Seed, floats, generator, unit_means
from peira.stats.result import EMPTY, MISSING_ARM, TOO_FEW_UNITS, ZERO_VARIANCE, Estimate, undefined


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Adjusted p values in the order given; None where the p value was missing.

    `m` is the size of the family the correction used, `missing` how many tests were not run.
    """

    p: tuple[float | None, ...]
    adjusted: tuple[float | None, ...]
    m: int
    missing: int
    method: str
    alpha: float = 0.05

    @property
    def rejected(self) -> tuple[bool, ...]:
        """True where the adjusted p is at most alpha."""
        return tuple(q is not None and q <= self.alpha for q in self.adjusted)

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON-safe mapping."""
        return {
            "p": list(self.p),
            "adjusted": list(self.adjusted),
            "m": self.m,
            "missing": self.missing,
            "method": self.method,
            "alpha": self.alpha,
            "rejected": list(self.rejected),
        }


PValues = ArrayLike | Sequence[float | None]


def _adjust(
    p_values: PValues,
    planned: int | None,
    alpha: float,
    method: str,
    rule: Callable[[Floats, int], Floats],
) -> Adjusted:
    """Apply a rule on the sorted observed p values of a family of m hypotheses."""
    p = floats(p_values).reshape(-1)
    seen = np.isfinite(p)
    if ((p[seen] < 0) | (p[seen] > 1)).any():
        raise ValueError("p values must lie in [0, 1]")
    m = p.size if planned is None else planned
    if m < seen.sum():
        raise ValueError(f"planned is {m}, but {int(seen.sum())} p values were given")
    adjusted = np.full(p.size, np.nan)
    if seen.any():
        observed = p[seen]
        order = np.argsort(observed, kind="stable")
        ranked = np.empty(observed.size)
        ranked[order] = np.minimum(1.0, rule(observed[order], m))
        adjusted[seen] = ranked
    return Adjusted(_optional(p), _optional(adjusted), m, m - int(seen.sum()), method, alpha)


def _optional(values: Floats) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)


def holm(p_values: PValues, planned: int | None = None, alpha: float = 0.05) -> Adjusted:
    """Holm's step-down adjustment: familywise error under any dependence.

    `planned` is the size of the family when it is larger than the list (tests never run).
    """

    def rule(p: Floats, m: int) -> Floats:
        return np.maximum.accumulate((m - np.arange(p.size)) * p)

    return _adjust(p_values, planned, alpha, "Holm", rule)


def _step_up(p: Floats, factors: Floats) -> Floats:
    """Running minimum from the largest p down. The other direction is a classic fault."""
    return np.minimum.accumulate((factors * p)[::-1])[::-1]


def hochberg(p_values: PValues, planned: int | None = None, alpha: float = 0.05) -> Adjusted:
    """Hochberg's step-up adjustment: familywise error under positive dependence (PRDS).

    Tests not run count as p = 1.
    """

    def rule(p: Floats, m: int) -> Floats:
        full = np.concatenate([p, np.ones(m - p.size)])
        return _step_up(full, np.arange(m, 0, -1.0))[: p.size]

    return _adjust(p_values, planned, alpha, "Hochberg", rule)


def hommel(p_values: PValues, planned: int | None = None, alpha: float = 0.05) -> Adjusted:
    """Hommel's adjustment: familywise error under positive dependence, sharper than Hochberg.

    Tests not run count as p = 1. Source: Hommel 1988, as the closed Simes procedure.
    """

    def rule(p: Floats, m: int) -> Floats:
        full = np.concatenate([p, np.ones(m - p.size)])
        adjusted = full.copy()
        for size in range(m, 1, -1):
            cut = m - size + 1
            tail = size * full[cut:] / np.arange(2, size + 1)
            simes = float(tail.min())
            adjusted[cut:] = np.maximum(adjusted[cut:], simes)
            head = np.minimum(simes, size * full[:cut])
            adjusted[:cut] = np.maximum(adjusted[:cut], head)
        return adjusted[: p.size]

    return _adjust(p_values, planned, alpha, "Hommel", rule)


def bonferroni(p_values: PValues, planned: int | None = None, alpha: float = 0.05) -> Adjusted:
    """Bonferroni: each p times m."""
    return _adjust(p_values, planned, alpha, "Bonferroni", lambda p, m: m * p)


def benjamini_hochberg(
    p_values: PValues, planned: int | None = None, alpha: float = 0.05
) -> Adjusted:
    """Benjamini-Hochberg: false discovery rate under independence or PRDS."""

    def rule(p: Floats, m: int) -> Floats:
        return _step_up(p, m / np.arange(1.0, p.size + 1))

    return _adjust(p_values, planned, alpha, "Benjamini-Hochberg", rule)


def benjamini_yekutieli(
    p_values: PValues, planned: int | None = None, alpha: float = 0.05
) -> Adjusted:
    """Benjamini-Yekutieli: false discovery rate under any dependence."""

    def rule(p: Floats, m: int) -> Floats:
        harmonic = float((1 / np.arange(1.0, m + 1)).sum())
        return _step_up(p, harmonic * m / np.arange(1.0, p.size + 1))

    return _adjust(p_values, planned, alpha, "Benjamini-Yekutieli", rule)


def dunnett(
    treatments: Mapping[str, ArrayLike | Sequence[float | None]],
    control: ArrayLike | Sequence[float | None],
    *,
    seed: Seed,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Dunnett's single-step test of independent arms, simultaneous intervals.

    Difference of means, treatment - control; p and limits adjusted over all treatments. The
    multivariate t is integrated by quasi-Monte Carlo from `seed`.
    """
    from scipy.stats import dunnett as library

    arms = {name: unit_means(values)[0] for name, values in treatments.items()}
    base = unit_means(control)[0]
    if not arms:
        return {}
    seen = {name: a[np.isfinite(a)] for name, a in arms.items()}
    baseline = base[np.isfinite(base)]
    missing = sum(a.size for a in (*arms.values(), base))
    missing -= sum(a.size for a in (*seen.values(), baseline))
    everything = [baseline, *seen.values()]
    reason = _why_no_contrast(everything)
    about: dict[str, Any] = {
        "level": level,
        "missing": missing,
        "method": "Dunnett single step",
        "estimand": "difference of means, treatment - control",
    }
    if reason:
        return {name: undefined(reason, n=a.size, **about) for name, a in seen.items()}
    result: Any = library(*seen.values(), control=baseline, rng=generator(seed))
    limits: Any = result.confidence_interval(level)
    return {
        name: Estimate(
            float(a.mean() - baseline.mean()),
            float(limits.low[i]),
            float(limits.high[i]),
            p=min(1.0, max(float(result.pvalue[i]), 1e-12)),
            n=a.size + baseline.size,
            extra={"t": float(result.statistic[i])},
            **about,
        )
        for i, (name, a) in enumerate(seen.items())
    }


def _why_no_contrast(arms: Sequence[np.ndarray]) -> str | None:
    if not any(a.size for a in arms):
        return EMPTY
    if any(a.size == 0 for a in arms):
        return MISSING_ARM
    if any(a.size < 2 for a in arms):
        return TOO_FEW_UNITS
    return ZERO_VARIANCE if all(np.ptp(a) == 0 for a in arms) else None
