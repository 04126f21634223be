"""The lab: all that a trial may touch.

Subjects, randomness, events, artifacts, checkpoints. Invariant: given its settings, seed and replies
a trial does the same again, because nothing here depends on time or on the order of execution.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

from peira.engine.ledger import Kept, LedgerPort, Memory, Sharing
from peira.engine.seat import Seat, bad_input
from peira.study.seeds import derive, generator
from peira.subjects.route import Routes
from peira.subjects.subject import Subject

if TYPE_CHECKING:
    import numpy

KEEP = 1000


@dataclass(frozen=True, slots=True)
class TrialTask:
    """One trial as handed to an executor; picklable."""

    number: int
    id: str
    slug: str
    seed: int
    replicate: int
    cell: int
    settings: Mapping[str, Any]
    factors: Mapping[str, Any]
    attempt: int = 1
    memory: Memory = field(default_factory=Memory)
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """What all trials of one process share."""

    routes: Routes
    ledger: LedgerPort
    sharing: Sharing
    retries: int = 5
    tell: Callable[[int, str], None] = lambda trial, words: None  # where displays hear of progress


class Lab:
    """All a trial may touch. One per attempt of a trial."""

    def __init__(self, task: TrialTask, bench: Bench) -> None:
        self.task = task
        self.bench = bench
        self.seed = task.seed
        self.trial_id = task.id
        self.slug = task.slug
        self.events: list[dict[str, Any]] = []
        self.artifacts: dict[str, bytes] = {}
        self.kept: list[Kept] = []
        self.seats: dict[str, Seat] = {}
        self.last_key: str | None = None
        self.deadline: asyncio.Timeout | None = None
        self.stream = ""  # a fork's own chances: part of what simulated subjects draw from

    def subject(self, name: str, seat: str, *, scope: Literal["trial", "run"] = "trial") -> Subject:
        """The subject `name` in `seat`. Under run scope, calls with the same content key are bought
        once for the whole run. An unknown name stops the run as bad input."""
        if seat not in self.seats:
            with bad_input():
                route = self.bench.routes.open(name)
            self.seats[seat] = Seat(self, route, seat, scope)
        return self.seats[seat]

    def keep(self, reply: Kept) -> None:
        """Hold a free reply until the trial ends, or a thousand have gathered."""
        self.kept.append(reply)
        if len(self.kept) >= KEEP:
            self.bench.ledger.keep(self.task.number, self.kept)
            self.kept = []

    def rng(self, purpose: str) -> numpy.random.Generator:
        """A stream of its own for each purpose, from (trial seed, purpose)."""
        return generator(self.seed, purpose)

    def derive(self, purpose: str) -> int:
        """The same as a plain 64-bit seed."""
        return derive(self.seed, purpose)

    def emit(self, kind: str, **data: Any) -> None:
        """Add one event to the transcript. `data` must be JSON-safe."""
        self.events.append({"n": len(self.events), "kind": kind, **data})

    def progress(self, words: str) -> None:
        """Say what the trial is at ("turn 2 of 8: decisions"), for whoever watches the run."""
        self.bench.tell(self.task.number, words)

    def save(self, name: str, data: bytes | str | Mapping[str, Any] | list[Any]) -> None:
        """Keep an artifact with the trial; it is projected to `<trial folder>/<name>`."""
        self.artifacts[name] = _as_bytes(data)

    async def checkpoint(self, name: str, data: Any) -> None:
        """Keep an intermediate result, durable at once: a killed trial finds it again."""
        await self.bench.ledger.checkpoint(self.task.number, name, _as_bytes(data))

    def restored(self, name: str) -> bytes | None:
        """What an earlier attempt of this trial put under `name` by `checkpoint`, as bytes."""
        return self.task.checkpoints.get(name)

    def restored_names(self) -> list[str]:
        """Names of all checkpoints of earlier attempts."""
        return sorted(self.task.checkpoints)

    @contextlib.contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Time inside does not count towards the trial's timeout (waiting for a person)."""
        timeout = self.deadline
        when = timeout.when() if timeout is not None else None
        if timeout is None or when is None:
            yield
            return
        clock = asyncio.get_running_loop().time
        left = when - clock()
        timeout.reschedule(None)
        try:
            yield
        finally:
            timeout.reschedule(clock() + left)


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
