"""What was declared before the first call is kept in run.db; what came later is exploratory."""

import json

import pytest

from peira import BatchAnalyzer, api
from peira.families.scenarios.analysis import Results
from peira.testing import FaultServer
from tests.scenarios.conftest import LEVEL, Bench
from tests.scenarios.test_wires import answer, served

TWO = {"type": "actor_model", "actor": "regulator", "values": ["sim:actor", "sim:actor,lift=2"],
       "labels": ["firm", "soft"]}  # fmt: skip
MORE = {**TWO, "values": [*TWO["values"], "sim:actor,lift=3"], "labels": ["firm", "mild", "soft"]}
LENGTH = {"type": "turns", "values": [2, 3]}


def exploratory(bench: Bench) -> list[str]:
    results = Results(bench.batch())
    assert bool(results.deviations) == (results.effects.confirmatory == [])
    return results.deviations


def test_replicates_added_once_there_are_results_are_exploratory(bench):
    bench.go(runs_per_variation=4, variations=[TWO])
    assert exploratory(bench) == []
    bench.go(runs_per_variation=6, variations=[TWO])
    assert "replicates were added" in exploratory(bench)[0]
    assert "replicates were added" in BatchAnalyzer(bench.run).generate_analysis_report()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"success_criteria": {"high": {"cooperation_level": ">= 3"}}}, "success criteria"),
        ({"variations": [TWO, LENGTH]}, "factors"),
    ],
)
def test_what_is_declared_later_is_exploratory(bench, changed, said):
    bench.go(runs_per_variation=2, variations=[TWO])
    bench.go(**{"runs_per_variation": 2, "variations": [TWO]} | changed)
    assert exploratory(bench) == [
        f"Exploratory: the {said} were changed after the batch was begun."
    ]


def test_a_metric_made_primary_later_is_exploratory(bench):
    bench.scenario(metrics={"cooperation_level": {**LEVEL, "primary": False}})
    bench.go(runs_per_variation=2, variations=[TWO])
    bench.scenario()
    bench.go(runs_per_variation=2, variations=[TWO])
    assert "primary metrics" in exploratory(bench)[0]


def test_a_new_level_and_new_labels_ask_the_same_question(bench):
    bench.go(runs_per_variation=2, variations=[TWO])
    bench.go(runs_per_variation=2, variations=[MORE])
    assert exploratory(bench) == []


def test_what_no_trial_has_started_on_may_still_be_changed(bench):
    def stop_at_once(session: api.Session) -> None:
        session.interrupt()

    bench.go({"on_start": stop_at_once}, runs_per_variation=2, variations=[TWO])
    bench.go(runs_per_variation=4, variations=[TWO, LENGTH])
    assert exploratory(bench) == []


def test_no_file_can_undo_a_freeze(bench):
    bench.go(runs_per_variation=2, variations=[TWO])
    (bench.run / "manifest.json").unlink()
    bench.go(runs_per_variation=4, variations=[TWO])
    assert "replicates" in exploratory(bench)[0]
    assert bench.json("manifest.json")["hypotheses"]["replicates"] == 2


def test_the_manifest_names_whom_no_seed_makes_repeat_itself(bench):
    bench.scenario(
        actors={"a": {"llm_model": "claude"}, "b": {}}, world_state_model="seeded", turns=1
    )
    with FaultServer(answer=answer).running() as server:
        both = {
            "claude": served(server, "anthropic"),
            "seeded": served(server, "openai", seeds=True),
        }
        bench.go(subjects=both)
    manifest = json.loads((bench.run / "manifest.json").read_text())
    assert manifest["not_reproducible"] == ["claude"]
    assert set(manifest["subjects"]) == {"claude", "seeded", "sim:actor,lift=0"}
