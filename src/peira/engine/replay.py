"""Trials again, from their replies: no network, no key, nothing written.

A trial is deterministic given its settings, seed and replies, so running it against its own ledger
must give its outcome again. Invariant: no wire is ever reached; a call that the ledger holds no reply
to fails as a provider would, so that families which count such rows count them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peira.engine.ledger import RUN_SCOPE, Kept, Memory, Purchase
from peira.errors import ProviderFailure
from peira.subjects.keys import keyless
from peira.subjects.route import Route, Routes
from peira.subjects.subject import Reply, Request

Read = Callable[[str, Sequence[Any]], list[Any]]


class Silence:
    """A wire that is never to be heard."""

    free = True

    async def send(self, request: Request) -> Reply:
        raise ProviderFailure(f"the ledger holds no reply to {request.label!r} (call {request.n})")

    async def close(self) -> None:
        return None


class ReplayRoutes(Routes):
    """The study's routes with every wire cut: names, sampling and fit are as they were."""

    def open(self, name: str) -> Route:
        known = name in self._open
        with keyless():
            route = super().open(name)
        if not known:
            route.wire = Silence()
            route.pace = route.price = route.batch = None
            route.durable = False
        return route


class ReplayLedger:
    """`LedgerPort` over what a run has bought. `read` is a read-only query on its run.db."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._shared = Memory()

    def memory(self, trial: int) -> Memory:
        """What a trial was answered."""
        rows = self._read(
            "SELECT key, hash, reply, cost FROM replies WHERE trial=? AND state='done'"
            " ORDER BY attempt", (trial,),
        )  # fmt: skip
        return Memory({key: (digest, reply, cost) for key, digest, reply, cost in rows})

    async def recall_shared(self, key: str, digest: bytes) -> Reply | None:
        if key not in self._shared.entries:
            rows = self._read(
                "SELECT hash, reply, cost FROM replies WHERE trial=? AND key=? AND state='done'",
                (RUN_SCOPE, key),
            )
            if not rows:
                return None
            self._shared.entries[key] = tuple(rows[0])
        return self._shared.recall(key, digest)

    def check(self) -> None:
        return None

    async def open(self, purchase: Purchase) -> int:
        raise ProviderFailure("a replay buys nothing")

    async def settle(self, intent: int, purchase: Purchase, reply: Reply) -> None:
        raise ProviderFailure("a replay buys nothing")

    async def release(self, intent: int, purchase: Purchase) -> None:
        return None

    async def lose(self, intent: int, purchase: Purchase) -> None:
        return None

    def keep(self, trial: int, replies: Sequence[Kept]) -> None:
        return None

    async def checkpoint(self, trial: int, name: str, data: bytes) -> None:
        return None
