"""The driver's ledger as a worker in another process sees it: every purchase is asked for.

A worker never opens run.db and never holds money: it asks the driver to open, settle, release or
lose a purchase, and waits for the answer. So the budget holds across any number of workers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from peira.engine.ledger import Kept, Ledger, Purchase
from peira.errors import Halt
from peira.subjects.subject import Reply

METHODS = frozenset({"recall_shared", "open", "settle", "release", "lose", "checkpoint"})


class RemoteLedger:
    """`LedgerPort` over a channel. `send(id, method, args)` must reach `serve` at the driver."""

    def __init__(self, send: Callable[[tuple[Any, ...]], None]) -> None:
        self._send = send
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.stopping: Halt | None = None

    def check(self) -> None:
        if self.stopping is not None:
            raise self.stopping

    async def _ask(self, method: str, *args: Any) -> Any:
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._send(("ask", number, method, args))
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

    async def recall_shared(self, key: str, digest: bytes) -> Reply | None:
        found: Reply | None = await self._ask("recall_shared", key, digest)
        return found

    async def open(self, purchase: Purchase) -> int:
        return int(await self._ask("open", purchase))

    async def settle(self, intent: int, purchase: Purchase, reply: Reply) -> None:
        await self._ask("settle", intent, purchase, reply)

    async def release(self, intent: int, purchase: Purchase) -> None:
        await self._ask("release", intent, purchase)

    async def lose(self, intent: int, purchase: Purchase) -> None:
        await asyncio.shield(self._ask("lose", intent, purchase))

    async def checkpoint(self, trial: int, name: str, data: bytes) -> None:
        await self._ask("checkpoint", trial, name, data)

    def keep(self, trial: int, replies: Sequence[Kept]) -> None:
        self._send(("keep", trial, list(replies)))


async def serve(ledger: Ledger, method: str, args: tuple[Any, ...]) -> Any:
    """Answer one question of a worker, at the driver."""
    if method not in METHODS:
        raise ValueError(f"unknown question {method!r}")
    return await getattr(ledger, method)(*args)
