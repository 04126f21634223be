"""Games of three and more: who gets what share, what a rule does to it, who is outvoted.

Invariant: the unit is the instance; seat orders and voting rules played on one instance are averaged
or paired within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from peira.families.negotiation.cell_tables import (
    Measure,
    exploited,
    known_mean,
    mean_of_blocks,
    means,
    utility,
)
from peira.families.negotiation.rows import Games, Row
from peira.report.analysis import Column, Finding, Table
from peira.stats.effects import gini
from peira.stats.intervals import wilson
from peira.stats.paired import paired_difference
from peira.stats.result import Estimate, undefined

Belongs = Callable[[Row, int], bool]
SEED = 20261129  # of the sign-flip draws, so that a report is the same each time


def seats_table(games: Games) -> Table:
    """Games of any size: utility and share by model, and by seat."""
    groups = [("model", model, _plays(model)) for model in games.models]
    most = max((len(row.models) for row in games.rows), default=0)
    groups += [("seat", f"seat {s + 1}", _sits(s)) for s in range(most)]
    measures = {"utility": utility, "share": share, "exploitation": exploited}
    rows = [
        {"kind": kind, "name": name}
        | {
            key: mean_of_blocks(games.rows, _seat_mean(each, belongs))
            for key, each in measures.items()
        }
        for kind, name, belongs in groups
    ]
    columns = (Column("kind", "by", kind="text"), Column("name", "of", kind="text"),
               Column("utility", "utility", digits=1, kind="estimate"),
               Column("share", "share", digits=2, kind="estimate"),
               Column("exploitation", "E", digits=2, kind="estimate"))  # fmt: skip
    return Table("seats", "Utility by model and by seat", columns, tuple(rows),
                 "Means over instances with 95 % t intervals; fair share is 1/n.")  # fmt: skip


def share(row: Row, seat: int) -> float | None:
    """A seat's share of what all seats got together."""
    return row.seat_value("share", seat)


def _plays(model: str) -> Belongs:
    return lambda row, seat: row.models[seat] == model


def _sits(place: int) -> Belongs:
    return lambda row, seat: seat == place


def _seat_mean(measure: Callable[[Row, int], float | None], belongs: Belongs) -> Measure:
    return lambda row: known_mean(
        measure(row, seat) for seat in range(len(row.models)) if belongs(row, seat)
    )


def coalitions(games: Games) -> Table:
    """n ≥ 3: inequality, and how often two models vote alike on third models' proposals."""
    unequal = mean_of_blocks(
        games.rows, lambda r: gini(r.outcome["utility"]) if r.outcome else None
    )
    rows = [{"what": "Gini of utilities", "value": unequal}]
    for a in games.models:
        for b in games.models:
            if a < b and (alike := _alike(games.done, a, b)):
                rows.append({"what": f"{a} and {b} vote alike", "value": wilson(*alike)})
    columns = (Column("what", "measure", kind="text"),
               Column("value", "value", digits=2, kind="estimate"))  # fmt: skip
    return Table("coalitions", "Three and more: inequality and coalitions", columns, tuple(rows),
                 "Votes on proposals of others; Wilson intervals over votes, which are not independent"
                 " within a game.")  # fmt: skip


def _alike(rows: Iterable[Row], a: str, b: str) -> tuple[int, int] | None:
    same = total = 0
    for row in rows:
        if a not in row.models or b not in row.models or row.outcome is None:
            continue
        i, k = row.models.index(a), row.models.index(b)
        for result in row.outcome["rounds"]:
            for index, proposer in enumerate(result["proposers"]):
                if proposer not in (i, k) and result["votes"][i]:
                    same += result["votes"][i][index] == result["votes"][k][index]
                    total += 1
    return (same, total) if total else None


# -- the study's question ----------------------------------------------------------------------
def share_of(model: str) -> Measure:
    """A model's share of what all seats got together."""
    return _seat_mean(share, _plays(model))


def rules(games: Games) -> list[tuple[str, tuple[str, ...]]]:
    """Factors that do not change what is divided, with their levels in the order of the study."""
    levels: dict[str, dict[str, None]] = {}
    for row in games.rows:
        for name, value in row.extra:
            if (name, value) not in row.drawn:
                levels.setdefault(name, {})[value] = None
    return [(name, tuple(values)) for name, values in levels.items() if len(values) > 1]


def under(rows: Iterable[Row], rule: str, level: str) -> list[Row]:
    """Games played under one level of a rule."""
    return [row for row in rows if (rule, level) in row.extra]


def effect(games: Games, rule: str, to: str, base: str, model: str) -> Estimate:
    """What a rule does to a model's share: `to` less `base`, paired over instances."""
    arms = [means(under(games.rows, rule, level), share_of(model)) for level in (to, base)]
    both = list(dict.fromkeys(row.block for row in games.rows))
    if not any(arms[0].get(k) is not None and arms[1].get(k) is not None for k in both):
        return undefined("missing_arm", missing=len(both), estimand="difference in share")
    treated, control = ([arm.get(block) for block in both] for arm in arms)
    return paired_difference(treated, control, seed=SEED).with_(estimand="difference in share")


def outvoted(row: Row) -> list[int]:
    """Seats that voted against the deal that bound them."""
    if row.outcome is None or not row.deal:
        return []
    last = row.outcome["rounds"][-1]
    won = last["accepts"].index(max(last["accepts"]))  # most accepts, then the lowest number
    return [seat for seat, votes in enumerate(last["votes"]) if not votes[won]]


def against_a_seat(rows: Sequence[Row]) -> Estimate:
    """Share of deals that passed against somebody's vote, Wilson over games."""
    made = [row for row in rows if row.deal]
    return wilson(sum(bool(outvoted(row)) for row in made), len(made))


def left_to_outvoted(row: Row) -> float | None:
    """Mean share of the seats outvoted in a game; None where nobody was."""
    return known_mean(share(row, seat) for seat in outvoted(row))


def rules_table(games: Games) -> Table | None:
    """Shares by voting rule (or other rule), with what the outvoted were left."""
    rows = [
        {
            "rule": f"{name}: {level}",
            **{model: mean_of_blocks(mine, share_of(model)) for model in games.models},
            "against": against_a_seat(mine),
            "left": mean_of_blocks(mine, left_to_outvoted),
        }
        for name, levels in rules(games)
        for level in levels
        if (mine := under(games.rows, name, level))
    ]  # fmt: skip
    if not rows:
        return None
    columns = (Column("rule", "rule", kind="text"),
               *(Column(m, f"share of {m}", digits=2, kind="estimate") for m in games.models),
               Column("against", "deals against a vote", digits=2, kind="estimate"),
               Column("left", "share of the outvoted", digits=2, kind="estimate"))  # fmt: skip
    return Table("rules", "Who gets what, by rule", columns, tuple(rows),
                 "Means over instances with 95 % t intervals; deals against a vote: Wilson over games.")  # fmt: skip


def findings(games: Games) -> Iterator[Finding]:
    """The strongest model's share, what each rule does to it, and what a seat is worth."""
    strongest, most = games.models[-1], max(len(row.models) for row in games.rows)
    if len({len(row.models) for row in games.rows}) == 1 and len(games.models) > 1:
        for model in games.models[::-1] if len(games.models) <= 5 else [strongest]:
            yield Finding(
                f"share_{model}", f"Share of the total that goes to {model} (equal shares: {1 / most:.2f}).",
                mean_of_blocks(games.rows, share_of(model)), unit="instance",
            )  # fmt: skip
    for name, levels in rules(games):
        for level in levels[1:]:
            yield Finding(
                f"{name}_{level}", f"Share of {strongest} under {name} {level} less under {levels[0]},"
                " the same instances.", effect(games, name, level, levels[0], strongest), unit="instance",
            )  # fmt: skip
    for place in range(most if most <= 5 else 0):
        yield Finding(
            f"share_seat_{place + 1}", f"Share of the total that goes to seat {place + 1}, whoever sits there.",
            mean_of_blocks(games.rows, _seat_mean(share, _sits(place))), unit="instance",
        )  # fmt: skip


def answer(games: Games, found: Sequence[Finding]) -> str:
    """The strongest model's share, what the first rule does to it, which seat pays."""
    by_name = {f.name: f for f in found if f.estimate.defined}
    strongest = games.models[-1]
    found_share = by_name.get(f"share_{strongest}")
    if found_share is None:
        return f"{len(games.done)} games were finished."
    most = max(len(row.models) for row in games.rows)
    known = "strongest" if games.axes else "last by name"
    said = [f"{strongest}, the {known} of {len(games.models)} models, takes {_told(found_share.estimate)} of the"
            f" total, where an equal share is {1 / most:.2f} ({found_share.estimate.n} instances)"]  # fmt: skip
    for name, levels in rules(games)[:1]:
        changed = by_name.get(f"{name}_{levels[1]}")
        if changed is not None:
            by = _told(changed.estimate, "+")
            said.append(f"{levels[1]} instead of {levels[0]} changes that by {by}")
        said += _outvoted_said(under(games.rows, name, levels[1]), levels[1])
    seats = {k: by_name[name].estimate for k in range(1, most + 1)
             if (name := f"share_seat_{k}") in by_name}  # fmt: skip
    if seats:
        best, worst = (pick(seats, key=lambda k: seats[k].estimate or 0.0) for pick in (max, min))
        said.append(f"seat {best} gets the most, {_told(seats[best])}, seat {worst} the least,"
                    f" {_told(seats[worst])}")  # fmt: skip
    return "; ".join(said) + "."


def _outvoted_said(rows: Sequence[Row], level: str) -> list[str]:
    rate = against_a_seat(rows)
    if not rate.estimate:
        return [f"no {level} deal passed against a vote"] if rate.n else []
    left = mean_of_blocks(rows, left_to_outvoted)
    said = "" if left.estimate is None else f", leaving the outvoted {left.estimate:.2f}"
    return [f"{rate.estimate:.0%} of {rate.n} {level} deals passed against a vote{said}"]


def _told(value: Estimate, sign: str = "") -> str:
    return f"{value.estimate:{sign}.2f} [{value.low:{sign}.2f}, {value.high:{sign}.2f}]"
