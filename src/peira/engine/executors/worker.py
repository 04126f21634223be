"""A worker process: trials in, results out, until told to quit.

Started by `processes` as `python -m peira.engine.executors.worker FD`, or by ray through `dial`.
Invariant: it never opens run.db and never holds money; what it buys, it asks the driver for.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any

from peira.engine.attempt import attempt
from peira.engine.executors import channel
from peira.engine.executors.remote import RemoteLedger, RemoteSharing, WorkerRoutes
from peira.engine.lab import Bench, TrialTask
from peira.engine.loops import loop_factory
from peira.engine.workplace import Workplace

TELL_EVERY = 0.5  # seconds between words on what trials are at


class Work:
    """One worker's whole life. The driver's first message says where and how much it works."""

    def __init__(self) -> None:
        self.channel = channel.Channel(self._handle, self._lost)
        self.ledger = RemoteLedger(self.channel.send)
        self.running: set[asyncio.Task[None]] = set()
        self.quit = asyncio.Event()
        self.place: Workplace
        self.family: Any
        self.bench: Bench
        self.slots: asyncio.Semaphore
        self.words: dict[int, str] = {}  # what trials are at, not yet told

    async def live(self) -> None:
        """Work until the driver says `quit` or is gone."""
        await self.quit.wait()
        self.ledger.hang_up()
        for job in self.running:
            job.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        if hasattr(self, "bench"):
            await self.bench.routes.close()
        self.channel.close()

    def _lost(self) -> None:
        self.quit.set()

    def _handle(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("task", task):
                job = asyncio.get_running_loop().create_task(self._run(task))
                self.running.add(job)
                job.add_done_callback(self.running.discard)
            case ("answer", number, value, error):
                self.ledger.answer(number, value, error)
            case ("hello", place, parallel):
                self._settle_in(place, parallel)
            case ("stop", halt):
                self.ledger.stopping = halt
            case ("cancel", halt):
                self.ledger.stopping = halt
                for job in self.running:
                    job.cancel()
            case _:
                self.quit.set()

    def _settle_in(self, place: Workplace, parallel: int) -> None:
        self.place = place
        self.family = place.load()
        routes = place.routes(kind=WorkerRoutes)
        assert isinstance(routes, WorkerRoutes)
        routes.ledger = self.ledger
        sharing = RemoteSharing(self.ledger)
        self.bench = Bench(routes, self.ledger, sharing, place.retries, self._note)
        self.slots = asyncio.Semaphore(parallel)

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
