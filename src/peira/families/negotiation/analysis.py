"""The analysis of a run: what the tables say, the findings, the answer in one sentence.

Order of business: are all games there (run counts, parsing), what came out by cell (raw and
normalised), who exploits whom with the seat taken out, does it scale with capability, how long and
how dear, how they behaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peira.families.negotiation import (
    cell_tables,
    group_tables,
    model_tables,
    model_views,
    scaling_law,
)
from peira.families.negotiation.backtest import backtest_table, newer_models
from peira.families.negotiation.behaviour_table import behaviours, table_of, words_of
from peira.families.negotiation.judging import agreement_table, ratings_table
from peira.families.negotiation.rows import AXIS_LABELS, Games, Row, games_of
from peira.families.negotiation.scaling_law import Law
from peira.report.analysis import Analysis, Finding, Table
from peira.stats.paired import paired_difference
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
        tables=tuple(_tables(run, games, laws, seen)),
        findings=findings,
        notes=tuple(_notes(games, laws)),
        files=_files(games, laws, seen),
    )


def _tables(run: RunView, games: Games, laws: Sequence[Law], seen: Any) -> list[Table]:
    tables: list[Table | None] = []
    if not games.dyadic:
        tables += [group_tables.rules_table(games)]
    if games.pairs:
        tables += [cell_tables.by_level(games)]
    else:
        tables += [group_tables.seats_table(games)]
    if laws and laws[0].slope.defined:
        tables += [scaling_law.slopes(laws), scaling_law.forms_table(laws),
                   model_views.views_table(games, laws[0])]  # fmt: skip
    if laws:
        newer = newer_models(run.study, games.models)
        tables += [backtest_table(games, laws[0], newer), model_views.relations_table(games)]
    if games.pairs:
        tables += [
            cell_tables.cells(games), cell_tables.normalised(games), cell_tables.positions(games),
            cell_tables.exploitation_table(games), model_tables.order_effects(games),
        ]  # fmt: skip
    if not games.dyadic:
        tables += [group_tables.seats_table(games)] if games.pairs else []
        tables.append(group_tables.coalitions(games))
    tables += [
        model_tables.convergence(games), table_of(seen), words_of(seen), ratings_table(games),
        agreement_table(run, games, seen), model_tables.tokens(games), model_tables.parsing(games),
        cell_tables.run_counts(games),
    ]  # fmt: skip
    return [table for table in tables if table is not None and table.rows]


def _findings(games: Games, laws: Sequence[Law]) -> list[Finding]:
    found = [] if games.dyadic else list(group_tables.findings(games))
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
            estimate = cell_tables.mean_of(games.of(pair), Row.difference, "strong - weak")
            found.append(Finding(
                f"difference_{pair[0]}_{pair[1]}",
                f"Utility of {pair[1]} less that of {pair[0]}, {seated}.",
                estimate, unit="instance",
            ))  # fmt: skip
        found += _size_finding(games)
    return found


def _size_finding(games: Games) -> list[Finding]:
    """Three or four opponents of one baseline: the strongest against the weakest of them."""
    if not 3 <= len(games.pairs) <= 4 or len({strong for _, strong in games.pairs}) != 1:
        return []
    ends = games.pairs[0], games.pairs[-1]
    by_block = [cell_tables.by_instance(games.of(pair), Row.difference) for pair in ends]
    shared = [block for block in by_block[0] if block in by_block[1]]
    if len(shared) < 2:
        return []
    weakest, strongest = ([found[block] for block in shared] for found in by_block)
    return [Finding(
        "opponents", f"Gap to {ends[0][1]}: of {ends[1][0]} less of {ends[0][0]}, the same instances.",
        paired_difference(strongest, weakest, seed=model_tables.SEED), unit="instance",
    )]  # fmt: skip


def _answer(games: Games, laws: Sequence[Law], findings: Sequence[Finding]) -> str:
    if len(games.done) == 1:
        return _single(games.done[0])
    if laws and laws[0].slope.defined:
        said = _slope_sentence(laws[0])
    elif games.pairs:
        said = _pairs_sentence(games, findings)
    else:
        return group_tables.answer(games, findings) + _deals_sentence(games)
    return said + _seat_sentence(findings) + _deals_sentence(games)


def _pairs_sentence(games: Games, findings: Sequence[Finding]) -> str:
    """The answer of few models: each pair where they are few, else all together."""
    told = [f for f in findings if f.name.startswith("difference_") and f.estimate.low is not None]
    if told:
        said = "; ".join(f"{f.claim[:-1]}: {_told(f.estimate)} points" for f in told)
        return f"{said} ({told[0].estimate.n} instances)."
    rows = [row for row in games.rows if row.pair]
    found = cell_tables.mean_of(rows, Row.difference, "strong - weak")
    if found.low is None:
        return f"{len(games.done)} games of {len(games.pairs)} pairs were finished."
    return (
        f"Utility of the stronger less that of the weaker model, over {len(games.pairs)} pairs:"
        f" {_told(found)} points over {found.n} instances."
    )


def _seat_sentence(findings: Sequence[Finding]) -> str:
    seat = next((f.estimate for f in findings if f.name == "seat_effect"), None)
    if seat is None or seat.low is None or seat.high is None:
        return ""
    verdict = "changes" if seat.low > 0 or seat.high < 0 else "has no clear effect on"
    return f" Sitting first {verdict} a model's utility: {_told(seat)} points."


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
    scores = laws[0].scores if laws else None
    unlinked = sorted(played - {*scores.models, scores.baseline}) if scores else []
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
