"""From a study to registered trials.

`plan` validates every cell and gives each trial its identity; `register` writes them into run.db.
Invariant: a trial's number and slug never change once given; trials no longer planned stay, without
a position, outside all counts.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import orjson
from pydantic import ValidationError

from peira.engine.journal import Journal
from peira.errors import InputError, StudyError
from peira.study import grid
from peira.study.reader import Source, fault, settled
from peira.study.study import Study, TrialPlan, canonical, trial_id


class Planner(Protocol):
    """What planning needs of a family."""

    name: ClassVar[str]
    version: ClassVar[int]
    order: ClassVar[str]
    Settings: Any

    def identity(self, settings: Any) -> dict[str, Any]: ...
    def slug(self, settings: Any, trial: TrialPlan) -> str: ...


HELD = 10_000  # cells whose settings stay in memory as objects; further ones are read again


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell, validated: its settings as stored and as they enter the identity. Bytes, since a
    study may have a million cells."""

    index: int
    family: Planner
    told: bytes
    stored: bytes
    identity: bytes
    held: Any = None

    @property
    def factors(self) -> dict[str, Any]:
        """What varies, by name."""
        found: dict[str, Any] = orjson.loads(self.told)
        return found

    @property
    def settings(self) -> Any:
        """The family's settings."""
        if self.held is not None:
            return self.held
        return self.family.Settings.model_validate(orjson.loads(self.stored))


class SettingsOf(Sequence[Any]):
    """The settings of cells, one at a time."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: Any) -> Any:
        found = self.cells[index]
        return [cell.settings for cell in found] if isinstance(found, list) else found.settings


def plan_cells(study: Study, family: Planner, source: Source | None = None) -> list[PlannedCell]:
    """Every cell of the study, validated. Raises StudyError with all faults found."""
    faults: dict[str, None] = {}
    good: list[PlannedCell] = []
    for cell in grid.cells(study):
        try:
            settings = family.Settings.model_validate(cell.settings)
        except StudyError as error:  # a family that reads files of its own names their lines
            faults.update(dict.fromkeys(error.faults))
            continue
        except ValidationError as error:
            faults.update(dict.fromkeys(_faults(error, study, cell, source, family)))
            continue
        good.append(PlannedCell(
            cell.index, family, _fitting(dict(cell.factors)),
            _fitting(settings.model_dump(mode="json")), canonical(family.identity(settings)),
            settings if cell.index < HELD else None,
        ))  # fmt: skip
    if faults:
        raise StudyError(list(faults))
    if not good:
        raise InputError("the study has no cells\n  remedy: relax `exclude` or add factor values")
    return good


def _fitting(data: Any) -> bytes:
    """JSON in bytes of its own size: orjson's shrink from a kilobyte and leave the holes behind."""
    return bytes(memoryview(orjson.dumps(data)))


def plan(
    study: Study, family: Planner, cells: list[PlannedCell]
) -> Iterator[tuple[PlannedCell, TrialPlan]]:
    """Every trial, in the order it is to run."""
    seeds = list(enumerate(study.trial_seeds, start=1))
    pairs = (
        ((cell, seed) for seed in seeds for cell in cells)
        if family.order == "replicate" or study.stop is not None
        else ((cell, seed) for cell in cells for seed in seeds)
    )
    for index, (cell, (replicate, seed)) in enumerate(pairs):
        identity = trial_id(family.name, family.version, cell.identity, seed)
        yield cell, TrialPlan(identity, seed, replicate, index, cell.index, cell.factors)


def register(journal: Journal, study: Study, family: Planner, cells: list[PlannedCell]) -> int:
    """Write the plan into run.db and return the number of planned trials. Idempotent."""

    def work(connection: sqlite3.Connection) -> int:
        connection.execute("UPDATE trials SET position=NULL WHERE position IS NOT NULL")
        numbers = array("q", (_cell_number(connection, cell) for cell in cells))
        count = 0
        for cell, trial in plan(study, family, cells):
            _insert(connection, family, cell, trial, numbers[cell.index])
            count += 1
        return count

    return journal.transaction(work)


def _cell_number(connection: sqlite3.Connection, cell: PlannedCell) -> int:
    key = cell.identity.decode()
    connection.execute(
        "INSERT INTO cells(hash, settings, factors) VALUES(?,?,?) ON CONFLICT(hash)"
        " DO UPDATE SET settings=excluded.settings, factors=excluded.factors",
        (key, cell.stored, cell.told),
    )
    (number,) = connection.execute("SELECT number FROM cells WHERE hash=?", (key,)).fetchone()
    return int(number)


def _insert(
    connection: sqlite3.Connection,
    family: Planner,
    cell: PlannedCell,
    trial: TrialPlan,
    number: int,
) -> None:
    changed = connection.execute(
        "UPDATE trials SET position=?, cell=?, replicate=? WHERE id=? AND position IS NULL",
        (trial.index, number, trial.replicate, trial.id),
    ).rowcount
    if changed:
        return
    slug = family.slug(cell.settings, replace(trial, cell_number=number))
    _check_slug(slug)
    for name in (slug, *(f"{slug}-x{trial.id[:k]}" for k in range(8, 33, 4))):
        try:
            connection.execute(
                "INSERT INTO trials(id, slug, cell, seed, replicate, position) VALUES(?,?,?,?,?,?)",
                (trial.id, name, number, trial.seed, trial.replicate, trial.index),
            )
            return
        except sqlite3.IntegrityError as error:
            if "trials.id" in str(error):
                raise StudyError([_duplicate(cell, trial)]) from error
    raise StudyError([f"no free name for trial {slug!r}"])


def _check_slug(slug: str) -> None:
    parts = slug.split("/")
    if slug.startswith("/") or any(p in ("", ".", "..") or "\\" in p or "\0" in p for p in parts):
        raise InputError(f"trial name {slug!r} is not a relative path\n  remedy: change the slug")


def _duplicate(cell: PlannedCell, trial: TrialPlan) -> str:
    return (
        f"duplicate trial: cell {cell.factors}, seed {trial.seed}\n"
        "  allowed: each combination of settings and seed once\n"
        "  remedy: remove the repeated value (0 and 0.0 are equal; so are aliases of one model)"
    )


# -- faults in words -------------------------------------------------------------------------
def _faults(
    error: ValidationError, study: Study, cell: grid.Cell, source: Source | None, family: Planner
) -> Iterator[str]:
    for loc, item in settled(error, cell.settings).items():
        path = _study_path(loc, study, cell)
        yield str(fault(family.Settings, loc, item, source or Source("study"), path))


def _study_path(loc: tuple[Any, ...], study: Study, cell: grid.Cell) -> tuple[Any, ...]:
    for section, values in (("factors", study.factors), ("zip", study.zip)):
        for name in values:
            parts = tuple(name.split("."))
            if loc[: len(parts)] == parts:
                position = _index(values[name], cell.factors.get(name))
                return (section, name, *position, *loc[len(parts) :])
    for number, explicit in enumerate(study.cells):
        if loc and loc[0] in explicit:
            return ("cells", number, *loc)
    return ("fixed", *loc)


def _index(values: list[Any], value: Any) -> tuple[int, ...]:
    return (values.index(value),) if value in values else ()
