"""More contexts asked for: only the new ones run, by `peira run` as by `peira probe`."""

from pathlib import Path
from typing import Any

from peira import api
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.study import Study


def study(contexts: int) -> Study:
    fixed = {"experiment": "css", "model": "sim:mixer,d=16,layers=2", "n_contexts": contexts}
    return Study(family="representations", name="more", fixed=fixed)


def details(folder: Path) -> tuple[int, Any]:
    with RunView(RunDir(folder)) as run:
        outcome = next(run.done()).outcome
    assert outcome is not None
    return outcome["n_contexts"], outcome["tokens_forwarded"]


def test_a_done_trial_goes_on_when_the_study_asks_for_more_contexts(tmp_path: Path) -> None:
    options = api.Options(run_dir=tmp_path / "run")
    assert api.run(study(3), options).ran == 1
    assert details(tmp_path / "run")[0] == 3
    assert api.run(study(5), options).ran == 1
    api.run(study(5), api.Options(run_dir=tmp_path / "whole"))
    assert details(tmp_path / "run") == details(tmp_path / "whole"), "no context was run twice"
    assert api.run(study(5), options).ran == 0
