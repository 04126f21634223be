"""A worker process: trials in, results out, until told to quit.

Started by `processes` as `python -m peira.engine.executors.worker FD`. Invariant: it never opens
run.db and never holds money; what it buys, it asks the driver for.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from peira.engine.attempt import attempt
from peira.engine.executors.remote import RemoteLedger
from peira.engine.lab import TrialTask
from peira.engine.workplace import Workplace


class Work:
    """One worker's whole life."""

    def __init__(self, pipe: Connection, place: Workplace, parallel: int) -> None:
        self.pipe = pipe
        self.place = place
        self.ledger = RemoteLedger(pipe.send)
        self.family = place.load()
        self.bench = place.bench(self.ledger)
        self.slots = asyncio.Semaphore(parallel)
        self.running: set[asyncio.Task[None]] = set()
        self.quit = asyncio.Event()

    async def live(self) -> None:
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self._read)
        await self.quit.wait()
        await self.bench.routes.close()

    def _read(self) -> None:
        try:
            while self.pipe.poll():
                self._handle(self.pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self.pipe.fileno())
            self.quit.set()

    def _handle(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("task", task):
                job = asyncio.create_task(self._run(task))
                self.running.add(job)
                job.add_done_callback(self.running.discard)
            case ("answer", number, value, error):
                self.ledger.answer(number, value, error)
            case ("stop", halt):
                self.ledger.stopping = halt
            case ("cancel", halt):
                self.ledger.stopping = halt
                for job in self.running:
                    job.cancel()
            case _:
                self.quit.set()

    async def _run(self, task: TrialTask) -> None:
        async with self.slots:
            result = await attempt(self.family, task, self.bench, self.place.trial_seconds)
        self.pipe.send(("result", result))


def main() -> None:
    """Connect to the driver over the inherited descriptor and work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe: Connection = Connection(int(sys.argv[1]))
    place, parallel = pipe.recv()
    asyncio.run(Work(pipe, place, parallel).live())


if __name__ == "__main__":
    main()
