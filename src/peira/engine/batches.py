"""The run's desk for batch jobs: gathers purchases, drives jobs to their end, hands out replies.

The trial does not know: it awaits its reply as ever. Steps and their order are those of
`subjects.batch`; each is durable before the next, so that a driver killed anywhere goes on with the
jobs it finds in run.db. Invariants: a row is in at most one job that may still deliver it; its
worst case stays reserved until then; replies and the job's end are written in one transaction.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from peira.engine.batch_rows import Group, Job, Poll, Row, cut, group_of, within_limits
from peira.engine.budget import Account
from peira.engine.ledger import Ledger, LedgerPort, Purchase, storable, unpack
from peira.errors import (
    Halt,
    InputError,
    ProviderFailure,
    ProviderStop,
    ReplayDiverged,
    RunHalted,
    TransientError,
    TrialFailed,
)
from peira.subjects.batch import BatchRoute, Delivered, JobStatus, custom_id
from peira.subjects.route import Route
from peira.subjects.subject import Reply, Request

CREATES = 5  # attempts at one job, each after looking for what the last one may have made


def desk_of(ledger: LedgerPort) -> BatchDesk:
    """The run's desk. Raises InputError away from the driver, where no job can be kept."""
    if not isinstance(ledger, Ledger):
        raise InputError(
            "batch jobs are driven by the driver itself\n  remedy: --executor local, or batch: false"
        )
    if ledger.desk is None:
        ledger.desk = BatchDesk(ledger)
    return ledger.desk  # type: ignore[no-any-return]


class BatchDesk:
    """See the module's docstring."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.journal = ledger.journal
        self.groups: dict[str, Group] = {}
        self.rows: dict[tuple[int, str], Row] = {}
        self.jobs: dict[int, Job] = {}
        self._adopted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: asyncio.Semaphore | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parked: list[tuple[Route, Row]] = []
        self._detached = asyncio.Event()
        rows = self.journal.read("SELECT COALESCE(MAX(number), 0) FROM batch_jobs")
        self._last: int = rows[0][0]

    # -- asking -------------------------------------------------------------------------------
    async def buy(self, route: Route, request: Request, purchase: Purchase) -> Reply:
        """The reply to one call, when its job ends. Raises ProviderFailure, or Halt."""
        self.ledger.check()
        self._adopt(route)
        row = self.rows.get((purchase.trial, purchase.key))
        if row is None:
            if (known := self._delivered_meanwhile(purchase)) is not None:
                return known
            row = self._queue(route, request, purchase)
        elif row.purchase.digest != purchase.digest:
            raise ReplayDiverged(
                f"replay diverged at {purchase.key!r}: a batch job under way holds another request\n"
                "  remedy: restore the settings it was made with, or run with --fresh"
            )
        elif row.line is None:
            row.line = route.batch.line(request, row.custom_id)
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        row.waiters.append(waiter)
        return await waiter

    def describe(self) -> list[str]:
        """One line for each job, for displays and `--detach`."""
        return [str(job) for job in self.jobs.values()]

    def _delivered_meanwhile(self, purchase: Purchase) -> Reply | None:
        """A job adopted from an earlier process may have ended after this trial's memory was read."""
        if not self._adopted:
            return None
        rows = self.journal.read(
            "SELECT reply, cost FROM replies WHERE trial=? AND key=? AND hash=? AND state='done'",
            (purchase.trial, purchase.key, purchase.digest),
        )
        return unpack(rows[0][0], rows[0][1]) if rows else None

    def _queue(self, route: Route, request: Request, purchase: Purchase) -> Row:
        batch: BatchRoute = route.batch
        identity = custom_id(purchase.trial, purchase.key)
        row = Row(identity, purchase, batch.line(request, identity), group_of(route, request))
        self._enqueue(route, row)
        return row

    def _enqueue(self, route: Route, row: Row) -> None:
        self.rows[row.place] = row
        self.groups.setdefault(row.group, Group(route, row.group)).rows.append(row)
        self._close_later(route.batch.options.gather_seconds)

    # -- closing groups -------------------------------------------------------------------------
    def _close_later(self, quiet: float) -> None:
        """Groups are closed together once no purchase has arrived for a while, so that matching
        parts of several arms are submitted side by side."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(quiet, self._close)

    def _close(self) -> None:
        self._timer = None
        groups, self.groups = list(self.groups.values()), {}
        parts = [self._parts(group) for group in groups if group.rows]
        for index in range(max(map(len, parts), default=0)):
            for each in parts:
                if index < len(each):
                    self._start(each[index])

    def _parts(self, group: Group) -> list[Job]:
        batch: BatchRoute = group.route.batch
        rows = sorted(group.rows, key=lambda row: row.custom_id)
        lists = [each for part in cut(rows, batch) for each in within_limits(part, batch)]
        number = self._parts_before(group.digest)
        return [
            self._job(group.route, part, f"{self._run_name()}-{group.digest}-p{number + k:02d}")
            for k, part in enumerate(lists, start=1)
        ]

    def _job(self, route: Route, rows: Sequence[Row], name: str) -> Job:
        self._last += 1
        return Job(
            self._last, name, route, {row.custom_id: row for row in rows}, created=time.time()
        )

    def _parts_before(self, digest: str) -> int:
        """The highest part number given to this group, whether or not its job is stored yet."""
        stored = self.journal.read(
            "SELECT name FROM batch_jobs WHERE name LIKE ?", (f"%-{digest}-p%",)
        )
        names = [name for (name,) in stored]
        names += [job.name for job in self.jobs.values() if f"-{digest}-p" in job.name]
        return max((int(name.rpartition("-p")[2]) for name in names), default=0)

    def _run_name(self) -> str:
        name = re.sub(r"[^A-Za-z0-9-]+", "-", self.journal.path.resolve().parent.name)
        return name.strip("-")[:24] or "run"

    # -- driving a job --------------------------------------------------------------------------
    def _start(self, job: Job) -> None:
        self.jobs[job.number] = job
        task = asyncio.get_running_loop().create_task(self._drive(job), name=job.name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, job: Job) -> None:
        if self._slots is None:
            self._slots = asyncio.Semaphore(job.batch.options.max_concurrent_jobs)
        try:
            async with self._slots:
                await self._steps(job)
        except (ProviderStop, TransientError) as error:
            self._fail(job, RunHalted("provider", f"batch job {job.name}: {error}"))
        except Exception as error:  # noqa: BLE001 - an answer of no known form: whoever waits learns it
            self._fail(job, error)
        finally:
            self.jobs.pop(job.number, None)
            if job.holds:
                self._unpark()

    async def _steps(self, job: Job) -> None:
        if job.state == "intent":
            if job.adopted:  # `create` comes after `uploaded`: the provider has nothing of it
                await self._abandon(job)
                return
            self.ledger.check()
            if not await self._reserve(job):
                return
            await self._store_intent(job)
            job.file = await job.batch.adapter.upload(job.spec)
            await self._store(job, "uploaded")
        if job.state == "uploaded":
            if not await self._submit(job):
                await self._abandon(job)
                return
            await self._store(job, "submitted")
        status = await self._await_end(job)
        await self._settle(job, status)

    async def _submit(self, job: Job) -> bool:
        """Make the job, or find the one that an attempt without an answer made. False: it was never
        made, and what was to be in it is not known any more."""
        adapter = job.batch.adapter
        for attempt in range(CREATES):
            if attempt or job.adopted:
                if found := await self._find(job):
                    job.job = found
                    return True
                if job.adopted:
                    return False
            try:
                job.job = await adapter.create(job.spec, job.file)
                return True
            except TransientError as error:
                if attempt == CREATES - 1:
                    raise
                job.words = str(error)[:200]
                await asyncio.sleep(min(60.0, job.batch.options.poll_seconds * 2**attempt))
        return False

    async def _find(self, job: Job) -> str | None:
        poll = Poll(job.batch.options.poll_seconds)
        while True:
            try:
                return await job.batch.adapter.find(job.spec, job.file)
            except TransientError as error:
                job.words = str(error)[:200]
                await poll.wait()

    async def _await_end(self, job: Job) -> JobStatus:
        poll = Poll(job.batch.options.poll_seconds)
        while True:
            try:
                status = await job.batch.adapter.status(job.job)
            except TransientError as error:
                job.words = str(error)[:200]
            else:
                if status.words != job.words:
                    poll = Poll(job.batch.options.poll_seconds)
                    job.words = status.words
                    self._show(job)
                if status.state == "ended":
                    return status
            await self._detach(job)
            await poll.wait()

    async def _detach(self, job: Job) -> None:
        """Under `detach`, stop the run once every job that may be submitted is with its provider."""
        options = job.batch.options
        if not options.detach:
            return
        submitted = sum(each.state == "submitted" for each in self.jobs.values())
        if submitted >= min(options.max_concurrent_jobs, len(self.jobs)):
            self._leave()
        await self._detached.wait()
        raise self.ledger.stopping or RunHalted("stopped", "detached")

    def _leave(self) -> None:
        jobs = "\n".join(f"  {line}" for line in self.describe())
        halt = RunHalted("stopped", f"detached: these batch jobs go on at their provider\n{jobs}")
        halt.exit_code = 0
        self.ledger.stop(halt)
        for row in list(self.rows.values()):
            row.fail(halt)
        self._detached.set()

    # -- the end of a job -----------------------------------------------------------------------
    async def _settle(self, job: Job, status: JobStatus) -> None:
        found = {each.custom_id: each for each in await self._results(job, status)}
        bought: list[tuple[Row, Reply]] = []
        rest: list[tuple[Row, Delivered | None]] = []
        for row in job.rows.values():
            one = found.get(row.custom_id)
            if one is not None and one.reply is not None:
                bought.append((row, self._priced(job, row.purchase, one.reply)))
            else:
                rest.append((row, one))
        now = time.time()
        await self.ledger.settle_all(
            [(row.purchase, reply) for row, reply in bought],
            [("UPDATE batch_jobs SET state='settled', words=?, delivered=?, updated=? WHERE number=?",
              (status.words, len(bought), now, job.number), False)],
        )  # fmt: skip
        job.state = "settled"
        for row, reply in bought:
            self._forget(row)
            row.resolve(reply)
        for row, one in rest:
            self._again(job, row, one, status)

    async def _results(self, job: Job, status: JobStatus) -> list[Delivered]:
        for attempt in range(CREATES):
            try:
                return await job.batch.adapter.results(job.job, status)
            except TransientError:
                if attempt == CREATES - 1:
                    raise
                await asyncio.sleep(min(60.0, job.batch.options.poll_seconds * 2**attempt))
        return []

    def _priced(self, job: Job, purchase: Purchase, reply: Reply) -> Reply:
        """The reply with its cost: the most it may be where the provider reports no usage (what was
        asked is not at hand once a job was found again), so that a budget holds."""
        price, reply = job.batch.price, storable(reply)
        if price is None:
            return reply.bought(job.created, 0.0, reply.cost)
        known = replace(reply, asked_at=job.created)
        cost = price.cost(known) if reply.usage.total_tokens else purchase.worst
        return reply.bought(job.created, 0.0, cost)

    def _again(self, job: Job, row: Row, one: Delivered | None, status: JobStatus) -> None:
        """A row that was not delivered goes into a further job, or fails for good."""
        self.ledger.budget.settle(row.purchase.buyer, row.purchase.worst, 0)
        self._forget(row)
        error = one.error if one is not None else None
        if isinstance(error, TrialFailed):
            row.fail(error)
            return
        hopeless = isinstance(error, ProviderStop)
        row.tries += 1
        if hopeless or row.tries > job.batch.options.requeues:
            words = error or f"the job {status.words or 'ended'} without it {status.reason}"
            row.fail(ProviderFailure(f"{job.route.name}: batch job {job.name}: {words}"))
        elif row.wanted:
            self._enqueue(job.route, row)

    def _forget(self, row: Row) -> None:
        self.rows.pop(row.place, None)

    def _fail(self, job: Job, error: BaseException) -> None:
        """The run stops, or the job could not be made: those who wait learn it. A job that the
        provider has stays in run.db, for the run that resumes; one it cannot have gives back."""
        for row in job.rows.values():
            if job.holds and job.state == "intent":
                self.ledger.budget.settle(row.purchase.buyer, row.purchase.worst, 0)
            self._forget(row)
            row.fail(error)

    async def _abandon(self, job: Job) -> None:
        """The provider never had this job: its rows are free to be bought again."""
        now = time.time()
        await self.journal.durable(
            "UPDATE batch_jobs SET state='abandoned', updated=? WHERE number=?", (now, job.number)
        )
        job.state = "abandoned"
        for row in job.rows.values():
            self.ledger.budget.settle(row.purchase.buyer, row.purchase.worst, 0)
            self._forget(row)
            if row.wanted:
                self._enqueue(job.route, row)

    # -- money ----------------------------------------------------------------------------------
    async def _reserve(self, job: Job) -> bool:
        """Set every row's worst case aside. Rows that do not fit wait for jobs under way to give
        back; once none is left, the budget says so. False: nothing of this job can go now."""
        rest = [row for row in job.rows.values() if not self._fits(row.purchase)]
        for row in rest:
            del job.rows[row.custom_id]
        others = any(each.holds for each in self.jobs.values())
        for row in rest:
            if job.rows or others:
                if not self._fits(row.purchase):
                    self._parked.append((job.route, row))
                    continue
                job.rows[row.custom_id] = row
            else:
                await self._reserve_or_fail(job, row)
        job.holds = bool(job.rows)
        return job.holds

    def _fits(self, purchase: Purchase) -> bool:
        """Reserve at once if it fits."""
        run, trial = self._accounts(purchase)
        if not (run.fits(purchase.worst) and trial.fits(purchase.worst)):
            return False
        run.reserved += purchase.worst
        trial.reserved += purchase.worst
        return True

    def _accounts(self, purchase: Purchase) -> tuple[Account, Account]:
        budget = self.ledger.budget
        return budget.run, budget.trial(purchase.buyer)

    async def _reserve_or_fail(self, job: Job, row: Row) -> None:
        try:
            await self.ledger.budget.reserve(row.purchase.buyer, row.purchase.worst)
        except Halt as halt:
            self._forget(row)
            row.fail(halt)
        else:
            job.rows[row.custom_id] = row

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        for route, row in parked:
            self._enqueue(route, row)

    # -- what an earlier process left -------------------------------------------------------------
    def _adopt(self, route: Route) -> None:
        """Go on with this subject's jobs of a killed or detached run, once."""
        if route.name in self._adopted:
            return
        found = self.journal.read(
            "SELECT number, name, state, file, job, words, created FROM batch_jobs"
            " WHERE subject=? AND state IN ('intent', 'uploaded', 'submitted')", (route.name,),
        )  # fmt: skip
        self._adopted.add(route.name)
        for number, name, state, file, identity, words, created in found:
            rows = self._adopted_rows(number, name)
            job = Job(number, name, route, rows, state, file, identity, words, created, True)
            for row in rows.values():
                self.rows[row.place] = row
                for account in self._accounts(row.purchase):
                    account.reserved += row.purchase.worst
            job.holds = True
            self._start(job)

    def _adopted_rows(self, number: int, name: str) -> dict[str, Row]:
        group = name.rsplit("-", 2)[-2]
        return {
            identity: Row(identity, Purchase(trial, buyer, key, digest, model, worst), None, group, tries)
            for identity, trial, buyer, key, digest, model, worst, tries in self.journal.read(
                "SELECT custom_id, trial, buyer, key, hash, model, worst, tries FROM batch_rows"
                " WHERE job=?", (number,),
            )
        }  # fmt: skip

    # -- durable steps --------------------------------------------------------------------------
    async def _store_intent(self, job: Job) -> None:
        worst = sum(row.purchase.worst for row in job.rows.values())
        rows = [
            (job.number, row.custom_id, row.purchase.trial, row.purchase.buyer, row.purchase.key,
             row.purchase.digest, row.purchase.model, row.purchase.worst, row.tries)
            for row in job.rows.values()
        ]  # fmt: skip
        await self.journal.durable_all(
            [
                ("INSERT INTO batch_jobs(number, name, subject, state, created, updated, planned, worst)"
                 " VALUES(?,?,?,'intent',?,?,?,?)",
                 (job.number, job.name, job.route.name, job.created, job.created, len(rows), worst),
                 False),
                ("INSERT INTO batch_rows VALUES(?,?,?,?,?,?,?,?,?)", rows, True),
            ]
        )  # fmt: skip

    async def _store(self, job: Job, state: str) -> None:
        job.state = state
        await self.journal.durable(
            "UPDATE batch_jobs SET state=?, file=?, job=?, updated=? WHERE number=?",
            (state, job.file, job.job, time.time(), job.number),
        )

    def _show(self, job: Job) -> None:
        self.journal.put(
            "UPDATE batch_jobs SET words=?, updated=? WHERE number=?",
            (job.words, time.time(), job.number),
        )
