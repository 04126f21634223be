"""Rows asked once, whatever happens: spec prompts §4, acceptance 7 to 9."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from peira import api
from peira.errors import TransientError
from peira.families.prompts.evaluated import Evaluated
from peira.families.prompts.rows import STATUSES
from peira.store.records import RunView
from tests.prompts.conftest import CountingWire

RunStudy = Callable[..., api.RunReport]
Read = Callable[[Path], Evaluated]
SETS = {
    "one": {"control": "c.txt", "a": "t.txt"},
    "two": {"control": "c.txt", "b": "u.txt"},
    "three": {"control": "c.txt", "d": "v.txt"},
}


def right(request: Any) -> str:
    number = int(request.messages[-1].content.rsplit("register ", 1)[1].split()[0])
    return f"code {number * 7919 % 1_000_003}"


def predictions(folder: Path) -> list[dict[str, str]]:
    (path,) = (folder / "run" / "trials").glob("*/results/predictions.csv")
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("parallel", [1, 16])
def test_a_control_shared_by_prompt_sets_is_bought_once(
    run_study: RunStudy, read: Read, parallel: int
) -> None:
    wire = CountingWire(right)
    report = run_study(
        api.Options(wires={"stub": wire}, parallel=parallel),
        model_id="stub", prompt_sets=SETS, sweep={"prompt_sets": "all"},
        sizes={"closed_book_max_items": 120, "open_book_max_items": 0},
    )  # fmt: skip
    assert report.exit_code == 0
    assert len(wire.asked) == 480
    trials = read(report.path).trials
    assert sum(len(trial.columns["keys"]) for trial in trials) == 720
    spent = sum(sum(trial.costs.first) for trial in trials)
    assert spent == 480


def test_equal_prompts_in_two_arms_are_asked_for_twice(run_study: RunStudy) -> None:
    wire = CountingWire(right)
    run_study(
        api.Options(wires={"stub": wire}), model_id="stub",
        prompt_sets={"aa": {"control": "c.txt", "same": "c.txt"}},
    )  # fmt: skip
    assert len(wire.asked) == 80


def test_arms_differ_in_the_system_message_only(run_study: RunStudy) -> None:
    wire = CountingWire(right)
    run_study(api.Options(wires={"stub": wire}), model_id="stub", temps=[0.3], stop=["END"])
    users = Counter(request.messages[-1].content for request in wire.asked)
    assert set(users.values()) == {2}
    assert {request.messages[0].role for request in wire.asked} == {"system"}
    (sampling,) = {request.sampling for request in wire.asked}
    assert (sampling.temperature, sampling.stop, sampling.max_tokens) == (0.3, ("END",), 1024)


def test_a_null_prompt_sends_no_system_message(run_study: RunStudy) -> None:
    wire = CountingWire(right)
    sets = {"plain": {"control": None, "treatment": "t.txt"}}
    run_study(api.Options(wires={"stub": wire}), model_id="stub", prompt_sets=sets)
    assert Counter(len(request.messages) for request in wire.asked) == {1: 40, 2: 40}


def test_cut_refused_and_empty_replies_are_finished_rows_without_a_score(
    run_study: RunStudy, folder: Path
) -> None:
    said = iter(["<cut>", "<refused>", " ", *["x"] * 100])
    wire = CountingWire(lambda request: next(said))
    report = run_study(api.Options(wires={"stub": wire}), model_id="stub")
    assert report.exit_code == 0
    rows = predictions(folder)
    counts = Counter(row["status"] for row in rows)
    assert counts == {"truncated": 1, "refused": 1, "empty": 1, "ok": 77}
    (scores,) = (folder / "run" / "trials").glob("*/results/row_scores.csv")
    with scores.open(newline="") as handle:
        scored = list(csv.DictReader(handle))
    lost = {row["custom_id"] for row in rows if row["status"] != "ok"}
    assert all((row["em"] == "") == (row["custom_id"] in lost) for row in scored)


def test_all_calls_failing_exits_3_with_no_score(run_study: RunStudy, folder: Path) -> None:
    wire = CountingWire(lambda request: TransientError("503"))
    report = run_study(api.Options(wires={"stub": wire}), model_id="stub", limits={"retries": 0})
    assert report.exit_code == 3
    assert report.causes == {"rows_failed": 1}
    assert {row["status"] for row in predictions(folder)} == {"error"}
    (scores,) = (folder / "run" / "trials").glob("*/results/row_scores.csv")
    with scores.open(newline="") as handle:
        assert {row["em"] for row in csv.DictReader(handle)} == {""}
    assert not list(folder.glob("run/trials/*/results/significance.json"))


def test_errors_are_retried_and_paid_rows_never(run_study: RunStudy, folder: Path) -> None:
    failing = True

    def reply(request: Any) -> Any:
        number = int(right(request).split()[1])
        return TransientError("503") if failing and number % 5 == 0 else right(request)

    wire = CountingWire(reply)
    options = api.Options(wires={"stub": wire}, retry_failed=True)
    first = run_study(options, model_id="stub", limits={"retries": 0})
    paid = sum(row["status"] == "ok" for row in predictions(folder))
    assert first.exit_code == 3 and 0 < paid < 80
    failing = False
    wire.asked.clear()
    second = run_study(options, model_id="stub", limits={"retries": 0})
    assert second.exit_code == 0
    assert len(wire.asked) == 80 - paid


@pytest.mark.parametrize("how", [{}, {"executor": "processes", "parallel": 2}])
def test_one_arm_then_the_other_equals_both(
    run_study: RunStudy, folder: Path, read: Read, how: dict[str, Any]
) -> None:
    """Two prompt sets on one control; the second command, too, asks for its own arm alone."""
    sets = {name: {"control": "c.txt", "treatment": f"{name}.txt"} for name in ("t", "u")}
    changes = {"prompt_sets": sets, "sweep": {"prompt_sets": "all"}}
    both = run_study(api.Options(run_dir=folder / "both"), **changes)
    half = run_study(api.Options(**how), **changes, condition="treatment")
    assert half.tally.pending == 2
    with RunView(half.path) as run:
        assert {r.message for r in run.records()} == {"40 of 80 rows not asked for yet"}
        assert bought(run) == 80
    whole = run_study(api.Options(**how), **changes, condition="control")
    assert (whole.exit_code, whole.tally.done) == (0, 2)
    with RunView(whole.path) as run:
        assert bought(run) == 120
    apart, together = read(whole.path).trials, read(both.path).trials
    for one, other in zip(apart, together, strict=True):
        for column in ("keys", "text", "status", "cost", "usage"):
            assert one.columns[column] == other.columns[column]
    files = [
        {f.parent.parent.name: f.read_bytes() for f in run.path.glob("trials/*/results/" + name)}
        for run in (whole, both) for name in ("row_scores.csv", "per_item_scores.csv", "flips.csv")
    ]  # fmt: skip
    assert files[:3] == files[3:] and all(len(each) == 2 for each in files)


def bought(run: RunView) -> int:
    ((number,),) = run.query("SELECT COUNT(*) FROM replies WHERE trial=0 AND state='done'")
    return int(number)


def test_planned_is_the_sum_of_statuses_in_the_manifest(run_study: RunStudy, folder: Path) -> None:
    run_study(simulated={"truncated": 0.2, "refused": 0.2})
    manifest = orjson.loads((folder / "run" / "multi_trial_manifest.json").read_bytes())
    (trial,) = manifest["trials"]
    assert manifest["planned"] == manifest["done"] == manifest["num_trials"] == 1
    assert set(trial["rows"]) == set(STATUSES)
    assert sum(trial["rows"].values()) == 80
    assert trial["rows"]["truncated"] > 0 and trial["rows"]["refused"] > 0
    assert (folder / "run" / trial["report_path"]).is_file()


def test_a_sweep_sends_each_model_its_own_sampling(run_study: RunStudy) -> None:
    wires = {name: CountingWire(right) for name in ("m1", "m2")}
    trials = [
        {"model": "m1", "decoding": {"top_p": 0.5, "max_new_tokens": 7}},
        {"model": "m2", "temps": [1.0]},
    ]
    run_study(api.Options(wires=wires), trials=trials)  # type: ignore[arg-type]
    first, second = ({r.sampling for r in wires[name].asked} for name in ("m1", "m2"))
    assert [(s.top_p, s.max_tokens, s.temperature) for s in first] == [(0.5, 7, 0.0)]
    assert [(s.top_p, s.max_tokens, s.temperature) for s in second] == [(1.0, 1024, 1.0)]


def test_a_changed_prompt_file_makes_another_trial(run_study: RunStudy, folder: Path) -> None:
    run_study()
    (folder / "t.txt").write_text("Quite another prompt.\n")
    report = run_study()
    assert report.ran == 1
    with RunView(report.path) as run:
        assert len(list(run.query("SELECT id FROM trials"))) == 2
        assert run.tally.planned == 1


def test_a_scorer_of_the_study_adds_its_metric(
    run_study: RunStudy, folder: Path, read: Read
) -> None:
    (folder / "mine.py").write_text(
        "def shouting(item, reply):\n    return {'shouting': float(reply.isupper())}\n\n"
        "async def judged(item, reply, lab):\n"
        "    said = await lab.subject('judge', 'judge', scope='run').reply([], key=item.key)\n"
        "    return {'judged': float(said.text)}\n"
    )
    judge = CountingWire(lambda request: "1")
    report = run_study(
        api.Options(wires={"judge": judge}),
        scoring={"scorers": ["contains", "mine.py:shouting", "mine.py:judged"]},
    )
    (trial,) = read(report.path).trials
    assert trial.metrics[5:] == ("contains", "shouting", "judged")
    assert trial.values("judged").mean() == 1
    assert 0 < trial.values("shouting").mean() < 1
    assert len(judge.asked) == 40
    again = run_study(api.Options(wires={"judge": judge}), scoring={"scorers": ["contains"]})
    assert read(again.path).trials[0].metrics[5:] == ("contains",)


def test_every_guide_file_lies_where_the_guide_says(run_study: RunStudy, folder: Path) -> None:
    run_study()
    slug = "sim-respondent-plain-tp1-mx1024-1024"
    names = ("predictions.csv", "row_scores.csv", "per_item_scores.csv", "flips.csv",
             "significance.json", "costs.json")  # fmt: skip
    for base in (folder / "run" / slug, folder / "run" / "trials" / slug):
        assert all((base / "results" / name).is_file() for name in names)
        assert (base / "reports" / "report.md").is_file()
    assert (folder / "run" / "aggregate_report.md").is_file()
    assert (folder / "run" / "simulation_truth.json").is_file()
    assert "SIMULATED" in (folder / "run" / slug / "reports" / "report.md").read_text()


def test_files_read_back_as_the_csv_standard_says(run_study: RunStudy, folder: Path) -> None:
    nasty = 'a "quoted",\nsecond line; ünï'
    wire = CountingWire(lambda request: nasty)
    run_study(api.Options(wires={"stub": wire}), model_id="stub")
    assert {row["response_text"] for row in predictions(folder)} == {nasty}
