"""A worker process: trials in, results out, until told to quit.

Started by `processes` as `python -m peira.engine.executors.worker FD`, or by ray through `dial`.
Invariant: it never opens run.db and never holds money; what it buys, it asks the driver for.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

from peira.engine.attempt import attempt
from peira.engine.executors import channel
from peira.engine.executors.remote import RemoteLedger, RemoteSharing, WorkerRoutes
from peira.engine.lab import Bench, TrialTask
from peira.engine.loops import loop_factory
from peira.engine.workplace import Workplace
from peira.errors import PeiraError

TELL_EVERY = 0.5  # seconds between words on what trials are at


class Trials:
    """The trials at work in one process, as many at once as it is told to."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self.place: Workplace
        self.family: Any
        self.bench: Bench
        self.slots: asyncio.Semaphore

    def settle_in(self, place: Workplace, parallel: int, bench: Bench) -> None:
        """Where to work, on what, and how many trials at once."""
        self.place, self.family, self.bench = place, place.load(), bench
        self.slots = asyncio.Semaphore(parallel)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a trial go on by itself; `broken` hears of a fault that no result can tell of."""
        job = asyncio.get_running_loop().create_task(work)
        self.running.add(job)
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        self.running.discard(job)
        if not job.cancelled() and (fault := job.exception()) is not None:
            known = isinstance(fault, PeiraError)
            self.broken(fault if known else RuntimeError(f"{type(fault).__name__}: {fault}"))

    def broken(self, fault: BaseException) -> None:
        """A result cannot be told or kept: the driver must not wait for it."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End all at once; each reports itself as halted."""
        for job in self.running:
            job.cancel()

    async def end(self) -> None:
        """Wait for all, and let go of connections."""
        await asyncio.gather(*self.running, return_exceptions=True)
        if hasattr(self, "bench"):
            await self.bench.routes.close()


class Work(Trials):
    """One worker's whole life. The driver's first message says where and how much it works."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = channel.Channel(self._handle, self._lost)
        self.ledger = RemoteLedger(self.channel.send)
        self.quit = asyncio.Event()
        self.words: dict[int, str] = {}  # what trials are at, not yet told

    async def live(self) -> None:
        """Work until the driver says `quit` or is gone."""
        await self.quit.wait()
        self.ledger.hang_up()
        self.cancel()
        await self.end()
        self.channel.close()

    def broken(self, fault: BaseException) -> None:
        self.channel.send("broken", fault)

    def _lost(self) -> None:
        self.quit.set()

    def _handle(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("task", task):
                self.begin(self._run(task))
            case ("answer", number, value, error):
                self.ledger.answer(number, value, error)
            case ("hello", place, parallel):
                self._settle_in(place, parallel)
            case ("stop", halt):
                self.ledger.stopping = halt
            case ("cancel", halt):
                self.ledger.stopping = halt
                self.cancel()
            case _:
                self.quit.set()

    def _settle_in(self, place: Workplace, parallel: int) -> None:
        routes = place.routes(kind=WorkerRoutes)
        assert isinstance(routes, WorkerRoutes)
        routes.ledger = self.ledger
        sharing = RemoteSharing(self.ledger)
        bench = Bench(routes, self.ledger, sharing, place.retries, self._note)
        self.settle_in(place, parallel, bench)

    async def _run(self, task: TrialTask) -> None:
        async with self.slots:
            result = await attempt(self.family, task, self.bench, self.place.trial_seconds)
        self.words.pop(task.number, None)
        self.channel.send("result", result)

    def _note(self, trial: int, words: str) -> None:
        """What a trial is at: told now and then, since free trials get on faster than anyone reads."""
        if not self.words:
            asyncio.get_running_loop().call_later(TELL_EVERY, self._tell)
        self.words[trial] = words

    def _tell(self) -> None:
        words, self.words = self.words, {}
        if words:
            self.channel.send("progress", words)


async def from_descriptor(number: int) -> None:
    """Work for the driver at the other end of an inherited socket."""
    work = Work()
    await channel.over(socket.socket(fileno=number), work.channel)
    await work.live()


async def from_address(host: str, port: int, token: bytes) -> None:
    """Work for the driver that listens at an address."""
    work = Work()
    await channel.dial(host, port, token, work.channel)
    await work.live()


def main() -> None:
    """Connect to the driver over the inherited descriptor and work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(from_descriptor(int(sys.argv[1])))


if __name__ == "__main__":
    main()
