"""The analysis of a run: what the tables say, the findings, the answer in one sentence.

Order of business: are all games there (run counts, parsing), what came out by cell (raw and
normalised), who exploits whom with the seat taken out, does it scale with capability, how long and
how dear, how they behaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peira.families.negotiation import cell_tables, model_tables, model_views, scaling_law
from peira.families.negotiation.behaviour_table import behaviours, table_of
from peira.families.negotiation.judging import agreement_table, ratings_table
from peira.families.negotiation.rows import AXIS_LABELS, Games, Row, games_of
from peira.families.negotiation.scaling_law import Law
from peira.report.analysis import Analysis, Finding, Table
from peira.stats.result import Estimate

if TYPE_CHECKING:
    from peira.store.records import RunView


def analyse(run: RunView) -> Analysis:
    """Tables, findings and files of a run."""
    games = games_of(run)
    if not games.done:
        return Analysis("No game was finished, so there is nothing to say yet.")
    laws = scaling_law.laws(games)
    seen = behaviours(run, games)
    findings = tuple(_findings(games, laws))
    return Analysis(
        answer=_answer(games, laws, findings),
        tables=tuple(table for table in _tables(run, games, laws, seen) if table.rows),
        findings=findings,
        notes=tuple(_notes(games, laws)),
        files=_files(games, laws, seen),
    )


def _tables(run: RunView, games: Games, laws: Sequence[Law], seen: Any) -> list[Table]:
    tables = []
    if games.pairs:
        tables += [
            cell_tables.by_level(games), cell_tables.cells(games), cell_tables.normalised(games),
            cell_tables.exploitation_table(games), model_tables.order_effects(games),
        ]  # fmt: skip
    if laws:
        tables.append(scaling_law.slopes(laws))
        forms = scaling_law.forms_table(laws)
        tables += [forms] if forms else []
        if laws[0].slope.defined:
            tables.append(model_views.views_table(games, laws[0]))
        relations = model_views.relations_table(games)
        tables += [relations] if relations else []
    if not games.dyadic or not games.pairs:
        tables.append(model_tables.seats_table(games))
    if not games.dyadic:
        tables.append(model_tables.coalitions(games))
    tables += [model_tables.convergence(games), table_of(seen), model_tables.tokens(games)]
    tables += [
        t for t in (ratings_table(games), agreement_table(run, games, seen)) if t is not None
    ]
    tables.append(model_tables.parsing(games))
    return [*tables, cell_tables.run_counts(games)]


def _findings(games: Games, laws: Sequence[Law]) -> list[Finding]:
    found = []
    labels = {name: label for name, label, _ in scaling_law.OUTCOMES}
    for each in (law for law in laws if law.slope.defined):
        star = "; conditional on the one baseline" if each.star else ""
        found.append(Finding(
            f"scaling_{each.axis}_{each.outcome}",
            f"Slope of model scores ({labels[each.outcome]}) on {AXIS_LABELS.get(each.axis, each.axis)}{star}.",
            each.slope, unit="model",
        ))  # fmt: skip
    if games.pairs:
        rows = [row for row in games.rows if row.pair]
        seated = "both seat orders averaged" if games.swapped else "seats as they were"
        if games.swapped:
            found.append(Finding(
                "seat_effect", "Utility gained by sitting first, whoever sits there, paired over instances.",
                model_tables.seat_effect(rows), unit="instance",
            ))  # fmt: skip
        for pair in games.pairs if len(games.pairs) <= 4 else ():
            estimate = cell_tables.mean_of(
                games.of(pair), lambda row: row.difference(), "strong - weak"
            )
            found.append(Finding(
                f"difference_{pair[0]}_{pair[1]}",
                f"Utility of {pair[1]} less that of {pair[0]}, {seated}.",
                estimate, unit="instance",
            ))  # fmt: skip
    return found


def _answer(games: Games, laws: Sequence[Law], findings: Sequence[Finding]) -> str:
    if laws and laws[0].slope.defined:
        return _slope_sentence(laws[0]) + _deals_sentence(games)
    if len(games.pairs) > 1:
        return _pairs_sentence(games) + _deals_sentence(games)
    pair = next((f for f in findings if f.name.startswith("difference_")), None)
    if pair is not None and pair.estimate.defined:
        return (
            f"{pair.claim[:-1]}: {_told(pair.estimate)} points over {pair.estimate.n} instances."
            + (_deals_sentence(games))
        )
    if len(games.done) == 1:
        return _single(games.done[0])
    return f"{len(games.done)} games were finished." + _deals_sentence(games)


def _pairs_sentence(games: Games) -> str:
    """The answer over several pairs, too few models for a slope."""
    rows = [row for row in games.rows if row.pair]
    found = cell_tables.mean_of(rows, lambda row: row.difference(), "strong - weak")
    if found.low is None:
        return f"{len(games.done)} games of {len(games.pairs)} pairs were finished."
    return (
        f"Utility of the stronger less that of the weaker model, over {len(games.pairs)} pairs:"
        f" {_told(found)} points over {found.n} instances."
    )


def _single(row: Row) -> str:
    """The answer of a run of one game."""
    assert row.outcome is not None
    paid = ", ".join(
        f"{m} {u:.1f}" for m, u in zip(row.models, row.outcome["utility"], strict=True)
    )
    how = f"a deal in round {row.outcome['final_round']}" if row.deal else "no deal"
    return f"One game, {how}: {paid} points. One game says nothing about the models."


def _slope_sentence(head: Law) -> str:
    slope = head.slope
    unit, factor = {"mmlu_pro": ("10 points of MMLU-Pro", 10.0), "arena_elo": ("100 Elo", 100.0),
                    "skill": ("0.1 of planted skill", 0.1)}.get(head.axis, ("one unit of capability", 1.0))  # fmt: skip
    assert slope.estimate is not None and slope.low is not None and slope.high is not None
    low, high = sorted((factor * slope.low, factor * slope.high))
    shares = head.outcome == "nash_shares"
    digits, what = (
        (2, "Nash shares of difference") if shares else (1, "points of utility difference")
    )
    said = f"{factor * slope.estimate:+.{digits}f} {what} [{low:+.{digits}f}, {high:+.{digits}f}]"
    star = ", against this one baseline" if head.star else ""
    verdict = "is worth" if slope.low > 0 or slope.high < 0 else "has no clear effect:"
    return f"A gap of {unit} {verdict} {said}{star} ({slope.n} models, {slope.n_rows} games, 95 % t interval)."


def _deals_sentence(games: Games) -> str:
    rate = cell_tables.rate_of(games.rows)
    return f" {(rate.estimate or 0.0):.0%} of {rate.n} games ended in a deal."


def _told(value: Estimate) -> str:
    return f"{value.estimate:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"


def _notes(games: Games, laws: Sequence[Law]) -> list[str]:
    notes = []
    missing = [row for row in games.rows if not row.done]
    if missing:
        notes.append(f"{len(missing)} of {len(games.rows)} planned games have no outcome; they count as"
                     " missing, never as no deal.")  # fmt: skip
    played = {model for row in games.rows if row.pair for model in row.models}
    unlinked = sorted(played - set(laws[0].scores.models)) if laws else []
    if unlinked:
        notes.append(f"Scaling uses the {len(laws[0].x)} models linked by games; not linked to them:"
                     f" {', '.join(unlinked)}.")  # fmt: skip
    if scaling_law.unlike_scales(games):
        notes.append("Instances differ in what all items are worth together: compare shares of the Nash"
                     " point, not points.")  # fmt: skip
    if laws and laws[0].star:
        notes.append("One model takes part in every game: every claim is conditional on it.")
    if laws and laws[0].forms is None:
        notes.append(f"{len(laws[0].x)} models: no slope or form is fitted below six.")
    if not games.axes:
        notes.append("No capability score is known for every model, so no scaling law is fitted:"
                     " state scores under `subjects`.")  # fmt: skip
    if games.pairs and not games.swapped:
        notes.append(
            "No instance was played in both seat orders: model and seat cannot be told apart."
        )
    cut = [row for row in games.done if not row.deal]
    if cut:
        notes.append(f"{len(cut)} games ended without a deal and count as the disagreement payoff;"
                     " deals-only columns leave them out, which selects.")  # fmt: skip
    return notes


def _files(games: Games, laws: Sequence[Law], seen: Any) -> dict[str, Any]:
    files: dict[str, Any] = {"scaling.json": [each.to_dict() for each in laws]} if laws else {}
    quotes = [said.to_dict() | {"trial": slug, "model": model}
              for slug, model, behaviour in seen for said in behaviour.claims]  # fmt: skip
    if quotes and not games.simulated:
        files["claims.json"] = quotes
    return files
