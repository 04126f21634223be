"""The analysis of a family that brings none: every numeric outcome, cell by cell, with intervals.

Invariant: a trial that did not finish is counted as missing in its cell, never left out silently.
Everything here is exploratory: no hypothesis was named before the run.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from peira.engine.states import State
from peira.errors import InputError
from peira.report.analysis import Analysis, Column, Table
from peira.report.tables import count, estimate
from peira.stats.intervals import mean_interval, wilson
from peira.stats.result import EMPTY, Estimate, undefined
from peira.store.exports import flattened
from peira.store.records import RunView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_FIELDS = 24  # more numeric outcomes than this are left to the family's own analysis
ENDED = (State.DONE, State.FAILED, State.HALTED)


@dataclass(slots=True)
class Cells:
    """Numeric outcomes gathered by cell: `values[field][cell]`, `ended[cell]` trials that ended."""

    labels: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    values: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    truths: set[str] = field(default_factory=set)

    def estimate(self, name: str, cell: str) -> Estimate:
        """Mean with its t interval, or rate with Wilson's; trials without a value are missing."""
        seen = self.values[name].get(cell, [])
        missing = self.ended[cell] - len(seen)
        if not seen:
            return undefined(EMPTY, missing=missing, method="t", estimand=f"mean {name}")
        found = wilson(int(sum(seen)), len(seen)) if name in self.truths else mean_interval(seen)
        return found.with_(missing=missing, estimand=f"{self.verb(name)} {name}")

    def verb(self, name: str) -> str:
        return "rate of" if name in self.truths else "mean"


def gather(run: RunView, by: Sequence[str] = ()) -> Cells:
    """Read a run once; trials are pooled over all factors but `by`, if any are given. A field is a
    rate if all its values are true or false."""
    cells = Cells()
    mixed: set[str] = set()
    for record in run.records():
        if record.state not in ENDED:
            continue
        cell = {name: record.cell.get(name) for name in by} if by else record.cell
        key = orjson.dumps(cell, option=orjson.OPT_SORT_KEYS).decode()
        cells.labels.setdefault(key, cell)
        cells.ended[key] += 1
        for name, value in flattened(record.outcome or {}) if record.done else ():
            if isinstance(value, bool):
                cells.truths.add(name)
            elif isinstance(value, int | float):
                mixed.add(name)
            else:
                continue
            cells.values[name][key].append(float(value))
    cells.truths -= mixed
    return cells


def numeric_outcomes(run: RunView) -> Analysis:
    """Numeric outcome fields by cell: n, missing, mean with t interval (rates: Wilson)."""
    cells = gather(run)
    names = list(cells.values)[:MAX_FIELDS]
    tables = tuple(_table(cells, name) for name in names)
    return Analysis(_answer(cells, names), tables, notes=tuple(_notes(cells, names)))


def outcomes_by(run: RunView, factors: Sequence[str]) -> tuple[Table, ...]:
    """One table an outcome, by the levels of these factors, pooled over the others. Raises
    InputError for a factor the study does not have."""
    known = list(dict.fromkeys(name for cell in _cells_of(run) for name in cell))
    for name in factors:
        if name not in known:
            raise InputError(
                f"--by {name}: no such factor\n  allowed: {', '.join(known) or 'none: one cell only'}"
            )
    cells = gather(run, factors)
    return tuple(
        dataclasses.replace(
            _table(cells, name), name=f"{name}_by_{'_'.join(factors)}",
            title=f"{name} by {', '.join(factors)}",
        )
        for name in list(cells.values)[:MAX_FIELDS]
    )  # fmt: skip


def _cells_of(run: RunView) -> list[dict[str, Any]]:
    return [orjson.loads(row[0]) for row in run.query("SELECT factors FROM cells")]


def cell_label(values: Mapping[str, Any]) -> str:
    """A cell as people read it: `weak=a, comp=0.5`."""
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    words = value if isinstance(value, str) else orjson.dumps(value).decode()
    return words if len(words) <= 48 else words[:47] + "…"


def _table(cells: Cells, name: str) -> Table:
    factors = list(dict.fromkeys(factor for values in cells.labels.values() for factor in values))
    columns = [Column(f"factor:{factor}", factor, kind="text") for factor in factors]
    columns.append(Column("value", f"{cells.verb(name)} {name}", kind="estimate"))
    rows = tuple(
        {f"factor:{f}": _short(v) for f, v in values.items()}
        | {"value": cells.estimate(name, cell)}
        for cell, values in cells.labels.items()
    )
    how = "Wilson" if name in cells.truths else "t"
    note = f"95 % {how} intervals over trials; exploratory."
    return Table(name, f"{name} by cell" if factors else name, tuple(columns), rows, note)


def _answer(cells: Cells, names: list[str]) -> str:
    if not names:
        return "No numeric outcome was observed."
    name = names[0]
    found = [
        (cell_label(values), cells.estimate(name, cell)) for cell, values in cells.labels.items()
    ]
    known = [(label, value) for label, value in found if value.estimate is not None]
    if not known:
        return f"{name} was not observed in any cell."
    known.sort(key=lambda pair: pair[1].estimate or 0.0)
    if len(known) == 1:
        return f"{cells.verb(name).capitalize()} {name}: {_told(known[0][1])}."
    (low_label, low), (high_label, high) = known[0], known[-1]
    return (
        f"{cells.verb(name).capitalize()} {name} ranges from {_told(low)} at {low_label}"
        f" to {_told(high)} at {high_label}, over {len(found)} cells (95 % intervals, exploratory)."
    )


def _told(value: Estimate) -> str:
    return f"{estimate(value)} ({count(value)})"


def _notes(cells: Cells, names: list[str]) -> list[str]:
    notes = ["No hypothesis was named before the run: every number here is exploratory."]
    if len(cells.labels) > 1:
        notes.append("Cells are described one by one; no difference between them is tested.")
    if len(cells.values) > len(names):
        notes.append(
            f"{len(cells.values) - len(names)} further numeric outcomes are in results.csv."
        )
    return notes


# -- figures ----------------------------------------------------------------------------------
def outcome_figures(run: RunView) -> Mapping[str, Callable[[], Figure]]:
    """One dot plot by cell for each numeric outcome, drawn on demand."""
    cells = gather(run)
    return {
        name: (lambda name=name: _dots(cells, name, run.simulated))  # type: ignore[misc]
        for name in list(cells.values)[:MAX_FIELDS]
    }


def _dots(cells: Cells, name: str, simulated: bool) -> Figure:
    from peira.report.figures import FAINT, PALETTE, canvas, finish, plain, style

    shown = [(plain(cell_label(v)) or "all trials", cells.estimate(name, cell))
             for cell, v in list(cells.labels.items())[:60]]  # fmt: skip
    with style():
        figure, axes = canvas(5.5, max(1.4, 0.26 * len(shown) + 0.9))
        for place, (_, value) in enumerate(shown):
            if value.estimate is None:
                axes.annotate("no value", (0.01, place), xycoords=("axes fraction", "data"),
                              color=FAINT, fontsize=7, va="center")  # fmt: skip
                continue
            axes.plot(value.estimate, place, "o", color=PALETTE[0])
            if value.low is not None and value.high is not None:
                axes.hlines(place, value.low, value.high, color=PALETTE[0], linewidth=1.4)
        labels = [f"{label}\nn {v.n}" + (f", {v.missing} missing" if v.missing else "")
                  for label, v in shown]  # fmt: skip
        axes.set_yticks(range(len(shown)), labels, fontsize=7)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel(plain(f"{cells.verb(name)} {name}"))
        axes.grid(False, axis="y")
        total = sum(value.n for _, value in shown)
        how = "Wilson" if name in cells.truths else "t"
        rest = f" The first 60 of {len(cells.labels)} cells." if len(cells.labels) > 60 else ""
        return finish(figure, n=f"n = {total:,} trials.", simulated=simulated,
                      caption=f"Dots are means by cell, lines 95 % {how} intervals.{rest}")  # fmt: skip
