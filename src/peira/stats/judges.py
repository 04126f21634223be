"""Rates measured by an imperfect judge, put right with human labels.

Invariant: the judge's own error is propagated; a judge no better than chance gives no estimate.
Sources: Rogan & Gladen 1978; Angelopoulos et al. 2023 (prediction-powered inference).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from peira.stats._arrays import check_level, complete
from peira.stats.intervals import check_share, from_normal, normal_quantile
from peira.stats.result import (
    EMPTY,
    NOT_IDENTIFIED,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def rogan_gladen(
    judged: tuple[int, int],
    sensitivity: tuple[int, int],
    specificity: tuple[int, int],
    *,
    level: float = 0.95,
) -> Estimate:
    """True rate from the judge's rate: (rate + specificity - 1)/(sensitivity + specificity - 1).

    Each argument is (hits, n): passes the judge gave; true passes it passed; true failures it
    failed. Delta-method limits, kept within [0, 1]; no estimate when they lie outside of it.
    """
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": judged[1],
        "method": "Rogan-Gladen, delta method",
        "estimand": "true pass rate",
    }
    for hits, n in (judged, sensitivity, specificity):
        check_share(hits, n)
    if min(judged[1], sensitivity[1], specificity[1]) == 0:
        return undefined(EMPTY, **about)
    rate, se, sp = (hits / n for hits, n in (judged, sensitivity, specificity))
    youden = se + sp - 1
    if youden <= 0:
        return undefined(NOT_IDENTIFIED, extra={"youden": youden}, **about)
    true = (rate + sp - 1) / youden
    # Agresti-Coull-like shares keep the variance away from zero at 0 of n and n of n.
    spreads = [_variance(*pair) for pair in (judged, sensitivity, specificity)]
    variance = (spreads[0] + true**2 * spreads[1] + (1 - true) ** 2 * spreads[2]) / youden**2
    half = normal_quantile(level) * math.sqrt(variance)
    if true + half <= 0 or true - half >= 1:  # the judge cannot err as it is said to
        return undefined(NOT_IDENTIFIED, extra={"unclipped": true, "youden": youden}, **about)
    flags = () if 0 <= true <= 1 else ("estimate_clipped",)
    return Estimate(
        min(1.0, max(0.0, true)),
        min(1.0, max(0.0, true - half)),
        min(1.0, max(0.0, true + half)),
        se=math.sqrt(variance),
        flags=flags,
        extra={"unclipped": true, "youden": youden},
        **about,
    )


def _variance(hits: int, n: int) -> float:
    share = (hits + 1) / (n + 2)
    return share * (1 - share) / n


def prediction_powered_mean(
    judged: ArrayLike | Sequence[float | None],
    judged_labelled: ArrayLike,
    human_labelled: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Mean human score from many judged items and a few that have both scores.

    mean(judge, all) + mean(human - judge, labelled): unbiased however bad the judge, and the
    better the judge the narrower. `judged` are the items without a human label.
    """
    (wide,), lost = complete(judged=judged)
    (few, human), unlabelled = complete(
        judged_labelled=judged_labelled, human_labelled=human_labelled
    )
    gap = human - few
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": gap.size,
        "n_rows": wide.size + gap.size,
        "missing": lost + unlabelled,
        "method": "prediction-powered mean, normal",
        "estimand": "mean human score",
    }
    if gap.size < 2 or wide.size < 2:
        return undefined(TOO_FEW_UNITS if gap.size + wide.size else EMPTY, **about)
    base = Estimate(float(wide.mean() + gap.mean()), **about)
    variance = float(wide.var(ddof=1) / wide.size + gap.var(ddof=1) / gap.size)
    return from_normal(base, math.sqrt(variance)) if variance else base.with_(reason=ZERO_VARIANCE)
