"""Does a scaling relation fitted on older models foretell newer ones?

Invariant: nothing of a newer model reaches the fit. A newer model is held against the limits for a
new model, never against those of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, complete
from peira.stats.result import EMPTY, TOO_FEW_MODELS
from peira.stats.scaling import band, fit_form


@dataclass(frozen=True, slots=True)
class Backtest:
    """Newer models (in the order given) against a form fitted on `older` ones.

    `rmse` is the error of the form, `rmse_of_mean` that of the older models' mean. `low`, `high`
    and `inside` are empty, with a `reason`, where the fit has no limits; all is where there is no fit.
    """

    form: str
    older: int
    newer: int
    missing: int
    predicted: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    inside: tuple[bool, ...] = ()
    extrapolated: tuple[bool, ...] = ()
    rmse: float | None = None
    rmse_of_mean: float | None = None
    level: float = 0.95
    reason: str | None = None


def backtest(
    form: str,
    x: ArrayLike,
    y: ArrayLike | Sequence[float | None],
    newer: ArrayLike,
    level: float = 0.95,
) -> Backtest:
    """Fit one of `FORMS` on the models that are not `newer` (0 or 1 each) and foretell the others.

    Models without x or y are left out and counted. `reason`: `too_few_models` under the form's
    fewest older models, `empty` without a newer one, else the reason of the fit or its limits.
    """
    (at, outcome, late), missing = complete(x=x, y=y, newer=newer)
    new = late != 0
    counts = int((~new).sum()), int(new.sum()), missing
    fit = fit_form(form, at[~new], outcome[~new])
    reason = TOO_FEW_MODELS if fit.reason == EMPTY else fit.reason
    if reason or not new.any():
        return Backtest(form, *counts, level=level, reason=reason or EMPTY)
    told, score = fit.predict(at[new]), outcome[new]
    found = Backtest(
        form,
        *counts,
        predicted=tuple(told.tolist()),
        rmse=_rmse(score - told),
        rmse_of_mean=_rmse(score - outcome[~new].mean()),
        level=level,
    )
    limits = band(fit, at[new], level=level)
    if isinstance(limits, str):
        return replace(found, reason=limits)
    return replace(
        found,
        low=tuple(limits.low.tolist()),
        high=tuple(limits.high.tolist()),
        inside=tuple(((limits.low <= score) & (score <= limits.high)).tolist()),
        extrapolated=tuple(limits.extrapolated.tolist()),
    )


def _rmse(gaps: Floats) -> float:
    return math.sqrt(float(np.mean(gaps**2)))
