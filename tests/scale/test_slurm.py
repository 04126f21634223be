"""Workers as jobs: records as locally, paid replies kept, the budget never exceeded.

On a machine with SLURM (scripts/start_slurm.sh starts one) the tests run on it; elsewhere on
submitit's local executor."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import orjson
import pytest

from peira import api
from peira.engine.executors import shards
from peira.engine.executors.shard_worker import DividedRoutes
from peira.engine.executors.slurm import recover
from peira.engine.journal import Journal
from peira.engine.ledger import Purchase
from peira.engine.states import Tally
from peira.errors import InputError
from peira.store.records import RunView
from tests.scale.conftest import HARD, PAID, ROOT, facts, replies, study

pytest.importorskip("submitit", reason="submitit is not installed (pip install 'peira[slurm]')")

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


def slurm_is_up() -> bool:
    if shutil.which("sinfo") is None:
        return False
    done = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
    return any(state in done.stdout for state in ("idle", "mix", "alloc"))


@pytest.fixture
def options(monkeypatch) -> dict:
    """Two workers of one trial each at a time, on SLURM where there is one."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    cluster = "slurm" if slurm_is_up() else "local"
    return {"cluster": cluster, "workers": "2", "poll": "0.1", "trials_per_worker": "1"}


def execute(folder, the_study, options, **more):
    settings = api.Options(run_dir=folder, executor="slurm", executor_options=options, **more)
    return api.run(the_study, settings)


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_the_records_are_those_of_a_local_run(cluster, options, tmp_path, local):
    if cluster == "slurm" and not slurm_is_up():
        pytest.skip("no SLURM here (scripts/start_slurm.sh starts a one-node one)")
    options["cluster"] = cluster
    report = execute(tmp_path / "run", study(), options)
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    assert facts(tmp_path / "run") == local(study())
    assert report.spent_usd == pytest.approx(0.18)
    assert not (tmp_path / "run" / "shards").exists()
    assert execute(tmp_path / "run", study(), options).ran == 0


def test_a_worker_killed_in_mid_trial_loses_no_paid_reply(options, tmp_path, local):
    deadly = {"model": PAID, "kill_before": 2, "kills": 1, "marks": str(tmp_path)}
    cells = [{"number": n, **(deadly if n == 3 else {"model": PAID})} for n in range(6)]
    report = execute(tmp_path / "run", study(factors={}, fixed={}, cells=cells), options)
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    with RunView(tmp_path / "run") as run:
        totals = [(r.outcome or {})["total"] for r in run.records()]
        assert max(r.attempts for r in run.records()) == 2
    assert len(totals) == 6
    assert replies(tmp_path / "run")["done"] == 18


def test_leases_never_add_up_to_more_than_the_budget(options, tmp_path):
    tight = study(limits={"budget_usd": 0.1})
    report = execute(tmp_path / "run", tight, options)
    assert report.exit_code == 4
    assert 0.07 <= report.spent_usd <= 0.1
    assert "Budget limit reached" in report.message
    raised = execute(tmp_path / "run", tight, options, budget_usd=1.0)
    assert (raised.exit_code, raised.tally.done) == (0, 6)
    assert replies(tmp_path / "run") == {"done": 18}


def test_one_worker_buys_a_shared_reply_for_all(options, tmp_path):
    shared = study(fixed={"model": f"{PAID},latency=0.05", "shared": True})
    assert execute(tmp_path / "run", shared, options).tally == Tally(done=6)
    assert replies(tmp_path / "run") == {"done": 3}


def test_a_worker_near_its_walltime_gives_its_trials_back(options, tmp_path, local, after_first):
    slow = study(fixed={"model": f"{PAID},latency=0.2", "calls": 4})

    def warn() -> None:
        for shard in (tmp_path / "run" / "shards").glob("w*/shard.jsonl"):
            hello = orjson.loads(shard.read_bytes().splitlines()[0])
            os.kill(hello["pid"], signal.SIGUSR2)

    report = execute(tmp_path / "run", slow, options, on_start=after_first(warn))
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    assert facts(tmp_path / "run") == local(slow)
    assert replies(tmp_path / "run") == {"done": 24}
    with RunView(tmp_path / "run") as run:
        words = run.query("SELECT message FROM attempts WHERE state='halted'")
        assert words
        assert all("walltime" in row[0] for row in words)


DRIVER = """
import sys
from pathlib import Path
from peira import api
from tests.scale.conftest import PAID, study
slow = study(fixed={"model": f"{PAID},latency=0.2", "calls": 4})
options = dict(pair.split("=") for pair in sys.argv[2:])
api.run(slow, api.Options(run_dir=Path(sys.argv[1]), executor="slurm", executor_options=options))
"""


def test_a_killed_driver_s_workers_are_imported_by_the_next(options, tmp_path, local):
    folder = tmp_path / "run"
    words = [f"{name}={value}" for name, value in options.items()]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder), *words], cwd=ROOT)
    while not any(
        b'"settle"' in shard.read_bytes() for shard in folder.glob("shards/w*/shard.jsonl")
    ):
        assert driver.poll() is None
    driver.kill()
    driver.wait()
    slow = study(fixed={"model": f"{PAID},latency=0.2", "calls": 4})
    report = api.run(slow, api.Options(run_dir=folder))
    assert (report.tally, report.exit_code) == (Tally(done=6), 0)
    assert {k: v[2] for k, v in facts(folder).items()} == {k: v[2] for k, v in local(slow).items()}
    assert replies(folder)["done"] == 24, "what the workers bought is not bought again"
    assert not (folder / "shards").exists()


def test_what_sbatch_refuses_is_told_in_its_words(options, tmp_path):
    if options["cluster"] != "slurm":
        pytest.skip("no SLURM here (scripts/start_slurm.sh starts a one-node one)")
    with pytest.raises(InputError, match="Invalid partition name"):
        execute(tmp_path / "run", study(), options | {"partition": "nope"})


def test_without_a_cluster_the_refusal_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match="there is no SLURM here"):
        execute(tmp_path / "run", study(), {})


def test_a_worker_started_again_goes_on_from_its_own_shard(tmp_path, monkeypatch):
    """What SLURM does when it requeues a job: the same command, the same home."""
    from peira.engine.lab import TrialTask
    from peira.engine.workplace import Workplace
    from tests.engine.hard import HardSettings

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    home = tmp_path / "shards" / "w1"
    settings = HardSettings(model=PAID, kill_before=2, kills=1, marks=str(tmp_path))
    task = TrialTask(7, "id7", "seven", 11, 1, 1, settings.model_dump(mode="json"), {})
    place = Workplace(HARD)
    inbox = shards.Inbox(home)
    inbox.write([("share", 1), ("lease", 60_000, None), ("hello", place, 1), ("task", task)])
    (home.parent / shards.SHARED).mkdir()
    words = "import sys; from peira.engine.executors.shard_worker import work; work(sys.argv[1])"
    killed = subprocess.run([sys.executable, "-c", words, str(home)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with (home / shards.SHARD).open("ab") as handle:
        handle.write(b'{"kind":"open","intent":9')  # a torn last line
    again = subprocess.Popen([sys.executable, "-c", words, str(home)])
    while b'"result"' not in (home / shards.SHARD).read_bytes():
        assert again.poll() is None
    inbox.write([("quit",)])
    assert again.wait() == 0
    lines, _ = shards.lines_from(home / shards.SHARD, 0)
    kinds = [each["kind"] for each in lines]
    assert (kinds.count("hello"), kinds.count("settle"), kinds.count("result")) == (2, 3, 1)
    assert kinds[-1] == "bye"
    done = shards.ShardReader(home).close()
    assert sum(amount for _, amount in done.spent) == 30_000
    assert done.results[0].outcome is not None


# -- the files themselves -----------------------------------------------------------------------
def test_a_torn_last_line_is_as_good_as_never_written(tmp_path):
    path = tmp_path / shards.SHARD
    path.write_bytes(shards.line("hello", pid=1) + b'{"kind":"settle","int')
    found, offset = shards.lines_from(path, 0)
    assert [each["kind"] for each in found] == ["hello"]
    shards.cut_torn_line(path)
    assert path.stat().st_size == offset


async def test_calls_without_an_end_are_charged_in_full(tmp_path):
    purchase = Purchase(1, 1, "seat|call|0", b"\1" * 16, "m", 700)
    writer = shards.ShardWriter(tmp_path / shards.SHARD)
    await writer.durable(shards.line("open", intent=1, purchase=shards.purchase_row(purchase)))
    await writer.close()
    done = shards.ShardReader(tmp_path).close()
    assert done.spent == [(1, 700)]
    assert any("unsettled" in values for _, values, _ in done.statements)


class Dying(Journal):
    """A driver that is killed once all is imported, before the shards are put away."""

    def flush(self) -> None:
        super().flush()
        if self.read("SELECT 1 FROM meta WHERE value='closed'"):
            raise SystemExit


async def test_a_driver_killed_before_it_puts_the_shards_away_charges_nothing_twice(tmp_path):
    purchase = Purchase(1, 1, "seat|call|0", b"\1" * 16, "m", 700)
    home = tmp_path / shards.FOLDER / "w1"
    home.mkdir(parents=True)
    (home / shards.JOB).write_bytes(orjson.dumps({"cluster": "local", "job": "1"}))
    writer = shards.ShardWriter(home / shards.SHARD)
    for intent in (1, 2):
        row = shards.purchase_row(replace(purchase, key=f"seat|call|{intent}"))
        await writer.durable(shards.line("open", intent=intent, purchase=row))
    await writer.durable(shards.line("settle", intent=1, reply="[]", cost=5))
    await writer.close()
    with pytest.raises(SystemExit):
        recover(Dying(tmp_path / "run.db"), tmp_path)
    journal = Journal(tmp_path / "run.db")
    assert recover(journal, tmp_path) == 1
    assert sorted(journal.read("SELECT state, cost, worst FROM replies")) == [
        ("done", 5, 0), ("unsettled", 0, 700),
    ]  # fmt: skip
    assert not journal.read("SELECT * FROM meta WHERE key LIKE 'shard/%'")
    assert not (tmp_path / shards.FOLDER).exists()
    journal.close()


def test_of_a_worker_left_at_work_every_process_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("peira.engine.executors.slurm.FAREWELL", 0)
    home = tmp_path / shards.FOLDER / "w1"
    home.mkdir(parents=True)
    (home / shards.JOB).write_bytes(orjson.dumps({"cluster": "local", "job": "1"}))
    sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "submitit"]
    left = [subprocess.Popen(sleeping, stdout=subprocess.PIPE) for _ in range(2)]
    for each in left:
        each.stdout.readline()
    (home / shards.SHARD).write_bytes(b"".join(shards.line("hello", pid=p.pid) for p in left))
    journal = Journal(tmp_path / "run.db")
    assert recover(journal, tmp_path) == 1
    journal.close()
    assert [each.wait(timeout=10) for each in left] == [-signal.SIGKILL] * 2
    for each in left:
        each.stdout.close()


async def test_what_was_imported_is_not_imported_again(tmp_path):
    purchase = Purchase(1, 1, "seat|call|0", b"\1" * 16, "m", 700)
    writer = shards.ShardWriter(tmp_path / shards.SHARD)
    await writer.durable(shards.line("open", intent=1, purchase=shards.purchase_row(purchase)))
    first = shards.ShardReader(tmp_path)
    assert first.read().spent == []
    await writer.durable(shards.line("settle", intent=1, reply="[]", cost=5))
    await writer.close()
    second = shards.ShardReader(tmp_path, first.offset)
    assert second.close().spent == [(1, 5)]


async def test_a_workers_share_of_a_limit_follows_what_a_further_subject_states():
    address = {"base_url": "http://127.0.0.1:9/v1", "price": "free"}
    routes = DividedRoutes(overrides={
        "a": address | {"requests_per_minute": 60},
        "b": address | {"requests_per_minute": 30, "max_concurrency": 8},
    })  # fmt: skip
    routes.share, routes.paces = 2, {}
    first, second = (routes.open(name).pace for name in ("a", "b"))
    assert first is second
    assert (first.request_bucket.per_minute, first.concurrency.ceiling) == (15, 4)
    await routes.close()
