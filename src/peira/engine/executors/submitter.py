"""How workers are started and watched: submitit to a SLURM cluster, or as processes of this machine.

submitit writes the batch script, makes the array and its logs; whether a job is still there is asked
of squeue, since accounting (sacct) is not set up everywhere.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from peira.engine.executors.shard_worker import work
from peira.errors import InputError, MissingExtra

GONE_WITHIN = 60.0  # seconds that a cancelled job may take to vanish
WARNING = 90  # seconds before the walltime, at most, when workers are told


def make_submitter(options: Any, run: Path) -> Submitter:
    """submitit's executor for these options. Raises MissingExtra, or InputError without SLURM."""
    try:
        import submitit
    except ImportError:
        raise MissingExtra("--executor slurm", "slurm") from None
    try:
        executor = submitit.AutoExecutor(folder=run / "logs" / "slurm", cluster=options.cluster)
    except RuntimeError as error:
        raise InputError(
            "--executor slurm: there is no SLURM here (no srun)\n"
            "  remedy: run peira on a login node of the cluster, or --executor processes"
        ) from error
    executor.update_parameters(**_parameters(options))
    return (Submitter if options.cluster == "slurm" else LocalSubmitter)(executor)


def _parameters(options: Any) -> dict[str, Any]:
    given = {
        "name": "peira", "timeout_min": options.time, "nodes": 1, "tasks_per_node": 1,
        "cpus_per_task": options.cpus, "mem_gb": options.mem_gb,
        "gpus_per_node": options.gpus or None, "slurm_partition": options.partition,
        "slurm_account": options.account, "slurm_qos": options.qos,
        "slurm_constraint": options.constraint,
        "slurm_setup": [options.setup] if options.setup else None,
        "slurm_signal_delay_s": min(WARNING, options.time * 20),
        "slurm_array_parallelism": 1000, "slurm_additional_parameters": {"requeue": True},
    }  # fmt: skip
    wanted = {key: value for key, value in given.items() if value is not None}
    if options.cluster == "local":
        return {k: v for k, v in wanted.items() if not k.startswith("slurm_") and k != "mem_gb"}
    return wanted


class Submitter:
    """Arrays of SLURM jobs."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def submit(self, homes: Sequence[Path]) -> list[str]:
        """Start one worker for each home; returns their jobs' ids."""
        with self.executor.batch():
            jobs = [self.executor.submit(work, str(home)) for home in homes]
        return [str(job.job_id) for job in jobs]

    def alive(self, jobs: Iterable[str]) -> set[str]:
        """Those that wait or run."""
        return slurm_alive(jobs)

    def cancel(self, job: str, pid: int | None) -> None:
        """End a job."""
        slurm_cancel(job)

    def close(self) -> None:
        """After the last job."""


def slurm_alive(jobs: Iterable[str]) -> set[str]:
    """Of these jobs, those in the queue; all of them if the controller does not answer."""
    asked = set(jobs)
    done = subprocess.run(
        ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i %t"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return asked
    rows = (line.split() for line in done.stdout.splitlines())
    there = {row[0] for row in rows if len(row) == 2 and row[1] != "CD"}
    return asked & there


def slurm_cancel(job: str) -> None:
    """Cancel a job, running or not, and see it gone."""
    for force in ([], ["--signal=KILL"]):
        subprocess.run(["scancel", *force, job], capture_output=True, check=False)
        deadline = time.monotonic() + GONE_WITHIN / 2
        while time.monotonic() < deadline:
            if not slurm_alive([job]):
                return
            time.sleep(0.25)


class LocalSubmitter(Submitter):
    """submitit's local executor: a process a worker, for machines without SLURM."""

    def __init__(self, executor: Any) -> None:
        super().__init__(executor)
        self._jobs: dict[str, Any] = {}

    def submit(self, homes: Sequence[Path]) -> list[str]:
        for home in homes:
            job = self.executor.submit(work, str(home))
            self._jobs[str(job.job_id)] = job
        return list(self._jobs)[-len(homes) :]

    def alive(self, jobs: Iterable[str]) -> set[str]:
        return {job for job in jobs if self._jobs[job].get_info()["jobState"] == "RUNNING"}

    def cancel(self, job: str, pid: int | None) -> None:
        if pid is not None:
            kill_local(pid)
        self._jobs[job].cancel()

    def close(self) -> None:
        for job in self._jobs.values():
            job._process.wait(timeout=GONE_WITHIN)  # submitit offers no other way


def is_local(pid: int) -> bool:
    """True if this process of this machine is one of submitit's."""
    try:
        return b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def kill_local(*pids: int) -> None:
    """End worker processes of this machine, and see them gone."""
    for pid in filter(is_local, pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_WITHIN
    while any(map(is_local, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
