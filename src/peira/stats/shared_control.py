"""Several treatments against one shared control.

Invariant: the shared control makes the contrasts correlated; they are never corrected as if
they were independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Seed, generator, unit_means
from peira.stats.result import EMPTY, MISSING_ARM, TOO_FEW_UNITS, ZERO_VARIANCE, Estimate, undefined


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
    reason = _why_not(everything)
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


def _why_not(arms: Sequence[np.ndarray]) -> str | None:
    if not any(a.size for a in arms):
        return EMPTY
    if any(a.size == 0 for a in arms):
        return MISSING_ARM
    if any(a.size < 2 for a in arms):
        return TOO_FEW_UNITS
    return ZERO_VARIANCE if all(np.ptp(a) == 0 for a in arms) else None
