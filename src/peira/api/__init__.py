"""Peira from Python, and what the commands are made of: run, plan, collect, analyse, load.

    report = peira.run("study.yaml")          # run or resume
    run = peira.load(report.path)             # tidy frames: run.trials(), run.events()

Invariant: the same call runs what is missing and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from peira.api.checks import check, limited, workplace
from peira.engine import stop
from peira.engine.budget import Account, Budget, micro
from peira.engine.engine import Driver, Executor, Selection
from peira.engine.journal import Journal
from peira.engine.ledger import Ledger
from peira.engine.loops import driving, loop_factory
from peira.engine.plan import PlannedCell, SettingsOf, plan_cells, register
from peira.engine.states import Cause, Tally
from peira.engine.workplace import Workplace
from peira.errors import InputError, RunHalted, StudyError
from peira.families import load_family, resolve
from peira.families.family import Family
from peira.report.stopping import analysis_of
from peira.store.collect import collect as write_projections
from peira.store.manifest import frozen, manifest
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.reader import Source, read_study, suggestion
from peira.study.study import Study
from peira.subjects.route import Route
from peira.subjects.subject import Wire

if TYPE_CHECKING:
    from peira.report.analysis import Analysis

ACTIVE = 50  # running trials that displays hear of
GRACE = 10.0  # seconds that replies in flight are awaited after the first Ctrl+C


@dataclass(frozen=True, slots=True)
class Options:
    """How a study is to be run; what is None is taken from the study."""

    run_dir: Path | None = None
    parallel: int | None = None
    budget_usd: float | None = None
    executor: str = "local"
    executor_options: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    retry_failed: bool = False
    fresh: bool = False
    must_exist: bool = False
    simulated: bool = False
    offline: bool = False
    wires: Mapping[str, Wire] = field(default_factory=dict)
    on_start: Callable[[Session], None] | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended."""

    path: Path
    tally: Tally
    causes: Mapping[str, int]
    exit_code: int
    message: str = ""
    spent_usd: float = 0.0
    unsettled_usd: float = 0.0
    seconds: float = 0.0
    ran: int = 0
    note: str = ""  # what the stop rule of the study said


@dataclass(slots=True)
class Question:
    """A study ready to be planned: with its family and where its lines stand."""

    study: Study
    source: Source | None
    reference: str
    family: Family[Any, Any]
    base: Path

    _cells: list[PlannedCell] | None = None

    def cells(self) -> list[PlannedCell]:
        """Every cell, validated. Raises StudyError with all faults."""
        if self._cells is None:
            self._cells = plan_cells(self.study, self.family, self.source)
        return self._cells

    def settings(self) -> SettingsOf:
        """The settings of every cell."""
        return SettingsOf(self.cells())

    def people(self) -> list[str]:
        """Seats that a person fills in some trial."""
        return [seat for settings in self.settings() for seat in self.family.people(settings)]

    def unasked(self) -> list[str]:
        """Of each name under `subjects` that no trial asks, a line with what may have been meant."""
        family, named = self.family, self.study.subjects
        if not named or any(family.asks_others(each) for each in self.settings()):
            return []
        known = {name for each in self.settings() for name in family.seats(each).values()}
        return [
            f"subjects.{name}: no trial asks this subject; " + (suggestion(name, sorted(known)) or
            f"asked: {', '.join(sorted(known))}")
            for name in named if name not in known
        ]  # fmt: skip

    def run_dir(self, simulated: bool) -> RunDir:
        """Where the run goes unless told otherwise."""
        stem = self.study.name or (Path(self.source.file).stem if self.source else "study")
        path = Path(self.study.output_dir or Path("experiments") / _folder_name(stem))
        return RunDir(path.with_name(f"{path.name}-simulated") if simulated else path)


def ask(study: Study | str | Path) -> Question:
    """A study object, or the file it is in, made ready. Raises InputError."""
    if isinstance(study, Study):
        reference = resolve(study.family)
        return Question(study, None, reference, load_family(reference), Path.cwd())
    path = Path(study)
    try:
        read, source = read_study(path)
    except StudyError as error:
        raise StudyError([*error.faults, *_drafted(error.draft)]) from None
    reference = resolve(read.family, path.resolve().parent)
    return Question(read, source, reference, load_family(reference), path.resolve().parent)


def _drafted(draft: Study | None) -> list[str]:
    """What is wrong with the sound parts of a file that has faults of its own."""
    try:
        if draft is not None:
            ask(draft).cells()
    except StudyError as error:
        return error.faults
    return []


def run(study: Study | str | Path | Question, options: Options | None = None) -> RunReport:
    """Run a study, or go on with it: finished trials are never run again, replies never bought
    twice. Raises InputError before anything is spent."""
    question = study if isinstance(study, Question) else ask(study)
    options = options or Options()
    target = RunDir(options.run_dir) if options.run_dir else question.run_dir(options.simulated)
    if options.must_exist and not target.exists:
        raise InputError(f"{target.path}: nothing to resume\n  remedy: run without --resume")
    opened = check(question, options)
    target.create()
    if options.fresh:
        with target.locked():
            target.set_aside()
        target.create()
    with target.locked():  # with --fresh, the new directory's own
        return _drive(question, options, target, opened)


def _drive(question: Question, options: Options, target: RunDir, opened: list[Route]) -> RunReport:
    began = time.time()
    study = limited(question.study, options)
    place = workplace(question, study, options)
    journal = Journal(target.database, costly=any(route.durable for route in opened))
    try:
        _prepare(journal, question, study, options, opened)
        if (target.path / "shards").is_dir():
            from peira.engine.executors.slurm import recover

            recover(journal, target.path)
        session = Session(question, study, options, place, journal)
        drive(session)
        live = session.driver.live
        enough = session.enough()
    finally:
        journal.close()
    report = _report(question, target, live.halt or "", began, live.finished_here)
    return replace(report, note=enough)


def _report(question: Question, target: RunDir, message: str, began: float, ran: int) -> RunReport:
    with RunView(target) as view:
        write_projections(view, question.family, since=began)
        tally, causes, (spent, unsettled) = view.tally, view.causes(), view.spend()
    halts = set(causes) | ({Cause.INTERRUPTED} if message.startswith("interrupted") else set())
    return RunReport(
        target.path, tally, causes, tally.exit_code({str(c) for c in halts}), message, spent / 1e6,
        unsettled / 1e6, time.time() - began, ran,
    )  # fmt: skip


def _prepare(
    journal: Journal, question: Question, study: Study, options: Options, opened: list[Any]
) -> None:
    """Write the study and its trials into run.db; mark calls a killed driver left behind."""
    meta = {k: orjson.loads(v) for k, v in journal.read("SELECT key, value FROM meta")
            if not k.startswith("failing/")}  # fmt: skip
    if "imported" in meta:
        raise InputError(
            f"this run was imported from {meta['imported']['source']}; it cannot be driven on\n"
            "  remedy: choose another --output-dir"
        )
    if "simulated" in meta and meta["simulated"] != options.simulated:
        raise InputError(
            "this run directory holds "
            f"{'simulated' if meta['simulated'] else 'real'} results; they are never mixed\n"
            "  remedy: choose another --output-dir"
        )
    if "study" in meta:
        question.family.check_change(Study.model_validate(meta["study"]), study)
    journal.put("UPDATE replies SET state='unsettled' WHERE state='open'")
    # Identities too: a family may take them from files that the study only names.
    identities = sha256()
    for cell in question.cells():
        identities.update(cell.identity)
    stamp = [question.family.version, study.hash, question.reference, identities.hexdigest()]
    if meta.get("registered") != stamp:
        register(journal, study, question.family, question.cells())
    question.family.go_on(journal)
    values = {
        "study": study.model_dump(mode="json"), "family": question.reference,
        "simulated": options.simulated, "registered": stamp,
        "manifest": manifest(study, opened, meta.get("manifest"), _declared(journal, question, meta)),
    }  # fmt: skip
    for key, value in values.items():
        _put_meta(journal, key, value)
    journal.flush()


def _declared(journal: Journal, question: Question, meta: dict[str, Any]) -> dict[str, Any]:
    """What the family declares of this study, as frozen before its first call."""
    if not (declared := question.family.declared(question.study, question.settings())):
        return {}
    started, seen = (
        bool(journal.read(f"SELECT 1 FROM trials WHERE {what} LIMIT 1"))
        for what in ("attempts > 0", "finished IS NOT NULL")
    )
    replicates = len(question.study.trial_seeds)
    return frozen(meta.get("manifest") or {}, declared, replicates, started=started, seen=seen)


def _put_meta(journal: Journal, key: str, value: Any) -> None:
    journal.put("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, orjson.dumps(value).decode()))


class Session:
    """One execution: driver, budget, executor; what a progress display looks at."""

    def __init__(
        self, question: Question, study: Study, options: Options, place: Workplace, journal: Journal
    ) -> None:
        self.question = question
        self.study = study
        self.options = options
        self.place = place
        self.journal = journal
        self.budget = _budget(journal, study)
        self.ledger = Ledger(journal, self.budget)
        self.driver = Driver(journal, self.ledger, Selection(options.only, options.retry_failed))
        self.bench = place.bench(self.ledger, options.wires)
        self.bench.tell = self.ledger.progress.__setitem__
        self.executor: Executor = self._executor()
        self._interrupts = 0
        self.monitor = self._monitor()

    def _monitor(self) -> stop.Monitor | None:
        if self.study.stop is None:
            return None
        planned = len(self.study.trial_seeds)
        monitor = stop.Monitor(self.study.stop, planned, self.journal, self.ledger)
        self.driver.listeners.append(monitor)
        self.driver.enough = lambda: monitor.met
        return monitor

    def enough(self) -> str:
        """At the end: what the stop rule says, written down; trials not needed leave the plan."""
        if self.monitor is None:
            return ""
        stop.record(self.journal, self.monitor, complete=self.ledger.stopping is None)
        return self.monitor.describe()

    def _executor(self) -> Executor:
        from peira.engine.executors.local import LocalExecutor

        limits = self.study.limits
        if self.options.executor == "local":
            return LocalExecutor(
                self.question.family, self.bench, parallel=limits.max_parallel,
                trial_seconds=limits.trial_seconds,
            )  # fmt: skip
        from peira.engine.executors.pool import Post
        from peira.engine.executors.registry import make

        post = Post(self.place, self.ledger, self.bench.routes, limits.max_parallel, self.journal)
        return make(self.options.executor, post, self.options.executor_options)

    async def drive(self) -> Tally:
        """Run to the end, with a heartbeat in run.db and Ctrl+C in two steps."""
        if self.options.on_start is not None:
            self.options.on_start(self)
        with self._signals():
            async with _heartbeat(self):
                try:
                    return await self.driver.run(self.executor)
                finally:
                    await self.bench.routes.close()

    # -- Ctrl+C -----------------------------------------------------------------------------
    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        hooked = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.interrupt)
                hooked.append(number)
        try:
            yield
        finally:
            for number in hooked:
                loop.remove_signal_handler(number)

    def interrupt(self) -> None:
        """First: no new calls, replies in flight are awaited. Second: at once."""
        self._interrupts += 1
        self.driver.stop(RunHalted(Cause.INTERRUPTED, "interrupted"))
        if self._interrupts == 1:
            asyncio.get_running_loop().call_later(GRACE, self.executor.interrupt)
        else:
            self.executor.interrupt()


def _budget(journal: Journal, study: Study) -> Budget:
    """Accounts opened with everything this run has cost so far, unsettled calls included."""
    rows = journal.read(
        "SELECT COALESCE(SUM(cost + worst), 0) FROM replies WHERE cost > 0 OR worst > 0"
    )
    limits = study.limits
    budget = Budget(Account(micro(limits.budget_usd), spent=rows[0][0]), micro(limits.trial_usd))
    if limits.trial_usd is not None:
        for number, spent in journal.read(
            "SELECT r.buyer, SUM(r.cost + r.worst) FROM replies r JOIN trials t ON t.number=r.buyer"
            " WHERE t.state != 'done' AND (r.cost > 0 OR r.worst > 0) GROUP BY r.buyer"
        ):
            budget.trials[number] = Account(budget.trial_limit, spent=spent)
    return budget


@contextlib.asynccontextmanager
async def _heartbeat(session: Session) -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            _put_meta(session.journal, "live", live(session))
            await asyncio.sleep(1.0)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if session.journal.failure is None:
            _put_meta(session.journal, "live", {**live(session), "ended": time.time()})


def live(session: Session) -> dict[str, Any]:
    """What is going on, as plain data: for run.db, displays and the browser view."""
    state, tally, run_account = session.driver.live, session.driver.live.tally, session.budget.run
    return {
        "time": time.time(), "started": state.started, "done": tally.done, "failed": tally.failed,
        "halted": tally.halted, "pending": tally.pending, "planned": tally.planned,
        "finished_here": state.finished_here, "in_flight": session.ledger.in_flight,
        "spent_usd": run_account.spent / 1e6, "reserved_usd": run_account.reserved / 1e6,
        "budget_usd": None if run_account.limit is None else run_account.limit / 1e6,
        "active": _active(session),
        "pace": [r.pace.describe() for r in session.bench.routes.all() if r.pace is not None],
        "halt": state.halt,
    }  # fmt: skip


def _active(session: Session) -> list[dict[str, Any]]:
    """Trials at work, the first fifty: what each is at and has cost so far, and since when."""
    progress, accounts = session.ledger.progress, session.budget.trials
    return [
        {"trial": slug, "at": progress.get(number, ""), "since": since,
         "usd": accounts[number].spent / 1e6 if number in accounts else 0.0}
        for number, (slug, since) in itertools.islice(session.driver.live.active.items(), ACTIVE)
    ]  # fmt: skip


def drive(session: Session) -> Tally:
    """Run a session to its end on a loop of its own."""
    with driving(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(session.drive())


def collect(run_dir: RunDir) -> int:
    """Rebuild every projection of a run from run.db. Returns the trial folders written."""
    with RunView(run_dir) as view:
        return write_projections(view, load_family(view.family))


def analyse(run_dir: RunDir) -> Analysis:
    """The family's analysis of a run."""
    with RunView(run_dir) as view:
        return analysis_of(view, load_family(view.family))


def _folder_name(text: str) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "study"
