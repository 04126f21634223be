"""A run's directory: where it is, who may write to it, how files get there.

Every file but run.db is a projection: strict JSON, written aside and renamed in, so that a reader
never sees half a file. Invariant: one driver at a time, held by a lock that dies with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

import orjson

from peira.errors import InputError, RunLocked, StoreError

DATABASE = "run.db"
LOCK = "run.lock"
SEAL = "archive_manifest.json"  # in an archive: what is in it, with digests
FRESH = 10.0  # seconds after its last heartbeat that a driver of another machine counts as alive


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths inside one run directory."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def exists(self) -> bool:
        return self.database.is_file()

    @property
    def sealed(self) -> bool:
        """True for an archive: nothing is written into it any more."""
        return (self.path / SEAL).is_file()

    def refuse_sealed(self) -> None:
        """Raise InputError for an archive."""
        if self.sealed:
            raise InputError(
                f"{self.path}: a sealed archive, nothing is written into it\n"
                f"  remedy: peira archive --restore {self.path} --to DIR, and go on there"
            )

    def create(self) -> None:
        """Make the directory. Raises InputError when it cannot be written, or holds a study.yaml
        of the user's, which the run's own would replace."""
        if (self.path / "study.yaml").exists() and not self.exists:
            raise InputError(
                f"{self.path}: holds a study.yaml, but no run\n"
                "  remedy: choose another directory with --output-dir"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror})\n"
                "  remedy: check permissions, or choose another folder"
            ) from error

    @contextlib.contextmanager
    def locked(self, pause: Callable[[float], object] = time.sleep) -> Iterator[None]:
        """Hold the run for one driver. Raises RunLocked naming who has it, InputError for an
        archive."""
        self.refuse_sealed()
        with self._lock(pause) as handle:
            self._sign(handle)
            try:
                yield
            finally:  # first the file, then the lock: see `_lock`
                if _is_at(handle, self.path / LOCK):
                    (self.path / LOCK).unlink()

    def driven(self, live: Mapping[str, Any]) -> bool:
        """True while a driver is at work; `live` is its last heartbeat. The lock tells at once, but
        need not reach another machine's driver: of that one, the heartbeat tells."""
        if not live or "ended" in live:
            return False
        held = self._held()
        return time.time() - live["time"] < FRESH if held is None else held

    def _held(self) -> bool | None:
        """True if the lock is taken; None if it is free, but was last signed elsewhere, or by none."""
        try:
            with (self.path / LOCK).open() as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False if f" on {socket.gethostname()} since " in handle.read() else None
        except BlockingIOError:
            return True
        except OSError as error:
            return False if isinstance(error, FileNotFoundError) else None

    def _lock(self, pause: Callable[[float], object]) -> TextIO:
        """The lock file, locked. One that its holder removed meanwhile locks nothing: again."""
        looked = False
        while True:
            handle = (self.path / LOCK).open("a+")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not looked:  # a reader may hold it for a moment: see `_held`
                    looked = True
                    handle.close()
                    pause(0.02)
                    continue
                with handle:
                    handle.seek(0)
                    holder = handle.read().strip() or "another process"
                raise RunLocked(
                    f"{self.path}: {holder} is already driving this run\n"
                    "  remedy: wait for it, or stop it; watch with peira status --watch"
                ) from None
            if _is_at(handle, self.path / LOCK):
                return handle
            handle.close()

    def _sign(self, handle: TextIO) -> None:
        """Say who holds the lock; on a full disk the lock holds unsigned."""
        with contextlib.suppress(OSError):
            handle.seek(0)
            handle.truncate()
            handle.write(f"process {os.getpid()} on {socket.gethostname()} since {utc_now()}")
            handle.flush()

    def set_aside(self) -> Path | None:
        """Move an existing run out of the way (`--fresh`); nothing is deleted."""
        if not self.exists:
            return None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = self.path.with_name(f"{self.path.name}.old-{stamp}")
        serial = 2
        while target.exists():
            target = self.path.with_name(f"{self.path.name}.old-{stamp}-{serial}")
            serial += 1
        self.path.rename(target)
        (target / LOCK).unlink(missing_ok=True)
        return target

    def trial_folder(self, folder: str, slug: str) -> Path:
        """The folder of a trial; a slug is already known to be a safe relative path."""
        return self.path / folder / slug


def _is_at(handle: TextIO, path: Path) -> bool:
    """True if this open file is the one that the path names."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def find_run(text: str | Path, experiments: Path = Path("experiments")) -> RunDir:
    """A run by path, by name or by `run_<name>` under experiments/. Raises InputError."""
    path = Path(text)
    for candidate in (path, experiments / path, experiments / f"run_{path.name}"):
        if (candidate / DATABASE).is_file():
            return RunDir(candidate)
    if path.name == DATABASE and path.is_file():
        return RunDir(path.parent)
    from peira.study.reader import suggestion

    known = [p.parent.name for p in experiments.glob(f"*/{DATABASE}")]
    hint = suggestion(path.name, known) or "peira list shows the runs"
    raise InputError(f"{text}: no run here (no {DATABASE})\n  remedy: {hint}")


def trial_at(path: Path) -> tuple[RunDir, str] | None:
    """The run, and in it the name, of the trial whose own folder this is; None for another path."""
    folder = path.resolve()
    if (folder / DATABASE).is_file():
        return None
    for parent in folder.parents:
        if (parent / DATABASE).is_file():
            return RunDir(parent), str(Path(*folder.relative_to(parent).parts[1:]))
    return None


def list_runs(root: Path) -> list[RunDir]:
    """Every run below a directory, newest first."""
    found = []
    for folder, inner, files in os.walk(root):
        if DATABASE in files:
            found.append(RunDir(Path(folder)))
            inner.clear()  # a run may have a million trial folders: no run is below them
        inner[:] = [name for name in inner if name != ".peira-trash"]
    return sorted(found, key=lambda run: run.database.stat().st_mtime, reverse=True)


def utc_now() -> str:
    """The time now, ISO 8601, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def dumps(data: Any) -> bytes:
    """Strict, indented JSON: NaN and infinities become null, keys stay in order."""
    return orjson.dumps(
        data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    )


def loads_or_none(path: Path) -> Any | None:
    """A JSON projection, or None if it is missing or damaged: it can be rebuilt."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_file(path: Path, data: bytes | str) -> None:
    """Write aside and rename in, so that readers see the old file or the new one, whole."""
    with streamed(path) as handle:
        handle.write(data.encode("utf-8", "replace") if isinstance(data, str) else data)


@contextlib.contextmanager
def streamed(
    path: Path, then: str = ", then peira collect rebuilds every file"
) -> Iterator[IO[bytes]]:
    """A file to be written bit by bit, renamed in at the end if all went well. `then`: what follows
    once there is room for it again."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as handle:
            yield handle
        aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(
                f"{path}: cannot be written ({error.strerror})\n"
                f"  remedy: free space or permissions{then}"
            ) from error
        raise
