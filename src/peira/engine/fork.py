"""Going on from the middle of a finished trial: what came before replays, the rest is new.

A fork is a trial of the same run without a position, so it stands outside every count and statistic.
Invariant: a fork begins with copies of the replies its source was given before the turn, at no cost;
the source is never touched.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peira.engine.engine import COLUMNS, Driver
from peira.engine.journal import Journal
from peira.engine.lab import TrialTask
from peira.engine.states import State
from peira.errors import InputError

TURN = re.compile(r"\|(?:turn|round) (\d+)\b")


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """One fork to be: its identity, its settings as stored, the words for its cell."""

    id: str
    identity: bytes
    stored: bytes
    factors: bytes


@dataclass(frozen=True, slots=True)
class Branch:
    """What is to differ from `turn` on. `control` adds as many unchanged continuations."""

    turn: int
    seats: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    world: str | None = None
    samples: int = 1
    control: bool = False

    def told(self, slug: str, arm: str, sample: int, *, played: int, what: str) -> dict[str, Any]:
        """What a fork's settings say of its origin. Raises InputError for a turn (or round: `what`)
        that the source never played."""
        if not 1 <= self.turn <= played:
            raise InputError(
                f"--turn {self.turn}: {slug} has no such {what}\n  allowed: 1 to {played}"
            )
        return {"source": slug, "turn": self.turn, "arm": arm, "sample": sample}


def before(turn: int) -> Callable[[str], bool]:
    """Whether a ledger key (`seat|turn 2/phase|0`) belongs to an earlier turn or round."""

    def earlier(key: str) -> bool:
        found = TURN.search(key)
        return found is not None and int(found[1]) < turn

    return earlier


def register_forks(
    journal: Journal, source: str, plans: Sequence[ForkPlan], keep: Callable[[str], bool]
) -> list[int]:
    """Write forks of the trial `source` (a slug) into run.db; those already there are kept.
    Returns their numbers, in order."""

    def work(connection: sqlite3.Connection) -> list[int]:
        number, seed, replicate = connection.execute(
            "SELECT number, seed, replicate FROM trials WHERE slug=?", (source,)
        ).fetchone()
        rows = connection.execute(
            "SELECT key, hash, model, reply FROM replies WHERE trial=? AND state='done'", (number,)
        ).fetchall()
        kept = [row for row in rows if keep(row[0])]
        return [_insert(connection, source, plan, (seed, replicate), kept) for plan in plans]

    return list(journal.transaction(work))


def _insert(
    connection: sqlite3.Connection, source: str, plan: ForkPlan, origin: tuple[int, int],
    replies: list[tuple[Any, ...]],
) -> int:  # fmt: skip
    known = connection.execute("SELECT number FROM trials WHERE id=?", (plan.id,)).fetchone()
    if known:
        return int(known[0])
    connection.execute(
        "INSERT INTO cells(hash, settings, factors) VALUES(?,?,?) ON CONFLICT(hash) DO NOTHING",
        (plan.identity.decode(), plan.stored, plan.factors),
    )
    (cell,) = connection.execute(
        "SELECT number FROM cells WHERE hash=?", (plan.identity.decode(),)
    ).fetchone()
    cursor = connection.execute(
        "INSERT INTO trials(id, slug, cell, seed, replicate, position) VALUES(?,?,?,?,?,NULL)",
        (plan.id, _slug(connection, source), cell, *origin),
    )
    number = int(cursor.lastrowid or 0)
    (last,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM replies").fetchone()
    connection.executemany(
        "INSERT INTO replies(number, trial, key, attempt, hash, state, model, reply, buyer)"
        " VALUES(?,?,?,1,?,'done',?,?,?)",
        [(last + i, number, key, digest, model, reply, number)
         for i, (key, digest, model, reply) in enumerate(replies, start=1)],
    )  # fmt: skip
    return number


def _slug(connection: sqlite3.Connection, source: str) -> str:
    (count,) = connection.execute(
        "SELECT COUNT(*) FROM trials WHERE slug GLOB ?", (f"{source}-fork-[0-9]*",)
    ).fetchone()
    return f"{source}-fork-{count + 1:03d}"


class ForkDriver(Driver):
    """Runs the forks it is given, and no planned trial."""

    numbers: Sequence[int] = ()

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for number in self.numbers:
            rows = self.journal.read(
                f"SELECT {COLUMNS} FROM trials WHERE number=? AND state!=?", (number, State.DONE)
            )
            yield from rows

    def _start(self, row: tuple[Any, ...]) -> TrialTask:
        task = super()._start(row)
        return replace(task, memory=self.ledger.memory(task.number))
