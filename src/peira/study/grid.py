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
    index = 0
    seen: set[str] = set()
    for factors in _combinations(study):
        if any(_matches(factors, rule) for rule in study.exclude):
            continue
        key = repr(sorted(factors.items(), key=lambda item: item[0]))
        if key in seen:
            raise StudyError([f"duplicate cell: {factors}\n  remedy: list each combination once"])
        seen.add(key)
        yield Cell(index, factors, merged(study.fixed, factors))
        index += 1


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
