"""How exploitation scales with capability (statistics §3.2 and §6).

Games → model scores (least squares) → regression over MODELS with t(M−2). Utility differences are
unconditional first (no deal at the disagreement payoff), deals only beside it. Invariant: n is the
number of models; a form is refused below its fewest models; a star design is said to hold for its
baseline only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peira.families.negotiation.rows import AXIS_LABELS, Games, Row
from peira.report.analysis import Column, Table
from peira.stats.dyads import (
    DyadicErrors,
    ModelScores,
    capability_slope,
    dyadic_errors,
    model_scores,
)
from peira.stats.result import TOO_FEW_MODELS, Estimate, undefined
from peira.stats.scaling import Comparison, ScalingFit, compare_forms, fit_form, lofo_rmse
from peira.subjects.cards import maker

FEWEST = 6  # models; below it a slope over models says more about chance than about capability
FORMS = ("constant", "linear", "quadratic", "logistic4", "power")
Outcome = Callable[[Row], float | None]


def antisymmetric(row: Row) -> float | None:
    """u_first − u_second, discounted; 0 for no deal at equal disagreement payoffs."""
    return (
        None
        if row.outcome is None
        else float(row.outcome["utility"][0] - row.outcome["utility"][1])
    )


def of_deals(row: Row) -> float | None:
    """The same, of deals only: conditioning on agreement is selection, so never the headline."""
    return antisymmetric(row) if row.deal else None


def in_nash_shares(row: Row) -> float | None:
    """Difference of raw utilities as shares of the Nash point: free of the instance's ceiling."""
    a, b = row.nash_share(0), row.nash_share(1)
    return None if a is None or b is None else a - b


OUTCOMES: tuple[tuple[str, str, Outcome], ...] = (
    ("unconditional", "utility difference, no deal at the disagreement payoff", antisymmetric),
    ("deals_only", "utility difference, deals only", of_deals),
    ("nash_shares", "difference in shares of the Nash point", in_nash_shares),
)


@dataclass(frozen=True)
class Law:
    """One axis, one outcome: model scores, slope, forms, diagnostics."""

    axis: str
    outcome: str
    scores: ModelScores
    x: tuple[float, ...]
    slope: Estimate
    fit: ScalingFit
    forms: Comparison | None
    diagnostics: DyadicErrors | str

    @property
    def star(self) -> bool:
        return self.scores.star

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON form for analysis/scaling.json."""
        diagnostics = self.diagnostics
        return {
            "axis": self.axis, "outcome": self.outcome, "slope": self.slope.to_dict(),
            "models": [
                {"model": m, "capability": x, "score": s}
                for m, x, s in zip(self.scores.models, self.x, self.scores.scores, strict=True)
            ] if self.scores.scores else [],
            "order_effect": self.scores.order, "star_design": self.star,
            "baseline": self.scores.baseline, "linear": self.fit.to_dict(),
            "forms": self.forms.to_dict() if self.forms else None,
            "game_level_errors": diagnostics if isinstance(diagnostics, str) else {
                "slope": diagnostics.slope, "iid": diagnostics.se_iid, "pair": diagnostics.se_pair,
                "two_way": diagnostics.se_two_way, "dyadic": diagnostics.se_dyadic,
                "jackknife": diagnostics.se_jackknife,
            },
        }  # fmt: skip


def dyads(games: Games) -> list[Row]:
    """Games of two different models, of the largest group of models linked by games: scores of
    models that never met, directly or through others, have no common scale."""
    rows = [row for row in games.rows if len(row.models) == 2 and row.models[0] != row.models[1]]
    group = largest_group(rows)
    return [row for row in rows if row.models[0] in group]


def largest_group(rows: Sequence[Row]) -> set[str]:
    """The largest set of models linked by finished games; the first in the alphabet of equals."""
    groups: list[set[str]] = []
    for a, b in sorted({(min(r.models), max(r.models)) for r in rows if r.done}):
        joined = [group for group in groups if group & {a, b}]
        groups = [group for group in groups if not group & {a, b}]
        groups.append({a, b}.union(*joined))
    return max(groups, key=lambda group: (len(group), min(group)), default=set())


def unlike_scales(games: Games) -> bool:
    """Whether instances differ in what all items are worth, so that raw points do not compare."""
    totals = [sum(row) for game in games.done if game.outcome for row in game.outcome["values"]]
    return bool(totals) and max(totals) > 1.05 * min(totals)


def law(games: Games, axis: str, name: str, outcome: Outcome) -> Law | None:
    """Fit one law; None without any game of two different models."""
    rows = dyads(games)
    y = [outcome(row) for row in rows]
    if not any(value is not None for value in y):
        return None
    first, second = [row.models[0] for row in rows], [row.models[1] for row in rows]
    capability = {m: games.on_axis(m, axis) for m in {*first, *second}}
    scores = model_scores(first, second, y)
    x = tuple(capability[m] for m in scores.models)
    enough = not scores.reason and len(x) >= FEWEST
    gaps = np.array([capability[a] - capability[b] for a, b in zip(first, second, strict=True)])
    return Law(
        axis, name, scores, x, _refused_below(capability_slope(first, second, y, capability)),
        fit_form("linear", x, scores.scores) if not scores.reason else fit_form("linear", [], []),
        compare_forms(x, scores.scores, FORMS) if enough else None,
        dyadic_errors(first, second, y, gaps),
    )  # fmt: skip


def _refused_below(slope: Estimate) -> Estimate:
    """The slope, or why there is none: with few models t(M − 2) has hardly any degrees of freedom."""
    if not slope.defined or (slope.n or 0) >= FEWEST:
        return slope
    return undefined(
        TOO_FEW_MODELS, level=slope.level, n=slope.n, n_rows=slope.n_rows, missing=slope.missing,
        method=slope.method, estimand=slope.estimand, flags=slope.flags,
        extra={"order_effect": slope.extra.get("order_effect")},
    )  # fmt: skip


def laws(games: Games) -> list[Law]:
    """Every axis known for all models, every outcome; the first is the headline."""
    if not dyads(games):
        return []
    outcomes = OUTCOMES[::-1] if unlike_scales(games) else OUTCOMES
    if all(row.deal for row in games.done):  # then deals only says the same
        outcomes = tuple(each for each in outcomes if each[0] != "deals_only")
    found = [law(games, axis, name, o) for axis in games.axes for name, _, o in outcomes]
    return [each for each in found if each is not None]


def slopes(found: Sequence[Law]) -> Table:
    """Slopes by axis and outcome."""
    labels = {name: label for name, label, _ in OUTCOMES}
    rows = tuple(
        {
            "axis": AXIS_LABELS.get(each.axis, each.axis), "outcome": labels[each.outcome],
            "slope": each.slope, "p": each.slope.p, "n_models": len(each.x),
            "r2": each.slope.extra.get("r_squared"), "order": each.scores.order,
            "star": "one baseline" if each.star else "",
        }
        for each in found
    )  # fmt: skip
    columns = (Column("axis", "capability axis", kind="text"), Column("outcome", "outcome", kind="text"),
               Column("n_models", "models"), Column("slope", "slope of model scores", digits=3, kind="estimate"),
               Column("p", "p"), Column("r2", "R² over models", digits=2),
               Column("order", "worth of sitting first", digits=2), Column("star", "design", kind="text"))  # fmt: skip
    return Table(
        "scaling", "Scaling law: model scores on capability", columns, rows,
        "Least-squares model scores regressed on capability; t with M - 2 degrees of freedom. The unit is"
        f" the model; no slope below {FEWEST}. One row is the evidence; the others are the same games seen otherwise.",
    )  # fmt: skip


def forms_table(found: Sequence[Law]) -> Table | None:
    """Forms of the headline law side by side; None below six models.

    With the makers of all models known, errors with whole makers left out stand beside.
    """
    head = next((each for each in found if each.forms is not None), None)
    if head is None or head.forms is None:
        return None
    forms = head.forms
    makers = [maker(name) or "" for name in head.scores.models]
    known = all(makers) and len(set(makers)) > 1
    exact = any(fit.exact for fit in forms.fits.values())
    unweighed = "no weights: a form passes through every model" if exact else ""
    rows = tuple(
        {
            "form": name, "n_models": fit.n, "k": fit.k, "aicc": fit.aicc, "weight": forms.weights.get(name),
            "rmse": forms.lomo_rmse.get(name), "r2": fit.r_squared,
            "makers": lofo_rmse(name, head.x, head.scores.scores, makers) if known else None,
            "note": f"refused: {fit.reason.replace('_', ' ')}" if fit.reason
            else unweighed,
        }
        for name, fit in forms.fits.items()
    )  # fmt: skip
    whole = (Column("makers", f"leave-one-maker-out RMSE ({len(set(makers))} makers)", digits=2),)
    columns = (Column("form", "form", kind="text"), Column("n_models", "models"), Column("k", "parameters"),
               Column("aicc", "AICc", digits=2), Column("weight", "Akaike weight", digits=2),
               Column("rmse", "leave-one-model-out RMSE", digits=2), *(whole if known else ()),
               Column("r2", "R²", digits=2), Column("note", "", kind="text"))  # fmt: skip
    said = (
        f"Identified: {forms.identified}." if forms.identified
        else "No form has an Akaike weight above 0.9: the form is not identified."
    )  # fmt: skip
    return Table(
        "forms",
        f"Forms of the scaling law on {AXIS_LABELS.get(head.axis, head.axis)}",
        columns,
        rows,
        said,
    )


def headline(games: Games) -> Estimate:
    """The primary slope, or why there is none."""
    found = laws(games)
    return found[0].slope if found else undefined(TOO_FEW_MODELS, estimand="slope on capability")
