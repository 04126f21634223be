"""run.db: the only truth of a run. One writer, group commits, short reads.

Writes are queued and committed together by one thread; `durable` returns after the commit that holds
its statement. Invariant: statements are committed in the order they were put, all or none per
commit; rows of a `Bulk` come last in theirs, so only what somebody awaits goes through one. On a
full disk the ballast is given up so that replies in flight still fit; then the journal refuses
further writes with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import zstandard

from peira.engine.migrations import check_readable, migrate
from peira.engine.mounts import is_network_mount
from peira.errors import StoreError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement whose VALUES hold as many rows as a commit has for it.

    One step of SQLite for all of them: after each step the writer needs the interpreter's lock
    again, which a busy loop gives up late (5 ms), so a step for each row made commits ten times
    slower than the disk. Rows of one commit do not see each other."""

    head: str
    row: str
    tail: str = ""

    @lru_cache(maxsize=512)  # noqa: B019 - there are two or three of these
    def sql(self, rows: int) -> str:
        return f"{self.head} {','.join([self.row] * rows)} {self.tail}"


Statement = tuple[str | Bulk, Sequence[Any] | Iterable[Sequence[Any]], bool]
Waiter = (
    Callable[[BaseException | None], None] | tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]
)

MAX_QUEUE = 20_000  # entries waiting; beyond it producers wait, so memory stays flat
BULK_ROWS = 500  # at once: SQLite takes 32,766 values in a statement
BALLAST = 1 << 20  # bytes given up when the disk is full
CORRUPT = ("malformed", "not a database", "disk image")


class Journal:
    """The writer's connection to run.db. `costly`: fsync every commit, since replies cost money."""

    def __init__(self, path: Path, *, costly: bool = True) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = connect(path, costly=costly)
        self._waiting: SimpleQueue[tuple[Sequence[Statement], Waiter | None] | None] = SimpleQueue()
        self.failure: StoreError | None = None
        self._ballast = path.with_name("run.ballast")
        self._lay_ballast()
        self._thread = threading.Thread(target=self._write_forever, name="journal", daemon=True)
        self._thread.start()

    # -- writing ----------------------------------------------------------------------------
    def put(self, sql: str | Bulk, values: Sequence[Any] = ()) -> None:
        """Queue one statement; it is committed soon, in order."""
        self._enqueue([(sql, values, False)], None)

    def put_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Queue one statement for many rows."""
        self._enqueue([(sql, rows, True)], None)

    def durable(self, sql: str | Bulk, values: Sequence[Any] = ()) -> asyncio.Future[None]:
        """Queue one statement; await until it is on disk."""
        return self.durable_all([(sql, values, False)])

    def durable_all(self, statements: Sequence[Statement]) -> asyncio.Future[None]:
        """Queue statements that are committed together or not at all; await until they are."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._enqueue(statements, (loop, future))
        return future

    async def breathe(self) -> None:
        """Wait while the queue is long, so that a fast producer keeps memory flat."""
        while self._waiting.qsize() > MAX_QUEUE and self.failure is None:
            await asyncio.sleep(0.002)

    def flush(self) -> None:
        """Block until everything put so far is committed."""
        done = threading.Event()
        self._enqueue([("SELECT 1", (), False)], lambda error: done.set())
        done.wait()
        self._raise_failure()

    def close(self) -> None:
        """Commit what waits and close, leaving one file: out of WAL, which readers that may not
        write could not end, unless somebody reads just now."""
        self._waiting.put(None)
        self._thread.join()
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout=0")
            self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()
        self._ballast.unlink(missing_ok=True)

    def transaction(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` as one transaction of its own, after everything put so far."""
        self.flush()
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._connection)
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:  # a full disk rolls back by itself
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise as_store_error(self.path, error) from error
                raise
        return result

    # -- reading ----------------------------------------------------------------------------
    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows of one short query, seeing every commit so far."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    # -- the writer thread ------------------------------------------------------------------
    def _enqueue(self, statements: Sequence[Statement], done: Waiter | None) -> None:
        self._raise_failure()
        self._waiting.put((statements, done))

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _write_forever(self) -> None:
        closing = False
        while not closing:
            found = [self._waiting.get()]
            found += [self._waiting.get() for _ in range(self._waiting.qsize())]
            batch = [each for each in found if each is not None]
            closing = len(batch) < len(found)
            error = self._commit(list(_steps(chain.from_iterable(each for each, _ in batch))))
            _tell([done for _, done in batch if done is not None], error)

    def _commit(self, statements: list[Statement]) -> BaseException | None:
        """None, or why these statements are not on disk. A value that no column holds (an integer of
        more than 64 bits) must not end this thread: everyone would wait for ever."""
        if self.failure is not None:
            return self.failure
        try:
            self._apply(statements)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it
            if "full" in str(error) and self._ballast.exists():
                self._ballast.unlink()  # its room takes this commit; later ones are refused
                return self._commit(statements)
            self.failure = as_store_error(self.path, error)
        return self.failure

    def _apply(self, statements: list[Statement]) -> None:
        with self._lock:
            connection = self._connection
            if len(statements) == 1 and not statements[0][2]:  # a transaction of its own
                connection.execute(*statements[0][:2])  # type: ignore[arg-type]
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                for sql, values, many in statements:
                    (connection.executemany if many else connection.execute)(sql, values)  # type: ignore[arg-type]
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _lay_ballast(self) -> None:
        try:
            self._ballast.write_bytes(b"\0" * BALLAST)
        except OSError as error:
            self._ballast.unlink(missing_ok=True)
            self._connection.close()
            raise as_store_error(self.path, sqlite3.OperationalError("disk is full")) from error


def _steps(statements: Iterable[Statement]) -> Iterator[Statement]:
    """The statements as they came, then the rows of each bulk in as few steps as may be."""
    rows: dict[Bulk, list[Sequence[Any]]] = {}
    for sql, values, many in statements:
        if isinstance(sql, Bulk):
            rows.setdefault(sql, []).append(values)  # type: ignore[arg-type]
        else:
            yield sql, values, many
    for bulk, found in rows.items():
        for start in range(0, len(found), BULK_ROWS):
            part = found[start : start + BULK_ROWS]
            yield bulk.sql(len(part)), list(chain.from_iterable(part)), False


def _tell(waiters: Sequence[Waiter], error: BaseException | None) -> None:
    """Wake everyone whose statements are on disk: one call into each loop for a whole commit."""
    futures: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        if isinstance(waiter, tuple):
            futures.setdefault(waiter[0], []).append(waiter[1])
        else:
            waiter(error)
    for loop, waiting in futures.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(_settle, waiting, error)


def _settle(futures: Sequence[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def connect(path: Path, *, costly: bool = True) -> sqlite3.Connection:
    """A writer's connection, migrated. On a network mount WAL is unsafe: rollback journal with an
    exclusive lock instead. Raises StoreError when the file cannot be opened or is damaged."""
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        connection.execute("PRAGMA busy_timeout=5000")
        if is_network_mount(path.parent):
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=DELETE")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if costly else 'NORMAL'}")
        connection.execute("PRAGMA cache_size=-32000")
        migrate(connection)
    except sqlite3.Error as error:
        raise as_store_error(path, error) from error
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A reader's connection that never writes and never blocks the driver."""
    if not path.is_file():
        raise StoreError(f"{path}: no such run.db\n  remedy: name a run directory (peira list)")
    with reading(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if _sealed(path) else ''}", uri=True, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        connection.execute("PRAGMA busy_timeout=2000")
        connection.execute("SELECT value FROM meta LIMIT 1").fetchone()
        check_readable(connection)
        return connection


def _sealed(path: Path) -> bool:
    """True in a directory that nobody can write, where sqlite could not keep its shared memory."""
    log = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a damaged run.db makes of reading its rows, as StoreError in our words."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_store_error(path, error) from error
    except (ValueError, LookupError, zstandard.ZstdError) as error:
        raise as_store_error(path, sqlite3.DatabaseError(f"malformed row: {error}")) from error


def as_store_error(path: Path, error: Exception) -> StoreError:
    """sqlite's complaint in our words, with a remedy."""
    text = str(error)
    if "full" in text:
        return StoreError(
            f"{path}: the disk is full; everything paid so far is saved\n"
            "  remedy: free some space, then run the same command again"
        )
    if any(word in text for word in CORRUPT):
        return StoreError(
            f"{path}: run.db is damaged ({text})\n"
            "  remedy: restore it from an archive, or move it away and run again with --fresh"
        )
    if "readonly" in text or "unable to open" in text:
        return StoreError(f"{path}: cannot be written ({text})\n  remedy: check permissions")
    return StoreError(f"{path}: {text}")
