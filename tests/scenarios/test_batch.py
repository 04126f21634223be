"""Batches: variations, money, limits, states, editing, and what is left on disk."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from peira import api
from peira.errors import InputError, StudyError
from peira.families.scenarios.variations import label
from peira.study.reader import read_study
from tests.scenarios.conftest import Bench, Scripted, polite

TWO = {"type": "actor_model", "actor": "regulator", "values": ["sim:actor", "sim:actor,lift=2"]}
PAID = "sim:actor,cost=0.01,worst=0.02"
GUIDE = """
experiment_name: "Model Comparison Study"
description: "Compare GPT-4 vs Claude in regulation negotiation"
base_scenario: "scenarios/test-regulation-negotiation"
runs_per_variation: 10
max_parallel: 2
timeout_per_run: 1800
budget_limit: 20.00
cost_per_run_limit: 1.00
variations:
  - type: "actor_model"
    actor: "regulator"
    values:
      - "openai/gpt-4o-mini"
      - "anthropic/claude-3-haiku"
  - type: "actor_model"
    actor: "tech-company"
    values:
      - "openai/gpt-4o-mini"
      - "anthropic/claude-3-haiku"
output_dir: "experiments/my-experiment"
save_individual_runs: true
aggregate_metrics: true
"""


def paid(bench: Bench, **changes: Any) -> None:
    bench.scenario(actors={"a": {"llm_model": PAID}, "b": {"llm_model": PAID}},
                   world_state_model="sim:world,cost=0.01,worst=0.02", **changes)  # fmt: skip


# -- the guide's file ---
def test_the_guides_config_makes_four_variations_of_forty_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peira.families.scenarios.examples import write_scenario

    write_scenario("test-regulation-negotiation", tmp_path)
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "batch-config.yaml"
    config.write_text(GUIDE)
    report = api.run(config, api.Options(simulated=True))
    assert report.tally.done == 40 and report.exit_code == 0
    bench = Bench(tmp_path)
    bench.run = tmp_path / "experiments" / "my-experiment-simulated"
    variations = bench.json("batch-state.json")["variations"]
    assert len(variations) == 4
    assert variations[1]["description"] == "regulator=gpt-4o-mini, tech-company=claude-3-haiku"
    names = {path.name for path in bench.run.iterdir()}
    assert {"batch-config.yaml", "batch-summary.json", "batch-state.json", "batch-costs.json",
            "runs", "results.csv"} <= names  # fmt: skip
    assert (bench.run / "batch-config.yaml").read_text() == GUIDE
    summary = bench.json("batch-summary.json")
    assert summary["total_runs_planned"] == summary["runs_completed"] == 40


@pytest.mark.parametrize(("fields", "said"), [
    ({"timeout_per_runs": 5}, "timeout_per_run"),
    ({"runs_per_variation": "10"}, "runs_per_variation"),
    ({"variations": [TWO | {"values": []}]}, "at least one value"),
    ({"variations": [TWO | {"values": ["a", "a"]}]}, "values that differ"),
    ({"variations": [TWO, TWO | {"name": "again"}]}, "each target varied once"),
    ({"variations": [TWO | {"type": "actor_modle"}]}, "actor_model"),
    ({"variations": [{"type": "actor_model", "values": ["x"]}]}, "`actor`"),
    ({"variations": [TWO | {"field": "goals"}]}, "unknown for type actor_model"),
    ({"variations": [TWO | {"labels": ["one"]}]}, "one label per value"),
    ({"variations": [TWO | {"labels": ["one", "one"]}]}, "labels that differ"),
])  # fmt: skip
def test_a_wrong_config_is_refused_with_its_line(
    bench: Bench, fields: dict[str, Any], said: str
) -> None:
    bench.scenario()
    with pytest.raises(StudyError, match=r"batch-config\.yaml:") as raised:
        api.ask(bench.config(**fields))
    assert said in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_batch_and_its_scenario_tell_their_faults_together(bench: Bench) -> None:
    bench.scenario(turn=1, actors={"a": {"gaols": "x"}, "b": {}})
    wrong = [{"type": "turns", "values": [0]}, TWO | {"actor": "c"}, TWO | {"actor": "b", "x": 1}]
    with pytest.raises(StudyError) as raised:
        api.ask(bench.config(timeout_per_runs=5, runs_per_variation="3", variations=wrong))
    told = [line.split("\n")[0] for line in raised.value.faults]
    assert [" ".join(line.split(": ")[1:]) for line in told] == [
        "runs_per_variation '3'", "timeout_per_runs unknown key", "variations.2.x unknown key",
        "actor c", "turns 0", "turn unknown key", "gaols unknown key",
    ]  # fmt: skip
    assert {Path(line.split(":")[0]).name for line in told} == {
        "batch-config.yaml", "scenario.yaml", "a.yaml"}  # fmt: skip


@pytest.mark.parametrize(("variation", "said"), [
    (TWO | {"actor": "regulater"}, "did you mean regulator?"),
    ({"type": "scenario_parameter", "parameter": "context_size", "values": [1]}, "did you mean"),
    ({"type": "scenario_parameter", "parameter": "turns", "values": ["3"]}, "a whole number"),
    ({"type": "events", "event": "storm", "values": ["on"]}, "all"),
    ({"type": "initial_world_state", "values": [{"file": "gone.md"}]}, "a file that exists"),
    ({"type": "turns", "values": [0]}, ">= 1"),
])  # fmt: skip
def test_a_variation_is_held_against_the_scenario_and_its_line_named(
    bench: Bench, variation: dict[str, Any], said: str
) -> None:
    bench.scenario()
    with pytest.raises(StudyError) as raised:
        api.ask(bench.config(variations=[variation])).cells()
    assert said in str(raised.value) and "batch-config.yaml:" in str(raised.value)


def test_every_variation_type_changes_what_it_names(bench: Bench) -> None:
    bench.scenario(events=[{"name": "e", "description": "d", "type": "scheduled", "turn": 1}])
    (bench.root / "scenario" / "other.md").write_text("Another start.")
    types: list[tuple[dict[str, Any], Any]] = [
        ({"type": "actor_model", "actor": "all", "values": ["sim:anyone"]},
         lambda s: set(s.models.values()) == {"sim:anyone"}),
        ({"type": "actor_field", "actor": "regulator", "field": "goals", "values": ["win"]},
         lambda s: s.actor("regulator").goals == "win"),
        ({"type": "scenario_parameter", "parameter": "communication.exchanges", "values": [3]},
         lambda s: s.communication.exchanges == 3),
        ({"type": "initial_world_state", "values": [{"file": "other.md"}]},
         lambda s: s.initial_world_state == "Another start."),
        ({"type": "initial_world_state", "values": [{"append": "And rain."}]},
         lambda s: s.initial_world_state.endswith("4.0.\n\nAnd rain.")),
        ({"type": "events", "event": "e", "values": ["off"]}, lambda s: not s.events[0].enabled),
        ({"type": "temperature", "actor": "regulator", "values": [0.3]},
         lambda s: s.actor("regulator").sampling.temperature == 0.3),
        ({"type": "temperature", "actor": "all", "values": [0.3]},
         lambda s: s.sampling.temperature == 0.3),
        ({"type": "turns", "values": [7]}, lambda s: s.turns == 7),
    ]  # fmt: skip
    for variation, holds in types:
        (cell,) = api.ask(bench.config(variations=[variation])).cells()
        assert holds(cell.settings.scenario), variation


def test_a_seed_variation_gives_other_streams(bench: Bench) -> None:
    bench.go(variations=[{"type": "seed", "values": [1, 2]}], runs_per_variation=2)
    levels = [t.final["cooperation_level"] for t in bench.batch().trials]
    assert len(set(levels)) == 4


def test_last_factor_is_fastest_and_rounds_come_first(bench: Bench) -> None:
    bench.go(runs_per_variation=2, variations=[TWO, {"type": "turns", "values": [1, 2]}])
    descriptions = list(bench.batch().variations.values())
    assert descriptions[:2] == [
        "regulator=sim:actor, turns=1", "regulator=sim:actor, turns=2"]  # fmt: skip
    assert [t.replicate for t in bench.batch().trials] == [1] * 4 + [2] * 4


def test_cells_and_exclusions_go_by_name(bench: Bench) -> None:
    turns = {"type": "turns", "values": [1, 2]}
    bench.go(
        variations=[TWO | {"name": "seat"}, turns],
        exclude=[{"seat": "sim:actor", "turns": 2}],
        cells=[{"seat": "sim:actor,lift=9", "turns": 3}],
    )
    assert list(bench.batch().variations.values()) == [
        "seat=sim:actor, turns=1", "seat=sim:actor,lift=2, turns=1",
        "seat=sim:actor,lift=2, turns=2", "seat=sim:actor,lift=9, turns=3",
    ]  # fmt: skip


def test_a_study_without_a_scenario_is_refused() -> None:
    from peira.study.study import Study

    for fixed in ({}, {"base_scenario": "nowhere"}, {"base_scenario": ".", "colour": 1}):
        with pytest.raises(StudyError):
            api.ask(Study(family="scenarios", fixed=fixed)).cells()


def test_unfinished_trials_say_how_far_they_came(bench: Bench) -> None:
    bench.scenario(world_state_model="sim:world,status=402,at=3")
    bench.go()
    halted = bench.json("batch-summary.json")["halted_runs"]
    assert [(h["run_id"], h["turn"]) for h in halted] == [("var-001-run-001", 2)]
    assert bench.json("batch-state.json")["runs"]["var-001-run-001"]["turn"] == 2


# -- money ---
@pytest.mark.parametrize("parallel", [1, 8])
def test_a_budget_stops_after_exactly_49_calls(bench: Bench, parallel: int) -> None:
    paid(bench)
    report = bench.go(runs_per_variation=8, max_parallel=parallel, budget_limit=0.50)
    assert bench.calls() == 49 and report.exit_code == 4
    assert "Budget limit reached" in bench.json("batch-state.json")["halt_reason"]
    summary = bench.json("batch-summary.json")
    assert summary["cost_summary"]["total_spent"] == pytest.approx(0.49)
    states = sum(summary[f"runs_{s}"] for s in ("completed", "failed", "halted", "pending"))
    assert states == summary["total_runs_planned"] == 8
    raised = bench.go(runs_per_variation=8, max_parallel=parallel, budget_limit=2.00)
    assert raised.exit_code == 0 and bench.calls() == 120
    costs = bench.json("batch-costs.json")
    assert costs["summary"]["total_spent"] == pytest.approx(1.20)
    assert costs["by_phase"]["decision"]["calls"] == 48


def test_a_trial_limit_halts_the_trial_and_not_the_batch(bench: Bench) -> None:
    paid(bench)
    report = bench.go(runs_per_variation=3, cost_per_run_limit=0.10)
    assert report.exit_code == 4 and bench.calls() == 27
    halted = bench.json("batch-summary.json")["halted_runs"]
    assert {entry["cause"] for entry in halted} == {"trial limit"}
    assert "Run cost exceeds limit" in halted[0]["message"]


# -- limits ---
def test_rate_limits_change_nothing_but_time(bench: Bench, tmp_path: Path) -> None:
    calm = Bench(tmp_path / "calm")
    calm.root.mkdir()
    for one, rate in ((bench, "0.3"), (calm, "0")):
        seats = {"a": {"llm_model": f"sim:actor,lift=1,rate_limit={rate}"}, "b": {}}
        one.scenario(actors=seats, world_state_model="sim:world,sd=0")
        report = one.go(runs_per_variation=4, retries=40)
        assert report.exit_code == 0 and report.tally.failed == 0
    mine, theirs = ([t.by_turn for t in b.batch().trials] for b in (bench, calm))
    assert mine == theirs


def test_a_402_stops_the_batch_and_the_next_run_finishes(bench: Bench) -> None:
    bench.scenario(world_state_model="sim:world,status=402,at=10")
    report = bench.go(runs_per_variation=4, max_parallel=1)
    assert report.exit_code == 3
    summary = bench.json("batch-summary.json")
    assert summary["runs_failed"] == 0 and summary["runs_completed"] == 3
    assert bench.go(runs_per_variation=4, max_parallel=1).exit_code == 0


def test_a_timeout_halts_one_trial_and_others_finish(bench: Bench) -> None:
    bench.scenario()
    report = bench.go(runs_per_variation=2, timeout_per_run=0.5, variations=[
        TWO | {"values": ["sim:actor", "sim:actor,latency=0.2"]}])  # fmt: skip
    trials = bench.batch().trials
    assert {t.state for t in trials if t.variation == 1} == {"done"}
    slow = [t for t in trials if t.variation == 2]
    assert {(t.state, t.cause) for t in slow} == {("halted", "timeout")}
    assert report.exit_code == 3 and all(t.turns < 3 for t in slow)


def test_many_trials_in_flight_give_the_same_results(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    other.root.mkdir()
    for one, parallel in ((bench, 1), (other, 8)):
        one.scenario(actors={"a": {"llm_model": "sim:actor,latency=0.002,talk=0.5"}, "b": {}})
        one.go(runs_per_variation=4, max_parallel=parallel)
    first, second = ([(t.run_id, t.by_turn, t.final) for t in b.batch().trials]
                     for b in (bench, other))  # fmt: skip
    assert first == second


# -- going on ---
def test_a_finished_batch_runs_nothing_again(bench: Bench) -> None:
    bench.go(runs_per_variation=2)
    before = bench.calls()
    report = bench.go(runs_per_variation=2)
    assert (report.exit_code, report.ran, bench.calls()) == (0, 0, before)


def test_added_values_run_alone_and_numbers_stay(bench: Bench) -> None:
    bench.go(variations=[TWO], runs_per_variation=2)
    old = {t.run_id: t.final for t in bench.batch().trials}
    more = TWO | {"values": ["sim:actor,lift=1", *TWO["values"]]}
    report = bench.go(variations=[more], runs_per_variation=2)
    assert report.ran == 2
    now = {t.run_id: t.final for t in bench.batch().trials}
    assert {name: now[name] for name in old} == old
    assert set(now) - set(old) == {"var-003-run-001", "var-003-run-002"}
    fewer = bench.go(variations=[TWO | {"values": ["sim:actor"]}], runs_per_variation=2)
    assert fewer.ran == 0 and fewer.tally.planned == 2
    retired = {
        v["variation_id"]: v["retired"] for v in bench.json("batch-state.json")["variations"]
    }
    assert retired == {1: False, 2: True, 3: True}


def test_values_that_would_read_alike_stay_two_levels() -> None:
    models = ["openai/gpt-4o", "azure/gpt-4o", "openai/o3"]
    assert [label({"values": models}, model) for model in models] == [*models[:2], "o3"]
    long = [f"sim:anyone,{'x' * 60}={lift}" for lift in (0, 1)]
    assert [label({"values": long}, name) for name in long] == long


def test_criteria_and_labels_change_without_running_again(bench: Bench) -> None:
    bench.go(variations=[TWO])
    assert bench.json("batch-summary.json")["success_basis"] == "completion"
    report = bench.go(variations=[TWO | {"labels": ["firm", "soft"]}],
                      success_criteria={"any": {"cooperation_level": ">= 0"}})  # fmt: skip
    assert report.ran == 0
    assert bench.json("batch-summary.json")["success_rate"] == 1.0
    assert bench.batch().variations[2] == "regulator=soft"


def test_a_changed_base_is_refused_by_file(bench: Bench) -> None:
    bench.go()
    actor = bench.root / "scenario" / "actors" / "regulator.yaml"
    old = actor.read_text()
    actor.write_text(old + "goals: win\n")
    with pytest.raises(InputError, match=r"actors/regulator\.yaml"):
        bench.go()
    actor.write_text(old)
    assert bench.go().ran == 0
    actor.write_text(old + "goals: win\n")
    assert bench.go({"fresh": True}).ran == 1


def test_metrics_that_steer_nothing_may_change(bench: Bench) -> None:
    bench.go()
    metrics = bench.root / "scenario" / "metrics.yaml"
    metrics.write_text(metrics.read_text().replace("description: level", "description: Level!"))
    assert bench.go().ran == 0


def test_a_base_found_in_two_places_is_an_error(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.scenario()
    other = tmp_path / "elsewhere"
    Bench(other).scenario() if other.mkdir() is None else None
    monkeypatch.chdir(other)
    with pytest.raises(InputError, match="two different folders"):
        read_study(bench.config(base_scenario="scenario"))


# -- what is kept ---
def test_without_individual_runs_the_analysis_is_the_same(bench: Bench, tmp_path: Path) -> None:
    from peira.cli.finish import finish

    other = Bench(tmp_path / "other")
    other.root.mkdir()
    for one, kept in ((bench, True), (other, False)):
        one.go(runs_per_variation=3, variations=[TWO], save_individual_runs=kept)
        finish(one.run, quiet=True, figures=False)
    assert (bench.run / "runs").is_dir() and not (other.run / "runs").exists()
    for name in ("metrics-analysis.json", "variation-statistics.json", "patterns.json"):
        assert (bench.run / "analysis" / name).read_bytes() == (
            other.run / "analysis" / name
        ).read_bytes()


def test_aggregation_may_wait_for_the_command(bench: Bench) -> None:
    from peira.cli.main import run

    bench.scenario()
    assert run(["run", str(bench.config(aggregate_metrics=False))]) == 0
    assert not (bench.run / "analysis").exists()
    assert run(["analyse", str(bench.run)]) == 0
    assert (bench.run / "analysis" / "analysis-report.md").is_file()


def test_results_have_a_row_for_every_planned_trial(bench: Bench) -> None:
    bench.go(runs_per_variation=2, variations=[TWO])
    rows = list(csv.DictReader(io.StringIO((bench.run / "results.csv").read_text())))
    assert len(rows) == 4
    assert rows[0]["run_id"] == "var-001-run-001" and rows[0]["state"] == "done"
    assert float(rows[0]["cooperation_level"]) >= 0 and rows[0]["simulated"] == "True"


def test_manual_values_are_appended_never_overwritten(bench: Bench) -> None:
    manual = {"description": "d", "type": "int", "extraction_method": "manual", "range": [1, 5]}
    bench.scenario(metrics={"sound": manual})
    bench.go()
    path = bench.run / "manual-metrics.csv"
    assert path.read_text().splitlines()[0] == "run_id,turn,metric,value,coder"
    assert bench.batch().trials[0].reasons == {"sound": "not_coded"}
    path.write_text(path.read_text().replace("var-001-run-001,3,sound,,",
                                             "var-001-run-001,3,sound,4,ann"))  # fmt: skip
    bench.go(runs_per_variation=2)
    lines = path.read_text().splitlines()
    assert "var-001-run-001,3,sound,4,ann" in lines and len(lines) == 7
    assert bench.batch().trials[0].final == {"sound": 4}


def test_the_planted_truth_stands_beside_its_estimate(bench: Bench) -> None:
    from peira.families.scenarios.analysis import Results, told

    bench.go(runs_per_variation=6, variations=[TWO])
    truth = bench.json("simulation_truth.json")
    assert [v["expected"] for v in truth["variations"].values()] == [4.0, 6.0]
    found = told(Results(bench.batch()))
    assert [f.truth for f in found.findings if f.role == "confirmatory"] == [2.0]
    assert "| planted |" in found.files["analysis-report.md"]


def test_the_ledger_holds_what_replay_needs(bench: Bench) -> None:
    wire = bench.play(polite)
    labels = [request.label for request in wire.requests]
    assert len(labels) == len({(r.label, r.messages[0].content[:40]) for r in wire.requests})
    again = Scripted(polite)
    assert bench.go({"wires": {"x": again}}).ran == 0 and again.requests == []


def test_an_interrupted_batch_adds_up_and_goes_on(bench: Bench) -> None:
    bench.scenario(actors={"a": {"llm_model": "sim:actor,latency=0.001"}, "b": {}})

    def stop_after_the_first(session: api.Session) -> None:
        session.driver.listeners.append(lambda result: session.interrupt())

    options = {"on_start": stop_after_the_first}
    report = bench.go(options, runs_per_variation=8, max_parallel=2)
    assert report.exit_code == 130
    summary = bench.json("batch-summary.json")
    states = [summary[f"runs_{s}"] for s in ("completed", "failed", "halted", "pending")]
    assert sum(states) == summary["total_runs_planned"] == 8 and summary["runs_failed"] == 0
    assert 1 <= summary["runs_completed"] < 8
    assert bench.go(runs_per_variation=8).exit_code == 0
