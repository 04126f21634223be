"""Every reply that was bought, durable before the trial sees it.

A reply is found again by (trial, key): key = seat, label and how many calls with that label came
before, or a content key under run scope (trial 0). A call in flight is an `open` row charged at its
worst case; it becomes `done` with the real cost, or stays behind as `unsettled`. Invariant: the
same key is never bought twice, unless its first purchase was lost or its failure is retried.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

import orjson

from peira.engine.budget import Budget
from peira.engine.journal import Bulk, Journal, Statement
from peira.errors import Halt, ReplayDiverged
from peira.subjects.subject import Message, Reply, Sampling, Usage, whole

RUN_SCOPE = 0
AT_HAND = 50_000  # replies of run scope held in memory
Kept = tuple[str, bytes, str, bytes]  # key, request hash, model, packed reply

# An intent and, over it, the reply: one statement for both, so that a commit is one step.
WRITE = Bulk(
    "INSERT INTO replies(number, trial, key, attempt, hash, state, model, reply, cost, worst, buyer)"
    " VALUES",
    "(?,?,?,(SELECT COUNT(*)+1 FROM replies WHERE trial=? AND key=?),?,?,?,?,?,?,?)",
    "ON CONFLICT(number) DO UPDATE SET state=excluded.state, reply=excluded.reply,"
    " cost=excluded.cost, worst=excluded.worst",
)
KEEP = (
    "INSERT OR REPLACE INTO replies(number, trial, key, hash, state, model, reply, buyer)"
    " VALUES(?,?,?,?,'done',?,?,?)"
)


def request_hash(model: str, messages: Iterable[Message], sampling: Sampling) -> bytes:
    """16 bytes that change whenever what is sent changes."""
    head, bodies = [model, _sampling_text(sampling)], [b""]
    for message in messages:
        body = message.content.encode("utf-8", "surrogatepass")
        head.append(f"{message.role} {len(body)}")
        bodies.append(body)
    bodies[0] = "\0".join(head).encode("utf-8", "surrogatepass")
    return sha256(b"".join(bodies)).digest()[:16]


@lru_cache(maxsize=1024)
def _sampling_text(sampling: Sampling) -> str:
    return repr(sampling)


def pack(reply: Reply) -> bytes:
    """A reply as compact JSON; cost lives in its own column."""
    reply = storable(reply)
    usage = reply.usage
    return orjson.dumps(
        [
            reply.text, reply.reasoning,
            [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens,
             usage.cache_write_tokens, usage.reasoning_tokens],
            reply.finish, reply.served_model, reply.request_id,
            round(reply.seconds, 4), round(reply.asked_at, 3),
        ]
    )  # fmt: skip


def unpack(data: bytes, cost: int) -> Reply:
    """The reply that `pack` stored."""
    text, reasoning, usage, finish, served, request_id, seconds, asked_at = orjson.loads(data)
    return Reply(
        text,
        reasoning,
        Usage(*usage),
        finish,
        served,
        request_id,
        seconds,
        cost,
        asked_at,
        "ledger",
    )


def storable(reply: Reply) -> Reply:
    """The reply without halves of surrogate pairs, which UTF-8 cannot hold: a trial sees what the
    ledger will answer when it is replayed."""
    texts = (reply.text, reply.reasoning, reply.served_model, reply.request_id)
    fine = tuple(map(whole, texts))
    if fine == texts:
        return reply
    text, reasoning, served, request_id = fine
    return replace(
        reply, text=text, reasoning=reasoning, served_model=served, request_id=request_id
    )


@dataclass(slots=True)
class Memory:
    """What one trial has already been answered: key -> (hash, packed reply, cost)."""

    entries: dict[str, tuple[bytes, bytes, int]] = field(default_factory=dict)

    def recall(self, key: str, digest: bytes) -> Reply | None:
        """The reply bought under this key. Raises ReplayDiverged if the request was another."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if entry[0] != digest:
            raise ReplayDiverged(
                f"replay diverged at {key!r}: the ledger holds a reply to another request\n"
                "  remedy: the code, prompts or settings changed since; run with --retry-failed"
                " to buy this trial afresh"
            )
        return unpack(entry[1], entry[2])


@dataclass(slots=True)
class Purchase:
    """One call about to be paid for. `trial` is 0 under run scope; `buyer` is the trial asking."""

    trial: int
    buyer: int
    key: str
    digest: bytes
    model: str
    worst: int


def written(
    number: int | None, purchase: Purchase, state: str, packed: bytes | None = None, cost: int = 0,
    worst: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    """A purchase as the values of WRITE."""
    trial, key = purchase.trial, purchase.key
    return (number, trial, key, trial, key, purchase.digest, state, purchase.model, packed, cost,
            worst, purchase.buyer)  # fmt: skip


class LedgerPort(Protocol):
    """What a trial needs of the ledger, wherever the driver is."""

    def check(self) -> None:
        """Raise Halt if the run is stopping."""
        ...

    async def recall_shared(self, key: str, digest: bytes) -> Reply | None:
        """The reply under a content key; None: it is the caller's to buy, and others wait until
        `Sharing.end` or `give_back`."""
        ...

    async def open(self, purchase: Purchase) -> int: ...
    async def settle(self, intent: int, purchase: Purchase, reply: Reply) -> None: ...
    async def release(self, intent: int, purchase: Purchase) -> None: ...
    async def lose(self, intent: int, purchase: Purchase) -> None: ...
    def keep(self, trial: int, replies: Sequence[Kept]) -> None: ...
    async def checkpoint(self, trial: int, name: str, data: bytes) -> None: ...


class Ledger:
    """The driver's ledger over the journal and the budget."""

    def __init__(self, journal: Journal, budget: Budget) -> None:
        self.journal = journal
        self.budget = budget
        self.stopping: Halt | None = None
        self.on_stop: list[Callable[[Halt], None]] = []  # executors pass it on to their workers
        self.in_flight = 0
        self.progress: dict[int, str] = {}  # what each running trial last said it is at
        (last,) = journal.read("SELECT COALESCE(MAX(number), 0) FROM replies")[0]
        self._numbers = itertools.count(last + 1)
        self._shared = self._load_shared()
        self.desk: Any = None  # `engine.batches.desk_of` puts the run's batch desk here

    def number(self) -> int:
        """A number of its own for a reply that is stored otherwise than through here."""
        number: int = next(self._numbers)
        return number

    # -- stopping ---------------------------------------------------------------------------
    def check(self) -> None:
        if self.stopping is not None:
            raise self.stopping

    def stop(self, halt: Halt) -> None:
        """Let no new call begin; calls in flight are kept."""
        if self.stopping is None:
            self.stopping = halt
            for tell in self.on_stop:
                tell(halt)

    # -- buying -----------------------------------------------------------------------------
    async def open(self, purchase: Purchase) -> int:
        """Reserve the worst case and write the intent down, durable, before the call."""
        self.check()
        await self.budget.reserve(purchase.buyer, purchase.worst)
        number: int = next(self._numbers)
        try:
            self.check()
            await self.journal.durable(
                WRITE, written(number, purchase, "open", worst=purchase.worst)
            )
        except BaseException as error:
            self.budget.settle(purchase.buyer, purchase.worst, 0)
            if isinstance(error, asyncio.CancelledError):
                self._withdraw(number)
            raise
        self.in_flight += 1
        return number

    def _withdraw(self, intent: int) -> None:
        """Delete an intent that still waits for its commit, in a later one: a `Bulk` comes last."""
        committed = self.journal.durable_all([("SELECT 1", (), False)])

        def delete(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._delete(intent)

        committed.add_done_callback(delete)

    def _delete(self, intent: int) -> None:
        self.journal.put("DELETE FROM replies WHERE number=?", (intent,))

    async def settle(self, intent: int, purchase: Purchase, reply: Reply) -> None:
        """Write the reply and its real cost, durable, before the trial sees it."""
        self._close(purchase, reply.cost)
        packed = pack(reply)
        await self.journal.durable(WRITE, written(intent, purchase, "done", packed, reply.cost))
        if purchase.trial == RUN_SCOPE:
            self._shared.put(purchase.key, (purchase.digest, packed, reply.cost))

    async def settle_all(
        self, bought: Sequence[tuple[Purchase, Reply]], also: Sequence[Statement]
    ) -> None:
        """Write the replies of a batch job, with `also`, in one transaction."""
        statements: list[Statement] = [*also]
        for purchase, reply in bought:
            packed = pack(reply)
            row = written(next(self._numbers), purchase, "done", packed, reply.cost)
            statements.append((WRITE, row, False))
            if purchase.trial == RUN_SCOPE:
                self._shared.put(purchase.key, (purchase.digest, packed, reply.cost))
        await self.journal.durable_all(statements)
        for purchase, reply in bought:
            self.budget.settle(purchase.buyer, purchase.worst, reply.cost)

    async def release(self, intent: int, purchase: Purchase) -> None:
        """The call was refused before it cost anything."""
        self._close(purchase, 0)
        self._delete(intent)

    async def lose(self, intent: int, purchase: Purchase) -> None:
        """The call went out and its fate is unknown: it stays charged at its worst case."""
        self._close(purchase, purchase.worst)
        self.journal.put("UPDATE replies SET state='unsettled' WHERE number=?", (intent,))

    def _close(self, purchase: Purchase, cost: int) -> None:
        self.in_flight -= 1
        self.budget.settle(purchase.buyer, purchase.worst, cost)

    async def recall_shared(self, key: str, digest: bytes) -> Reply | None:
        return self._shared.recall(key, digest)

    async def checkpoint(self, trial: int, name: str, data: bytes) -> None:
        await self.journal.durable(
            "INSERT OR REPLACE INTO checkpoints(trial, name, data) VALUES(?,?,?)",
            (trial, name, data),
        )

    # -- keeping free replies, loading what is known ------------------------------------------
    def keep(self, trial: int, replies: Sequence[Kept]) -> None:
        """Store free replies; those of run scope answer later askers too."""
        if trial == RUN_SCOPE:
            for key, digest, _, packed in replies:
                self._shared.put(key, (digest, packed, 0))
        rows = [
            (next(self._numbers), trial, key, digest, model, packed, trial)
            for key, digest, model, packed in replies
        ]
        if rows:
            self.journal.put_many(KEEP, rows)

    def memory(self, trial: int) -> Memory:
        """What a trial has already been answered."""
        rows = self.journal.read(
            "SELECT key, hash, reply, cost FROM replies WHERE trial=? AND state='done'", (trial,)
        )
        return Memory({key: (digest, reply, cost) for key, digest, reply, cost in rows})

    def checkpoints(self, trial: int) -> dict[str, bytes]:
        """What earlier attempts of a trial checkpointed, by name."""
        rows = self.journal.read("SELECT name, data FROM checkpoints WHERE trial=?", (trial,))
        return dict(rows)

    def supersede(self, trial: int, key: str | None) -> None:
        """Set aside the failing reply (or, with None, all) so that a retry buys it afresh."""
        where, values = ("", (trial,)) if key is None else (" AND key=?", (trial, key))
        self.journal.put(
            "UPDATE replies SET state='superseded' WHERE trial=? AND state='done'" + where, values
        )

    def _load_shared(self) -> _SharedMemory:
        return _SharedMemory(self.journal)


class _SharedMemory(Memory):
    """Run-scope replies, read from disk at need: a run may hold millions."""

    def __init__(self, journal: Journal) -> None:
        super().__init__({})
        self._journal = journal
        self._any = bool(journal.read("SELECT 1 FROM replies WHERE trial=? LIMIT 1", (RUN_SCOPE,)))

    def put(self, key: str, entry: tuple[bytes, bytes, int]) -> None:
        """Keep a reply at hand; the oldest, long on disk, make room."""
        self.entries[key] = entry
        if len(self.entries) > AT_HAND:
            for old in list(itertools.islice(self.entries, AT_HAND // 2)):
                del self.entries[old]
            self._any = True

    def recall(self, key: str, digest: bytes) -> Reply | None:
        if key not in self.entries and self._any:
            rows: list[Any] = self._journal.read(
                "SELECT hash, reply, cost FROM replies WHERE trial=? AND key=? AND state='done'",
                (RUN_SCOPE, key),
            )
            if rows:
                self.put(key, tuple(rows[0]))
        reply = super().recall(key, digest)
        return None if reply is None else replace(reply)


class Sharing:
    """Concurrent askers of one content key wait for one call."""

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[Reply]] = {}

    def pending(self, key: str) -> asyncio.Future[Reply] | None:
        return self._pending.get(key)

    def begin(self, key: str) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        return future

    def give_back(self, key: str) -> None:
        """The key was only looked up: whoever waits for it may buy."""
        self.begin(key)
        self.end(key, None, asyncio.CancelledError())

    def end(self, key: str, reply: Reply | None, error: BaseException | None) -> None:
        future = self._pending.pop(key)
        if future.done():
            return
        if reply is not None:
            future.set_result(reply)
        else:
            future.cancel() if isinstance(error, asyncio.CancelledError) else future.set_exception(
                error or RuntimeError("no reply")
            )
            if not future.cancelled():
                future.exception()
