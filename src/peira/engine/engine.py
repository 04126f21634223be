"""The driver: hands pending trials to an executor and journals how they end.

Invariant: every trial that starts is marked running before, and has one closed state after; a
driver killed at any point leaves run.db such that the same command goes on.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import orjson

from peira.engine.attempt import TrialResult
from peira.engine.journal import Journal
from peira.engine.lab import TrialTask
from peira.engine.ledger import RUN_SCOPE, Ledger, Memory
from peira.engine.states import Cause, State, Tally
from peira.errors import Halt, InputError, RunHalted

CHUNK = 500  # trials fetched at a time, so that memory does not grow with the study

RETRIED = (  # causes that lie in one reply: a retry buys that reply afresh
    Cause.REFUSED, Cause.TRUNCATED, Cause.UNREADABLE, Cause.ILLEGAL, Cause.QUALITY,
)  # fmt: skip
COLUMNS = "number, id, slug, seed, replicate, cell, attempts, state, position"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which trials to run. `only` holds positions, slugs or patterns; empty means all."""

    only: tuple[str, ...] = ()
    retry_failed: bool = False

    @property
    def states(self) -> tuple[State, ...]:
        """States to be run; `running` was left by a killed driver."""
        unfinished = (State.PENDING, State.RUNNING, State.HALTED)
        return (*unfinished, State.FAILED) if self.retry_failed else unfinished

    def wants(self, position: int, slug: str) -> bool:
        """True if a trial is selected by number, name or pattern."""
        if not self.only:
            return True
        return any(
            word == str(position) or word == slug or fnmatch.fnmatchcase(slug, word)
            for word in self.only
        )


@dataclass(slots=True)
class Live:
    """What is going on right now, for displays; the driver writes it to run.db each second."""

    tally: Tally = field(default_factory=Tally)
    started: float = field(default_factory=time.time)
    active: dict[int, tuple[str, float]] = field(default_factory=dict)
    finished_here: int = 0
    halt: str | None = None


class Executor(Protocol):
    """Where trials run."""

    async def run(
        self, tasks: AsyncIterator[TrialTask], report: Callable[[TrialResult], None]
    ) -> None:
        """Run every task, reporting each result once; returns when all have been reported."""
        ...

    def interrupt(self) -> None:
        """Cancel what is in flight, at once."""
        ...


class Driver:
    """Runs the pending trials of one run."""

    def __init__(self, journal: Journal, ledger: Ledger, selection: Selection) -> None:
        self.journal = journal
        self.ledger = ledger
        self.selection = selection
        _check_selection(journal, selection)
        self.live = Live(tally=count(journal))
        self.listeners: list[Callable[[TrialResult], None]] = []
        self.enough: Callable[[], bool] = lambda: False  # a stop rule puts its own here
        ledger.on_stop.append(self._stopped)

    async def run(self, executor: Executor) -> Tally:
        """Run until nothing selected is pending, or the run halts. Returns the final counts."""
        if self.selection.retry_failed:
            self._set_shared_failures_aside()
        await executor.run(self._tasks(), self._report)
        self.journal.flush()
        self.live.tally = count(self.journal)
        return self.live.tally

    async def _tasks(self) -> AsyncIterator[TrialTask]:
        for row in self._rows():
            await self.journal.breathe()
            if self.ledger.stopping is not None or self.enough():
                return
            yield self._start(row)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        marks = ",".join("?" * len(self.selection.states))
        last = -1
        while True:
            rows = self.journal.read(
                f"SELECT {COLUMNS} FROM trials WHERE position>? AND state IN ({marks})"
                f" ORDER BY position LIMIT {CHUNK}",
                (last, *self.selection.states),
            )
            if not rows:
                return
            last = rows[-1][-1]
            yield from (row for row in rows if self.selection.wants(row[-1], row[2]))

    def _start(self, row: tuple[Any, ...]) -> TrialTask:
        number, identity, slug, seed, replicate, cell, attempts, state, _ = row
        settings, factors = self._cell(cell)
        now = time.time()
        memory, checkpoints = Memory(), {}
        if state in (State.HALTED, State.FAILED):
            self.live.tally = _moved(self.live.tally, State(state), State.PENDING)
        if attempts:
            self._set_failure_aside(number)
            memory, checkpoints = self.ledger.memory(number), self.ledger.checkpoints(number)
            self.ledger.budget.known(number, sum(cost for _, _, cost in memory.entries.values()))
        self.journal.put(
            "UPDATE trials SET state='running', attempts=?, started=? WHERE number=?",
            (attempts + 1, now, number),
        )
        self.live.active[number] = (slug, now)
        return TrialTask(
            number, identity, slug, seed, replicate, cell, settings, factors, attempts + 1,
            memory, checkpoints,
        )  # fmt: skip

    def _set_failure_aside(self, number: int) -> None:
        """A retry buys only the failing call afresh; after a divergence, the whole trial."""
        rows = self.journal.read("SELECT state, cause, usage FROM trials WHERE number=?", (number,))
        state, cause, _ = rows[0]
        if state != State.FAILED:
            return
        if cause == Cause.DIVERGED:
            self.ledger.supersede(number, None)
        elif cause in RETRIED:
            keys = self.journal.read("SELECT value FROM meta WHERE key=?", (f"failing/{number}",))
            if keys:
                self.ledger.supersede(number, keys[0][0])
        self.journal.flush()

    def _set_shared_failures_aside(self) -> None:
        """Replies of run scope that failed a trial: once, as the first to retry buys for all."""
        marks = ",".join("?" * len(RETRIED))
        keys = self.journal.read(
            "SELECT DISTINCT value FROM trials JOIN meta ON key='failing/' || number"
            f" WHERE state='failed' AND cause IN ({marks})",
            tuple(RETRIED),
        )
        for (key,) in keys:
            self.ledger.supersede(RUN_SCOPE, key)
        self.journal.flush()

    @lru_cache(maxsize=256)  # noqa: B019 - one driver lives for one run
    def _cell(self, cell: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        rows = self.journal.read("SELECT settings, factors FROM cells WHERE number=?", (cell,))
        settings, factors = rows[0]
        return orjson.loads(settings), orjson.loads(factors)

    # -- results ----------------------------------------------------------------------------
    def _report(self, result: TrialResult) -> None:
        self.ledger.keep(result.number, result.kept)
        store_result(self.journal, result)
        self.ledger.budget.forget(result.number)
        self.ledger.progress.pop(result.number, None)
        self.live.active.pop(result.number, None)
        self.live.finished_here += 1
        self.live.tally = _moved(self.live.tally, State.PENDING, result.state)
        if result.halt is not None:
            self.stop(result.halt)
        for listener in self.listeners:
            listener(result)

    def stop(self, halt: RunHalted) -> None:
        """Start no new trial and let no new call begin."""
        self.ledger.stop(halt)

    def _stopped(self, halt: Halt) -> None:
        self.live.halt = str(halt)


def _check_selection(journal: Journal, selection: Selection) -> None:
    """Raise InputError for a selection that names no planned trial."""
    if not selection.only:
        return
    first, last = "", -1
    while rows := journal.read(
        "SELECT position, slug FROM trials WHERE position>? ORDER BY position LIMIT ?",
        (last, CHUNK),
    ):
        if any(selection.wants(position, slug) for position, slug in rows):
            return
        first, last = first or rows[0][1], rows[-1][0]
    example = f"e.g. --only 0, or --only {first!r}" if first else "none are planned"
    raise InputError(
        f"--only {' '.join(selection.only)}: no such trial\n"
        f"  allowed: a position from 0 to {last}, a name or a pattern; {example}"
    )


def store_result(journal: Journal, result: TrialResult) -> None:
    """Queue everything one attempt left."""
    journal.put(
        "UPDATE trials SET state=?, cause=?, message=?, finished=?, seconds=?, outcome=?, usage=?,"
        " subjects=?, simulated=?, attempts=MAX(attempts, ?) WHERE number=?",
        (result.state, result.cause, result.message, result.finished, result.seconds,
         result.outcome, result.usage, result.subjects, int(result.simulated), result.attempt,
         result.number),
    )  # fmt: skip
    journal.put(
        "INSERT OR REPLACE INTO attempts VALUES(?,?,?,?,?,?,?)",
        (result.number, result.attempt, result.started, result.finished, result.state,
         result.cause, result.message),
    )  # fmt: skip
    if result.events:
        journal.put(
            "INSERT OR REPLACE INTO transcripts VALUES(?,?)", (result.number, result.events)
        )
    for name, data in result.artifacts.items():
        journal.put("INSERT OR REPLACE INTO artifacts VALUES(?,?,?)", (result.number, name, data))
    if result.state == State.DONE:
        journal.put("DELETE FROM checkpoints WHERE trial=?", (result.number,))
    elif result.state == State.FAILED and result.failing_key is not None:
        journal.put(
            "INSERT OR REPLACE INTO meta VALUES(?,?)",
            (f"failing/{result.number}", result.failing_key),
        )


def _moved(tally: Tally, was: State, now: State) -> Tally:
    """The counts after one trial changed its state; exact counts come from run.db at the end."""
    changes = {name: getattr(tally, name) for name in ("done", "failed", "halted", "pending")}
    changes[str(was)] = max(0, changes[str(was)] - 1)
    changes[str(now)] += 1
    return Tally(**changes)


def count(journal: Journal) -> Tally:
    """Counts of planned trials; those running count as pending."""
    return tally_of(journal.read(
        "SELECT state, COUNT(*) FROM trials WHERE position IS NOT NULL GROUP BY state"
    ))  # fmt: skip


def tally_of(rows: Sequence[tuple[str, int]]) -> Tally:
    """A Tally from (state, count) rows."""
    counts = dict(rows)
    pending = counts.get("pending", 0) + counts.get("running", 0)
    return Tally(counts.get("done", 0), counts.get("failed", 0), counts.get("halted", 0), pending)
