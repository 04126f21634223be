"""Files between a driver and workers on other hosts, in the run's `shards/` folder.

A worker's home holds an inbox (numbered files of messages, from the driver) and a shard (JSON lines,
from the worker). The worker alone appends to its shard, the driver alone writes run.db. Invariants:
a line counts once it ends in a newline, so a torn last line is as good as never written; a reply is
on disk before its trial sees it; a line is imported once, since the place reached is stored in the
same transaction as what was imported.
"""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import orjson

from peira.engine.attempt import TrialResult
from peira.engine.journal import Statement
from peira.engine.ledger import WRITE, Kept, Purchase, written
from peira.engine.states import State
from peira.errors import RunHalted, StoreError

FOLDER = "shards"
SHARD = "shard.jsonl"
SHARED = "shared"
KNOWN = "known.db"
DRIVER = "driver"  # touched by the driver, so that orphaned workers notice
JOB = "job.json"
PLACE = "INSERT OR REPLACE INTO meta VALUES(?,?)"  # how far a shard is imported: bytes, or…
CLOSED = "closed"  # … all of it, calls without an end too


# -- lines --------------------------------------------------------------------------------------
def line(kind: str, **values: Any) -> bytes:
    """One line of a shard; bytes become base64."""
    return orjson.dumps({"kind": kind, **values}, default=_base64) + b"\n"


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} does not belong in a shard")


def unbase64(text: str) -> bytes:
    """Bytes of a line."""
    return base64.b64decode(text)


def purchase_row(purchase: Purchase) -> list[Any]:
    """A purchase as JSON."""
    return [purchase.trial, purchase.buyer, purchase.key, _base64(purchase.digest),
            purchase.model, purchase.worst]  # fmt: skip


def purchase_of(row: Sequence[Any]) -> Purchase:
    """The inverse of `purchase_row`."""
    trial, buyer, key, digest, model, worst = row
    return Purchase(trial, buyer, key, unbase64(digest), model, worst)


def kept_rows(replies: Sequence[Kept]) -> list[list[str]]:
    """Free replies as JSON; a packed reply is JSON text already."""
    return [
        [key, _base64(digest), model, packed.decode()] for key, digest, model, packed in replies
    ]


def kept_of(rows: Sequence[Sequence[str]]) -> list[Kept]:
    """The inverse of `kept_rows`."""
    return [(key, unbase64(digest), model, packed.encode()) for key, digest, model, packed in rows]


BLOBS = ("outcome", "usage", "subjects", "events")


def result_line(result: TrialResult) -> bytes:
    """A finished attempt."""
    values = {each.name: getattr(result, each.name) for each in fields(result)}
    values["kept"] = kept_rows(result.kept)
    values["artifacts"] = dict(result.artifacts)
    values["halt"] = None if result.halt is None else [result.halt.cause, str(result.halt)]
    return line("result", **values)


def result_of(data: dict[str, Any]) -> TrialResult:
    """The inverse of `result_line`."""
    values = {each.name: data[each.name] for each in fields(TrialResult)}
    for name in BLOBS:
        values[name] = None if values[name] is None else unbase64(values[name])
    values["artifacts"] = {name: unbase64(blob) for name, blob in values["artifacts"].items()}
    values["kept"] = tuple(kept_of(values["kept"]))
    values["halt"] = None if values["halt"] is None else RunHalted(*values["halt"])
    values["state"] = State(values["state"])
    return TrialResult(**values)


# -- the worker's side of a shard -----------------------------------------------------------------
class ShardWriter:
    """Appends lines. `durable` returns once the line is on disk; waiting lines share one fsync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        cut_torn_line(path)
        self._file: IO[bytes] = path.open("ab")
        self._waiting: list[bytes] = []
        self._flushed: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, data: bytes) -> asyncio.Future[None]:
        """Queue a line; the future is done once it is on disk. Raises StoreError if none fits."""
        self._waiting.append(data)
        if self._flushed is None:
            self._flushed = asyncio.get_running_loop().create_future()
            self._flushed.add_done_callback(_seen)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._flush())
        return self._flushed

    async def durable(self, data: bytes) -> None:
        """Write a line and wait until it is on disk."""
        await asyncio.shield(self.put(data))

    async def close(self) -> None:
        """Wait for what is queued."""
        if self._task is not None:
            await self._task
        self._file.close()

    async def _flush(self) -> None:
        while self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            flushed, self._flushed = self._flushed, None
            error: StoreError | None = None
            try:
                await asyncio.to_thread(self._write, data)
            except OSError as caught:
                error = StoreError(f"{self.path}: cannot be written ({caught.strerror})")
            if flushed is None or flushed.done():
                continue
            flushed.set_result(None) if error is None else flushed.set_exception(error)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())


def _seen(future: asyncio.Future[None]) -> None:
    """An error that nobody waits for is told by the next line that somebody waits for."""
    if not future.cancelled():
        future.exception()


def cut_torn_line(path: Path) -> None:
    """Drop what a killed worker left after the last newline, before appending to its shard."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as handle:
            handle.truncate(whole)


def lines_from(path: Path, offset: int, end: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from a place on (up to `end`), and the place reached. Raises StoreError for a
    damaged line."""
    try:
        with path.open("rb") as handle:
            handle.seek(offset)
            data = handle.read() if end is None else handle.read(end - offset)
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    found = []
    for number, each in enumerate(whole.splitlines(), start=1):
        try:
            found.append(orjson.loads(each))
        except orjson.JSONDecodeError as error:
            raise StoreError(
                f"{path}: line {number} after byte {offset} is damaged ({error})\n"
                "  remedy: remove that line; everything else in the shard is imported"
            ) from error
    return found, offset + len(whole)


# -- the inbox ------------------------------------------------------------------------------------
class Inbox:
    """The driver's messages to one worker: numbered files, each whole or not there."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "inbox"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.next = 1 + max((int(p.stem) for p in self.folder.glob("*.pkl")), default=0)

    def write(self, messages: list[Any]) -> None:
        """Put one file of messages."""
        path = self.folder / f"{self.next:08d}.pkl"
        aside = path.with_suffix(".tmp")
        aside.write_bytes(pickle.dumps(messages, protocol=5))
        aside.replace(path)
        self.next += 1


def read_inbox(home: Path, number: int) -> tuple[list[Any], int]:
    """Messages from file `number` on, and the number of the first file that is not there yet."""
    messages: list[Any] = []
    while True:
        try:
            data = (home / "inbox" / f"{number:08d}.pkl").read_bytes()
        except FileNotFoundError:
            return messages, number
        messages += pickle.loads(data)
        number += 1


# -- the driver's side of a shard -----------------------------------------------------------------
@dataclass(slots=True)
class Import:
    """What some lines of a shard mean for run.db: statements, and what the driver has to be told."""

    statements: list[Statement] = field(default_factory=list)
    spent: list[tuple[int, int]] = field(default_factory=list)  # (trial that asked, micro-dollars)
    results: list[TrialResult] = field(default_factory=list)
    kept: list[tuple[int, list[Kept]]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)  # hello, need, bye


class ShardReader:
    """Follows one worker's shard. `number` gives ids to imported replies (None: SQLite does)."""

    def __init__(self, home: Path, offset: int = 0, number: Any = lambda: None) -> None:
        self.home = home
        self.number = number
        self.open: dict[int, Purchase] = {}
        # What an earlier driver imported is read again only for what is still open.
        imported, self.offset = lines_from(home / SHARD, 0, offset)
        for each in imported:
            self.track(each)

    @property
    def key(self) -> str:
        """Where run.db keeps the place reached."""
        return f"shard/{self.home.name}"

    def read(self) -> Import:
        """Everything new."""
        done = Import()
        start = self.offset
        for each in self._take():
            self._import(each, done)
        if self.offset != start:
            done.statements.append((PLACE, (self.key, str(self.offset)), False))
        return done

    def close(self) -> Import:
        """The worker is gone: calls without an end stay charged at their worst case."""
        done = self.read()
        for purchase in self.open.values():
            self._insert(done, purchase, "unsettled", None, 0, purchase.worst)
        self.open.clear()
        done.statements.append((PLACE, (self.key, CLOSED), False))
        return done

    def _take(self) -> list[dict[str, Any]]:
        found, self.offset = lines_from(self.home / SHARD, self.offset)
        return found

    def track(self, data: dict[str, Any]) -> Purchase | None:
        """Keep account of calls in flight; returns the purchase that a line closes."""
        if data["kind"] == "open":
            self.open[data["intent"]] = purchase_of(data["purchase"])
        elif data["kind"] in ("settle", "release", "lose"):
            return self.open.pop(data["intent"], None)
        return None

    def _import(self, data: dict[str, Any], done: Import) -> None:
        closed = self.track(data)
        match data["kind"]:
            case "settle" if closed is not None:
                packed = data["reply"].encode()
                self._insert(done, closed, "done", packed, data["cost"], 0)
            case "lose" if closed is not None:
                self._insert(done, closed, "unsettled", None, 0, closed.worst)
            case "keep":
                done.kept.append((data["trial"], kept_of(data["replies"])))
            case "checkpoint":
                done.statements.append(
                    ("INSERT OR REPLACE INTO checkpoints(trial, name, data) VALUES(?,?,?)",
                     (data["trial"], data["name"], unbase64(data["data"])), False)
                )  # fmt: skip
            case "result":
                done.results.append(result_of(data))
            case "hello" | "need" | "bye":
                done.told.append(data)

    def _insert(
        self, done: Import, purchase: Purchase, state: str, packed: bytes | None, cost: int,
        worst: int,
    ) -> None:  # fmt: skip
        row = written(self.number(), purchase, state, packed, cost, worst)
        # One at a time: what was lost and bought again may both be here, as attempts 1 and 2.
        done.statements.append((WRITE.sql(1), row, False))
        done.spent.append((purchase.buyer, cost + worst))


def homes(run: Path) -> Iterator[Path]:
    """The homes of all workers of a run that have not been put away."""
    yield from sorted(path.parent for path in (run / FOLDER).glob(f"*/{JOB}"))


def content_name(key: str) -> str:
    """A content key as a file name."""
    return blake2b(key.encode(), digest_size=16).hexdigest()
