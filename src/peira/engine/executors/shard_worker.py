"""A worker that has only the run's folder in common with the driver: inbox in, shard out.

It spends from a lease: money the driver has set aside for it, so that the whole never exceeds the
limit while nobody has to answer at once. Invariant: everything it did is in its shard, so the same
worker started again (a requeue) goes on where it was, and the driver needs nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from peira.engine.attempt import attempt
from peira.engine.budget import Account, Budget
from peira.engine.executors import shards
from peira.engine.executors.worker import Trials
from peira.engine.lab import Bench, TrialTask
from peira.engine.ledger import RUN_SCOPE, Kept, Memory, Purchase, Sharing, pack
from peira.engine.loops import loop_factory
from peira.engine.states import Cause, State
from peira.engine.workplace import Workplace
from peira.errors import Halt, RunHalted
from peira.subjects.pace import PaceOptions, SharedPace
from peira.subjects.route import Route, Routes
from peira.subjects.subject import Reply

POLL = 0.25  # seconds between looks into the inbox
ORPHANED = 300.0  # seconds without a sign of the driver, and nothing to do, before it gives up
RETIRE_ON = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)  # walltime, preemption, scancel


class Lease(Budget):
    """A budget that asks for more before it says no."""

    def __init__(self, ask: Any) -> None:
        super().__init__(Account(0))
        self._ask = ask
        self.refused: Halt | None = None

    async def reserve(self, trial: int, worst: int) -> None:
        while True:
            try:
                return await super().reserve(trial, worst)
            except RunHalted:
                if self.refused is not None:
                    raise self.refused from None
                self._changed.clear()
                self._ask(worst)
                await self._changed.wait()

    def grant(self, total: int | None) -> None:
        """All that may be spent so far, in micro-dollars; None: without limit."""
        self.run.limit = total
        self._changed.set()

    def refuse(self, halt: Halt) -> None:
        """There is no more: who waits, halts."""
        self.refused = halt
        self._changed.set()


class ShardLedger:
    """`LedgerPort` over a shard and a lease."""

    def __init__(self, home: Path, writer: shards.ShardWriter) -> None:
        self.writer = writer
        self.stopping: Halt | None = None
        self.lease = Lease(self._need)
        self.shared = SharedReplies(home)
        self._intents = itertools.count(1)

    def check(self) -> None:
        if self.stopping is not None:
            raise self.stopping

    def stop(self, halt: Halt) -> None:
        """Let no new call begin."""
        self.stopping = self.stopping or halt
        self.lease.refuse(halt)

    def _need(self, worst: int) -> None:
        total = self.lease.run.spent + self.lease.run.reserved + worst
        self.writer.put(shards.line("need", total=total))

    async def recall_shared(self, key: str, digest: bytes) -> Reply | None:
        return await self.shared.recall(key, digest, self.check)

    async def open(self, purchase: Purchase) -> int:
        self.check()
        await self.lease.reserve(purchase.buyer, purchase.worst)
        intent = next(self._intents)
        try:
            self.check()
            row = shards.purchase_row(purchase)
            await self.writer.durable(shards.line("open", intent=intent, purchase=row))
        except BaseException:
            self.lease.settle(purchase.buyer, purchase.worst, 0)
            raise
        return intent

    async def settle(self, intent: int, purchase: Purchase, reply: Reply) -> None:
        self.lease.settle(purchase.buyer, purchase.worst, reply.cost)
        packed = pack(reply)
        await self.writer.durable(
            shards.line("settle", intent=intent, reply=packed.decode(), cost=reply.cost)
        )
        if purchase.trial == RUN_SCOPE:
            self.shared.publish(purchase.key, purchase.digest, packed, reply.cost)

    async def release(self, intent: int, purchase: Purchase) -> None:
        self.lease.settle(purchase.buyer, purchase.worst, 0)
        self.writer.put(shards.line("release", intent=intent))

    async def lose(self, intent: int, purchase: Purchase) -> None:
        self.lease.settle(purchase.buyer, purchase.worst, purchase.worst)
        self.writer.put(shards.line("lose", intent=intent))

    def keep(self, trial: int, replies: Sequence[Kept]) -> None:
        if trial == RUN_SCOPE:
            for key, digest, _, packed in replies:
                self.shared.publish(key, digest, packed, 0)
        self.writer.put(shards.line("keep", trial=trial, replies=shards.kept_rows(replies)))

    async def checkpoint(self, trial: int, name: str, data: bytes) -> None:
        await self.writer.durable(shards.line("checkpoint", trial=trial, name=name, data=data))


class SharedReplies:
    """Replies of run scope: what run.db held at the start, and what workers publish as files. A
    link, made at once and by one alone, names who is buying one."""

    def __init__(self, home: Path) -> None:
        self.name = home.name
        self.folder = home.parent / shards.SHARED
        self.known = home.parent / shards.KNOWN
        self.memory = Memory()
        self._connection: Any = None

    async def recall(self, key: str, digest: bytes, check: Any) -> Reply | None:
        """The reply, or None if this worker is to buy it now."""
        while True:
            if key in self.memory.entries or self._find(key):
                return self.memory.recall(key, digest)
            if self._claim(key):
                return None
            check()
            await asyncio.sleep(POLL)

    def publish(self, key: str, digest: bytes, packed: bytes, cost: int) -> None:
        """Let all workers have a reply."""
        self.memory.entries[key] = (digest, packed, cost)
        path = self._path(key, "reply")
        aside = path.with_suffix(f".{self.name}.tmp")
        aside.write_bytes(
            shards.line("shared", key=key, digest=digest, reply=packed.decode(), cost=cost)
        )
        aside.replace(path)

    def unclaim(self, key: str) -> None:
        """Bought or given up: others may ask."""
        self._path(key, "claim").unlink(missing_ok=True)

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{shards.content_name(key)}.{kind}"

    def _claim(self, key: str) -> bool:
        try:
            self._path(key, "claim").symlink_to(self.name)
        except FileExistsError:
            return False
        return not self._path(key, "reply").exists()

    def _find(self, key: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            data = orjson.loads(self._path(key, "reply").read_bytes())
            digest = shards.unbase64(data["digest"])
            self.memory.entries[key] = (digest, data["reply"].encode(), data["cost"])
            return True
        rows = self._known().execute(
            "SELECT hash, reply, cost FROM shared WHERE key=?", (key,)
        ).fetchall()  # fmt: skip
        if rows:
            self.memory.entries[key] = rows[0]
        return bool(rows)

    def _known(self) -> Any:
        if self._connection is None:
            import sqlite3

            uri = f"{self.known.resolve().as_uri()}?immutable=1"
            self._connection = sqlite3.connect(uri, uri=True)
        return self._connection


class FileSharing(Sharing):
    """Gives the claim back when this worker is done with a content key."""

    def __init__(self, shared: SharedReplies) -> None:
        super().__init__()
        self._shared = shared

    def end(self, key: str, reply: Reply | None, error: BaseException | None) -> None:
        super().end(key, reply, error)
        self._shared.unclaim(key)


class DividedRoutes(Routes):
    """Routes whose limits are one worker's share of the provider's."""

    share: int = 1
    paces: dict[int, SharedPace]

    def open(self, name: str) -> Route:
        known = name in self._open
        route = super().open(name)
        if not known and isinstance(route.pace, SharedPace):
            key, limits = id(route.pace), divided(route.pace.options, self.share)
            if key not in self.paces:
                self.paces[key] = SharedPace(route.pace.name, limits)
            self.paces[key].limit(limits)  # a further subject may have stated lower ones
            route.pace = self.paces[key]
        return route


def divided(options: PaceOptions, share: int) -> PaceOptions:
    """A `share`-th of the limits."""
    limits: dict[str, Any] = {
        "max_concurrency": max(1, options.max_concurrency // share),
        "start_concurrency": max(1, options.start_concurrency // share),
    }
    for name in ("requests_per_minute", "tokens_per_minute"):
        if (limit := getattr(options, name)) is not None:
            limits[name] = limit / share
    return options.model_copy(update=limits)


class ShardWorker(Trials):
    """One worker's whole life, or what is left of it after a requeue."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home
        self.past = Past(home)
        self.writer = shards.ShardWriter(home / shards.SHARD)
        self.ledger = ShardLedger(home, self.writer)
        self.ledger._intents = itertools.count(self.past.last_intent + 1)
        self.leaving: str | None = None
        self.fault: BaseException | None = None
        self.share = 1
        self._next = 1
        self._seen = (0.0, time.monotonic())

    async def live(self) -> None:
        """Work until told to quit, until the walltime is near, or the driver is long gone."""
        loop = asyncio.get_running_loop()
        for number in RETIRE_ON:
            loop.add_signal_handler(number, self._retire, "walltime")
        for intent in self.past.reader.open:  # in flight when it was killed: charged in full
            self.writer.put(shards.line("lose", intent=intent))
        for trial, spent in self.past.spent.items():
            self.ledger.lease.run.spent += spent
            self.ledger.lease.trial(trial).spent += spent
        self.writer.put(shards.line("hello", pid=os.getpid(), host=socket.gethostname()))
        while self.leaving is None:
            await self._look()
        await self.end()
        if self.fault is not None:
            raise self.fault
        await self.writer.durable(shards.line("bye", reason=self.leaving))
        await self.writer.close()

    def broken(self, fault: BaseException) -> None:
        """The shard takes no more (a full disk): this worker dies, which the driver notices."""
        self.fault = fault
        self._retire("fault")

    async def _look(self) -> None:
        messages, self._next = shards.read_inbox(self.home, self._next)
        for message in messages:
            self._handle(message)
        if not messages:
            await asyncio.sleep(POLL)
        if not self.running and self._orphaned():
            self.leaving = "orphaned"

    def _orphaned(self) -> bool:
        """True if the driver has not touched its sign of life for long, by our own clock."""
        try:
            sign = (self.home.parent / shards.DRIVER).stat().st_mtime
        except FileNotFoundError:
            sign = 0.0
        if sign != self._seen[0]:
            self._seen = (sign, time.monotonic())
        return time.monotonic() - self._seen[1] > ORPHANED

    def is_leaving(self) -> bool:
        """True once it takes no more trials."""
        return self.leaving is not None

    def _retire(self, reason: str) -> None:
        """Give trials back: no new call begins, replies in flight are awaited."""
        if self.leaving is None:
            self.leaving = reason
            self.ledger.stop(RunHalted(Cause.INTERRUPTED, f"worker leaves: {reason}"))

    def _handle(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("task", task):
                if task.number not in self.past.ended:
                    self.begin(self._run(self.past.remembered(task)))
            case ("lease", total, trial_limit):
                self.ledger.lease.trial_limit = trial_limit
                self.ledger.lease.grant(total)
            case ("prior", trial, spent):
                self.ledger.lease.trial(trial).spent += spent
            case ("hello", place, parallel):
                self._settle_in(place, parallel)
            case ("share", share):
                self.share = share
            case ("stop", halt):
                self.ledger.stop(halt)
            case ("cancel", halt):
                self.ledger.stop(halt)
                self.cancel()
            case _:
                self._retire("quit")

    def _settle_in(self, place: Workplace, parallel: int) -> None:
        routes = place.routes(kind=DividedRoutes)
        assert isinstance(routes, DividedRoutes)
        routes.share, routes.paces = self.share, {}
        sharing = FileSharing(self.ledger.shared)
        self.settle_in(place, parallel, Bench(routes, self.ledger, sharing, place.retries))

    async def _run(self, task: TrialTask) -> None:
        async with self.slots:
            if self.is_leaving():
                return  # never started: the driver gives it to another
            result = await attempt(self.family, task, self.bench, self.place.trial_seconds)
        if self.is_leaving() and result.state == State.HALTED:
            return
        self.ledger.lease.forget(result.number)
        await self.writer.durable(shards.result_line(result))


class Past:
    """What a worker did before it was started again, read from its own shard."""

    def __init__(self, home: Path) -> None:
        shards.cut_torn_line(home / shards.SHARD)
        self.reader = shards.ShardReader(home)
        self.ended: set[int] = set()
        self.memory: dict[int, dict[str, tuple[bytes, bytes, int]]] = {}
        self.checkpoints: dict[int, dict[str, bytes]] = {}
        self.last_intent = 0
        self.spent: Counter[int] = Counter()
        found, _ = shards.lines_from(home / shards.SHARD, 0)
        for each in found:
            self._recall(each)
        for purchase in self.reader.open.values():
            self.spent[purchase.buyer] += purchase.worst

    def _recall(self, data: dict[str, Any]) -> None:
        if data["kind"] == "open":
            self.last_intent = max(self.last_intent, data["intent"])
        closed = self.reader.track(data)
        if closed is not None and data["kind"] == "settle":
            self.spent[closed.buyer] += data["cost"]
            entry = (closed.digest, data["reply"].encode(), data["cost"])
            self.memory.setdefault(closed.trial, {})[closed.key] = entry
        elif closed is not None and data["kind"] == "lose":
            self.spent[closed.buyer] += closed.worst
        elif data["kind"] == "checkpoint":
            saved = self.checkpoints.setdefault(data["trial"], {})
            saved[data["name"]] = shards.unbase64(data["data"])
        elif data["kind"] == "result":
            self.ended.add(data["number"])

    def remembered(self, task: TrialTask) -> TrialTask:
        """The task, with what it was already answered here."""
        memory, saved = self.memory.get(task.number), self.checkpoints.get(task.number)
        if memory is None and saved is None:
            return task
        return replace(
            task,
            memory=Memory({**task.memory.entries, **(memory or {})}),
            checkpoints={**task.checkpoints, **(saved or {})},
        )


def work(home: str) -> None:
    """What a submitted job runs."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(ShardWorker(Path(home)).live())
