"""Sealed copies of runs: the database by SQLite's own backup, every projection, every digest.

Invariant: an archive is built aside and renamed in, so it is whole or absent; the run stays as it
is; what an archive holds can be verified against its manifest and restored as a run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from peira.errors import InputError, PeiraError, StoreError
from peira.store.records import RunView
from peira.store.rundir import DATABASE, LOCK, SEAL, RunDir, dumps, find_run, list_runs, utc_now

SCHEMA_VERSION = 1
LEFT_OUT = (LOCK, "run.ballast", f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal")


@dataclass(frozen=True, slots=True)
class Sealed:
    """What archiving did, or would do."""

    path: Path
    files: int
    partial: bool
    how: str  # "sealed", "replaced", "identical" or "would seal"

    def describe(self) -> str:
        """One line for people."""
        kind = "partial, " if self.partial else ""
        if self.how == "identical":
            return f"archive {self.path} is already there, identical"
        return f"archive {self.path}: {self.how} ({kind}{self.files} files)"


def seal(
    run: RunDir,
    target: Path,
    *,
    allow_incomplete: bool = False,
    trial: str | None = None,
    dry_run: bool = False,
) -> Sealed:
    """Seal a copy of `run` at `target`. Raises StoreError for an incomplete run, InputError when
    the name is taken by something else."""
    with RunView(run) as view:
        partial = _partial(view, trial, allow_incomplete)
        digest = content_digest(view)
    chosen = [path for path in projections(run.path) if _belongs(path, run.path, trial)]
    known = read_manifest(target)
    if known is not None and known["content_sha256"] == digest and known["trial"] == trial:
        return Sealed(target, known["n_files"], known["partial"], "identical")
    replaces = known is not None and known["partial"] and known["run_id"] == run.path.name
    if target.exists() and not replaces:
        raise InputError(
            f"{target}: taken by another archive\n  allowed: a free name, or the same run unchanged"
            "\n  remedy: --experiment-name NAME"
        )
    if dry_run:
        return Sealed(target, len(chosen) + 1, partial, "would seal")
    facts = {"run_id": run.path.name, "trial": trial, "partial": partial, "content_sha256": digest}
    count = _build(run, target, chosen, facts)
    _mark(run.path / DATABASE, target.name, digest)
    return Sealed(target, count, partial, "replaced" if replaces else "sealed")


def _partial(view: RunView, trial: str | None, allow: bool) -> bool:
    tally = view.tally
    done = tally.done == tally.planned if trial is None else view.record(trial).done
    if not done and not allow:
        raise StoreError(
            f"{view.path}: not complete ({tally})\n  allowed: complete runs\n"
            "  remedy: run it to the end, or --allow-incomplete"
        )
    return not done


def projections(folder: Path) -> Iterator[Path]:
    """Every file of a run but its database and what only a driver needs."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            continue
        if inside.name in (*LEFT_OUT, DATABASE, SEAL) or inside.name.startswith("."):
            continue
        if any((folder / parent).is_symlink() for parent in inside.parents):
            continue
        yield path


def _belongs(path: Path, folder: Path, trial: str | None) -> bool:
    """With one trial chosen, the folders and links of the others stay behind."""
    inside = path.relative_to(folder)
    if trial is None:
        return True
    if path.is_symlink():
        return inside.name == trial
    return inside.parts[0] != "trials" or Path(*inside.parts[1:]).is_relative_to(trial)


def _build(run: RunDir, target: Path, chosen: list[Path], facts: dict[str, Any]) -> int:
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _backup(run.path / DATABASE, aside / DATABASE)
        _mark(aside / DATABASE, target.name, facts["content_sha256"])
        for path in chosen:
            place = aside / path.relative_to(run.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                place.symlink_to(path.readlink())
            else:
                shutil.copy2(path, place)
        files = _digests(aside)
        manifest = {
            "schema_version": SCHEMA_VERSION, "name": target.name, "created": utc_now(), **facts,
            "n_files": len(files), "files": files,
        }  # fmt: skip
        (aside / SEAL).write_bytes(dumps(manifest))
        _put_in_place(aside, target)
    except OSError as error:
        raise StoreError(
            f"{target}: cannot be written ({error.strerror})\n  remedy: free space or permissions"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return len(files)


def _put_in_place(aside: Path, target: Path) -> None:
    """Rename the finished archive in; a partial one that it replaces goes after."""
    if not target.exists():
        aside.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    aside.rename(target)
    shutil.rmtree(old)


def _backup(source: Path, copy: Path) -> None:
    uri = f"{source.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as live, closing(sqlite3.connect(copy)) as sealed:
        live.backup(sealed)
        sealed.execute("PRAGMA journal_mode=DELETE")


def _mark(database: Path, name: str, digest: str) -> None:
    value = orjson.dumps({"name": name, "content_sha256": digest, "time": utc_now()}).decode()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES('archived', ?)", (value,))


def _digests(folder: Path) -> dict[str, str]:
    paths = [folder / DATABASE, *projections(folder)]
    return {str(path.relative_to(folder)): _sha256(path) for path in paths if not path.is_symlink()}


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_digest(view: RunView) -> str:
    """SHA-256 of what was found: trials with their states and outcomes, replies with their cost."""
    digest = hashlib.sha256()
    for sql in (
        "SELECT id, slug, state, outcome FROM trials ORDER BY id",
        "SELECT trial, key, state, cost, hash FROM replies ORDER BY trial, key, attempt",
    ):
        for row in view.query(sql):
            digest.update(repr(row).encode())
    return digest.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """An archive's manifest, or None where there is none."""
    path = folder / SEAL
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise StoreError(f"{path}: damaged ({error})") from error
    return manifest


def verify(folder: Path) -> list[str]:
    """What differs from the manifest: missing, changed or added files. Raises InputError."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: no archive ({SEAL} is missing)\n  remedy: peira list")
    found = _digests(folder)
    sealed = manifest["files"]
    return [
        *(f"missing: {name}" for name in sealed if name not in found),
        *(f"changed: {n}" for n, value in found.items() if n in sealed and sealed[n] != value),
        *(f"added: {name}" for name in found if name not in sealed),
    ]


def restore(folder: Path, target: Path) -> None:
    """Copy a verified archive back to a run that `peira run` can go on with. Raises InputError."""
    if faults := verify(folder):
        raise StoreError(
            f"{folder}: does not match its manifest\n  {faults[0]}\n  remedy: another copy"
        )
    if target.exists():
        raise InputError(f"{target}: exists already\n  remedy: name another folder with --to")
    shutil.copytree(folder, target, symlinks=True)
    (target / SEAL).unlink()
    with closing(sqlite3.connect(target / DATABASE)) as connection, connection:
        connection.execute("DELETE FROM meta WHERE key='archived'")


def newest_unarchived(experiments: Path, named: bool = False) -> RunDir:
    """The newest finished run that has no archive of its present state; for a `named` archive the
    newest finished one if all have theirs. Raises InputError."""
    finished = []
    runs = list_runs(experiments) if experiments.is_dir() else []
    for run in runs:
        if (run.path / SEAL).exists():
            continue
        try:
            with RunView(run) as view:
                known = view.meta.get("archived") or {}
                tally = view.tally
                fresh = known.get("content_sha256") != content_digest(view)
        except PeiraError:
            continue
        if tally.done == tally.planned:
            finished.append(run)
            if fresh:
                return run
    if named and finished:
        return finished[0]
    raise InputError(
        f"{experiments}: no finished run without an archive\n  remedy: name one: peira archive RUN"
    )


def find(text: str, experiments: Path) -> Path:
    """An archive by path or name. Raises InputError."""
    for path in (Path(text), experiments / text):
        if (path / SEAL).is_file():
            return path
    return find_run(text, experiments).path
