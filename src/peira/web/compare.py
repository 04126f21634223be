"""Two or more runs side by side: what differs in their settings, and in what they found.

What is compared is what `peira compare` compares: the series that a family names, trial by trial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from peira.families import load_family
from peira.report.analysis import Column, Table
from peira.stats.intervals import mean_interval, wilson
from peira.stats.result import EMPTY, Estimate, undefined
from peira.store.compare import Change, Series, Side, compare, config_of, numeric_series
from peira.store.exports import flattened
from peira.store.records import RunView
from peira.web.house import Entry, House, stamp
from peira.web.page import Memo, answer
from peira.web.queries import ships

MOST = 6
QUANTITIES = 40


@dataclass(frozen=True, slots=True)
class Compared:
    """One run of the comparison."""

    entry: Entry
    settings: Mapping[str, Any]
    side: Side


def page(request: Request) -> HTMLResponse:
    """The comparison of the runs named by `run=…` in the address."""
    house: House = request.app.state.house
    memo: Memo = request.app.state.memo
    keys = tuple(dict.fromkeys(request.query_params.getlist("run")))[:MOST]
    with ExitStack() as stack:
        views = [stack.enter_context(RunView(house.find(key))) for key in keys]
        entries = [house.entry(key) for key in keys]
        marks = tuple(stamp(view.path) for view in views)
        tables = memo.get(("compare", keys), marks, lambda: _tables(entries, views))
    return answer(
        request, "compare.html", entries=entries, tables=tables, others=house.runs(), chosen=keys,
        simulated=any(entry.simulated for entry in entries),
    )  # fmt: skip


def _tables(entries: Sequence[Entry], views: Sequence[RunView]) -> list[Table]:
    if len(views) < 2:
        return []
    first, *others = [_compared(e, view) for e, view in zip(entries, views, strict=True)]
    settings = _settings([first, *others])
    if not all(each.side.series for each in (first, *others)):
        return [settings]
    found = [(other, compare(first.side, other.side)) for other in others]
    changes = {
        (change.first.title, other.entry.key): change
        for other, made in found for change in made.changes
    }  # fmt: skip
    titles = list(dict.fromkeys(title for title, _ in changes))[:QUANTITIES]
    notes = [note for _, made in found for note in made.notes]
    paired = _paired(first, others, titles, changes, notes)
    outcomes = _outcomes(first, others, titles, changes, alone=not paired.rows)
    return [*(table for table in (paired, outcomes) if table.rows), settings]


def _compared(entry: Entry, view: RunView) -> Compared:
    family = load_family(view.family) if ships(view) else None
    series = numeric_series(view, flattened) if family is None else family.comparables(view)
    study = view.study.model_dump(mode="json", exclude={"output_dir", "name"})
    side = Side(entry.key, config_of(view), {}, tuple(series), entry.simulated)
    return Compared(entry, dict(flattened({n: _plain(v) for n, v in study.items()})), side)


def _plain(value: Any) -> Any:
    """Lists as people write them, whatever they are in."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        apart = "; " if any(isinstance(inner, list) for inner in value) else ", "
        return apart.join(str(_plain(inner)) for inner in value)
    return value


def _settings(sides: Sequence[Compared]) -> Table:
    """What the studies differ in."""
    names = dict.fromkeys(name for side in sides for name in side.settings)
    rows = []
    for name in names:
        found = [_text(side.settings.get(name)) for side in sides]
        if len(set(found)) > 1:
            told = {side.entry.key: text for side, text in zip(sides, found, strict=True)}
            rows.append({"name": name} | told)
    heads = [Column(side.entry.key, side.entry.key, kind="text") for side in sides]
    return Table(
        "settings", "Where the studies differ", (Column("name", "setting", kind="text"), *heads),
        tuple(rows), "" if rows else "The studies are the same.",
    )  # fmt: skip


def _text(value: Any) -> str:
    text = "not set" if value in (None, "") else str(value)
    return text if len(text) <= 160 else text[:159] + "…"


Changes = Mapping[tuple[str, str], Change]
OUTCOME = Column("outcome", "outcome", kind="text")


def _outcomes(
    first: Compared,
    others: Sequence[Compared],
    titles: Sequence[str],
    changes: Changes,
    alone: bool,
) -> Table:
    """Means of every quantity that two runs share."""
    rows = []
    for title in titles:
        shared = {other.entry.key: change for other in others
                  if (change := changes.get((title, other.entry.key))) is not None}  # fmt: skip
        row: dict[str, Any] = {
            other.entry.key: _mean(shared[other.entry.key].second, other)
            for other in others if other.entry.key in shared
        }  # fmt: skip
        row[first.entry.key] = _mean(next(iter(shared.values())).first, first)
        rows.append({"outcome": title} | row)
    heads = [Column(s.entry.key, s.entry.key, kind="estimate") for s in (first, *others)]
    note = (
        "Means over all trials (of prompt evaluations: items) with 95 % intervals (rates: Wilson);"
        " cells may differ between runs."
    )
    note += " No cell and seed occurs in both, so nothing is paired." if alone else ""
    return Table("outcomes", "Outcomes", (OUTCOME, *heads), tuple(rows), note)


def _mean(series: Series, run: Compared) -> Estimate:
    """With interval, n and, where trials are the units, those that ended without a value."""
    values, tally = list(series.values.values()), run.entry.tally
    missing = 0 if series.labels else tally.planned - tally.pending - len(values)
    if not values:
        return undefined(EMPTY, missing=missing)
    clusters = [series.cluster.get(unit, unit) for unit in series.values]
    if len(set(clusters)) < len(clusters):
        return mean_interval(values, clusters)
    rate = series.kind == "mean" and set(values) <= {0.0, 1.0}
    found = wilson(int(sum(values)), len(values)) if rate else mean_interval(values)
    return found.with_(missing=missing)


def _paired(
    first: Compared, others: Sequence[Compared], titles: Sequence[str], changes: Changes,
    notes: Sequence[str],
) -> Table:  # fmt: skip
    """Differences over trials that are the same cell and seed in both runs."""
    rows = []
    for title in titles:
        row: dict[str, Any] = {}
        for other in others:
            change = changes.get((title, other.entry.key))
            if change is not None and change.change is not None and change.change.n > 1:
                row[other.entry.key] = change.change
                row[f"p {other.entry.key}"] = change.change.p
        rows += [{"outcome": title} | row] if row else []
    heads = [
        column
        for other in others
        for column in (Column(other.entry.key, f"{other.entry.key} − {first.entry.key}", kind="estimate"),
                       Column(f"p {other.entry.key}", "p"))
    ]  # fmt: skip
    said = (
        "Trials of the same cell and seed (of prompt evaluations: the same items), paired."
        " Exploratory: p is not adjusted."
    )
    return Table("paired", "Paired differences", (OUTCOME, *heads), tuple(rows),
                 " ".join([said, *(f"{note}." for note in notes)]))  # fmt: skip
