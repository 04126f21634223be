"""Worker processes: whatever becomes of them, trials end once and what is paid stays paid."""

import asyncio
import pickle
from pathlib import Path

import pytest

from peira import api
from peira.engine.executors import pool
from peira.engine.states import Tally
from peira.errors import (
    InputError,
    MissingExtra,
    RateLimited,
    RunHalted,
    StoreError,
    StudyError,
    TransientError,
    TrialFailed,
)
from peira.store.records import RunView
from peira.study.study import Study
from peira.subjects.scripted import ScriptedWire
from peira.testing import Faults, FaultServer

HARD = f"{Path(__file__).with_name('hard.py')}:Hard"
CHAT = f"{Path(__file__).parents[1] / 'subjects' / 'chat.py'}:Chat"
PAID = "sim:dice,cost=0.01,worst=0.02"


def study(**changes) -> Study:
    base = {"family": HARD, "name": "hard", "factors": {"number": list(range(6))}}
    return Study.model_validate(base | changes)


def execute(folder: Path, the_study: Study, **options) -> api.RunReport:
    return api.run(the_study, api.Options(run_dir=folder, executor="processes", **options))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run"


def outcomes(folder: Path) -> dict:
    with RunView(folder) as run:
        return {r.slug: r.outcome for r in run.records()}


def test_a_killed_worker_gives_its_trials_back_and_keeps_what_they_paid(folder, tmp_path):
    fixed = {"model": PAID, "kill_before": 2, "kills": 1, "marks": str(tmp_path)}
    report = execute(folder, study(fixed=fixed), parallel=4)
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    assert api.run(study(fixed={"model": PAID}), api.Options(run_dir=tmp_path / "calm")).ran == 6
    assert outcomes(folder) == outcomes(tmp_path / "calm")
    with RunView(folder) as run:
        states = dict(run.query("SELECT state, COUNT(*) FROM replies GROUP BY state"))
        assert states.pop("done") == 18, "no reply is bought twice"
        lost = states.pop("unsettled", 0)
        assert not states
        assert run.spend() == (180_000, 20_000 * lost)
        assert max(r.attempts for r in run.records()) in (2, 3)
        assert run.query("SELECT COUNT(*) FROM attempts WHERE message LIKE '%worker%died%'")[0][0]


def test_a_trial_that_always_kills_its_worker_fails_alone(folder, tmp_path):
    cells = [{"number": n, "kill_before": 1 if n == 2 else -1} for n in range(6)]
    fixed = {"kills": 99, "marks": str(tmp_path)}
    report = execute(folder, study(factors={}, cells=cells, fixed=fixed), parallel=6)
    assert report.tally == Tally(done=5, failed=1)
    with RunView(folder) as run:
        (bad,) = [r for r in run.records() if r.state == "failed"]
        assert (bad.cell["number"], bad.cause, bad.attempts) == (2, "code", pool.MAX_DEATHS)
        assert "died 3 times" in (bad.message or "")


def test_a_budget_holds_across_workers_and_its_halt_reaches_them(folder):
    paid = study(fixed={"model": f"{PAID},latency=0.002"}, limits={"budget_usd": 0.1})
    report = execute(folder, paid, parallel=6)
    assert report.exit_code == 4
    assert 0.08 <= report.spent_usd <= 0.1
    assert "Budget limit reached" in report.message
    assert execute(folder, paid, budget_usd=1.0).exit_code == 0


def test_one_worker_buys_a_shared_reply_for_all(folder):
    shared = study(fixed={"model": f"{PAID},latency=0.01", "shared": True})
    assert execute(folder, shared, parallel=6).tally == Tally(done=6)
    with RunView(folder) as run:
        assert run.query("SELECT COUNT(*) FROM replies")[0][0] == 3


def test_a_disk_that_fills_ends_the_run_although_only_a_worker_waits(folder):
    """As `local` does. The one trial's own result could never be told: nobody may wait for it."""

    def start(session: api.Session) -> None:
        session.watch = asyncio.get_running_loop().create_task(fill(session))

    async def fill(session: api.Session) -> None:
        while not session.ledger.in_flight:
            await asyncio.sleep(0)
        session.journal.failure = StoreError("the disk is full")

    one = study(factors={"number": [0]}, fixed={"model": f"{PAID},latency=0.02"})
    with pytest.raises(StoreError, match="the disk is full"):
        execute(folder, one, on_start=start)


def test_an_outcome_that_no_json_holds_fails_its_trial(folder):
    for executor in ("local", "processes"):
        options = api.Options(run_dir=folder / executor, executor=executor)
        report = api.run(study(fixed={"odd": True}), options)
        assert report.tally == Tally(failed=6)
        assert report.causes == {"code": 6}


def test_large_messages_in_both_directions_do_not_block(folder):
    large = study(fixed={"size": 700_000, "marks": "x" * 700_000})
    assert execute(folder, large, parallel=4).tally == Tally(done=6)


def test_a_second_interrupt_ends_workers_that_do_not_listen(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pool.Pool, "patience", 0.05)
    started = tmp_path / "started"

    def twice(session: api.Session) -> None:
        session.watch = asyncio.get_running_loop().create_task(interrupt_when_running(session))

    async def interrupt_when_running(session: api.Session) -> None:
        while not started.exists():
            await asyncio.sleep(0.01)
        session.interrupt()
        session.interrupt()

    report = execute(
        folder, study(fixed={"block": 600, "marks": str(started)}), parallel=2, on_start=twice
    )
    assert report.exit_code == 130
    assert report.tally.done == 0
    assert report.tally.planned == 6


def test_one_pace_holds_for_all_workers_and_faults_change_no_outcome(folder, tmp_path):
    with FaultServer(Faults(rate=0.2)).running() as server:
        options = {
            "base_url": f"{server.url}/v1", "model": "m-1", "backoff": 0.01, "max_concurrency": 3,
            "price": {"input_per_million": 100.0, "output_per_million": 400.0},
        }  # fmt: skip
        served = Study(
            family=CHAT, fixed={"model": "served"}, replicates=6, subjects={"served": options},
            limits={"retries": 20},
        )  # fmt: skip
        paces = []
        rough = execute(
            folder, served, parallel=8,
            on_start=lambda session: paces.append(session.bench.routes.open("served").pace),
        )  # fmt: skip
        asked = len(server.log)
        server.faults = Faults()
        calm = api.run(served, api.Options(run_dir=tmp_path / "calm"))
    assert (rough.exit_code, calm.exit_code) == (0, 0)
    assert rough.spent_usd == pytest.approx(calm.spent_usd)
    assert outcomes(folder) == outcomes(tmp_path / "calm")
    assert paces[0].concurrency.admitted == asked, "every call of a worker was let in by the driver"
    assert paces[0].concurrency.in_flight == 0


def test_what_only_the_driver_can_ask_is_refused_elsewhere(folder):
    wires = {"mine": ScriptedWire(["1"] * 9)}
    with pytest.raises(InputError, match="'mine' is a wire given in Python"):
        execute(folder, study(fixed={"model": "mine"}), wires=wires)
    batch = {"base_url": "http://localhost:1/v1", "price": "free", "batch": {"kind": "openai"}}
    with pytest.raises(InputError, match="goes into batch jobs"):
        execute(folder, study(fixed={"model": "b"}, subjects={"b": batch}))


def test_unknown_executors_and_options_are_refused(folder):
    with pytest.raises(InputError, match="allowed: local, processes, ray, slurm"):
        api.run(study(), api.Options(run_dir=folder, executor="cloud"))
    with pytest.raises(InputError, match="processes has no such option\n  allowed: workers"):
        execute(folder, study(), executor_options={"wrokers": 2})
    with pytest.raises(InputError, match="workers='many'"):
        execute(folder, study(), executor_options={"workers": "many"})


@pytest.mark.parametrize(
    "error",
    [
        RunHalted("budget", "no more"), TrialFailed("refused", "no"), StudyError(["a", "b"]),
        MissingExtra("This", "extra"), RateLimited("wait", 3.0), TransientError("x", lost=True),
    ],
)  # fmt: skip
def test_errors_cross_between_processes_whole(error):
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
