"""`slurm`: workers as an array of SLURM jobs, through submitit.

Driver and workers share the run's folder and nothing else (`shards`). Money crosses by lease: what a
worker may spend is reserved at the driver before, and what it does not spend comes back. Invariant:
spent + leased <= limit, whatever becomes of driver and workers; a job that ends (walltime,
preemption, a dead node) gives its trials back, and what they paid is replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from peira.engine.engine import store_result
from peira.engine.executors import shards
from peira.engine.executors.channel import Channel
from peira.engine.executors.pool import Pool, Post, Worker, lost, shared_out
from peira.engine.executors.submitter import (
    is_local,
    kill_local,
    make_submitter,
    slurm_alive,
    slurm_cancel,
)
from peira.engine.journal import Journal
from peira.engine.lab import TrialTask
from peira.engine.ledger import RUN_SCOPE, Kept
from peira.engine.states import Cause, State
from peira.errors import InputError, RunHalted

GATHER = 0.05  # seconds in which workers wanted together become one array
FIRST_SHARE = 0.5  # of what is left is leased at the start; the rest goes to whoever asks
FAREWELL = 20.0  # seconds that workers of a dead driver have to end their calls
LEAVING = 45.0  # seconds that workers have to end their calls, when told to quit


class SlurmOptions(BaseModel):
    """Options of `--executor slurm`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str | None = Field(None, description="partition")
    account: str | None = Field(None, description="account")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="features a node must have")
    time: int = Field(60, ge=2, description="walltime of each job, minutes")
    cpus: int = Field(1, ge=1, description="CPUs of each job")
    gpus: int = Field(0, ge=0, description="GPUs of each job")
    mem_gb: float | None = Field(None, gt=0, description="memory of each job, GB")
    setup: str | None = Field(None, description="shell lines before python, e.g. module load")
    workers: int | None = Field(None, ge=1, description="jobs of the array; default: parallel / 16")
    trials_per_worker: int | None = Field(None, ge=1, description="trials at once in a job")
    poll: float = Field(1.0, gt=0, description="seconds between looks at the shards")
    cluster: str = Field(
        "slurm", pattern="^(slurm|local)$", description="slurm, or local processes"
    )


class FileChannel(Channel):
    """A worker's inbox as a channel: what is sent in one turn of the loop is one file."""

    def __init__(self, inbox: shards.Inbox) -> None:
        super().__init__()
        self.inbox = inbox

    def _flush(self) -> None:
        messages, self._outgoing = self._outgoing, []
        if messages:
            self.inbox.write(messages)


class SlurmExecutor(Pool):
    """Submits workers and follows their shards."""

    Options = SlurmOptions

    def __init__(self, post: Post, options: SlurmOptions) -> None:
        self.options = options
        workers = options.workers or max(1, -(-post.parallel // 16))
        each = options.trials_per_worker or shared_out(post.parallel, workers)
        super().__init__(post, workers, each)
        self.patience = max(self.patience, 3 * options.poll + 5.0)
        self.run_path = post.journal.path.resolve().parent
        self.folder = self.run_path / shards.FOLDER
        self.submitter = make_submitter(options, self.run_path)
        self.followed: list[Follower] = []
        self._wanted: list[tuple[Follower, asyncio.Future[None]]] = []
        self._last_look = 0.0
        self._watch: asyncio.Task[None] | None = None

    # -- workers ----------------------------------------------------------------------------
    async def opened(self) -> None:
        """Lay out the folder; follow shards from now on."""
        (self.folder / shards.SHARED).mkdir(parents=True, exist_ok=True)
        (self.folder / shards.DRIVER).touch()
        await asyncio.to_thread(write_known, self.post.journal, self.folder / shards.KNOWN)
        self._watch = asyncio.get_running_loop().create_task(self._follow())
        self._watch.add_done_callback(self._watch_ended)

    async def launch(self, worker: Worker) -> None:
        """Ask for a job, together with all who ask now, and wait until it has started."""
        home = self.folder / f"w{secrets.token_hex(6)}"
        follower = Follower(worker, home, shards.ShardReader(home, 0, self.ledger.number))
        worker.channel = FileChannel(shards.Inbox(home))
        worker.body = follower
        worker.channel.send("share", len(self._lanes))
        self._grant(follower, 0)
        submitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted.append((follower, submitted))
        if len(self._wanted) == 1:
            asyncio.get_running_loop().call_later(GATHER, self._submit)
        await submitted
        await follower.started.wait()

    def _submit(self) -> None:
        wanted, self._wanted = self._wanted, []
        task = asyncio.get_running_loop().create_task(self._submit_all(wanted))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _submit_all(self, wanted: list[tuple[Follower, asyncio.Future[None]]]) -> None:
        wanted = [(follower, done) for follower, done in wanted if not done.done()]
        if not wanted:
            return
        try:
            jobs = await asyncio.to_thread(
                self.submitter.submit, [follower.home for follower, _ in wanted]
            )
        except Exception as error:  # noqa: BLE001 - submitit raises whatever sbatch said
            words = str(error).strip().strip("'\"").splitlines()
            fault = InputError(
                f"--executor slurm: not submitted: {words[-1] if words else error!r}\n"
                "  remedy: check --executor-option partition=…, account=…, time=…"
            )
            for _, done in wanted:
                if not done.done():
                    done.set_exception(fault)
            return
        for (follower, done), job in zip(wanted, jobs, strict=True):
            follower.job = job
            note = {"cluster": self.options.cluster, "job": job}
            (follower.home / shards.JOB).write_bytes(orjson.dumps(note))
            self.followed.append(follower)
            if done.cancelled():  # no longer wanted
                await asyncio.to_thread(self.submitter.cancel, job, None)
            else:
                done.set_result(None)

    def end(self, worker: Worker, *, now: bool) -> None:
        """Wait for a job that was told to quit; cancel it if it does not."""
        follower: Follower = worker.body
        deadline = time.monotonic() + (0.0 if now else LEAVING)
        while follower.job is not None and not follower.said_bye():
            if time.monotonic() >= deadline:
                self.submitter.cancel(follower.job, follower.pid)
                return
            time.sleep(0.1)

    async def closed(self) -> None:
        """Import what is left, then put the homes away."""
        if self._watch is not None:
            self._watch.cancel()
        for follower in list(self.followed):
            await self._take(follower, follower.reader.close())
            self._take_back(follower)
        await asyncio.to_thread(self.submitter.close)
        await asyncio.to_thread(put_away, self.post.journal, self.run_path)

    def _hand(self, worker: Worker, task: TrialTask) -> None:
        account = self.ledger.budget.trial(task.number)
        if account.spent:
            worker.channel.send("prior", task.number, account.spent)
        super()._hand(worker, task)

    # -- following shards -------------------------------------------------------------------
    async def _follow(self) -> None:
        while True:
            (self.folder / shards.DRIVER).touch()
            for follower in list(self.followed):
                if not follower.closed:
                    await self._take(follower, follower.reader.read())
            await self._notice_deaths()
            self._settle_needs()
            await asyncio.sleep(self.options.poll)

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        """A fault of the watch (a damaged shard, a full disk) ends the run: lanes must not wait."""
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self.fail(fault)

    async def _take(self, follower: Follower, done: shards.Import) -> None:
        """Put what a shard said into run.db and into the accounts."""
        for trial, amount in done.spent:
            self._charge(follower, trial, amount)
        for trial, kept in done.kept:
            self.ledger.keep(trial, kept)
        for result in done.results:
            if result.number in follower.worker.tasks:
                self._finished(follower.worker, result)
        if done.statements:
            await self.post.journal.durable_all(done.statements)
        for told in done.told:
            self._told(follower, told)

    def _charge(self, follower: Follower, trial: int, amount: int) -> None:
        """Money of a lease becomes money spent."""
        budget = self.ledger.budget
        leased = min(amount, follower.lease_left)
        follower.lease_left -= leased
        budget.run.reserved -= leased
        budget.run.spent += amount
        budget.trial(trial).spent += amount

    def _told(self, follower: Follower, told: dict[str, Any]) -> None:
        if told["kind"] == "hello":
            follower.pid = told["pid"]
            follower.started.set()
        elif told["kind"] == "need":
            follower.need = max(follower.need, told["total"])
        else:
            follower.worker.retired = follower.bye = True
            lost(follower.worker)

    async def _notice_deaths(self) -> None:
        """Jobs that are gone without a word. Twice in a row, since squeue may lag behind."""
        if time.monotonic() - self._last_look < 5 * self.options.poll:
            return
        self._last_look = time.monotonic()
        watched = [f for f in self.followed if not f.closed and not f.bye]
        if not watched:
            return
        alive = await asyncio.to_thread(
            self.submitter.alive, [f.job for f in watched if f.job is not None]
        )
        for follower in watched:
            follower.missed = 0 if follower.job in alive else follower.missed + 1
            if follower.missed >= 2:
                await self._take(follower, follower.reader.read())
                follower.started.set()
                lost(follower.worker)

    async def _settle_estate(self, dead: Worker) -> None:
        follower: Follower = dead.body
        follower.closed = True
        await self._take(follower, follower.reader.close())
        self._take_back(follower)
        for claim in (self.folder / shards.SHARED).glob("*.claim"):
            with contextlib.suppress(FileNotFoundError):  # given back just now
                if claim.readlink().name == follower.home.name:
                    claim.unlink()

    # -- money ------------------------------------------------------------------------------
    def _grant(self, follower: Follower, need: int) -> None:
        """A lease, or a larger one: reserved here before the worker may spend it."""
        run, limit = self.ledger.budget.run, self.ledger.budget.trial_limit
        if run.limit is None:
            follower.worker.channel.send("lease", None, limit)
            return
        room = run.limit - run.spent - run.reserved
        waiting = sum(1 for f in self.followed if f.need) or len(self._lanes)
        short = max(0, need - (follower.lease or 0))
        more = min(room, max(short, int(room * FIRST_SHARE / waiting)))
        run.reserved += more
        follower.lease = (follower.lease or 0) + more
        follower.lease_left += more
        follower.need = 0
        follower.worker.channel.send("lease", follower.lease, limit)

    def _take_back(self, follower: Follower) -> None:
        """The worker is gone: what it did not spend is free again."""
        self.ledger.budget.run.reserved -= follower.lease_left
        follower.lease_left = 0
        follower.need = 0

    def _settle_needs(self) -> None:
        """Grant what workers ask for, as far as it goes; if nobody else can give anything back, the
        budget is reached."""
        run = self.ledger.budget.run
        asking = [f for f in self.followed if f.need and not f.closed]
        if run.limit is None or not asking or self.ledger.stopping is not None:
            return
        for follower in asking:
            if follower.need - (follower.lease or 0) <= run.limit - run.spent - run.reserved:
                self._grant(follower, follower.need)
        asking = [f for f in asking if f.need]
        at_work = [f for f in self.followed if not f.closed and not f.need and f.worker.tasks]
        idle = [f for f in self.followed if not f.closed and not f.worker.tasks]
        if asking and idle:
            for follower in idle:  # it has nothing to do: it quits, and its lease comes back
                follower.worker.channel.send("quit")
        elif asking and not at_work:
            least = min(f.need - (f.lease or 0) for f in asking)
            self._halt(least)

    def _halt(self, least: int) -> None:
        run = self.ledger.budget.run
        spent = run.spent / 1e6
        halt = RunHalted(
            Cause.BUDGET,
            f"Budget limit reached: {spent:.4f} USD spent, the next call may need"
            f" {least / 1e6:.4f} more than is left of {(run.limit or 0) / 1e6:.4f}\n"
            "  remedy: raise the limit and run the same command again; nothing is lost",
        )
        self.ledger.stop(halt)


class Follower:
    """What the driver knows of one worker's shard and lease."""

    def __init__(self, worker: Worker, home: Path, reader: shards.ShardReader) -> None:
        self.worker = worker
        self.home = home
        self.reader = reader
        self.job: str | None = None
        self.pid: int | None = None
        self.started = asyncio.Event()
        self.lease: int | None = None
        self.lease_left = 0
        self.need = 0
        self.missed = 0
        self.bye = False
        self.closed = False

    def said_bye(self) -> bool:
        """True once the shard ends in a bye, read or not."""
        if self.bye:
            return True
        found, _ = shards.lines_from(self.home / shards.SHARD, self.reader.offset)
        return any(each["kind"] == "bye" for each in found)


def write_known(journal: Journal, path: Path) -> None:
    """The replies of run scope that run.db holds, as a file workers may read without locks."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "CREATE TABLE shared(key TEXT PRIMARY KEY, hash, reply, cost) WITHOUT ROWID"
        )
        last = 0
        while rows := journal.read(
            "SELECT number, key, hash, reply, cost FROM replies WHERE trial=? AND state='done'"
            " AND number>? ORDER BY number LIMIT 1000", (RUN_SCOPE, last),
        ):  # fmt: skip
            connection.executemany(
                "INSERT OR REPLACE INTO shared VALUES(?,?,?,?)", [r[1:] for r in rows]
            )
            last = rows[-1][0]
    connection.close()


def put_away(journal: Journal, run: Path) -> None:
    """Remove the shards, and only then forget how far each was read: a driver killed in between
    finds nothing to read again."""
    journal.flush()
    shutil.rmtree(run / shards.FOLDER)
    journal.put("DELETE FROM meta WHERE key LIKE 'shard/%'")
    journal.flush()


# -- what a dead driver left ------------------------------------------------------------------------
def recover(journal: Journal, run: Path) -> int:
    """Import the shards of an earlier driver's workers, after ending those still at work; returns
    how many there were. Called by every driver before it counts its money."""
    found = list(shards.homes(run))
    for home in found:
        shards.Inbox(home).write([("quit",)])
    deadline = time.monotonic() + FAREWELL
    while any(map(_at_work, found)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for home in found:
        if (end := _at_work(home)) is not None:
            end()
        _import_orphan(journal, home)
    put_away(journal, run)
    return len(found)


def _at_work(home: Path) -> Callable[[], None] | None:
    """How to end a worker that has not said bye and whose job is still there (with what it was
    before a requeue); None if it is gone."""
    lines, _ = shards.lines_from(home / shards.SHARD, 0)
    if any(each["kind"] == "bye" for each in lines):
        return None
    note = orjson.loads((home / shards.JOB).read_bytes())
    if note["cluster"] == "slurm":
        return partial(slurm_cancel, note["job"]) if slurm_alive([note["job"]]) else None
    alive = [each["pid"] for each in lines if each["kind"] == "hello" and is_local(each["pid"])]
    return partial(kill_local, *alive) if alive else None


def _import_orphan(journal: Journal, home: Path) -> None:
    rows = journal.read("SELECT value FROM meta WHERE key=?", (f"shard/{home.name}",))
    if rows and rows[0][0] == shards.CLOSED:
        return
    done = shards.ShardReader(home, int(rows[0][0]) if rows else 0).close()
    for trial, kept in done.kept:
        _keep(journal, trial, kept)
    for result in done.results:
        rows = journal.read("SELECT state FROM trials WHERE number=?", (result.number,))
        if rows and rows[0][0] == State.RUNNING:
            _keep(journal, result.number, result.kept)
            store_result(journal, result)
    journal.transaction(lambda connection: [connection.execute(*s[:2]) for s in done.statements])  # type: ignore[arg-type]


def _keep(journal: Journal, trial: int, kept: Sequence[Kept]) -> None:
    for key, digest, model, packed in kept:
        journal.put(
            "INSERT OR REPLACE INTO replies(trial, key, attempt, hash, state, model, reply, buyer)"
            " VALUES(?,?,1,?,'done',?,?,?)", (trial, key, digest, model, packed, trial),
        )  # fmt: skip
