"""Two or more runs side by side: what differs in their settings, and in what they found."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse

from peira.report.analysis import Column, Table
from peira.stats.intervals import mean_interval, wilson
from peira.stats.paired import paired_difference
from peira.stats.result import EMPTY, Estimate, undefined
from peira.store.exports import flattened
from peira.store.records import RunView
from peira.web import queries
from peira.web.house import Entry, House
from peira.web.page import answer

MOST = 6
OUTCOMES = 24


@dataclass(frozen=True, slots=True)
class Side:
    """One run of the comparison."""

    entry: Entry
    view: RunView
    known: Mapping[str, str]


def page(request: Request) -> HTMLResponse:
    """The comparison of the runs named by `run=…` in the address."""
    house: House = request.app.state.house
    keys = list(dict.fromkeys(request.query_params.getlist("run")))[:MOST]
    with ExitStack() as stack:
        sides = []
        for key in keys:
            view = stack.enter_context(RunView(house.find(key)))
            sides.append(Side(house.entry(key), view, queries.outcomes(view)))
        tables = [_settings(sides), _outcomes(sides)] if len(sides) > 1 else []
        paired = _paired(sides[0], sides[1]) if len(sides) == 2 else None
    entries = [side.entry for side in sides]
    return answer(
        request, "compare.html", entries=entries, tables=tables, paired=paired,
        others=house.runs(), chosen=keys, simulated=any(e.simulated for e in entries),
    )  # fmt: skip


def _heads(sides: list[Side]) -> list[Column]:
    return [Column(side.entry.key, side.entry.key, kind="text") for side in sides]


def _settings(sides: list[Side]) -> Table:
    """What the studies differ in."""
    flat = [dict(flattened(side.view.study.model_dump(mode="json", exclude={"output_dir"})))
            for side in sides]  # fmt: skip
    names = dict.fromkeys(name for study in flat for name in study)
    rows = []
    for name in names:
        found = [_text(study.get(name)) for study in flat]
        if len(set(found)) > 1:
            rows.append(
                {"name": name} | {s.entry.key: v for s, v in zip(sides, found, strict=True)}
            )
    note = "" if rows else "The studies are the same."
    return Table("settings", "Where the studies differ", (Column("name", "setting", kind="text"),
                 *_heads(sides)), tuple(rows), note)  # fmt: skip


def _text(value: Any) -> str:
    text = "not set" if value in (None, "") else str(value)
    return text if len(text) <= 160 else text[:159] + "…"


def _shared(sides: list[Side]) -> list[str]:
    names = [name for name in sides[0].known if all(name in side.known for side in sides)]
    return names[:OUTCOMES]


def _outcomes(sides: list[Side]) -> Table:
    """Means of every outcome that all runs have."""
    rows = []
    for name in _shared(sides):
        row: dict[str, Any] = {"outcome": name}
        for side in sides:
            row[side.entry.key] = _mean(side, name)
        rows.append(row)
    heads = [Column(s.entry.key, s.entry.key, kind="estimate") for s in sides]
    note = (
        "Means over all trials with 95 % intervals (rates: Wilson); cells may differ between runs."
    )
    return Table("outcomes", "Outcomes", (Column("outcome", "outcome", kind="text"), *heads),
                 tuple(rows), note)  # fmt: skip


def _mean(side: Side, name: str) -> Estimate:
    seen = queries.observed(side.view, name, side.known[name])
    values = [value for cell in seen.values.values() for value in cell]
    missing = sum(seen.ended.values()) - len(values)
    if not values:
        return undefined(EMPTY, missing=missing)
    found = wilson(int(sum(values)), len(values)) if seen.truth else mean_interval(values)
    return found.with_(missing=missing)


def _paired(first: Side, second: Side) -> Table | None:
    """Differences over trials that are the same cell and seed in both runs."""
    rows = []
    for name in _shared([first, second]):
        a, b = _by_trial(first, name), _by_trial(second, name)
        shared = [key for key in a if key in b]
        if len(shared) < 2:
            continue
        difference = paired_difference([b[k] for k in shared], [a[k] for k in shared], seed=0)
        rows.append({"outcome": name, "value": difference, "p": difference.p})
    if not rows:
        return None
    columns = (Column("outcome", "outcome", kind="text"),
               Column("value", f"{second.entry.key} − {first.entry.key}", kind="estimate"),
               Column("p", "p"))  # fmt: skip
    note = "Trials with the same cell and seed, paired. Exploratory: p is not adjusted."
    return Table("paired", "Paired differences", columns, tuple(rows), note)


def _by_trial(side: Side, name: str) -> dict[tuple[str, int], float]:
    labels = {
        cell.number: orjson.dumps(cell.factors, option=orjson.OPT_SORT_KEYS).decode()
        for cell in queries.cells(side.view)
    }
    rows = side.view.query(
        "SELECT cell, seed, json_extract(CAST(outcome AS TEXT), ?) FROM trials"
        " WHERE state='done' AND position IS NOT NULL",
        (side.known[name],),
    )
    return {(labels[c], s): float(v) for c, s, v in rows if isinstance(v, int | float)}
