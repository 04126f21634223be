"""The scaling law fitted on older models and held against newer ones (statistics §6).

Which models are newer is said by the study: `analysis: {backtest: {newer: [MODEL, …]}}`. Invariant:
the older models' scores come from games among them alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from peira.errors import InputError
from peira.families.negotiation.rows import AXIS_LABELS, Games
from peira.families.negotiation.scaling_law import OUTCOMES, Law, dyads
from peira.report.analysis import Column, Table
from peira.stats.dyads import ModelScores, model_scores
from peira.stats.result import REASONS, Estimate, undefined
from peira.stats.scaling_backtest import backtest
from peira.study.study import Study

FORM = "linear"


def newer_models(study: Study, models: Collection[str]) -> tuple[str, ...]:
    """The models that the study calls newer; none without the setting.

    Raises:
        InputError: it is no list of names, or a name is no model of the study.
    """
    if (asked := study.analysis.get("backtest")) is None:
        return ()
    names = asked.get("newer") if isinstance(asked, Mapping) else None
    allowed = f"allowed: {{newer: [MODEL, …]}} of {', '.join(sorted(models))}"
    if not isinstance(names, list) or not names or len(asked) > 1:
        raise InputError(f"analysis.backtest: {asked!r}\n  {allowed}")
    if strange := [name for name in names if name not in models]:
        raise InputError(f"analysis.backtest.newer: no model {strange[0]!r} here\n  {allowed}")
    return tuple(names)


def backtest_table(games: Games, law: Law, newer: Sequence[str]) -> Table | None:
    """Each newer model's score beside what the older ones foretold; None without the setting."""
    if not newer:
        return None
    rows = dyads(games)
    among = [row for row in rows if not set(row.models) & set(newer)]
    outcome = next(each for name, _, each in OUTCOMES if name == law.outcome)
    old, every = (
        model_scores([r.models[0] for r in some], [r.models[1] for r in some], [outcome(r) for r in some])
        for some in (among, rows)
    )  # fmt: skip
    scores = _on_one_scale(old, every, newer)
    models = [name for name in law.scores.models if name in scores]
    x = [games.on_axis(name, law.axis) for name in models]
    late = [name in newer for name in models]
    found = backtest(FORM, x, [scores[name] for name in models], late)
    cells = tuple(
        {
            "model": name, "capability": games.on_axis(name, law.axis), "score": scores[name],
            "foretold": _foretold(found.predicted, found.low, found.high, at, found.older, found.reason),
            "inside": "" if not found.inside else "yes" if found.inside[at] else "no",
            "beyond": "yes" if found.extrapolated and found.extrapolated[at] else "",
        }
        for at, name in enumerate(n for n in models if n in newer)
    )  # fmt: skip
    columns = (Column("model", "newer model", kind="text"), Column("capability", "capability", digits=2),
               Column("score", "its score", digits=2),
               Column("foretold", "foretold, 95 % limits for a new model", digits=2, kind="estimate"),
               Column("inside", "inside", kind="text"), Column("beyond", "beyond the older models' range", kind="text"))  # fmt: skip
    said = (
        f"No backtest: {REASONS[found.reason]}." if found.rmse is None and found.reason
        else f"A line through the {found.older} older models' scores misses the newer by {found.rmse:.2f}"
        f" (RMSE), their mean by {found.rmse_of_mean:.2f}."
    )  # fmt: skip
    return Table(
        "backtest", f"Older models foretell newer ones on {AXIS_LABELS.get(law.axis, law.axis)}",
        columns, cells,
        f"{said} Older scores come from games among older models; all stand against the older models' mean.",
    )  # fmt: skip


def _on_one_scale(old: ModelScores, every: ModelScores, newer: Sequence[str]) -> dict[str, float]:
    """Older models' scores among themselves, newer ones' from all games, less the older mean."""
    if every.reason:
        return {}
    whole = dict(zip(every.models, every.scores, strict=True))
    known = {} if old.reason else dict(zip(old.models, old.scores, strict=True))
    centre = np.mean([whole[name] for name in known]) if known else 0.0
    return known | {name: float(whole[name] - centre) for name in newer if name in whole}


def _foretold(
    predicted: Sequence[float], low: Sequence[float], high: Sequence[float], at: int, n: int,
    reason: str | None,
) -> Estimate:  # fmt: skip
    told = "score foretold by the older models"
    if not predicted:
        return undefined(reason or "empty", n=n, estimand=told)
    return Estimate(
        predicted[at],
        low[at] if low else None,
        high[at] if high else None,
        n=n,
        method=f"{FORM} fit, t, new model",
        estimand=told,
        reason=reason,
    )
