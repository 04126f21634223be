"""Any outcome over any two factors, as a table of means: n, interval and missing in every cell.

Invariant: a trial that ended without a value is counted as missing; an empty cell is shown as
empty, never as zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peira.report.tables import aligned, interval, number
from peira.stats.intervals import mean_interval, wilson
from peira.stats.result import EMPTY, Estimate, undefined
from peira.web.queries import Cell, Observed, level

SHADES = 11  # classes heat-0 … heat-10 of the style sheet
WHOLE = ""  # the one level of an axis that is not split


@dataclass(frozen=True, slots=True)
class Square:
    """One cell of the map. `shade` is None when there is no value."""

    row: str
    column: str
    value: Estimate
    shade: int | None
    text: str
    range: str


@dataclass(frozen=True, slots=True)
class Heat:
    """The whole map."""

    outcome: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    squares: tuple[tuple[Square, ...], ...]
    low: str
    high: str
    method: str


def heat(seen: Observed, found: Sequence[Cell], axes: tuple[str, str]) -> Heat:
    """The map of one outcome over two factors (an empty name: not split), pooled over the rest."""
    groups, ended = _grouped(seen, found, axes)
    rows, columns = _ordered(found, axes[0]), _ordered(found, axes[1])
    values = {
        (r, c): _estimate(seen.truth, groups.get((r, c), []), ended.get((r, c), 0))
        for r in rows for c in columns
    }  # fmt: skip
    means = [v.estimate for v in values.values() if v.estimate is not None]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    squares = tuple(tuple(_square(r, c, values[r, c], low, high) for c in columns) for r in rows)
    method = "Wilson" if seen.truth else "t"
    return Heat(seen.name, rows, columns, squares, number(low), number(high), method)


def _grouped(
    seen: Observed, found: Sequence[Cell], axes: tuple[str, str]
) -> tuple[Mapping[tuple[str, str], list[float]], Mapping[tuple[str, str], int]]:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    ended: dict[tuple[str, str], int] = defaultdict(int)
    for cell in found:
        place = (_level(cell, axes[0]), _level(cell, axes[1]))
        groups[place] += seen.values.get(cell.number, [])
        ended[place] += seen.ended.get(cell.number, 0)
    return groups, ended


def _level(cell: Cell, factor: str) -> str:
    return level(cell.factors.get(factor)) if factor else WHOLE


def _ordered(found: Sequence[Cell], factor: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_level(cell, factor) for cell in found))


def _estimate(truth: bool, values: list[float], ended: int) -> Estimate:
    missing = ended - len(values)
    if not values:
        return undefined(EMPTY, missing=missing)
    found = wilson(int(sum(values)), len(values)) if truth else mean_interval(values)
    return found.with_(missing=missing)


def _square(row: str, column: str, value: Estimate, low: float, high: float) -> Square:
    if value.estimate is None:
        return Square(row, column, value, None, "n/a", "")
    part = (value.estimate - low) / (high - low) if high > low else 0.5
    layout = aligned(value)
    return Square(
        row, column, value, round(part * (SHADES - 1)), number(value.estimate, layout),
        interval(value, layout) if value.defined else "",
    )  # fmt: skip
