"""Tables by model and seat: order effects, tokens, parser counts, rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peira.families.negotiation.cell_tables import PAIR, by_order, known_mean, mean_of_blocks, means
from peira.families.negotiation.cell_tables import rounds as rounds_to_deal
from peira.families.negotiation.outcome import COUNTS
from peira.families.negotiation.rows import Games, Row, totals
from peira.families.negotiation.settings import PHASES
from peira.report.analysis import Column, Table
from peira.stats.intervals import mean_interval, wilson
from peira.stats.paired import paired_difference
from peira.stats.result import Estimate, undefined

SEED = 20261121  # of the sign-flip and bootstrap draws, so that a report is the same each time


# -- order effects ---------------------------------------------------------------------------
def swaps(rows: Sequence[Row]) -> list[tuple[Any, float | None, float | None]]:
    """Each instance with strong − weak when strong sits first, and when weak does (means over
    repetitions; None where an order has no finished game)."""
    found = means(rows, Row.difference, by_order)
    return [
        (block, found.get((block, "strong_first")), found.get((block, "weak_first")))
        for block in dict.fromkeys(row.block for row in rows)
    ]


def seat_effect(rows: Sequence[Row]) -> Estimate:
    """What sitting first is worth to a model: half the change of strong − weak when strong moves to
    seat 1. Paired within an instance; pairs of models that share an instance are averaged first."""
    about = "utility gained by sitting first, the models being equal"
    found: dict[tuple[Any, ...], list[float]] = {}
    for pair in dict.fromkeys(row.pair for row in rows):
        for block, a, b in swaps([row for row in rows if row.pair == pair]):
            halves = found.setdefault(block, [])
            halves += [(a - b) / 2] if a is not None and b is not None else []
    worth = [known_mean(halves) for halves in found.values()]
    if all(each is None for each in worth):
        return undefined("missing_arm", missing=len(worth), estimand=about)
    zeros = [None if each is None else 0.0 for each in worth]
    return paired_difference(worth, zeros, seed=SEED).with_(estimand=about, n_rows=len(rows))


def order_effects(games: Games) -> Table:
    """Seat effect by pair, and over all pairs."""
    rows: list[dict[str, Any]] = []
    both = {p for p in games.pairs if len({row.order for row in games.of(p)}) == 2}
    for pair in games.pairs:
        if pair in both:
            rows.append({"weak": pair[0], "strong": pair[1], **_order_row(games.of(pair))})
    if len(rows) > 1:
        pooled = [row for row in games.rows if row.pair in both]
        rows.append({"weak": "all", "strong": "all", **_order_row(pooled)})
    columns = (*PAIR,
        Column("strong_first", "strong - weak, strong first", digits=1, kind="estimate"),
        Column("weak_first", "strong - weak, weak first", digits=1, kind="estimate"),
        Column("seat", "worth of sitting first", digits=2, kind="estimate"),
        Column("p", "p"))  # fmt: skip
    return Table(
        "order_effects", "Order effects: the same instances with the seats swapped", columns, tuple(rows),
        "Paired over instances: bootstrap-t interval and sign-flip p from 20 instances, t below.",
    )  # fmt: skip


def _order_row(rows: Sequence[Row]) -> dict[str, Any]:
    seat = seat_effect(rows)
    return {
        "strong_first": mean_of_blocks(_sat(rows, "strong_first"), Row.difference),
        "weak_first": mean_of_blocks(_sat(rows, "weak_first"), Row.difference),
        "seat": seat,
        "p": seat.p,
    }


def _sat(rows: Sequence[Row], order: str) -> list[Row]:
    return [row for row in rows if row.order == order]


# -- rounds ----------------------------------------------------------------------------------
def survival(rows: Sequence[Row]) -> list[tuple[int, Estimate]]:
    """Share of games still without a deal after each round, Wilson; games that never agree are
    censored at their last round (all share it, so this is the Kaplan–Meier curve)."""
    done = [row for row in rows if row.done]
    last = max((row.rounds_allowed for row in done), default=0)
    curve = []
    for r in range(last + 1):
        at_risk = [row for row in done if row.rounds_allowed >= r]
        open_ = sum(not (row.deal and _final(row) <= r) for row in at_risk)
        if at_risk:
            curve.append((r, wilson(open_, len(at_risk))))
    return curve


def _final(row: Row) -> int:
    return int(row.outcome["final_round"]) if row.outcome is not None else row.rounds_allowed


def median_round(rows: Sequence[Row]) -> int | None:
    """Round by which half of the games have agreed; None if fewer than half ever do."""
    return next((r for r, left in survival(rows) if (left.estimate or 0.0) <= 0.5), None)


def convergence(games: Games) -> Table:
    """Rounds to agreement by level: median, deals by round 1, never."""
    rows = []
    for level in games.levels:
        mine = [row for row in games.rows if row.level == level]
        curve = survival(mine)
        if not curve:
            continue
        rows.append({
            "level": level, "games": sum(r.done for r in mine), "median": median_round(mine),
            "first": _complement(curve[1][1]) if len(curve) > 1 else None, "never": curve[-1][1],
            "rounds": mean_of_blocks(mine, rounds_to_deal),
        })  # fmt: skip
    columns = (Column("level", "competition", digits=2), Column("games", "games"),
               Column("median", "median round"), Column("first", "deal in round 1", digits=2, kind="estimate"),
               Column("rounds", "rounds, deals only", digits=1, kind="estimate"),
               Column("never", "no deal", digits=2, kind="estimate"))  # fmt: skip
    return Table(
        "convergence", "Rounds to agreement by competition level", columns, tuple(rows),
        "The median counts games without a deal as not yet agreed; it is empty if most never agree.",
    )  # fmt: skip


def _complement(rate: Estimate) -> Estimate:
    assert rate.estimate is not None and rate.low is not None and rate.high is not None
    return rate.with_(estimate=1 - rate.estimate, low=1 - rate.high, high=1 - rate.low)


# -- tokens, parsing ---------------------------------------------------------------------------
def tokens(games: Games) -> Table:
    """Tokens a game, by model and phase."""
    rows = []
    for model in games.models:
        for phase in PHASES:
            spent = [cells for row in games.done for k, name in enumerate(row.models)
                     if name == model and (cells := row.phases(k).get(phase))]  # fmt: skip
            if spent:
                rows.append({
                    "model": model, "phase": phase, "calls": sum(c["calls"] for c in spent),
                    "out": mean_interval([float(c["completion_tokens"]) for c in spent]),
                    "in": mean_interval([float(c["prompt_tokens"]) for c in spent]),
                    "cost": sum(c["cost"] for c in spent) / 1e6,
                })  # fmt: skip
    columns = (Column("model", "model", kind="text"), Column("phase", "phase", kind="text"),
               Column("calls", "calls"), Column("out", "tokens out a seat and game", digits=0, kind="estimate"),
               Column("in", "tokens in a seat and game", digits=0, kind="estimate"),
               *((Column("cost", "USD", digits=4),) if any(row["cost"] for row in rows) else ()))  # fmt: skip
    return Table("tokens", "Tokens by model and phase", columns, tuple(rows),
                 "95 % t intervals over games and seats.")  # fmt: skip


def parsing(games: Games) -> Table:
    """Illegal offers, repairs, missing votes, cut and refused replies by model."""
    rows = tuple({"model": m, **counts} for m, counts in totals(games.rows).items())
    columns = (Column("model", "model", kind="text"), Column("games", "seats played"),
               *(Column(c, c.replace("_", " ")) for c in COUNTS))  # fmt: skip
    return Table("parsing", "What the parser met, by model", columns, rows,
                 "Nothing is invented on a seat's behalf: an illegal offer is asked for again twice, then"
                 " left out; a vote still missing after one re-ask is a rejection.")  # fmt: skip
