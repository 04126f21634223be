"""Plans that hold, figures that say what they show."""

from __future__ import annotations

import pytest

from peira import api
from peira.families.scenarios.analysis import Results
from peira.families.scenarios.examples import FOLDER, names
from peira.families.scenarios.figures import makers
from peira.families.scenarios.forecast import forecast
from peira.families.scenarios.load import load_scenario
from peira.store.records import RunView
from peira.study.study import Study
from tests.scenarios.conftest import Bench
from tests.scenarios.planted import METRIC, batch_of, planted


@pytest.mark.parametrize("name", names())
def test_what_is_asked_lies_within_the_plan(name: str, bench: Bench) -> None:
    scenario = load_scenario(FOLDER / name)
    low, high = {}, {}
    for part in forecast(scenario):
        for what in ("calls", "prompt_tokens", "completion_tokens"):
            bounds = getattr(part, what)
            assert bounds[0] <= bounds[1] <= bounds[2], (part.model, what)
            low[what] = low.get(what, 0) + bounds[0]
            high[what] = high.get(what, 0) + bounds[2]
    study = Study(family="scenarios", fixed={"base_scenario": str(FOLDER / name)},
                  output_dir=str(bench.run))  # fmt: skip
    report = api.run(study, api.Options(run_dir=bench.run, simulated=True))
    assert report.exit_code == 0
    with RunView(bench.run) as run:
        record = next(run.records())
    people = {a.short_name for a in scenario.actors if a.human}
    calls = sum(u["calls"] for seat, u in record.usage.items() if seat not in people)
    tokens_in = sum(u["tokens_in"] for seat, u in record.usage.items() if seat not in people)
    tokens_out = sum(u["tokens_out"] for seat, u in record.usage.items() if seat not in people)
    assert low["calls"] <= calls <= high["calls"]
    assert low["prompt_tokens"] <= tokens_in <= high["prompt_tokens"]
    assert low["completion_tokens"] <= tokens_out <= high["completion_tokens"]


def test_a_plan_makes_no_call(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    from peira.cli.main import run

    bench.scenario()
    assert run(["plan", str(bench.config(runs_per_variation=7))]) == 0
    assert "7" in capsys.readouterr().out
    assert not bench.run.exists()


def test_a_plan_says_what_can_be_found_and_learns_from_done_trials(bench: Bench) -> None:
    from peira.store.forecast import forecast as plan

    two = {"type": "actor_model", "actor": "regulator", "values": ["sim:actor", "sim:actor,lift=1"]}
    config = bench.config(runs_per_variation=20, variations=[two])
    bench.scenario(actors={"regulator": {}, "b": {"llm_model": "sim:actor,talk=1"}})
    first = plan(api.ask(config), api.Options())
    assert any("find a difference of 0.91 standard" in line for line in first["notes"])
    bench.go(runs_per_variation=20, variations=[two])
    later = plan(api.ask(config), api.Options())
    assert any("learnt from the 40 done trials" in line for line in later["notes"])
    talker = {m["model"]: m["calls"] for m in later["models"]}["sim:actor,talk=1"]
    assert talker[0] <= talker[1] == 40 * 6 <= talker[2]


def test_every_figure_says_its_n_and_draws() -> None:
    found = makers(Results(planted(3, lift=1.0, replicates=5)))
    assert set(found) == {"trajectories", "comparison", "heat"}
    for make in found.values():
        figure = make()
        said = " ".join(text.get_text() for text in figure.texts)
        assert "n = 20 done trials" in said.replace("\n", " ")


def test_cost_against_outcome_has_a_pareto_line() -> None:
    rows = [(v, r, {METRIC: 2.0 * v + r / 10}) for v in (1, 2, 3) for r in range(1, 6)]
    costly = batch_of(rows, cost=lambda v, r: 0.1 * v + 0.001 * r)
    figure = makers(Results(costly))["cost"]()
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "Pareto line" in labels and len(labels) == 4


def test_empty_cells_are_hatched() -> None:
    from dataclasses import replace

    batch = planted(3, lift=1.0, replicates=3)
    kept = tuple(t for t in batch.trials if t.variation != 4)
    figure = makers(Results(replace(batch, trials=kept)))["heat"]()
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["///"]
