"""The driver's ledger and pace as a worker in another process sees them: every purchase is asked for.

A worker never opens run.db, never holds money and admits no call by itself: it asks the driver and
waits for the answer. So budget and rate limits hold across any number of workers, and a reply of
run scope is bought by one of them for all.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partialmethod
from typing import Any

from peira.engine.ledger import Kept, Purchase, Sharing
from peira.errors import Halt, RateLimited, StoreError, TransientError
from peira.subjects.route import Route, Routes
from peira.subjects.subject import Reply, Request, Sampling, Usage

LONGEST_BACKOFF = 60.0
GONE = "the driver is gone; what this worker paid for is with it"


class RemoteLedger:
    """`LedgerPort` over a channel: `send(kind, …)` reaches the driver, `answer` brings its words."""

    def __init__(self, send: Callable[..., None]) -> None:
        self.send = send
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._gone = False
        self.stopping: Halt | None = None

    def check(self) -> None:
        if self.stopping is not None:
            raise self.stopping

    async def ask(self, method: str, *args: Any) -> Any:
        """Ask the driver; raises what it raised."""
        if self._gone:
            raise StoreError(GONE)
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.send("ask", number, method, args)
        return await future

    def answer(self, number: int, value: Any, error: BaseException | None) -> None:
        """The driver's answer to question `number`."""
        future = self._waiting.pop(number)
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def hang_up(self) -> None:
        """The driver is gone: nobody will answer any more."""
        self._gone = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(StoreError(GONE))
        self._waiting.clear()

    recall_shared = partialmethod(ask, "recall_shared")
    open = partialmethod(ask, "open")
    settle = partialmethod(ask, "close", "settle")
    release = partialmethod(ask, "close", "release")
    checkpoint = partialmethod(ask, "checkpoint")

    async def lose(self, intent: int, purchase: Purchase) -> None:
        await asyncio.shield(self.ask("close", "lose", intent, purchase))

    def keep(self, trial: int, replies: Sequence[Kept]) -> None:
        self.send("keep", trial, list(replies))


class RemoteSharing(Sharing):
    """Tells the driver when this worker is done with a content key, so that others may ask."""

    def __init__(self, ledger: RemoteLedger) -> None:
        super().__init__()
        self._ledger = ledger

    def end(self, key: str, reply: Reply | None, error: BaseException | None) -> None:
        super().end(key, reply, error)
        self._ledger.send("tell", "unclaim", (key,))


@dataclass(frozen=True, slots=True)
class Weight:
    """What a pace needs to know of a request; the prompt itself stays with the worker."""

    prompt_bytes: int
    sampling: Sampling


class RemotePace:
    """`Pace` at the driver, shared by all workers."""

    def __init__(self, name: str, ledger: RemoteLedger) -> None:
        self.name = name
        self._ledger = ledger

    async def admit(self, request: Request) -> int:
        weight = Weight(request.prompt_bytes, request.sampling)
        return int(await self._ledger.ask("admit", self.name, weight))

    def done(self, ticket: int, reply: Reply | None, error: BaseException | None) -> None:
        usage = None if reply is None else reply.usage
        slow = error is not None and isinstance(error.__cause__, TimeoutError)
        self._ledger.send("tell", "leave", (ticket, usage, error, slow))

    def delay(self, attempt: int, error: TransientError) -> float:
        if isinstance(error, RateLimited):
            return 0.0  # the driver's pause holds everybody, this call too
        return float(min(LONGEST_BACKOFF, 0.5 * 2.0 ** (attempt - 1)))

    async def exhausted(self, error: TransientError) -> None:
        await self._ledger.ask("exhausted", self.name, error)

    def describe(self) -> str:
        return f"{self.name}: paced by the driver"


class WorkerRoutes(Routes):
    """A worker's routes: wires of its own, the driver's pace."""

    ledger: RemoteLedger

    def open(self, name: str) -> Route:
        known = name in self._open
        route = super().open(name)
        if not known and route.pace is not None:
            route.pace = RemotePace(name, self.ledger)
        return route


def as_reply(usage: Usage | None) -> Reply | None:
    """A reply as far as a pace looks at it."""
    return None if usage is None else Reply("", usage=usage)
