"""Workers, wherever they are, and the driver's side of them: dealing trials, answering, burying.

`Pool` is the part that `processes` and `ray` share. Invariants: every trial is reported once; what a
worker bought stays bought when it dies, and a call it had in flight stays charged at its worst case;
a trial that was running when its worker died goes alone into another one, so that the third death
is its own and fails it, not its neighbours.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from peira.engine.attempt import TrialResult
from peira.engine.executors.channel import Channel
from peira.engine.executors.remote import as_reply
from peira.engine.journal import Journal
from peira.engine.lab import TrialTask
from peira.engine.ledger import Ledger, Purchase
from peira.engine.states import Cause, State
from peira.engine.workplace import Workplace
from peira.errors import Halt, PeiraError, RunHalted, StoreError
from peira.subjects.route import Routes
from peira.subjects.subject import Reply

MAX_DEATHS = 3  # of workers under one trial; and per worker in a row, without any result
PATIENCE = 5.0  # seconds that workers have to give up after the second Ctrl+C


@dataclass(frozen=True, slots=True)
class Post:
    """What an executor is given by the driver."""

    place: Workplace
    ledger: Ledger
    routes: Routes
    parallel: int
    journal: Journal


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the driver sees it."""

    index: int
    channel: Channel
    tasks: dict[int, TrialTask] = field(default_factory=dict)
    intents: dict[int, Purchase] = field(default_factory=dict)
    tickets: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False
    alone: bool = False
    body: Any = None  # process, or whatever the kind of pool needs to end it


class Pool(ABC):
    """Deals trials to workers that it hires at need."""

    def __init__(self, post: Post, workers: int, each: int) -> None:
        self.post = post
        self.ledger = post.ledger
        self.count = workers
        self.each = each
        self._workers: dict[int, Worker] = {}
        self._report: Callable[[TrialResult], None] = lambda result: None
        self._answers: set[asyncio.Task[None]] = set()
        self._returned: deque[TrialTask] = deque()
        self._suspects: deque[TrialTask] = deque()
        self._deaths_under: Counter[int] = Counter()
        self._deaths = 0
        self._claims: dict[str, asyncio.Event] = {}
        self._interrupted = False

    # -- what a kind of pool does its own way -----------------------------------------------
    @abstractmethod
    async def launch(self, worker: Worker) -> None:
        """Start a worker and connect its channel; sets `worker.body`."""

    @abstractmethod
    def end(self, worker: Worker, *, now: bool) -> None:
        """See that a worker that was told to quit is gone; `now`: by force."""

    async def opened(self) -> None:  # noqa: B027 - most pools have nothing to prepare
        """Before the first worker."""

    async def closed(self) -> None:  # noqa: B027
        """After the last worker."""

    # -- dealing ----------------------------------------------------------------------------
    async def run(
        self, tasks: AsyncIterator[TrialTask], report: Callable[[TrialResult], None]
    ) -> None:
        """See `Executor.run`."""
        self._report = report
        self.ledger.on_stop.append(self._pass_on)
        lock = asyncio.Lock()
        await self.opened()
        lanes = [asyncio.create_task(self._lane(i, tasks, lock)) for i in range(self.count)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            self.ledger.on_stop.remove(self._pass_on)
            await self._dismiss()

    async def _lane(self, index: int, tasks: AsyncIterator[TrialTask], lock: asyncio.Lock) -> None:
        worker: Worker | None = None
        while True:
            if worker is not None and worker.lost:
                await self._bury(worker)
                worker = None
            if worker is not None and (worker.alone or len(worker.tasks) >= 2 * self.each):
                await _news(worker)
                continue
            task = await self._next(worker, tasks, lock)
            if task is not None:
                worker = worker or await self._hire(index)
                self._hand(worker, task)
            elif worker is None or not worker.tasks:
                return
            else:
                await _news(worker)

    async def _next(
        self, worker: Worker | None, tasks: AsyncIterator[TrialTask], lock: asyncio.Lock
    ) -> TrialTask | None:
        idle = worker is None or not worker.tasks
        if idle and self._suspects:
            return self._suspects.popleft()
        if self._interrupted:
            return None
        async with lock:
            return self._returned.popleft() if self._returned else await anext(tasks, None)

    def _hand(self, worker: Worker, task: TrialTask) -> None:
        worker.tasks[task.number] = task
        worker.alone = self._deaths_under[task.number] > 0
        worker.channel.send("task", task)

    async def _hire(self, index: int) -> Worker:
        worker = Worker(index, Channel())
        worker.channel.on_message = lambda message: self._handle(worker, message)
        worker.channel.on_lost = lambda: _lost(worker)
        await self.launch(worker)
        self._workers[index] = worker
        worker.channel.send("hello", self.post.place, self.each)
        if self.ledger.stopping is not None:
            worker.channel.send("stop", self.ledger.stopping)
        return worker

    async def _dismiss(self) -> None:
        for worker in self._workers.values():
            worker.channel.send("quit")
            worker.channel.close()
        for worker in self._workers.values():
            await asyncio.to_thread(self.end, worker, now=worker.lost)
        self._workers.clear()
        await self.closed()

    # -- deaths -----------------------------------------------------------------------------
    async def _bury(self, dead: Worker) -> None:
        self._workers.pop(dead.index, None)
        await asyncio.to_thread(self.end, dead, now=True)
        await self._settle_estate(dead)
        for place, task in enumerate(dead.tasks.values()):
            if place < self.each:  # workers start what they are handed in order, `each` at once
                self._suspect(task)
            else:
                self._returned.append(task)
        self._deaths += 1
        if self._deaths > MAX_DEATHS * self.count and not self._interrupted:
            raise StoreError(
                "worker processes keep dying (killed, or out of memory)\n"
                "  remedy: fewer at once (--parallel), then run again; nothing is lost"
            )

    async def _settle_estate(self, dead: Worker) -> None:
        """Calls in flight stay charged; places and claims go to others."""
        for intent, purchase in list(dead.intents.items()):
            await self.ledger.lose(intent, purchase)
        dead.intents.clear()
        for pace, ticket in dead.tickets.values():
            pace.done(ticket, None, None)
        dead.tickets.clear()
        for key in list(dead.claims):
            self._unclaim(dead, key)

    def _suspect(self, task: TrialTask) -> None:
        """A trial that was running under a dead worker: again, alone; or it is at fault."""
        deaths = self._deaths_under[task.number] = self._deaths_under[task.number] + 1
        if self._interrupted or self.ledger.stopping is not None:
            words = str(self.ledger.stopping or "interrupted")
            self._conclude(task, State.HALTED, Cause.INTERRUPTED, words)
        elif deaths >= MAX_DEATHS:
            self._deaths = 0
            self._conclude(
                task, State.FAILED, Cause.CODE,
                f"its worker process died {deaths} times while it ran (killed, or out of memory)",
            )  # fmt: skip
        else:
            number = task.number
            self.post.journal.put(
                "INSERT OR REPLACE INTO attempts VALUES(?,?,NULL,?,?,?,?)",
                (number, task.attempt, time.time(), State.HALTED, Cause.INTERRUPTED,
                 "its worker process died"),
            )  # fmt: skip
            memory, checkpoints = self.ledger.memory(number), self.ledger.checkpoints(number)
            self._suspects.append(
                replace(task, attempt=task.attempt + 1, memory=memory, checkpoints=checkpoints)
            )

    def _conclude(self, task: TrialTask, state: State, cause: Cause, message: str) -> None:
        now = time.time()
        self._report(TrialResult(task.number, task.attempt, state, cause, message, now, now, 0.0))

    # -- messages ---------------------------------------------------------------------------
    def _handle(self, worker: Worker, message: tuple[Any, ...]) -> None:
        match message:
            case ("result", result):
                self._finished(worker, result)
            case ("keep", trial, replies):
                self.ledger.keep(trial, replies)
            case ("tell", "unclaim", (key,)):
                self._unclaim(worker, key)
            case ("tell", "leave", values):
                self._leave(worker, *values)
            case ("ask", number, method, args):
                answer = self._answer(worker, number, method, args)
                task = asyncio.get_running_loop().create_task(answer)
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)

    def _finished(self, worker: Worker, result: TrialResult) -> None:
        worker.tasks.pop(result.number, None)
        worker.alone = False
        self._deaths = 0
        self._report(result)
        worker.changed.set()

    async def _answer(
        self, worker: Worker, number: int, method: str, args: tuple[Any, ...]
    ) -> None:
        value, error = None, None
        try:
            value = await QUESTIONS[method](self, worker, *args)
        except PeiraError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - it is raised again in the worker
            error = StoreError(f"{type(caught).__name__}: {caught}")
        worker.channel.send("answer", number, value, error)

    async def _open(self, worker: Worker, purchase: Purchase) -> int:
        intent = await self.ledger.open(purchase)
        if worker.lost:  # it died while it waited: the call never went out
            await self.ledger.release(intent, purchase)
        else:
            worker.intents[intent] = purchase
        return intent

    async def _settle(self, worker: Worker, intent: int, purchase: Purchase, reply: Reply) -> None:
        if worker.intents.pop(intent, None) is not None:
            await self.ledger.settle(intent, purchase, reply)

    async def _release(self, worker: Worker, intent: int, purchase: Purchase) -> None:
        if worker.intents.pop(intent, None) is not None:
            await self.ledger.release(intent, purchase)

    async def _lose(self, worker: Worker, intent: int, purchase: Purchase) -> None:
        if worker.intents.pop(intent, None) is not None:
            await self.ledger.lose(intent, purchase)

    async def _checkpoint(self, worker: Worker, trial: int, name: str, data: bytes) -> None:
        await self.ledger.checkpoint(trial, name, data)

    async def _admit(self, worker: Worker, name: str, weight: Any) -> int:
        pace = self.post.routes.open(name).pace
        ticket = await pace.admit(weight) if pace is not None else None
        if worker.lost:
            if pace is not None:
                pace.done(ticket, None, None)
            return 0
        number = id(ticket)
        worker.tickets[number] = (pace, ticket)
        return number

    def _leave(
        self, worker: Worker, number: int, usage: Any, error: BaseException | None, slow: bool
    ) -> None:
        pace, ticket = worker.tickets.pop(number, (None, None))
        if pace is None:
            return
        if error is not None and slow:
            error.__cause__ = TimeoutError()  # causes do not survive pickling
        pace.done(ticket, as_reply(usage), error)

    # -- replies of run scope: one worker buys, the others wait ------------------------------
    async def _recall(self, worker: Worker, key: str, digest: bytes) -> Reply | None:
        while True:
            known = await self.ledger.recall_shared(key, digest)
            if known is not None:
                return known
            self.ledger.check()
            if (claimed := self._claims.get(key)) is None:
                if not worker.lost:
                    self._claims[key] = asyncio.Event()
                    worker.claims.add(key)
                return None
            await claimed.wait()

    def _unclaim(self, worker: Worker, key: str) -> None:
        if key in worker.claims:
            worker.claims.discard(key)
            self._claims.pop(key).set()

    # -- stopping ---------------------------------------------------------------------------
    def _pass_on(self, halt: Halt) -> None:
        self._tell_all("stop", halt)
        for claimed in self._claims.values():
            claimed.set()
        self._claims.clear()
        for worker in self._workers.values():
            worker.claims.clear()

    def _tell_all(self, *message: Any) -> None:
        for worker in self._workers.values():
            worker.channel.send(*message)

    def interrupt(self) -> None:
        """Cancel what is in flight in every worker; by force what does not give up soon."""
        self._interrupted = True
        halt = self.ledger.stopping or RunHalted(Cause.INTERRUPTED, "interrupted")
        self._tell_all("cancel", halt)
        asyncio.get_running_loop().call_later(PATIENCE, self._end_all)

    def _end_all(self) -> None:
        for worker in list(self._workers.values()):
            if worker.tasks:
                self.end(worker, now=True)


QUESTIONS: dict[str, Callable[..., Any]] = {
    "open": Pool._open, "settle": Pool._settle, "release": Pool._release, "lose": Pool._lose,
    "checkpoint": Pool._checkpoint, "admit": Pool._admit, "recall_shared": Pool._recall,
}  # fmt: skip


async def _news(worker: Worker) -> None:
    """Wait until a worker has finished something, or is lost."""
    if not worker.lost:
        await worker.changed.wait()
    worker.changed.clear()


def _lost(worker: Worker) -> None:
    worker.lost = True
    worker.changed.set()


def shared_out(parallel: int, workers: int) -> int:
    """Trials at once in each worker."""
    return max(1, -(-parallel // workers))
