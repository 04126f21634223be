"""`local`: every trial in this process, on one asyncio loop. Right for remote models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from peira.engine.attempt import Runner, TrialResult, attempt
from peira.engine.lab import Bench, TrialTask


class LocalExecutor:
    """`parallel` trials in flight on the running loop."""

    def __init__(
        self, runner: Runner, bench: Bench, *, parallel: int, trial_seconds: float | None
    ) -> None:
        self.runner = runner
        self.bench = bench
        self.parallel = parallel
        self.trial_seconds = trial_seconds
        self._current: set[asyncio.Task[None]] = set()
        self._interrupted = asyncio.Event()

    async def run(
        self, tasks: AsyncIterator[TrialTask], report: Callable[[TrialResult], None]
    ) -> None:
        lock = asyncio.Lock()
        self._current = {
            asyncio.create_task(self._lane(tasks, lock, report)) for _ in range(self.parallel)
        }
        try:
            await asyncio.gather(*self._current)
        finally:
            for task in self._current:
                task.cancel()

    async def _lane(
        self,
        tasks: AsyncIterator[TrialTask],
        lock: asyncio.Lock,
        report: Callable[[TrialResult], None],
    ) -> None:
        try:
            while not self._interrupted.is_set():
                async with lock:
                    task = await anext(tasks, None)
                if task is None:
                    return
                report(await attempt(self.runner, task, self.bench, self.trial_seconds))
                # Free subjects never wait: let signals and displays have a turn.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not self._interrupted.is_set():
                raise

    def interrupt(self) -> None:
        """Cancel what is in flight; each trial reports itself as halted."""
        self._interrupted.set()
        for task in self._current:
            task.cancel()
