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


@dataclass(frozen=True, slots=True)
class Post:
    """What an executor is given by the driver."""

    place: Workplace
    ledger: Ledger
    routes: Routes
    parallel: int
    journal: Journal


@dataclass(slots=True, eq=False)
class Lane:
    """A place for one worker at a time, and what its dealer waits for."""

    worker: Worker | None = None
    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def news(self) -> None:
        """Wait until something has changed since the last time."""
        await self.event.wait()
        self.event.clear()


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as the driver sees it. `body` is the process, or whatever a pool needs to end it."""

    lane: Lane
    channel: Channel
    tasks: dict[int, TrialTask] = field(default_factory=dict)
    intents: dict[int, Purchase] = field(default_factory=dict)
    tickets: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    lost: bool = False
    alone: bool = False
    retired: bool = False  # it left of itself (walltime, preemption): no death
    body: Any = None

    def full(self, each: int) -> bool:
        """True if it has enough to do, or works on a suspect alone."""
        return self.alone or len(self.tasks) >= 2 * each


class Pool(ABC):
    """Deals trials to workers that it hires at need."""

    patience = 5.0  # seconds that workers have to give up after the second Ctrl+C

    def __init__(self, post: Post, workers: int, each: int) -> None:
        self.post = post
        self.ledger = post.ledger
        self.each = each
        self._lanes = [Lane() for _ in range(workers)]
        self._tasks: AsyncIterator[TrialTask]
        self._lock = asyncio.Lock()
        self._exhausted = False
        self._out = 0  # trials taken and not yet ended
        self._report: Callable[[TrialResult], None] = lambda result: None
        self._answers: set[asyncio.Task[None]] = set()
        self._returned: deque[TrialTask] = deque()
        self._suspects: deque[TrialTask] = deque()
        self._deaths_under: Counter[int] = Counter()
        self._progress: dict[int, tuple[int, int]] = {}  # of trials given back: (state, times)
        self._dealers: list[asyncio.Task[None]] = []
        self._fault: BaseException | None = None
        self._deaths = 0
        self._claims: dict[str, asyncio.Event] = {}
        self._launching: set[asyncio.Future[None]] = set()
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
        self._tasks, self._report = tasks, report
        self.ledger.on_stop.append(self._pass_on)
        await self.opened()
        self._dealers = [asyncio.create_task(self._lane(lane)) for lane in self._lanes]
        try:
            await asyncio.gather(*self._dealers)
        except asyncio.CancelledError:
            if self._fault is None:
                raise
            raise self._fault from None
        finally:
            for dealer in self._dealers:
                dealer.cancel()
            self.ledger.on_stop.remove(self._pass_on)
            await self._dismiss()

    def fail(self, fault: BaseException) -> None:
        """End the run with a fault that no lane has met itself."""
        self._fault = self._fault or fault
        for dealer in self._dealers:
            dealer.cancel()

    async def _lane(self, lane: Lane) -> None:
        """One worker after the other in one place. A lane ends only when all trials have ended, so
        that the last worker's trials find another when it dies."""
        while True:
            if lane.worker is not None and lane.worker.lost:
                await self._bury(lane)
            if lane.worker is not None and lane.worker.full(self.each):
                await lane.news()
                continue
            task = await self._next(lane.worker)
            if task is not None and lane.worker is not None:
                self._hand(lane.worker, task)
            elif task is not None:
                self._put_back(task)
                if not await self._hire(lane):
                    return
            elif self._exhausted and self._out == 0:
                return
            else:
                await lane.news()

    async def _next(self, worker: Worker | None) -> TrialTask | None:
        idle = worker is None or not worker.tasks
        if idle and self._suspects:
            return self._suspects.popleft()
        async with self._lock:
            if self._returned:
                return self._returned.popleft()
            task = None if self._exhausted else await anext(self._tasks, None)
            if task is None:
                self._exhausted = True
            else:
                self._out += 1
            return task

    def _put_back(self, task: TrialTask) -> None:
        """A worker may be long in coming: until then others may take the trial."""
        place = self._suspects if self._deaths_under[task.number] else self._returned
        place.appendleft(task)
        self._wake_all()

    def _hand(self, worker: Worker, task: TrialTask) -> None:
        worker.tasks[task.number] = task
        worker.alone = self._deaths_under[task.number] > 0
        worker.channel.send("task", task)

    async def _hire(self, lane: Lane) -> bool:
        """A new worker for a lane; False if none is needed any more."""
        worker = Worker(lane, Channel())
        worker.channel.on_message = lambda message: self._hear(worker, message)
        worker.channel.on_lost = lambda: lost(worker)
        launch = asyncio.ensure_future(self.launch(worker))
        self._launching.add(launch)
        try:
            await launch
        except asyncio.CancelledError:
            if worker.body is not None:
                await asyncio.to_thread(self.end, worker, now=True)
            if not launch.cancelled() or not self._over:
                raise
            return False
        finally:
            self._launching.discard(launch)
        lane.worker = worker
        worker.channel.send("hello", self.post.place, self.each)
        if self.ledger.stopping is not None:
            worker.channel.send("stop", self.ledger.stopping)
        return True

    @property
    def _over(self) -> bool:
        """No further worker is needed."""
        return self.ledger.stopping is not None or (self._exhausted and self._out == 0)

    def _ended(self, result: TrialResult) -> None:
        self._out -= 1
        self._report(result)
        if self._over:
            self._wake_all()

    def _wake_all(self) -> None:
        for lane in self._lanes:
            lane.event.set()
        if self._over:
            for launch in self._launching:
                launch.cancel()

    @property
    def _workers(self) -> list[Worker]:
        return [lane.worker for lane in self._lanes if lane.worker is not None]

    async def _dismiss(self) -> None:
        for worker in self._workers:
            worker.channel.send("quit")
            worker.channel.close()
        for worker in self._workers:
            await asyncio.to_thread(self.end, worker, now=worker.lost)
        await self.closed()

    # -- deaths -----------------------------------------------------------------------------
    async def _bury(self, lane: Lane) -> None:
        dead, lane.worker = lane.worker, None
        assert dead is not None
        await asyncio.to_thread(self.end, dead, now=True)
        await self._settle_estate(dead)
        for place, task in enumerate(dead.tasks.values()):
            if place >= self.each:  # workers start what they are handed in order, `each` at once
                self._returned.append(task)
            elif dead.retired:
                self._given_back(task)
            else:
                self._suspect(task)
        self._deaths += 0 if dead.retired else 1
        if self._deaths > MAX_DEATHS * len(self._lanes) and not self._interrupted:
            raise StoreError(
                "worker processes keep dying (killed, or out of memory)\n"
                "  remedy: fewer at once (--parallel), then run again; nothing is lost"
            )
        if self._interrupted:
            self._drop_returned()
        self._wake_all()

    def _drop_returned(self) -> None:
        """Trials that never started stay pending, for the next run."""
        self._out -= len(self._returned)
        self._returned.clear()
        self._exhausted = True

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
        if self._halted(task):
            return
        if deaths >= MAX_DEATHS:
            self._deaths = 0
            self._conclude(
                task, State.FAILED, Cause.CODE,
                f"its worker process died {deaths} times while it ran (killed, or out of memory)",
            )  # fmt: skip
        else:
            self._suspects.append(self._again(task, "its worker process died"))

    def _given_back(self, task: TrialTask) -> None:
        """A trial whose worker had to leave: again, unless it gets no further in a whole walltime."""
        if self._halted(task):
            return
        again = self._again(task, "its worker had to leave (walltime or preemption)")
        state = len(again.memory.entries) + len(again.checkpoints)
        before, times = self._progress.get(task.number, (-1, 0))
        times = times + 1 if state == before else 1
        self._progress[task.number] = (state, times)
        if times >= MAX_DEATHS:
            self._conclude(
                again, State.HALTED, Cause.TIMEOUT,
                "it needs longer than its worker may run, between two replies or checkpoints\n"
                "  remedy: a longer walltime (--executor-option time=MINUTES)",
            )  # fmt: skip
        else:
            self._returned.append(again)

    def _halted(self, task: TrialTask) -> bool:
        if not self._interrupted and self.ledger.stopping is None:
            return False
        words = str(self.ledger.stopping or "interrupted")
        cause = Cause(self.ledger.stopping.cause) if self.ledger.stopping else Cause.INTERRUPTED
        self._conclude(task, State.HALTED, cause, words)
        return True

    def _again(self, task: TrialTask, why: str) -> TrialTask:
        """The next attempt, with everything the last one left."""
        number = task.number
        self.post.journal.put(
            "INSERT OR REPLACE INTO attempts VALUES(?,?,NULL,?,?,?,?)",
            (number, task.attempt, time.time(), State.HALTED, Cause.INTERRUPTED, why),
        )
        memory, checkpoints = self.ledger.memory(number), self.ledger.checkpoints(number)
        return replace(task, attempt=task.attempt + 1, memory=memory, checkpoints=checkpoints)

    def _conclude(self, task: TrialTask, state: State, cause: Cause, message: str) -> None:
        now = time.time()
        self._ended(TrialResult(task.number, task.attempt, state, cause, message, now, now, 0.0))

    # -- messages ---------------------------------------------------------------------------
    def _hear(self, worker: Worker, message: tuple[Any, ...]) -> None:
        """What cannot be recorded (on a full disk) ends the run: nobody may wait for it."""
        try:
            self._handle(worker, message)
        except Exception as fault:  # noqa: BLE001 - `run` raises it
            self.fail(fault)

    def _handle(self, worker: Worker, message: tuple[Any, ...]) -> None:
        match message:
            case ("result", result):
                self._finished(worker, result)
            case ("progress", words):
                self.ledger.progress.update(words)
            case ("broken", fault):
                self.fail(fault)
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
        self._ended(result)
        worker.lane.event.set()

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

    async def _close(self, worker: Worker, how: str, intent: int, *args: Any) -> None:
        """`settle`, `release` or `lose` a call, unless its worker's death has."""
        if worker.intents.pop(intent, None) is not None:
            await getattr(self.ledger, how)(intent, *args)

    async def _checkpoint(self, worker: Worker, *args: Any) -> None:
        await self.ledger.checkpoint(*args)

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

    async def _out_of_tries(self, worker: Worker, name: str, error: Any) -> None:
        pace = self.post.routes.open(name).pace
        if pace is not None:
            await pace.exhausted(error)

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
        self._wake_all()
        for claimed in self._claims.values():
            claimed.set()
        self._claims.clear()
        for worker in self._workers:
            worker.claims.clear()

    def _tell_all(self, *message: Any) -> None:
        for worker in self._workers:
            worker.channel.send(*message)

    def interrupt(self) -> None:
        """Cancel what is in flight in every worker; by force what does not give up soon."""
        self._interrupted = True
        self._drop_returned()
        halt = self.ledger.stopping or RunHalted(Cause.INTERRUPTED, "interrupted")
        self._tell_all("cancel", halt)
        asyncio.get_running_loop().call_later(self.patience, self._end_all)

    def _end_all(self) -> None:
        for worker in self._workers:
            if worker.tasks:
                self.end(worker, now=True)


QUESTIONS: dict[str, Callable[..., Any]] = {
    "open": Pool._open, "close": Pool._close, "checkpoint": Pool._checkpoint, "admit": Pool._admit,
    "exhausted": Pool._out_of_tries,
    "recall_shared": Pool._recall,
}  # fmt: skip


def lost(worker: Worker) -> None:
    """A worker is gone: its lane will bury it."""
    worker.lost = True
    worker.lane.event.set()


def shared_out(parallel: int, workers: int) -> int:
    """Trials at once in each worker."""
    return max(1, -(-parallel // workers))
