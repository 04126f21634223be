"""Tables by pair and competition level: outcomes, normalised outcomes, exploitation, counts.

The unit is the instance (level, seed): role swaps and repetitions on one instance are averaged
first. Invariant: every cell shows n, missing and an interval; no deal counts as the disagreement
payoff unless a column says "deals only".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from peira.families.negotiation.rows import Games, Row
from peira.report.analysis import Column, Table
from peira.stats.intervals import mean_interval, wilson
from peira.stats.result import EMPTY, Estimate, undefined

Measure = Callable[[Row], float | None]
PAIR = (Column("weak", "weaker", kind="text"), Column("strong", "stronger", kind="text"))
LEVEL = Column("level", "competition", digits=2)
PLAYED = (Column("games", "games"), Column("consensus", "deals", digits=2, kind="estimate"))


def known_mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values there are; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def means(
    rows: Iterable[Row], measure: Measure, group: Callable[[Row], Any] = lambda row: row.block
) -> dict[Any, float | None]:
    """One value for each group (instance): the mean over its games; None when none has a value."""
    values: dict[Any, list[float | None]] = defaultdict(list)
    for row in rows:
        values[group(row)].append(measure(row) if row.done else None)
    return {name: known_mean(seen) for name, seen in values.items()}


def by_order(row: Row) -> tuple[Any, str | None]:
    """A group of games: those of one instance and one seat order."""
    return row.block, row.order


def by_instance(rows: Sequence[Row], measure: Measure) -> dict[Any, float | None]:
    """Instance -> one value: mean over both seat orders, then over the pairs that share it.

    Where a pair's design swaps the seats, an instance it finished in only one order is left out
    (None): its value would mix the seat's effect with the model's.
    """
    blocks: dict[Any, list[float | None]] = {row.block: [] for row in rows}
    for pair in dict.fromkeys(row.pair for row in rows):
        for block, mean in _pair_average([row for row in rows if row.pair == pair], measure):
            blocks[block].append(mean)
    return {block: known_mean(values) for block, values in blocks.items()}


def _pair_average(rows: Sequence[Row], measure: Measure) -> list[tuple[Any, float | None]]:
    """Instance -> mean over the seat orders of one pair."""
    orders: dict[Any, list[float | None]] = defaultdict(list)
    for (block, _), mean in means(rows, measure, by_order).items():
        orders[block].append(mean)
    needed = max(map(len, orders.values()), default=1)
    return [(block, known_mean(found) if len(found) == needed and None not in found else None)
            for block, found in orders.items()]  # fmt: skip


def mean_of(rows: Sequence[Row], measure: Measure, estimand: str) -> Estimate:
    """Mean over instances (role-averaged) with its t interval; n instances, n_rows games."""
    values = list(by_instance(rows, measure).values())
    seen = sum(1 for row in rows if row.done and measure(row) is not None)
    if not any(value is not None for value in values):
        return undefined(EMPTY, missing=len(values), estimand=estimand, method="t")
    return mean_interval(values).with_(n_rows=seen, estimand=estimand)


def mean_of_blocks(rows: Iterable[Row], measure: Measure) -> Estimate:
    """Mean of one value an instance with its t interval."""
    values = list(means(rows, measure).values())
    if all(value is None for value in values):
        return undefined(EMPTY, missing=len(values))
    return mean_interval(values)


def rate_of(rows: Sequence[Row]) -> Estimate:
    """Share of finished games that end in a deal, Wilson."""
    done = [row for row in rows if row.done]
    found = wilson(sum(row.deal for row in done), len(done))
    return found.with_(missing=len(rows) - len(done), estimand="consensus rate")


def strong(measure: Callable[[Row, int], float | None]) -> Measure:
    """A seat's measure, taken of the stronger model."""
    return lambda row: None if row.strong_seat is None else measure(row, row.strong_seat)


def weak(measure: Callable[[Row, int], float | None]) -> Measure:
    """A seat's measure, taken of the weaker model."""
    return lambda row: None if row.strong_seat is None else measure(row, 1 - row.strong_seat)


def deals(measure: Measure) -> Measure:
    """The same, of deals only."""
    return lambda row: measure(row) if row.deal else None


def utility(row: Row, seat: int) -> float | None:
    """Discounted payoff; the disagreement payoff when there is no deal."""
    return row.seat_value("utility", seat)


def exploited(row: Row, seat: int) -> float | None:
    """E on raw utility; no deal is measured at the disagreement point."""
    return row.yardstick("exploitation", seat)


def rounds(row: Row) -> float | None:
    """Rounds to the deal."""
    return float(row.outcome["final_round"]) if row.outcome is not None and row.deal else None


Spec = tuple[str, str, int, Measure]
OUTCOMES: tuple[Spec, ...] = (
    ("strong_utility", "stronger's utility", 1, strong(utility)),
    ("weak_utility", "weaker's utility", 1, weak(utility)),
    ("difference", "difference", 1, Row.difference),
    ("difference_deals", "difference, deals only", 1, deals(Row.difference)),
    ("rounds", "rounds to deal", 1, rounds),
    ("tokens", "tokens a game", 0, lambda row: float(row.tokens)),
    ("cost", "USD a game", 4, lambda row: row.cost / 1e6),
)
NORMALISED: tuple[Spec, ...] = (
    ("nash_strong", "stronger / Nash", 2, strong(lambda row, k: row.nash_share(k))),
    ("nash_weak", "weaker / Nash", 2, weak(lambda row, k: row.nash_share(k))),
    ("welfare", "welfare / best", 2,
     lambda row: row.outcome["yardsticks"]["welfare_ratio"] if row.outcome else None),
    ("max_welfare", "best welfare (instance)", 0,
     lambda row: row.outcome["yardsticks"]["max_welfare"] if row.outcome else None),
)  # fmt: skip
POSITIONS: tuple[Spec, ...] = (
    ("position_strong", "stronger", 2, strong(lambda row, k: row.position(k))),
    ("position_weak", "weaker", 2, weak(lambda row, k: row.position(k))),
)  # fmt: skip
EXPLOITATION: tuple[Spec, ...] = (
    ("e_strong", "E stronger", 2, strong(exploited)),
    ("e_weak", "E weaker", 2, weak(exploited)),
    ("e_strong_deals", "E stronger, deals only", 2, deals(strong(exploited))),
    ("e_weak_deals", "E weaker, deals only", 2, deals(weak(exploited))),
    ("loss_strong", "stronger: efficiency loss", 2,
     deals(strong(lambda row, k: row.yardstick("efficiency_loss", k)))),
    ("transfer_strong", "stronger: transfer", 2,
     deals(strong(lambda row, k: row.yardstick("transfer", k)))),
)  # fmt: skip


def cells(games: Games) -> Table:
    """Outcomes by pair and level; without the cost where nothing cost anything."""
    specs = _telling(games, OUTCOMES if any(row.cost for row in games.rows) else OUTCOMES[:-1])
    rows = _by_cell(games, lambda mine: _played(mine) | _measured(mine, specs))
    return Table(
        "cells", "Outcomes by pair and competition level", (*PAIR, LEVEL, *PLAYED, *_columns(specs)), rows,
        "Means over instances (both seat orders averaged) with 95 % t intervals; deals with Wilson's."
        " Utility is discounted; no deal counts as the disagreement payoff.",
    )  # fmt: skip


def _telling(games: Games, specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """Without the columns of deals only where every game ended in a deal: they would say the same."""
    all_agreed = all(row.deal for row in games.done)
    return tuple(s for s in specs if not (all_agreed and s[0].endswith("_deals")))


def normalised(games: Games) -> Table:
    """Raw utility against what the instance allowed, by pair and level."""
    return _table(
        games, "normalised", "Utility normalised by the instance", NORMALISED,
        "Undiscounted utility; no deal at the disagreement point. Most of a raw competition effect is"
        " the feasible ceiling falling: see the last column.",
    )  # fmt: skip


def positions(games: Games) -> Table:
    """Where each stands between no deal and the best it could have had."""
    return _table(
        games, "positions", "Place between no deal (0) and the best for oneself (1)", POSITIONS,
        "Undiscounted utility; no deal at the disagreement point.",
    )  # fmt: skip


def exploitation_table(games: Games) -> Table:
    """Role-free exploitation by pair and level, with and without no-deals."""
    return _table(
        games, "exploitation", "Exploitation E, free of the seat", _telling(games, EXPLOITATION),
        "E = (u - u_Nash)/(u_Nash - d): 0 is the fair (Nash) deal, above it gains, below it loses; d is the"
        " payoff of no deal, which no deal counts as. Same instance under both seat orders, averaged; the"
        " nearest Nash point is the yardstick. E = efficiency loss + transfer (of deals), exactly.",
    )  # fmt: skip


def _table(games: Games, name: str, title: str, specs: Sequence[Spec], note: str) -> Table:
    rows = _by_cell(games, lambda mine: _measured(mine, specs))
    return Table(name, title, (*PAIR, LEVEL, *_columns(specs)), rows, note)


def _by_cell(
    games: Games, told: Callable[[Sequence[Row]], dict[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """What is told of every pair and level with games."""
    return tuple(
        {"weak": pair[0], "strong": pair[1], "level": level, "games": sum(r.done for r in mine)}
        | told(mine)
        for pair in games.pairs
        for level in games.levels
        if (mine := games.of(pair, level))
    )


def _played(rows: Sequence[Row]) -> dict[str, Any]:
    return {"games": sum(row.done for row in rows), "consensus": rate_of(rows)}


def _measured(rows: Sequence[Row], specs: Sequence[Spec]) -> dict[str, Any]:
    return {key: mean_of(rows, measure, label) for key, label, _, measure in specs}


def _columns(specs: Sequence[Spec]) -> tuple[Column, ...]:
    return tuple(Column(key, label, digits=d, kind="estimate") for key, label, d, _ in specs)


def run_counts(games: Games) -> Table:
    """Planned and finished games by pair, order and level; gaps show."""
    rows = []
    for pair in games.pairs:
        for order in sorted({row.order or "" for row in games.of(pair)}):
            mine = [row for row in games.of(pair) if row.order == order]
            cell: dict[str, Any] = {"weak": pair[0], "strong": pair[1], "order": order}
            for level in games.levels:
                here = [row for row in mine if row.level == level]
                done = sum(row.done for row in here)
                gap = "" if done == len(here) else f" of {len(here)}"
                cell[f"level_{level}"] = f"{done}{gap}" if here else "not planned"
            rows.append(cell)
    columns = (*PAIR, Column("order", "order", kind="text"), *(
        Column(f"level_{level}", f"c = {level:g}", kind="text") for level in games.levels))  # fmt: skip
    return Table("run_counts", "Games finished by pair, order and level", columns, tuple(rows))


def by_level(games: Games) -> Table:
    """All pairs pooled, by level: raw and normalised side by side."""
    specs: tuple[Spec, ...] = (*OUTCOMES[:3], *NORMALISED[:2], EXPLOITATION[0])
    rows = []
    for level in games.levels:
        mine = [row for row in games.rows if row.level == level and row.pair]
        rows.append({"level": level} | _played(mine) | _measured(mine, specs))
    return Table(
        "levels", "By competition level, all pairs", (LEVEL, *PLAYED, *_columns(specs)), tuple(rows),
        "Instances are the units; the pairs of models are taken as they are.",
    )  # fmt: skip
