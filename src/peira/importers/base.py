"""A run directory out of trials that another tool ran.

`write_run` gives them identities, cells and positions as `peira run` would, so that status, show,
analyse, report and view work on them. Invariant: settings and outcomes pass the family's own models,
or the import is refused with the trial's name; nothing is overwritten; an imported run is never
driven on, since its replies are not in a ledger.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from peira.engine.attempt import compress
from peira.engine.journal import Journal
from peira.errors import InputError
from peira.families import load_family, resolve
from peira.families.family import Family
from peira.store.collect import collect
from peira.store.manifest import manifest
from peira.store.records import RunView
from peira.store.rundir import RunDir, utc_now
from peira.study.study import Study, canonical, trial_id

STATES = ("done", "failed", "halted", "pending")


@dataclass(frozen=True, slots=True)
class ImportedTrial:
    """One trial as another tool left it.

    `settings` are the family's settings, whole, factors included; `factors` those that varied;
    `outcome` the family's outcome (None unless done). `events` are transcript events with a `kind`;
    `artifacts` are files by name. `usage` is seat -> {calls, tokens_in, tokens_out}, `subjects` seat
    -> {name, served_model, simulated}; `cost` is in micro-dollars, times in Unix seconds. `identity`
    stands in for the family's own, where that would read files that are not there any more.
    """

    slug: str
    settings: Mapping[str, Any]
    seed: int
    outcome: Mapping[str, Any] | BaseModel | None = None
    factors: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    artifacts: Mapping[str, bytes | str] = field(default_factory=dict)
    state: str = "done"
    cause: str | None = None
    message: str | None = None
    usage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    subjects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    simulated: bool = False
    cost: int = 0
    started: float | None = None
    finished: float | None = None
    seconds: float | None = None
    identity: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Notes:
    """What an importer has to say beside its trials: `fixed` settings of the study that no trial
    holds, and `warnings` about what was damaged and left out."""

    fixed: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def json(self, path: Path) -> Any:
        """A JSON file; None where it is missing, and with a warning where it is damaged."""
        if not path.is_file():
            return None
        try:
            return read_json(path)
        except InputError as error:
            self.damaged(error)
            return None

    def mapping(self, path: Path) -> Mapping[str, Any]:
        """A JSON object; empty where there is none."""
        found = self.json(path)
        return found if isinstance(found, Mapping) else {}

    @contextlib.contextmanager
    def leaving_out(self, path: Path) -> Iterator[None]:
        """What is read inside is left out with a warning, if it is not as it should be."""
        try:
            with as_described(path):
                yield
        except InputError as error:
            self.damaged(error)

    def damaged(self, error: InputError) -> None:
        """Warn of a file that is left out."""
        self.warnings.append(f"left out: {str(error).splitlines()[0]}")


@contextlib.contextmanager
def as_described(path: Path) -> Iterator[None]:
    """Data of another shape than the reader inside takes it to have is bad input, not a bug."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        told = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: not as described ({type(error).__name__}: {told})\n  remedy: mend its files"
        ) from error


def write_run(
    target: Path, family: str, trials: Iterable[ImportedTrial], source: str,
    notes: Notes | None = None,
) -> RunDir:  # fmt: skip
    """Write a run directory of imported trials with all its projections. `source` says where they
    come from, `notes` what goes into the study beside them. Raises InputError if `target` holds a
    run already, if there are no trials, or if one does not fit the family's models: then no folder
    is left behind."""
    run = RunDir(target)
    if run.exists:
        raise InputError(f"{target}: holds a run already\n  remedy: choose another with --out")
    run.create()
    reference = resolve(family)
    loaded = load_family(reference)
    with _kept_if_whole(target), run.locked():
        journal = Journal(run.database, costly=False)
        try:
            writer = Writer(loaded, notes or Notes())
            journal.transaction(lambda connection: writer.write(connection, trials))
            _describe(journal, writer, family, reference, source, target.name)
        except BaseException:
            journal.close()
            run.database.unlink()
            raise
        journal.close()
        with RunView(run) as view:
            collect(view, loaded)
    return run


@contextlib.contextmanager
def _kept_if_whole(target: Path) -> Iterator[None]:
    """After an error the folder goes, if there is nothing in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            target.rmdir()
        raise


class Writer:
    """Trials into run.db, one after the other; remembers only what the study needs."""

    def __init__(self, family: Family[Any, Any], notes: Notes) -> None:
        self.family = family
        self.notes = notes
        self.cells: dict[bytes, int] = {}
        self.factors: list[dict[str, Any]] = []
        self.seeds: dict[int, None] = {}
        self.replicates: Counter[int] = Counter()
        self.common: dict[str, Any] | None = None
        self.models: dict[str, None] = {}

    def write(self, connection: sqlite3.Connection, trials: Iterable[ImportedTrial]) -> None:
        """Insert every trial. Raises InputError for one that does not fit, or for none at all."""
        for position, trial in enumerate(trials):
            self._insert(connection, position, trial)
        if not self.cells:
            why = self.notes.warnings[0] if self.notes.warnings else "no trial was found"
            raise InputError(f"nothing to import: {why}\n  remedy: check the directory")

    def _insert(self, connection: sqlite3.Connection, position: int, trial: ImportedTrial) -> None:
        settings, identity = self._settings(trial)
        cell = self._cell(connection, identity, settings, trial.factors)
        self.replicates[cell] += 1
        self.seeds[trial.seed] = None
        self.models.update(dict.fromkeys(s["name"] for s in trial.subjects.values() if "name" in s))
        number = position + 1
        try:
            connection.execute(
                "INSERT INTO trials(number, id, slug, cell, seed, replicate, position, state, cause,"
                " message, attempts, started, finished, seconds, outcome, usage, subjects, simulated)"
                " VALUES(?,?,?,?,?,?,?,?,?,?,1,?,?,?,?,?,?,?)",
                (number, trial_id(self.family.name, self.family.version, identity, trial.seed),
                 trial.slug, cell, trial.seed, self.replicates[cell], position, _state(trial),
                 trial.cause, trial.message, trial.started, trial.finished, trial.seconds,
                 self._outcome(trial), orjson.dumps(dict(trial.usage)),
                 orjson.dumps(dict(trial.subjects)), int(trial.simulated)),
            )  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise InputError(
                f"trial {trial.slug}: the same name, or the same settings and seed, twice\n"
                "  remedy: give each replicate its own seed in the importer"
            ) from error
        _attach(connection, number, trial)

    def _settings(self, trial: ImportedTrial) -> tuple[bytes, bytes]:
        try:
            settings = self.family.Settings.model_validate(dict(trial.settings))
        except ValidationError as error:
            raise _misfit(trial, "settings", error) from error
        plain = settings.model_dump(mode="json")
        self.common = plain if self.common is None else {
            key: value for key, value in self.common.items()
            if key in plain and plain[key] == value
        }  # fmt: skip
        identity = self.family.identity(settings) if trial.identity is None else trial.identity
        return orjson.dumps(plain), canonical(dict(identity))

    def _cell(
        self,
        connection: sqlite3.Connection,
        identity: bytes,
        settings: bytes,
        factors: Mapping[str, Any],
    ) -> int:
        if identity not in self.cells:
            self.cells[identity] = len(self.cells) + 1
            self.factors.append(dict(factors))
            connection.execute(
                "INSERT INTO cells(number, hash, settings, factors) VALUES(?,?,?,?)",
                (self.cells[identity], identity.decode(), settings, orjson.dumps(dict(factors))),
            )
        return self.cells[identity]

    def _outcome(self, trial: ImportedTrial) -> bytes | None:
        if trial.outcome is None:
            if trial.state == "done":
                raise InputError(f"trial {trial.slug}: done without an outcome")
            return None
        try:
            outcome = self.family.Outcome.model_validate(
                trial.outcome if isinstance(trial.outcome, BaseModel) else dict(trial.outcome)
            )
        except ValidationError as error:
            raise _misfit(trial, "outcome", error) from error
        return bytes(outcome.model_dump_json().encode())

    def study(self, family: str, name: str, source: str) -> Study:
        """A study that describes what was imported: common settings, cells, seeds."""
        varied = {key for cell in self.factors for key in cell}
        fixed = {k: v for k, v in (self.common or {}).items() if k not in varied}
        fixed |= self.notes.fixed
        return Study(
            family=family, name=name, description=f"imported from {source}", fixed=fixed,
            cells=self.factors if varied else [], seeds=list(self.seeds),
        )  # fmt: skip


def _attach(connection: sqlite3.Connection, number: int, trial: ImportedTrial) -> None:
    if trial.events:
        events = [{"n": n, **event} for n, event in enumerate(trial.events)]
        connection.execute(
            "INSERT INTO transcripts VALUES(?,?)", (number, compress(orjson.dumps(events)))
        )
    for name, data in trial.artifacts.items():
        payload = data.encode() if isinstance(data, str) else data
        connection.execute("INSERT INTO artifacts VALUES(?,?,?)", (number, name, compress(payload)))
    if trial.cost:
        models = sorted({str(s.get("name", "")) for s in trial.subjects.values()})
        connection.execute(
            "INSERT INTO replies(trial, key, hash, state, model, cost, buyer)"
            " VALUES(?,'imported',x'','imported',?,?,?)",
            (number, " + ".join(models), trial.cost, number),
        )


def _state(trial: ImportedTrial) -> str:
    if trial.state not in STATES:
        raise InputError(f"trial {trial.slug}: state {trial.state}\n  allowed: {', '.join(STATES)}")
    return trial.state


def _misfit(trial: ImportedTrial, what: str, error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    path = ".".join(map(str, first["loc"]))
    return InputError(
        f"trial {trial.slug}: {what}: {path}: {str(first.get('input'))[:80]}\n"
        f"  allowed: {first['msg'].removeprefix('Value error, ')}"
    )


def _describe(
    journal: Journal, writer: Writer, family: str, reference: str, source: str, name: str
) -> None:
    study = writer.study(family, name, source)
    imported = {"source": source, "time": utc_now(), "warnings": writer.notes.warnings}
    values = {
        "study": study.model_dump(mode="json"), "family": reference, "simulated": False,
        "imported": imported,
        "manifest": {
            **manifest(study, [], None), "imported": imported,
            "subjects": {name: {"model": name} for name in writer.models},
        },
    }  # fmt: skip
    for key, value in values.items():
        journal.put("INSERT INTO meta VALUES(?,?)", (key, orjson.dumps(value).decode()))
    journal.flush()


def read_json(path: Path) -> Any:
    """A JSON file of another tool; NaN and infinities become None. Raises InputError naming it."""
    import json

    try:
        return json.loads(path.read_bytes(), parse_constant=lambda word: None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error})\n  remedy: mend or remove it"
        ) from error
