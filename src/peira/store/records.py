"""What remains of a run, as read from run.db: records, transcripts, artifacts.

Reads are short and never block the driver. Invariant: nothing here reads a projection; what a file
shows can always be rebuilt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from peira.engine.attempt import decompress
from peira.engine.engine import tally_of
from peira.engine.journal import connect_read_only, reading
from peira.engine.states import State, Tally
from peira.errors import InputError
from peira.store.rundir import RunDir
from peira.study.study import Study

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Record:
    """One planned trial and what it left. Costs in micro-dollars, times in Unix seconds."""

    number: int
    id: str
    slug: str
    family: str
    settings: Mapping[str, Any]
    cell: Mapping[str, Any]
    cell_number: int
    seed: int
    replicate: int
    position: int
    state: State
    cause: str | None
    message: str | None
    attempts: int
    started: float | None
    finished: float | None
    seconds: float | None
    outcome: Mapping[str, Any] | None
    usage: Mapping[str, Mapping[str, int]]
    subjects: Mapping[str, Mapping[str, Any]]
    simulated: bool
    cost: int = 0
    unsettled: int = 0

    @property
    def done(self) -> bool:
        return self.state == State.DONE

    @property
    def calls(self) -> int:
        return sum(seat["calls"] for seat in self.usage.values())

    @property
    def tokens(self) -> tuple[int, int]:
        """(prompt, completion) tokens over all seats."""
        seats = self.usage.values()
        return sum(s["tokens_in"] for s in seats), sum(s["tokens_out"] for s in seats)

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON form: one element of all_results.json."""
        return {
            "id": self.id, "slug": self.slug, "family": self.family, "state": str(self.state),
            "cause": self.cause, "message": self.message, "simulated": self.simulated,
            "seed": self.seed, "replicate": self.replicate, "position": self.position,
            "cell": dict(self.cell), "settings": dict(self.settings),
            "outcome": None if self.outcome is None else dict(self.outcome),
            "subjects": dict(self.subjects), "usage": dict(self.usage), "attempts": self.attempts,
            "cost_usd": self.cost / 1e6, "unsettled_usd": self.unsettled / 1e6,
            "started": self.started, "finished": self.finished, "seconds": self.seconds,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrialView:
    """One trial with its transcript and artifacts, for projecting its files."""

    record: Record
    run: RunView

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.run.events(self.record.number)

    @property
    def artifacts(self) -> dict[str, bytes]:
        return self.run.artifacts(self.record.number)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records to read; empty means all planned ones."""

    states: Sequence[State] = ()
    slug: str | None = None
    number: int | None = None
    since: float | None = None
    retired: bool = False

    def sql(self) -> tuple[str, list[Any]]:
        where = ["1=1" if self.retired else "t.position IS NOT NULL"]
        values: list[Any] = []
        if self.states:
            where.append(f"t.state IN ({','.join('?' * len(self.states))})")
            values += [str(state) for state in self.states]
        if self.slug is not None:
            where.append("t.slug=?")
            values.append(self.slug)
        if self.number is not None:
            where.append("t.number=?")
            values.append(self.number)
        if self.since is not None:
            where.append("t.finished>=?")
            values.append(self.since)
        return " AND ".join(where), values


CELLS_KEPT = 4096  # cells decoded at once, so that memory does not grow with the grid


def _sum(what: str) -> str:
    """Money of one trial, by index: reading one record must not add up the whole run's."""
    return f"(SELECT SUM({what}) FROM replies r WHERE r.buyer=t.number AND (r.cost > 0 OR r.worst > 0))"


COLUMNS = (
    "t.number, t.id, t.slug, t.seed, t.replicate, t.position, t.state, t.cause, t.message,"
    " t.attempts, t.started, t.finished, t.seconds, t.outcome, t.usage, t.subjects, t.simulated,"
    f" t.cell, {_sum('r.cost')}, {_sum('r.worst')}"
)


NAMED = (  # what may name a trial
    "slug=?1", "position=CAST(?1 AS INTEGER) AND CAST(position AS TEXT)=?1",
    "LENGTH(?1)>=6 AND id>=?1 AND id<?1||'g'",  # identities are hexadecimal
)  # fmt: skip


class RunView:
    """One run, read-only. Open it as a context manager, or close it. `only`: the trial (by name)
    whose record alone is read."""

    def __init__(self, run: RunDir | Path, only: str | None = None) -> None:
        self.dir = run if isinstance(run, RunDir) else RunDir(run)
        self.only = only
        self._connection = connect_read_only(self.dir.database)

    def __enter__(self) -> RunView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # -- the run ----------------------------------------------------------------------------
    @property
    def path(self) -> Path:
        return self.dir.path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the driver wrote about the run: study, family, versions, label, times."""
        with self._reading():
            rows = self.query("SELECT key, value FROM meta WHERE key NOT LIKE 'failing/%'")
            return {key: orjson.loads(value) for key, value in rows}

    @property
    def live(self) -> dict[str, Any]:
        """The driver's last heartbeat, fresh at each call; empty before the first."""
        with self._reading():
            rows = self.query("SELECT value FROM meta WHERE key='live'")
            return orjson.loads(rows[0][0]) if rows else {}

    @cached_property
    def study(self) -> Study:
        """The study as last run."""
        if "study" not in self.meta:
            raise InputError(f"{self.path}: this run was never planned\n  remedy: peira run STUDY")
        with self._reading():
            return Study.model_validate(self.meta["study"])

    @property
    def family(self) -> str:
        """Resolved reference of the family."""
        return str(self.meta["family"])

    @property
    def name(self) -> str:
        return self.study.name or self.path.name

    @cached_property
    def simulated(self) -> bool:
        """True if any trial that ran had a simulated subject."""
        return bool(self.query("SELECT 1 FROM trials WHERE simulated=1 LIMIT 1")) or bool(
            self.meta.get("simulated")
        )

    @property
    def tally(self) -> Tally:
        """Counts of planned trials, fresh at each call."""
        return tally_of(
            self.query(
                "SELECT state, COUNT(*) FROM trials WHERE position IS NOT NULL GROUP BY state"
            )
        )

    def causes(self) -> dict[str, int]:
        """How many planned trials failed or halted, by cause."""
        return dict(
            self.query(
                "SELECT cause, COUNT(*) FROM trials WHERE position IS NOT NULL"
                " AND state IN ('failed', 'halted') GROUP BY cause ORDER BY 2 DESC"
            )
        )

    def spend(self) -> tuple[int, int]:
        """(settled, unsettled) micro-dollars over everything ever bought in this run."""
        rows = self.query(
            "SELECT COALESCE(SUM(cost),0), COALESCE(SUM(worst),0) FROM replies"
            " WHERE cost > 0 OR worst > 0"
        )
        return rows[0][0], rows[0][1]

    def by_model(self) -> list[dict[str, Any]]:
        """Replies, cost and unsettled per model."""
        rows = self.query(
            "SELECT model, COUNT(*), SUM(cost), SUM(worst) FROM replies GROUP BY model ORDER BY 1"
        )
        return [
            {"model": m, "replies": n, "usd": (c or 0) / 1e6, "unsettled_usd": (w or 0) / 1e6}
            for m, n, c, w in rows
        ]

    # -- trials -----------------------------------------------------------------------------
    def records(self, which: Filter | None = None) -> Iterator[Record]:
        """Records in planned order, streamed."""
        which = which or Filter()
        where, values = (which if self.only is None else replace(which, slug=self.only)).sql()
        cells: dict[int, tuple[Any, Any]] = {}
        sql = f"SELECT {COLUMNS} FROM trials t WHERE {where} ORDER BY t.position, t.number"
        with self._reading():
            for row in self._connection.execute(sql, values):
                yield self._record(row, cells)

    def done(self) -> Iterator[Record]:
        """Records of finished trials only."""
        return self.records(Filter(states=(State.DONE,)))

    def record(self, slug: str) -> Record:
        """One trial by slug, position, or identity (or its beginning), in this order. Raises
        InputError."""
        for where in NAMED:
            rows = self.query(f"SELECT slug FROM trials WHERE {where} LIMIT 2", (slug,))
            if len(rows) > 1:
                raise InputError(f"{slug}: begins the identity of several trials, as"
                                 f" {rows[0][0]}\n  remedy: more of it, or the trial's name")  # fmt: skip
            if rows:
                return next(self.records(Filter(slug=rows[0][0], retired=True)))
        raise InputError(f"{slug}: no such trial in {self.path}\n  remedy: peira show {self.path}")

    def view(self, record: Record) -> TrialView:
        """A trial with its transcript and artifacts."""
        return TrialView(record, self)

    def events(self, number: int) -> list[dict[str, Any]]:
        """The transcript of a trial's last attempt."""
        with self._reading():
            rows = self.query("SELECT events FROM transcripts WHERE trial=?", (number,))
            return orjson.loads(decompress(rows[0][0])) if rows else []

    def artifacts(self, number: int) -> dict[str, bytes]:
        """What a trial saved, by name."""
        sql = "SELECT name, data FROM artifacts WHERE trial=? ORDER BY name"
        with self._reading():
            return {name: decompress(data) for name, data in self.query(sql, (number,))}

    def artifact(self, number: int, name: str) -> bytes | None:
        """One thing that a trial saved; None if it did not."""
        sql = "SELECT data FROM artifacts WHERE trial=? AND name=?"
        with self._reading():
            return next((decompress(data) for (data,) in self.query(sql, (number, name))), None)

    def frame(self, which: Filter | None = None) -> pandas.DataFrame:
        """Tidy frame, one row a trial: identity, factors, flat outcome, cost, tokens, time."""
        import pandas

        from peira.store.exports import flat

        return pandas.DataFrame([flat(record) for record in self.records(which)])

    # -- plumbing ---------------------------------------------------------------------------
    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows of a read-only query on run.db; for pages that need their own view."""
        with self._reading():
            return self._connection.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """The same, row by row, for results that do not fit in memory."""
        with self._reading():
            yield from self._connection.execute(sql, values)

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        return reading(self.dir.database)

    def _cell(self, number: int, cells: dict[int, tuple[Any, Any]]) -> tuple[Any, Any]:
        if number not in cells:
            if len(cells) >= CELLS_KEPT:
                cells.clear()
            rows = self.query("SELECT settings, factors FROM cells WHERE number=?", (number,))
            cells[number] = (orjson.loads(rows[0][0]), orjson.loads(rows[0][1]))
        return cells[number]

    def _record(self, row: tuple[Any, ...], cells: dict[int, tuple[Any, Any]]) -> Record:
        settings, factors = self._cell(row[17], cells)
        return Record(
            number=row[0], id=row[1], slug=row[2], family=self.study.family, settings=settings,
            cell=factors, cell_number=row[17], seed=row[3], replicate=row[4],
            position=-1 if row[5] is None else row[5], state=State(row[6]), cause=row[7],
            message=row[8], attempts=row[9], started=row[10], finished=row[11], seconds=row[12],
            outcome=_json(row[13]), usage=_json(row[14]) or {}, subjects=_json(row[15]) or {},
            simulated=bool(row[16]), cost=row[18] or 0, unsettled=row[19] or 0,
        )  # fmt: skip


def _json(data: bytes | None) -> Any:
    return None if data is None else orjson.loads(data)
