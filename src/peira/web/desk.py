"""Where a person in a seat answers from the browser: a durable mailbox between run and page.

The run puts a question into `desk.db` beside run.db and waits; any view of that directory shows it
and posts the answer. Invariant: a question is known by its content, so an answer given while the
run was down is found again and nobody is asked twice; run.db keeps its single writer.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from peira.errors import InputError

FILE = "desk.db"
LOOK_EVERY = 0.3  # seconds between looks for an answer
SCHEMA = """CREATE TABLE IF NOT EXISTS questions(
    id TEXT PRIMARY KEY, trial TEXT NOT NULL, seat TEXT NOT NULL, label TEXT NOT NULL,
    messages TEXT NOT NULL, fields TEXT NOT NULL, required TEXT NOT NULL,
    asked REAL NOT NULL, waiting REAL NOT NULL, answer TEXT, fault TEXT)"""


@dataclass(frozen=True, slots=True)
class Blank:
    """One blank of a form. `many`: one value a line; `truth`: yes or no."""

    name: str
    hint: str
    many: bool = False
    truth: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question that waits for a person."""

    id: str
    trial: str
    seat: str
    label: str
    messages: tuple[Mapping[str, str], ...]
    blanks: tuple[Blank, ...]
    required: str
    asked: float


class Mailbox:
    """Questions and answers of one run directory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    @property
    def stamp(self) -> int:
        """What changes with every question and answer."""
        return self.path.stat().st_mtime_ns if self.path.is_file() else 0

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(SCHEMA)
            yield connection
        finally:
            connection.close()

    def put(self, question: Waiting) -> None:
        """Ask; a question that is already there only says that somebody waits for it."""
        now = time.time()
        with self._open() as box:
            box.execute(
                "INSERT INTO questions VALUES(?,?,?,?,?,?,?,?,?,NULL,NULL)"
                " ON CONFLICT(id) DO UPDATE SET waiting=excluded.waiting",
                (question.id, question.trial, question.seat, question.label,
                 orjson.dumps(question.messages).decode(), orjson.dumps(question.blanks).decode(),
                 question.required, now, now),
            )  # fmt: skip

    def waiting(self) -> list[Waiting]:
        """Unanswered questions, oldest first; none when nobody was ever asked here."""
        if not self.path.is_file():
            return []
        with self._open() as box:
            rows = box.execute(
                "SELECT id, trial, seat, label, messages, fields, required, asked FROM questions"
                " WHERE answer IS NULL ORDER BY asked"
            ).fetchall()
        return [_question(row) for row in rows]

    def answer(self, identity: str, value: Mapping[str, Any]) -> bool:
        """Answer once; False if the question is unknown or was answered before."""
        if not self.path.is_file():
            return False
        with self._open() as box:
            done = box.execute(
                "UPDATE questions SET answer=? WHERE id=? AND answer IS NULL",
                (orjson.dumps(dict(value)).decode(), identity),
            )
            return done.rowcount == 1

    def answered(self, identity: str) -> dict[str, Any] | None:
        """The answer, once there is one."""
        with self._open() as box:
            row = box.execute("SELECT answer FROM questions WHERE id=?", (identity,)).fetchone()
        return None if row is None or row[0] is None else orjson.loads(row[0])

    def forget(self, identity: str) -> None:
        """Take a question back: its answer was not usable and it will be asked again."""
        with self._open() as box:
            box.execute("DELETE FROM questions WHERE id=?", (identity,))


def _question(row: tuple[Any, ...]) -> Waiting:
    messages, blanks = orjson.loads(row[4]), orjson.loads(row[5])
    return Waiting(
        id=row[0], trial=row[1], seat=row[2], label=row[3], messages=tuple(messages),
        blanks=tuple(Blank(**b) for b in blanks), required=row[6], asked=row[7],
    )  # fmt: skip


class BrowserDesk:
    """A desk (`peira.engine.desk`) whose people sit before a browser."""

    def __init__(self, folder: Path) -> None:
        self.mailbox = Mailbox(folder)
        self._given: set[str] = set()

    async def ask(self, question: Any) -> dict[str, Any]:
        """Put the question up and wait for its answer; asked again, the last answer is discarded."""
        waiting = as_waiting(question)
        if waiting.id in self._given:
            await asyncio.to_thread(self.mailbox.forget, waiting.id)
        await asyncio.to_thread(self.mailbox.put, waiting)
        while (value := await asyncio.to_thread(self.mailbox.answered, waiting.id)) is None:
            await asyncio.sleep(LOOK_EVERY)
        self._given.add(waiting.id)
        return value


def as_waiting(question: Any) -> Waiting:
    """A family's question as the mailbox keeps it."""
    asked = question.form.request()  # the JSON a model is asked for: a person has the blanks
    messages = tuple(
        {"role": m.role, "content": m.content.replace(asked, "").rstrip()}
        for m in question.messages
    )
    blanks = tuple(
        Blank(f.name, f.hint.strip('"'), f.many, f.name == "accept") for f in question.form.fields
    )
    known = orjson.dumps([question.trial, question.seat, question.label, messages])
    identity = hashlib.sha256(known).hexdigest()[:24]
    required = "" if question.form.required in ("target", "partners") else question.form.required
    return Waiting(
        identity, question.trial, question.seat, question.label, messages, blanks, required, 0.0
    )


def read_form(question: Waiting, given: Mapping[str, str]) -> dict[str, Any]:
    """What a person filled in, blank by blank. Raises InputError when a needed one is empty."""
    value = {blank.name: _filled(blank, given.get(blank.name, "")) for blank in question.blanks}
    if question.required and value.get(question.required) in ("", None, []):
        raise InputError(f"{question.required}: this blank must be filled")
    return value


def _filled(blank: Blank, text: str) -> Any:
    text = text.replace("\r\n", "\n").strip()
    if blank.truth:
        return {"yes": True, "no": False}.get(text)
    if blank.many:
        return [line.strip() for line in text.split("\n") if line.strip()]
    return text or (None if blank.name == "target" else "")
