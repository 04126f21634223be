"""`processes`: one worker process a core. For CPU-bound families and simulated subjects.

Workers are fresh interpreters that never import the user's main script (so it needs no guard), build
their own bench from the `Workplace`, and talk to the driver over one socket each. Trials travel in small batches, results come back as they end. A worker that dies
gives its trials back as pending: they are handed to a fresh one, and what they paid is replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from peira.engine.attempt import TrialResult
from peira.engine.executors.remote import serve
from peira.engine.lab import TrialTask
from peira.engine.ledger import Ledger
from peira.engine.workplace import Workplace
from peira.errors import StoreError

MAX_DEATHS = 3  # of workers in a row without one finished trial, before we give up


@dataclass(slots=True)
class Worker:
    """A worker as the driver sees it."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    tasks: dict[int, TrialTask] = field(default_factory=dict)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessesExecutor:
    """Spawns workers and deals trials to whichever has room."""

    def __init__(
        self, place: Workplace, ledger: Ledger, *, parallel: int, workers: int | None = None
    ) -> None:
        self.place = place
        self.ledger = ledger
        self.count = workers or max(1, min(len(os.sched_getaffinity(0)), parallel))
        self.each = max(1, -(-parallel // self.count))
        self._workers: list[Worker] = []
        self._report: Callable[[TrialResult], None] = lambda result: None
        self._answers: set[asyncio.Task[None]] = set()
        self._returned: list[TrialTask] = []
        self._deaths = 0

    async def run(
        self, tasks: AsyncIterator[TrialTask], report: Callable[[TrialResult], None]
    ) -> None:
        self._report = report
        lock = asyncio.Lock()
        self._workers = [self._spawn() for _ in range(self.count)]
        try:
            await asyncio.gather(*(self._deal(i, tasks, lock) for i in range(self.count)))
        finally:
            for worker in self._workers:
                self._stop(worker)

    async def _deal(self, index: int, tasks: AsyncIterator[TrialTask], lock: asyncio.Lock) -> None:
        while True:
            worker = self._workers[index]
            if worker.ended.is_set():
                worker = self._workers[index] = self._revive(worker)
            if len(worker.tasks) >= 2 * self.each:
                worker.room.clear()
                await worker.room.wait()
                continue
            async with lock:
                task = self._returned.pop() if self._returned else await anext(tasks, None)
            if task is not None:
                self._hand(worker, task)
            elif not worker.tasks:
                return
            else:
                worker.room.clear()
                await worker.room.wait()

    def _hand(self, worker: Worker, task: TrialTask) -> None:
        worker.tasks[task.number] = task
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send(("task", task))

    # -- workers ----------------------------------------------------------------------------
    def _spawn(self) -> Worker:
        near, far = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", "peira.engine.executors.worker", str(far.fileno())],
            pass_fds=[far.fileno()],
        )
        far.close()
        ours = Connection(near.detach())
        ours.send((self.place, self.each))
        worker = Worker(process, ours)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read, worker)
        return worker

    def _revive(self, dead: Worker) -> Worker:
        self._deaths += 1
        if self._deaths > MAX_DEATHS * self.count:
            raise StoreError(
                "worker processes keep dying (killed, or out of memory)\n"
                "  remedy: fewer at once (--parallel), then run again; nothing is lost"
            )
        for task in dead.tasks.values():
            memory = self.ledger.memory(task.number)
            self._returned.append(replace(task, memory=memory, attempt=task.attempt + 1))
        dead.tasks.clear()
        return self._spawn()

    def _stop(self, worker: Worker) -> None:
        with contextlib.suppress(OSError):
            asyncio.get_running_loop().remove_reader(worker.pipe.fileno())
            worker.pipe.send(("quit",))
            worker.pipe.close()
        try:
            worker.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()

    def _read(self, worker: Worker) -> None:
        try:
            while worker.pipe.poll():
                self._handle(worker, worker.pipe.recv())
        except (EOFError, ConnectionResetError):
            asyncio.get_running_loop().remove_reader(worker.pipe.fileno())
            worker.ended.set()
            worker.room.set()

    def _handle(self, worker: Worker, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "result":
            result: TrialResult = message[1]
            worker.tasks.pop(result.number, None)
            self._deaths = 0
            self._report(result)
            if self.ledger.stopping is not None:
                self._tell_all(("stop", self.ledger.stopping))
            worker.room.set()
        elif kind == "keep":
            self.ledger.keep(message[1], message[2])
        else:
            task = asyncio.create_task(self._answer(worker, *message[1:]))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(
        self, worker: Worker, number: int, method: str, args: tuple[Any, ...]
    ) -> None:
        value, error = None, None
        try:
            value = await serve(self.ledger, method, args)
        except Exception as caught:  # noqa: BLE001 - it is raised again in the worker
            error = caught
        with contextlib.suppress(OSError):
            worker.pipe.send(("answer", number, value, error))

    def _tell_all(self, message: tuple[Any, ...]) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(message)

    def interrupt(self) -> None:
        """Cancel what is in flight in every worker."""
        self._tell_all(("cancel", self.ledger.stopping))
