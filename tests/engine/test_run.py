"""Run and resume are one command; states and exit codes tell the truth."""

import asyncio
import fcntl
import shutil
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from peira import api
from peira.engine.states import Tally
from peira.errors import InputError, RunLocked, StoreError, StudyError
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.study import Study
from peira.subjects.simulated import SimulatedWire
from peira.testing import FaultServer
from tests.engine.toy import Dice

TOY = f"{Path(__file__).with_name('toy.py')}:Toy"


def study(**changes) -> Study:
    base = {"family": TOY, "name": "toy", "factors": {"level": [0, 0.5]}, "replicates": 3}
    return Study.model_validate(base | changes)


def execute(folder: Path, the_study: Study | None = None, **options) -> api.RunReport:
    return api.run(the_study or study(), api.Options(run_dir=folder, **options))


def outcomes(folder: Path) -> dict:
    with RunView(RunDir(folder)) as run:
        return {r.slug: r.outcome for r in run.records()}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run"


def test_a_run_ends_done_and_a_second_run_does_nothing(folder):
    first = execute(folder)
    assert (first.tally, first.exit_code, first.ran) == (Tally(done=6), 0, 6)
    assert execute(folder).ran == 0


def test_adding_values_and_seeds_runs_only_the_new_trials(folder):
    execute(folder)
    before = outcomes(folder)
    more = execute(folder, study(factors={"level": [0, 0.5, 1]}, replicates=4))
    assert more.ran == 12 - 6
    after = outcomes(folder)
    assert {slug: after[slug] for slug in before} == before


def test_removed_trials_leave_the_counts_but_not_the_database(folder):
    execute(folder)
    assert execute(folder, study(factors={"level": [0]})).tally == Tally(done=3)
    assert execute(folder).tally == Tally(done=6)


def test_results_do_not_depend_on_parallelism_or_executor(tmp_path):
    runs = {}
    for name, options in {
        "one": {"parallel": 1}, "many": {"parallel": 8}, "processes": {"executor": "processes"},
    }.items():  # fmt: skip
        assert execute(tmp_path / name, **options).exit_code == 0
        runs[name] = outcomes(tmp_path / name)
    assert runs["one"] == runs["many"] == runs["processes"]


def test_a_bug_in_a_family_fails_its_trials_with_the_cause_and_exit_3(folder):
    report = execute(folder, study(fixed={"fail": "code"}))
    assert report.tally == Tally(failed=6)
    assert report.exit_code == 3
    with RunView(RunDir(folder)) as run:
        record = next(run.records())
        assert (record.cause, record.message) == ("code", "ValueError: planted bug")
        assert any("planted bug" in e.get("traceback", "") for e in run.events(record.number))


def test_failed_trials_run_again_only_when_asked(folder):
    execute(folder, study(fixed={"fail": "refused"}))
    assert execute(folder, study(fixed={"fail": "refused"})).ran == 0
    assert execute(folder, study(fixed={"fail": "refused"}), retry_failed=True).ran == 6


def test_only_selects_by_position_and_by_pattern(folder):
    assert execute(folder, only=("2",)).ran == 1
    assert execute(folder, only=("level_0.5/*",)).ran == 3
    report = execute(folder, only=("2",))
    assert report.tally == Tally(done=4, pending=2)
    assert report.exit_code == 3


def test_the_budget_halts_the_run_and_a_higher_one_goes_on(folder):
    paid = study(fixed={"model": "sim:dice,cost=0.01,worst=0.02"}, limits={"budget_usd": 0.1})
    for parallel in (1, 8):
        target = folder / str(parallel)
        report = execute(target, paid, parallel=parallel)
        assert report.exit_code == 4
        assert report.spent_usd == pytest.approx(0.09)
        raised = execute(target, paid, budget_usd=1.0, parallel=parallel)
        assert (raised.exit_code, raised.tally.done) == (0, 6)
        assert raised.spent_usd == pytest.approx(0.18)


def test_the_trial_limit_halts_that_trial_alone(folder):
    limited = study(
        factors={"model": ["sim:dice,cost=0.01,worst=0.02", "sim:dice"]}, replicates=1,
        limits={"trial_usd": 0.03},
    )  # fmt: skip
    report = execute(folder, limited)
    assert report.tally == Tally(done=1, halted=1)
    assert dict(report.causes) == {"trial limit": 1}
    assert report.exit_code == 4


def test_a_trial_that_takes_too_long_halts_with_timeout(folder):
    slow = study(fixed={"model": "sim:dice,latency=30"}, limits={"trial_seconds": 0.05})
    report = execute(folder, slow)
    assert dict(report.causes) == {"timeout": 6}
    assert report.exit_code == 3


def test_rate_limits_are_retried_and_change_nothing(folder, tmp_path):
    plain = execute(tmp_path / "plain", study(fixed={"model": "sim:dice"}))
    rough = execute(folder, study(fixed={"model": "sim:dice,rate_limit=0.3"}))
    assert plain.exit_code == rough.exit_code == 0
    assert list(outcomes(folder).values()) == list(outcomes(tmp_path / "plain").values())


def test_a_provider_that_refuses_stops_the_run_with_its_message(folder):
    broke = study(fixed={"model": "sim:dice,status=402,at=4"}, limits={"max_parallel": 1})
    report = execute(folder, broke)
    assert report.exit_code == 3
    assert "402" in report.message
    assert report.tally.done == 1
    assert report.tally.planned == 6


def test_an_interrupt_halts_saves_and_resumes(folder):
    def interrupt_soon(session: api.Session) -> None:
        asyncio.get_running_loop().call_soon(session.interrupt)

    slow = study(fixed={"model": "sim:dice,latency=0.01"}, limits={"max_parallel": 2})
    report = execute(folder, slow, on_start=interrupt_soon)
    assert report.exit_code == 130
    assert report.tally.done < 6
    assert execute(folder, slow).exit_code == 0


def test_a_second_driver_is_refused(folder):
    execute(folder)
    with (folder / "run.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(RunLocked, match="already driving"):
            execute(folder)


def test_a_driver_is_told_by_its_lock_at_once_and_one_elsewhere_by_its_heartbeat(folder):
    seen = []
    execute(folder, on_start=lambda session: seen.append(RunDir(folder).driven(beat())))
    assert seen == [True]
    lock = folder / "run.lock"
    assert not RunDir(folder).driven(beat())  # gone with its driver
    lock.write_text(f"process 1 on {socket.gethostname()} since then")
    assert not RunDir(folder).driven(beat())  # left by one that was killed
    lock.write_text("process 1 on another-host since then")
    assert RunDir(folder).driven(beat())
    assert not RunDir(folder).driven(beat(ago=60))
    assert not RunDir(folder).driven(beat() | {"ended": time.time()})


def beat(ago: float = 0) -> dict:
    return {"time": time.time() - ago}


def test_a_reader_that_looks_at_the_lock_keeps_no_driver_out(folder):
    execute(folder)
    reader = (folder / "run.lock").open("a")
    fcntl.flock(reader, fcntl.LOCK_SH)
    with RunDir(folder).locked(pause=lambda seconds: reader.close()):
        assert RunDir(folder).driven(beat())


def test_fresh_sets_the_old_run_aside(folder):
    execute(folder)
    assert execute(folder, fresh=True).ran == 6
    assert len(list(folder.parent.glob("run.old-*"))) == 1


def test_a_fresh_run_is_held_too(folder):
    execute(folder)
    refused = []

    def drive_it_too(session: api.Session) -> None:
        with pytest.raises(RunLocked) as caught, RunDir(folder).locked():
            pass
        refused.append(caught.value)

    assert execute(folder, fresh=True, on_start=drive_it_too).exit_code == 0
    assert refused


def test_a_refused_run_leaves_nothing_and_moves_nothing(folder):
    bad = study(fixed={"model": "sim:nonesuch"})
    with pytest.raises(InputError):
        execute(folder, bad)
    assert not folder.exists()
    execute(folder)
    with pytest.raises(InputError):
        execute(folder, bad, fresh=True)
    assert [each.name for each in folder.parent.iterdir()] == ["run"]


def test_a_finished_run_leaves_one_database_file(folder):
    execute(folder)
    with RunView(RunDir(folder)) as run:
        assert run.tally.done == 6
    left = {each.name for each in folder.iterdir()}
    assert "run.db" in left
    assert not left & {"run.db-wal", "run.db-shm", "run.lock", "run.ballast"}


def test_a_reader_meanwhile_sees_the_end(folder):
    execute(folder, study(factors={"level": [0]}))
    with RunView(RunDir(folder)) as run:
        execute(folder)
        assert run.tally == Tally(done=6)
    assert execute(folder).ran == 0


def test_resume_insists_on_a_run(folder):
    with pytest.raises(InputError, match="nothing to resume"):
        execute(folder, must_exist=True)


def test_simulated_and_real_results_are_never_mixed(folder):
    execute(folder)
    with pytest.raises(InputError, match="never mixed"):
        execute(folder, simulated=True)


def test_a_damaged_database_is_said_so_and_nothing_is_overwritten(folder):
    execute(folder)
    (folder / "run.db-wal").unlink(missing_ok=True)
    (folder / "run.db").write_bytes(b"not a database" * 500)
    with pytest.raises(StoreError, match="damaged"):
        execute(folder)


def test_a_damaged_projection_is_rebuilt(folder):
    execute(folder)
    whole = (folder / "all_results.json").read_bytes()
    (folder / "all_results.json").write_text("{")
    shutil.rmtree(folder / "trials")
    assert api.collect(RunDir(folder)) == 6
    assert (folder / "all_results.json").read_bytes() == whole
    assert len(list(folder.glob("trials/**/result.json"))) == 6


def test_a_duplicate_trial_is_refused_in_words(folder):
    with pytest.raises(StudyError, match="duplicate"):
        execute(folder, study(factors={"level": [0, 0.0]}))


def test_an_unwritable_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        execute(tmp_path / "file" / "run")


def test_what_a_provider_cannot_carry_stops_the_run_as_bad_input(folder):
    """The family tells no samplings, so only its first call shows it; mended, the run goes on."""
    with FaultServer(answer=lambda asked: "3").running() as server:
        plain = {"base_url": f"{server.url}/v1", "price": "free", "lacks": ["max_tokens"]}
        asks = study(fixed={"model": "mine"}, subjects={"mine": plain})
        report = execute(folder, asks)
        assert (report.exit_code, report.tally.failed, server.log) == (2, 0, [])
        assert "cannot carry max_tokens=5" in report.message
        assert set(report.causes) == {"bad input"}
        mended = study(
            fixed={"model": "mine"}, subjects={"mine": plain | {"allow_drop": ["max_tokens"]}}
        )
        assert execute(folder, mended).tally == Tally(done=6)


def test_a_subject_that_only_a_trial_names_stops_the_run_as_bad_input(folder):
    unseated = f"{Path(TOY.rpartition(':')[0])}:Unseated"
    report = execute(folder, study(family=unseated, fixed={"model": "sim:nonesuch"}))
    assert (report.exit_code, report.tally.failed) == (2, 0)


def test_unknown_subjects_are_refused_before_the_first_trial(folder):
    with pytest.raises(InputError, match="unknown kind"):
        execute(folder, study(fixed={"model": "sim:nonesuch"}))


def test_changed_prompts_are_noticed_on_resume(folder):
    class Stopping:
        free = False

        def __init__(self, stop_at: int) -> None:
            self.inner, self.calls, self.stop_at = (
                SimulatedWire("sim:dice", {"dice": Dice}),
                0,
                stop_at,
            )

        async def send(self, request):
            self.calls += 1
            if self.calls == self.stop_at:
                from peira.errors import ProviderStop

                raise ProviderStop("no credit")
            return await self.inner.send(request)

        async def close(self):
            return None

    one = study(fixed={"model": "given"}, factors={}, replicates=1)
    assert execute(folder, one, wires={"given": Stopping(3)}).exit_code == 3
    with sqlite3.connect(folder / "run.db") as db:
        db.execute("UPDATE replies SET hash=x'00' WHERE key LIKE '%|0'")
    report = execute(folder, one, wires={"given": Stopping(0)})
    assert dict(report.causes) == {"replay diverged": 1}
    assert execute(folder, one, wires={"given": Stopping(0)}, retry_failed=True).exit_code == 0
