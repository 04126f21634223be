"""A declared stop rule: no trial too many, none selected by speed, and the honest interval."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira import api
from peira.engine import stop
from peira.engine.states import Tally
from peira.errors import InputError
from peira.store.records import RunView
from peira.study.study import StopRule, Study

TOY = f"{Path(__file__).with_name('toy.py')}:Toy"
RULE = {"outcome": "draw", "half_width": 0.15, "minimum": 10}


def study(**changes) -> Study:
    base = {
        "family": TOY, "name": "toy", "fixed": {"calls": 1}, "replicates": 300, "stop": RULE,
        "save_individual_runs": False,
    }  # fmt: skip
    return Study.model_validate(base | changes)


def execute(folder: Path, the_study: Study, **options) -> api.RunReport:
    return api.run(the_study, api.Options(run_dir=folder, **options))


def stopped(folder: Path) -> dict:
    with RunView(folder) as run:
        return run.meta["stopped"]


def test_no_trial_is_started_once_the_rule_is_met_and_the_run_is_done(tmp_path):
    report = execute(tmp_path, study())
    note = stopped(tmp_path)
    assert report.exit_code == 0
    assert (note["met"], note["why"]) == (True, "precision")
    assert note["blocks"] < 300
    assert report.tally == Tally(done=300 - note["trials_not_needed"])
    assert report.tally.done - note["blocks"] <= 17, "those in flight are finished, no more"
    assert "stop rule met (precision)" in report.note
    estimate = note["estimate"]
    assert estimate["high"] - estimate["low"] <= 0.3
    assert json.loads((tmp_path / "manifest.json").read_text())["stopped"]["met"] is True


def test_a_second_run_starts_nothing_and_a_dropped_rule_runs_the_rest(tmp_path):
    first = execute(tmp_path, study())
    note = stopped(tmp_path)
    assert execute(tmp_path, study()).ran == 0
    assert stopped(tmp_path) == note
    rest = execute(tmp_path, study(stop=None))
    assert rest.ran == 300 - first.tally.done
    assert rest.tally == Tally(done=300)


def test_the_verdict_does_not_depend_on_parallelism_or_interruption(tmp_path):
    notes = []
    for parallel in (1, 16):
        execute(tmp_path / str(parallel), study(), parallel=parallel)
        notes.append(stopped(tmp_path / str(parallel)))
    execute(tmp_path / "parts", study(), only=tuple(map(str, range(7, 40))))
    execute(tmp_path / "parts", study())
    notes.append(stopped(tmp_path / "parts"))
    first, *others = ({k: n[k] for k in ("why", "blocks", "estimate")} for n in notes)
    assert all(each == first for each in others)


def test_a_block_is_a_replicate_of_every_cell(tmp_path):
    report = execute(tmp_path, study(factors={"level": [0, 1, 2]}))
    note = stopped(tmp_path)
    assert note["met"]
    assert report.tally.done >= 3 * note["blocks"]
    with RunView(tmp_path) as run:
        first = [r for r in run.records() if r.replicate <= note["blocks"]]
    assert len(first) == 3 * note["blocks"]
    means = np.reshape([r.outcome["draw"] for r in first], (-1, 3)).mean(axis=1)
    assert note["estimate"]["estimate"] == pytest.approx(means.mean())


def test_group_sequential_stops_at_a_look(tmp_path):
    rule = {"outcome": "draw", "rule": "group_sequential", "null": 0.0, "looks": 5, "minimum": 10}
    execute(tmp_path, study(stop=rule))
    note = stopped(tmp_path)
    assert (note["why"], note["blocks"]) == ("null excluded", 60)
    assert 0 < note["estimate"]["low"] < 0.5 < note["estimate"]["high"] < 0.65


@pytest.mark.parametrize(
    ("rule", "why", "blocks"),
    [
        ({"rule": "e_process"}, "null excluded", 10),
        ({"rule": "confidence_sequence"}, "null excluded", 28),
        ({"rule": "group_sequential", "spending": "pocock"}, "null excluded", 60),
        ({"rule": "group_sequential", "null": 7.0, "futility": 0.2}, "futility", None),
        ({"half_width": 4.0, "null": 7.0}, "precision", None),
        ({"margin": 6.0, "null": 7.0}, "equivalence", None),
    ],
)
def test_two_levels_of_a_factor_are_compared_block_by_block(tmp_path, rule, why, blocks):
    declared = {"outcome": "total", "range": (0, 24), "factor": "calls", "minimum": 10} | rule
    execute(tmp_path, study(factors={"calls": [2, 4]}, stop=declared))
    note = stopped(tmp_path)
    assert note["why"] == why
    assert blocks is None or note["blocks"] == blocks
    with RunView(tmp_path) as run:
        frame = run.frame()
    wide = frame.pivot(index="seed", columns="calls", values="total")
    estimate = note["estimate"]
    assert estimate["low"] < (wide[4] - wide[2]).mean() < estimate["high"]
    assert "treatment - control of calls" in estimate["estimand"]


def test_the_treatment_is_the_level_named_second(tmp_path):
    rule = {
        "outcome": "total",
        "range": (0, 24),
        "factor": "calls",
        "levels": [4, 2],
        "minimum": 10,
    }
    execute(tmp_path, study(factors={"calls": [2, 4]}, stop=rule))
    assert stopped(tmp_path)["estimate"]["high"] < 0


def test_a_rule_that_is_not_met_runs_to_the_planned_end(tmp_path):
    report = execute(tmp_path, study(replicates=12, stop=RULE | {"half_width": 0.001}))
    assert report.tally == Tally(done=12)
    assert stopped(tmp_path)["met"] is False
    assert "not met" in report.note


def test_failed_trials_leave_their_block_out_and_are_counted(tmp_path):
    execute(tmp_path, study(replicates=12, fixed={"fail": "refused"}, stop=RULE))
    with RunView(tmp_path) as run:
        assert "stopped" not in run.meta


def test_the_analysis_carries_the_rule_s_interval(tmp_path):
    from peira.store.rundir import RunDir

    execute(tmp_path, study())
    analysis = api.analyse(RunDir(tmp_path))
    assert analysis.findings[0].name == "stop rule"
    assert analysis.answer.startswith("Mean draw over blocks; stopped after")
    assert "confidence sequence" in analysis.findings[0].estimate.method
    assert "stopped by its declared rule" in analysis.notes[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": "darw"}, "did you mean"),
        ({"half_width": None}, "no aim"),
        ({"rule": "group_sequential"}, "without half_width"),
        ({"range": (1.0, 0.0)}, "lowest, highest"),
        ({"minimum": 301}, "more replicates"),
        ({"factor": "level"}, "allowed: none"),
        ({"levels": [0, 1]}, "of which factor"),
        ({"rule": "e_process"}, "not for e_process"),
        ({"futility": 0.1}, "not for confidence_sequence"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused_before_the_first_trial(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        execute(tmp_path / "run", study(stop=RULE | changes))
    assert not (tmp_path / "run").exists()


def test_a_value_outside_the_declared_range_halts_the_run(tmp_path):
    report = execute(tmp_path, study(stop=RULE | {"outcome": "total", "range": (0, 2)}))
    assert report.exit_code == 3
    assert "lies outside the declared" in report.message


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_late_blocks_never_change_a_verdict(seed):
    values = list(np.random.default_rng(seed).random(120))
    rule = StopRule.model_validate(RULE | {"null": 0.9})
    whole = stop.judge(rule, values, 120)
    again = stop.judge(rule, values[: whole.blocks], 120)
    assert (whole.met, whole.why, whole.blocks) == (again.met, again.why, again.blocks)
    assert whole.estimate == again.estimate
