"""Time to an event that may not come: Kaplan-Meier.

Invariant: what did not happen by the end is censored, never dropped and never given the last
round as its time; a median that the curve does not reach is None, with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, check_level, complete, passes
from peira.stats.intervals import normal_quantile
from peira.stats.result import EMPTY, NOT_REACHED, Estimate, undefined


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """Share still without the event after each event time, with log-log limits.

    Limits are None (NaN in the arrays is never used) where they are undefined: at 0.
    """

    time: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_risk: tuple[int, ...]
    events: tuple[int, ...]
    level: float
    n: int
    missing: int
    median: Estimate
    reason: str | None = None


def kaplan_meier(
    time: ArrayLike | Sequence[float | None],
    happened: ArrayLike | Sequence[bool | None],
    level: float = 0.95,
) -> SurvivalCurve:
    """Kaplan-Meier curve, for instance of rounds to agreement (no deal = censored).

    Variance by Greenwood, limits on the log(-log) scale (Kalbfleisch & Prentice); the median's
    limits invert them (Brookmeyer & Crowley 1982).
    """
    (t, marks), missing = complete(time=time, happened=passes(happened))
    event = marks > 0
    check_level(level)
    if not t.size:
        nothing = undefined(EMPTY, missing=missing, estimand="median time to the event")
        return SurvivalCurve((), (), (), (), (), (), level, 0, missing, nothing, EMPTY)
    times = np.unique(t[event])
    at_risk = np.array([int((t >= s).sum()) for s in times])
    events = np.array([int((event & (t == s)).sum()) for s in times])
    survival = np.cumprod(1 - events / at_risk) if times.size else np.zeros(0)
    low, high = _limits(survival, at_risk, events, normal_quantile(level))
    return SurvivalCurve(
        tuple(times.tolist()),
        tuple(survival.tolist()),
        low,
        high,
        tuple(at_risk.tolist()),
        tuple(events.tolist()),
        level,
        t.size,
        missing,
        _median(times, survival, (low, high), (level, t.size, missing)),
    )


Sides = tuple[float | None, ...]


def _limits(
    survival: Floats, at_risk: np.ndarray, events: np.ndarray, z: float
) -> tuple[Sides, Sides]:
    low: list[float | None] = []
    high: list[float | None] = []
    greenwood = 0.0
    for s, n, d in zip(survival.tolist(), at_risk.tolist(), events.tolist(), strict=True):
        if n == d or s <= 0:
            low.append(None)
            high.append(None)
            continue
        greenwood += d / (n * (n - d))
        width = math.exp(z * math.sqrt(greenwood) / abs(math.log(s)))
        low.append(s**width)
        high.append(s ** (1 / width))
    return tuple(low), tuple(high)


def _median(
    times: Floats, survival: Floats, limits: tuple[Sides, Sides], about: tuple[float, int, int]
) -> Estimate:
    level, n, missing = about
    told: dict[str, Any] = {
        "level": level,
        "n": n,
        "missing": missing,
        "method": "Kaplan-Meier, Brookmeyer-Crowley",
        "estimand": "median time to the event",
    }
    below = np.flatnonzero(survival <= 0.5 + 1e-12)
    if not below.size:
        return undefined(NOT_REACHED, **told)

    def first(side: Sides) -> float | None:
        hits = [t for t, s in zip(times.tolist(), side, strict=True) if s is None or s <= 0.5]
        return hits[0] if hits else None

    low, high = first(limits[0]), first(limits[1])
    flags = ("one_sided_interval",) if high is None else ()
    return Estimate(float(times[below[0]]), low, high, flags=flags, **told)
