"""Rows and jobs of the batch desk, and how rows are cut into jobs. Pure, but for `Poll`.

Invariant: cutting depends on the rows alone (sorted by id), so that the same rows make the same
jobs, and their files the same bytes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

from peira.engine.ledger import Purchase
from peira.subjects.batch import BatchRoute, JobSpec, Line
from peira.subjects.route import Route
from peira.subjects.subject import Reply, Request

LONGEST_POLL = 300.0


@dataclass(slots=True)
class Row:
    """One call waiting for a job. `line` is None after a restart: only the job's ids are known."""

    custom_id: str
    purchase: Purchase
    line: Line | None
    group: str
    tries: int = 0
    waiters: list[asyncio.Future[Reply]] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, str]:
        """Where the ledger will keep its reply."""
        return self.purchase.trial, self.purchase.key

    @property
    def wanted(self) -> bool:
        """True if it can be asked for again and someone waits for it."""
        return self.line is not None and any(not waiter.done() for waiter in self.waiters)

    def resolve(self, reply: Reply) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(reply)

    def fail(self, error: BaseException) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


@dataclass(slots=True)
class Job:
    """A job and how far it has come: intent → uploaded → submitted → settled, or abandoned."""

    number: int
    name: str
    route: Route
    rows: dict[str, Row]
    state: str = "intent"
    file: str = ""
    job: str = ""
    words: str = ""
    created: float = 0.0
    adopted: bool = False
    holds: bool = False  # money is set aside for its rows

    @property
    def batch(self) -> BatchRoute:
        return self.route.batch  # type: ignore[no-any-return]

    @property
    def spec(self) -> JobSpec:
        lines = tuple(row.line for row in self.rows.values() if row.line is not None)
        return JobSpec(self.name, tuple(self.rows), lines, self.created)

    def __str__(self) -> str:
        return f"{self.name} {self.words or self.state} ({len(self.rows)} rows) {self.job}".rstrip()


@dataclass(slots=True)
class Group:
    """Rows that may share a job: one subject, one sampling, one system prompt."""

    route: Route
    digest: str
    rows: list[Row] = field(default_factory=list)


class Poll:
    """Growing waits between looks at a job."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def wait(self) -> None:
        await asyncio.sleep(self.seconds)
        self.seconds = min(LONGEST_POLL, max(self.seconds, self.seconds * 1.5))


def group_of(route: Route, request: Request) -> str:
    """8 hex for rows that may share a job."""
    digest = blake2b(f"{route.name}|{request.sampling!r}".encode(), digest_size=4)
    if route.batch.options.by_system:
        for message in request.messages:
            if message.role == "system":
                digest.update(message.content.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def cut(rows: Sequence[Row], batch: BatchRoute) -> list[Sequence[Row]]:
    """Parts whose sizes differ by at most one, none empty."""
    options = batch.options
    parts = options.parts
    if options.lines_per_part is not None:
        parts = math.ceil(len(rows) / options.lines_per_part)
    parts = max(1, min(parts, len(rows)))
    size, extra = divmod(len(rows), parts)
    starts = [k * size + min(k, extra) for k in range(parts + 1)]
    return [rows[a:b] for a, b in pairwise(starts)]


def within_limits(rows: Sequence[Row], batch: BatchRoute) -> Iterator[list[Row]]:
    """The provider's limits on rows and bytes cut further."""
    part: list[Row] = []
    size = 0
    for row in rows:
        weight = len(batch.adapter.encode(row.line)) + 1 if row.line is not None else 0
        if part and (
            len(part) >= batch.adapter.max_rows or size + weight > batch.adapter.max_bytes
        ):
            yield part
            part, size = [], 0
        part.append(row)
        size += weight
    if part:
        yield part
