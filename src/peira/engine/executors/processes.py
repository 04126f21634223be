"""`processes`: one worker process a core. For CPU-bound families and simulated subjects.

Workers are fresh interpreters that never import the user's main script (so it needs no guard); they
build their own bench from the `Workplace` and talk to the driver over one socket each.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from pydantic import BaseModel, ConfigDict, Field

from peira.engine.executors.channel import over
from peira.engine.executors.pool import Pool, Post, Worker, shared_out

QUITTING = 5.0  # seconds a worker has to close its connections


class ProcessesOptions(BaseModel):
    """Options of `--executor processes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int | None = Field(None, ge=1, description="worker processes; default: the cores")


class ProcessesExecutor(Pool):
    """Spawns workers on this machine."""

    Options = ProcessesOptions

    def __init__(self, post: Post, options: ProcessesOptions) -> None:
        cores = len(os.sched_getaffinity(0))
        workers = options.workers or max(1, min(cores, post.parallel))
        super().__init__(post, workers, shared_out(post.parallel, workers))

    async def launch(self, worker: Worker) -> None:
        """A fresh interpreter at the other end of a socket pair."""
        near, far = socket.socketpair()
        worker.body = subprocess.Popen(
            [sys.executable, "-m", "peira.engine.executors.worker", str(far.fileno())],
            pass_fds=[far.fileno()],
        )
        far.close()
        await over(near, worker.channel)

    def end(self, worker: Worker, *, now: bool) -> None:
        """Wait for the process, and kill it if it does not quit."""
        process: subprocess.Popen[bytes] = worker.body
        if now:
            process.kill()
        try:
            process.wait(timeout=QUITTING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
