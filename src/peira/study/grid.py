"""Factors to cells: cross, zip, explicit cells, exclude.

Crossed in the order given, last fastest; `zip` factors move in step and count as one factor after
the crossed ones; explicit `cells` follow. A factor's name may be a dotted path into the settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from peira.errors import StudyError
from peira.study.study import Study


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of factor values, and the raw settings it makes."""

    index: int
    factors: Mapping[str, Any]
    settings: Mapping[str, Any]


def cells(study: Study) -> Iterator[Cell]:
    """All cells in order. Raises StudyError for empty factors, unequal zips, duplicate cells."""
    _check(study)
    kept = (factors for factors in _combinations(study) if not _excluded(study, factors))
    for index, factors in enumerate(kept):
        yield Cell(index, factors, merged(study.fixed, factors))


def count(study: Study) -> int:
    """Number of cells."""
    return sum(1 for _ in cells(study))


def merged(fixed: Mapping[str, Any], factors: Mapping[str, Any]) -> dict[str, Any]:
    """Fixed settings overlaid with factor values; dotted names reach into nested settings."""
    settings = deepcopy(dict(fixed))
    for path, value in factors.items():
        *parents, last = path.split(".")
        target = settings
        for part in parents:
            target = target.setdefault(part, {})
        target[last] = deepcopy(value) if isinstance(value, (dict, list)) else value
    return settings


def _combinations(study: Study) -> Iterator[dict[str, Any]]:
    crossed = list(study.factors.items())
    zipped = _zipped(study)
    if crossed or zipped or not study.cells:
        axes: list[list[dict[str, Any]]] = [[{name: v} for v in values] for name, values in crossed]
        if zipped:
            axes.append(zipped)
        for parts in itertools.product(*axes):
            yield {name: value for part in parts for name, value in part.items()}
    yield from (dict(cell) for cell in study.cells)


def _zipped(study: Study) -> list[dict[str, Any]]:
    if not study.zip:
        return []
    rows = zip(*study.zip.values(), strict=True)
    return [dict(zip(study.zip, row, strict=True)) for row in rows]


def _excluded(study: Study, factors: Mapping[str, Any]) -> bool:
    return any(_matches(factors, rule) for rule in study.exclude)


def _repeated(study: Study) -> dict[str, Any] | None:
    """The first cell that stands twice, told from the axes alone: a grid may have a million."""
    axes = {name: list(map(repr, values)) for name, values in study.factors.items()}
    rows = [_key(row) for row in _zipped(study)]
    for name, words in axes.items():
        if twice := [
            v for v, n in zip(study.factors[name], words, strict=True) if words.count(n) > 1
        ]:
            return {name: twice[0]}
    for row in _zipped(study):
        if rows.count(_key(row)) > 1:
            return row
    seen: set[str] = set()
    for cell in study.cells:
        if _excluded(study, cell):
            continue
        if _key(cell) in seen or _crossed(study, cell, axes, rows):
            return cell
        seen.add(_key(cell))
    return None


def _key(factors: Mapping[str, Any]) -> str:
    return repr(sorted(factors.items()))


def _crossed(
    study: Study, cell: Mapping[str, Any], axes: Mapping[str, list[str]], rows: list[str]
) -> bool:
    """True if an explicit cell is one of the crossed ones too."""
    if (not axes and not rows) or set(cell) != {*axes, *study.zip}:
        return False
    zipped = {name: cell[name] for name in study.zip}
    inside = all(repr(cell[name]) in words for name, words in axes.items())
    return inside and (not rows or _key(zipped) in rows)


def _matches(factors: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    return all(name in factors and factors[name] == value for name, value in rule.items())


def _check(study: Study) -> None:
    faults = [
        f"factors.{name}: no values\n  remedy: give at least one value or remove the factor"
        for name, values in {**study.factors, **study.zip}.items()
        if not values
    ]
    if len({len(values) for values in study.zip.values()}) > 1:
        sizes = ", ".join(f"{name}: {len(values)}" for name, values in study.zip.items())
        faults.append(f"zip: lists of unequal length ({sizes})\n  allowed: equal lengths")
    both = set(study.factors) & set(study.zip)
    faults += [f"{name}: both in `factors` and in `zip`\n  remedy: keep one" for name in both]
    names = set(study.factors) | set(study.zip) | {k for cell in study.cells for k in cell}
    for position, rule in enumerate(study.exclude):
        faults += [
            f"exclude[{position}].{name}: not a factor\n  allowed: {', '.join(sorted(names))}"
            for name in rule
            if name not in names
        ]
    if faults:
        raise StudyError(faults)
    if (cell := _repeated(study)) is not None:
        raise StudyError([f"duplicate cell: {cell}\n  remedy: list each combination once"])
