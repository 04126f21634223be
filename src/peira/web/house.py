"""The opened directory: which runs are in it, and the only way to reach one by name.

Invariant: a key leads to a run inside the opened directory or nowhere; what a run is at a glance is
read again only when its run.db has changed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from peira.engine.engine import tally_of
from peira.engine.journal import connect_read_only
from peira.engine.states import Tally
from peira.errors import InputError, PeiraError
from peira.store.rundir import DATABASE, RunDir

HERE = "this"  # the key of the opened directory, when it is itself a run
SKIPPED = ("node_modules", "__pycache__")
NOTHING = Tally()


class NoSuchRun(InputError):
    """No run of this name in the opened directory."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run at a glance. Times in Unix seconds, money in US dollars."""

    key: str
    name: str
    family: str = ""
    state: str = "damaged"
    simulated: bool = False
    tally: Tally = NOTHING
    spent: float = 0.0
    budget: float | None = None
    updated: float = 0.0
    factors: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    message: str = ""


class House:
    """The directory that is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known: dict[str, tuple[tuple[int, ...], Entry]] = {}
        self._lock = threading.Lock()

    def keys(self) -> list[str]:
        """Keys of all runs: paths below the root, `/` between the parts."""
        if (self.root / DATABASE).is_file():
            return [HERE]
        return list(_walk(self.root, ""))

    def runs(self) -> list[Entry]:
        """All runs, newest first; one that cannot be read is listed as damaged."""
        with ThreadPoolExecutor(4) as pool:  # opening a run.db is sqlite's work, outside the GIL
            found = list(pool.map(self.entry, self.keys()))
        return sorted(found, key=lambda entry: entry.updated, reverse=True)

    def stamps(self) -> dict[str, tuple[int, ...]]:
        """What changes whenever a run does; cheap."""
        return {key: stamp(self._path(key)) for key in self.keys()}

    def entry(self, key: str) -> Entry:
        """One run at a glance."""
        path = self._path(key)
        now = stamp(path)
        with self._lock:
            known = self._known.get(key)
        if known is not None and known[0] == now and known[1].state != "running":
            return known[1]
        entry = _read(key, path)
        with self._lock:
            self._known[key] = (now, entry)
        return entry

    def find(self, key: str) -> RunDir:
        """The run of this key. Raises NoSuchRun for anything outside the opened directory."""
        path = self._path(key)
        parts = () if key == HERE else tuple(key.split("/"))
        inside = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
        if not inside or not self._contains(path / DATABASE):
            raise NoSuchRun(f"{key}: no such run in {self.root.name}")
        return RunDir(path)

    def _contains(self, file: Path) -> bool:
        return file.is_file() and file.resolve().is_relative_to(self.root)

    def _path(self, key: str) -> Path:
        return self.root if key == HERE else self.root.joinpath(*key.split("/"))


def stamp(path: Path) -> tuple[int, ...]:
    """Times and sizes of run.db and its log: they change with every commit."""
    marks: list[int] = []
    for name in (DATABASE, f"{DATABASE}-wal"):
        try:
            status = (path / name).stat()
        except OSError:
            marks += [0, 0]
        else:
            marks += [status.st_mtime_ns, status.st_size]
    return tuple(marks)


def _walk(folder: Path, key: str, depth: int = 0) -> Iterator[str]:
    """Keys of the runs below a folder; a run's own folders are not entered."""
    if depth > 8:
        return
    try:
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError:
        return
    for item in items:
        if item.name[0] in "._" or item.name in SKIPPED or not item.is_dir(follow_symlinks=False):
            continue
        inner = f"{key}/{item.name}" if key else item.name
        if (folder / item.name / DATABASE).is_file():
            yield inner
        else:
            yield from _walk(folder / item.name, inner, depth + 1)


def _read(key: str, path: Path) -> Entry:
    updated = max(stamp(path)[0], stamp(path)[2]) / 1e9
    try:
        connection = connect_read_only(path / DATABASE)
        try:
            return _entry(key, path, connection, updated)
        finally:
            connection.close()
    except (PeiraError, sqlite3.Error, ValueError, KeyError) as error:
        lines = str(error).splitlines()
        return Entry(key, path.name, updated=updated, message=lines[0] if lines else "unreadable")


def _entry(key: str, path: Path, connection: sqlite3.Connection, updated: float) -> Entry:
    wanted = "'study', 'live', 'simulated', 'manifest', 'archived'"
    rows = connection.execute(f"SELECT key, value FROM meta WHERE key IN ({wanted})").fetchall()
    meta = {name: orjson.loads(value) for name, value in rows}
    tally = tally_of(connection.execute(
        "SELECT state, COUNT(*) FROM trials WHERE position IS NOT NULL GROUP BY state"
    ).fetchall())  # fmt: skip
    study, live = meta["study"], meta.get("live", {})
    subjects = meta.get("manifest", {}).get("subjects", {})
    return Entry(
        key, study.get("name") or path.name, study["family"], _state(RunDir(path), tally, meta),
        is_simulated(meta), tally, live.get("spent_usd", 0.0),
        study.get("limits", {}).get("budget_usd"), updated, tuple(study.get("factors", {})),
        tuple(sorted(subjects)),
    )  # fmt: skip


def is_simulated(meta: dict[str, Any]) -> bool:
    """True if any subject of the run is simulated."""
    subjects = meta.get("manifest", {}).get("subjects", {})
    return bool(meta.get("simulated")) or any(s.get("simulated") for s in subjects.values())


def _state(run: RunDir, tally: Tally, meta: dict[str, Any]) -> str:
    if run.driven(meta.get("live", {})):
        return "running"
    if "archived" in meta:
        return "archived"
    if tally.done == tally.planned:
        return "done"
    if tally.pending:
        return "unfinished"
    return "failures" if tally.failed else "halted"
