"""Bad luck of the machine: a full disk, a read-only one, a clock that jumps. Nothing paid is lost."""

import itertools
import subprocess
import time
from pathlib import Path

import pytest

from peira import api
from peira.engine.states import Tally
from peira.errors import InputError, StoreError
from peira.store.records import RunView
from peira.study.study import Study
from peira.subjects.scripted import ScriptedWire
from tests.scale.conftest import HARD, facts, replies


def study(**changes) -> Study:
    base = {
        "family": HARD, "name": "adversity", "factors": {"number": list(range(20))},
        "fixed": {"model": "paid"}, "save_individual_runs": False, "limits": {"max_parallel": 4},
    }  # fmt: skip
    return Study.model_validate(base | changes)


def paid() -> ScriptedWire:
    return ScriptedWire(lambda request: str(request.seed % 6 + 1), free=False)


def execute(folder: Path, the_study: Study, wire: ScriptedWire) -> api.RunReport:
    return api.run(the_study, api.Options(run_dir=folder, wires={"paid": wire}))


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine lets us mount no small disk: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 6 MB that can grow."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_on_a_full_disk_what_is_paid_is_kept_and_a_larger_one_goes_on(small_disk):
    heavy = study(fixed={"model": "paid", "size": 700_000})
    first, second = paid(), paid()
    with pytest.raises(StoreError, match=r"disk is full|cannot be written") as refused:
        execute(small_disk / "run", heavy, first)
    assert "remedy" in str(refused.value)
    mount("-o", "remount,size=64m", str(small_disk))
    kept = replies(small_disk / "run")
    assert kept["done"] + kept.get("open", 0) + kept.get("unsettled", 0) == first.calls
    report = execute(small_disk / "run", heavy, second)
    assert (report.tally, report.exit_code) == (Tally(done=20), 0)
    assert second.calls == 60 - kept["done"], "only what was not kept is asked again"
    with RunView(small_disk / "run") as run:
        assert run.query("PRAGMA integrity_check") == [("ok",)]


def test_a_read_only_disk_is_refused_before_the_first_call(small_disk):
    assert execute(small_disk / "run", study(), paid()).exit_code == 0
    wire = paid()
    mount("-o", "remount,ro", str(small_disk))
    with pytest.raises((InputError, StoreError), match="cannot be written"):
        execute(small_disk / "run", study(factors={"number": list(range(30))}), wire)
    assert wire.calls == 0
    with RunView(small_disk / "run") as run:
        assert run.tally == Tally(done=20)


def test_a_clock_that_jumps_changes_no_outcome(tmp_path, monkeypatch):
    execute(tmp_path / "calm", study(), paid())
    real, ticks = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + (-7200 if next(ticks) % 2 else 86_400))
    report = execute(tmp_path / "mad", study(), paid())
    assert (report.tally, report.exit_code) == (Tally(done=20), 0)
    assert facts(tmp_path / "mad") == facts(tmp_path / "calm")
    with RunView(tmp_path / "mad") as run:
        assert all((r.seconds or 0) >= 0 for r in run.records())
    assert execute(tmp_path / "mad", study(), paid()).ran == 0
