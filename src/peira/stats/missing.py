"""What lost outcomes may do to a paired comparison.

Invariant: missing is data. A comparison on complete pairs comes with the bounds it could have
taken had the lost outcomes been the best or the worst, and a test of whether the arms lose
alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Labels, floats, same_length
from peira.stats.mcnemar import paired_binary
from peira.stats.result import EMPTY, MISSING_ARM, Estimate, undefined


def differential_loss(
    treatment: ArrayLike | Sequence[float | None], control: ArrayLike | Sequence[float | None]
) -> Estimate:
    """Difference of loss rates, treatment - control, over paired units (mid-p McNemar, Tango)."""
    t, c = np.isnan(floats(treatment)), np.isnan(floats(control))
    same_length(treatment=t, control=c)
    result = paired_binary(int((t & ~c).sum()), int((c & ~t).sum()), t.size)
    return result.with_(estimand="difference of loss rates over units, treatment - control")


def missing_bounds(
    treatment: ArrayLike | Sequence[float | None],
    control: ArrayLike | Sequence[float | None],
    score_range: tuple[float, float],
) -> Estimate:
    """Mean difference over all units with lost scores at their worst and best (Manski bounds).

    `low` and `high` are bounds, not a confidence interval; the estimate is that of complete
    pairs. Every planned unit must have an entry, None where its score was lost.
    """
    t, c = floats(treatment), floats(control)
    same_length(treatment=t, control=c)
    worst, best = min(score_range), max(score_range)
    given = np.concatenate([t, c])
    if not (math.isfinite(best - worst) and worst <= np.nanmin(given, initial=worst)
            and np.nanmax(given, initial=best) <= best):  # fmt: skip
        raise ValueError(f"scores must lie within the stated range {score_range}")
    both = np.isfinite(t) & np.isfinite(c)
    about: dict[str, Any] = {
        "n": t.size,
        "missing": int((~both).sum()),
        "method": "worst and best case of lost scores (bounds)",
        "estimand": "mean difference over all planned units, treatment - control",
    }
    if not t.size:
        return undefined(EMPTY, **about)

    def mean(lost_treatment: float, lost_control: float) -> float:
        filled = np.where(np.isnan(t), lost_treatment, t) - np.where(np.isnan(c), lost_control, c)
        return float(filled.mean())

    low, high = mean(worst, best), mean(best, worst)
    estimate = float((t - c)[both].mean()) if both.any() else None
    reason = None if both.any() else MISSING_ARM
    return Estimate(estimate, low, high, reason=reason, flags=("bounds",), **about)


def deal_outcomes(
    utility: ArrayLike | Sequence[float | None],
    deal: ArrayLike | Sequence[bool | None],
    disagreement: float = 0.0,
    cluster: Labels | None = None,
) -> dict[str, Estimate]:
    """Deal rate, utility over all games (no deal pays `disagreement`), and utility given a deal.

    The last is a decomposition, never to be shown alone: agreement comes after treatment.
    """
    from peira.stats.intervals import mean_interval, wilson

    made, value = floats(deal), floats(utility)
    same_length(utility=value, deal=made)
    seen = np.isfinite(made)
    unconditional = np.where(made == 1, value, disagreement)
    unconditional[~seen] = np.nan
    given = np.where(made == 1, value, np.nan)
    rate = (
        wilson(int((made == 1).sum()), int(seen.sum()))
        if cluster is None
        else mean_interval(made, cluster)
    )
    no_deals = int((seen & (made == 0)).sum())
    conditional = mean_interval(given, cluster)
    return {
        "deal_rate": rate.with_(missing=int((~seen).sum()), estimand="share of games with a deal"),
        "utility": mean_interval(unconditional, cluster).with_(
            estimand="mean utility over all games, no deal at the disagreement payoff"
        ),
        "utility_given_deal": conditional.with_(
            missing=conditional.missing - no_deals,
            estimand="mean utility given a deal (a decomposition, not an effect)",
            flags=(*conditional.flags, "conditional_on_deal"),
        ),
    }
