"""Results of the guides' earlier tools, in each layout they had on disk: read, or refused in words."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from peira import api
from peira.cli.main import run as peira
from peira.errors import InputError
from peira.importers import bargain, excellence, scenario_lab
from peira.importers.base import Notes, write_run
from peira.store.compare import compare, load_side
from peira.store.records import RunView

SLUG = "gpt-oss-120b-operational_only-tp09-tk50-mx512-1024"
COLUMNS = (
    "custom_id", "dataset", "item_id", "condition", "temp", "sample_index", "type", "request_id",
    "finish_reason", "response_text", "prompt_tokens", "completion_tokens", "total_tokens",
)  # fmt: skip


def imported(importer, source: Path, target: Path):
    notes = Notes()
    run = write_run(target, importer.FAMILY, importer.read(source, notes), "a test", notes)
    return run, notes.warnings


# -- prompts ---------------------------------------------------------------------------------------
def prediction(item: int, arm: str, text: str, finish: str = "stop") -> dict:
    return {
        "custom_id": f"nq|{item}|{arm}", "dataset": "nq", "item_id": f"q{item}", "condition": arm,
        "temp": "0.0", "sample_index": "0", "type": "closed", "request_id": "r", "prompt_tokens": "9",
        "finish_reason": finish, "response_text": text, "completion_tokens": "3", "total_tokens": "12",
    }  # fmt: skip


def table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def workspace(tmp_path) -> Path:
    """Eight items; the control knows the first two, the treatment all but the last."""
    books = tmp_path / "data/prepared"
    books.mkdir(parents=True)
    items = [
        {"dataset": "nq", "id": f"q{n}", "question": f"What is {n}?", "answers": [f"gold {n}"],
         "is_unanswerable": False, "context": None, "source": "extra"}
        for n in range(8)
    ]  # fmt: skip
    (books / "closed_book.jsonl").write_text("\n".join(map(json.dumps, items)))
    results = tmp_path / "experiments/run_r1" / SLUG / "results"
    known = {"control": 2, "treatment": 7}
    rows = [prediction(n, arm, f"Gold {n}." if n < knows else "wrong")
            for arm, knows in known.items() for n in range(8)]  # fmt: skip
    table(results / "predictions.csv", rows)
    scores = [{"item_key": f"nq|q{n}", "type": "closed", "condition": arm, "temp": 0.0,
               "em": float(n < knows) if n != 3 else 1.0} for arm, knows in known.items()
              for n in range(8)]  # fmt: skip
    table(results / "per_item_scores.csv", scores)
    (results / "costs.json").write_text('{"usd": 0.5}')
    manifest = {"trials": [{"slug": SLUG, "model_id": "openai/gpt-oss-120b",
                            "prompt_set": "operational_only"}]}  # fmt: skip
    (results.parents[1] / "multi_trial_manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_an_evaluation_is_scored_anew_and_differences_are_told(workspace):
    run, warnings = imported(excellence, workspace / "experiments/run_r1", workspace / "run")
    with RunView(run) as view:
        record = next(view.records())
        assert (record.slug, str(record.state), record.cost) == (SLUG, "done", 500_000)
        assert record.settings["top_p"] == 0.9
        assert record.settings["max_new_tokens"] == {"closed_book": 512, "open_book": 1024}
        assert record.cell == {"model": "openai/gpt-oss-120b", "prompt_set": "operational_only"}
    assert warnings == [f"{SLUG}: 1 recorded item scores differ from ours (docs: prompts, scoring)"]
    told = api.analyse(run)
    found = next(f for f in told.findings if "exact match" in f.claim)
    assert found.estimate.estimate == pytest.approx(5 / 8)
    side = load_side(str(workspace / "experiments/run_r1"), workspace, api.load_family)
    ours = load_side(str(run.path), workspace, api.load_family)
    changes = [c for c in compare(side, ours).changes if c.first.quantity == "em"]
    assert changes and all(c.change.n == 8 for c in changes), "old and new pair by item"


def test_a_trial_with_rows_that_were_lost_is_not_done(workspace):
    path = workspace / "experiments/run_r1" / SLUG / "results/predictions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].replace("stop", "failed"), "torn,"]))
    run, warnings = imported(excellence, workspace / "experiments/run_r1", workspace / "run")
    with RunView(run) as view:
        record = next(view.records())
    assert (str(record.state), record.cause) == ("failed", "rows_failed")
    assert record.message == "1 of 16 rows have no recorded reply"
    assert any("not a whole row" in w for w in warnings)


def test_an_archive_without_manifest_reads_what_it_has(workspace):
    archive = workspace / "experiments/t1_r20250821"
    shutil.move(workspace / "experiments/run_r1" / SLUG, archive)
    config = {"config": {"temperature": 0.0, "model_id": "accounts/x/gpt-oss-120b"}}
    (archive / "archive_manifest.json").write_text(json.dumps(config))
    run, _ = imported(excellence, archive, workspace / "run")
    with RunView(run) as view:
        record = next(view.records())
    assert (record.slug, record.settings["model"]) == ("t1_r20250821", "accounts/x/gpt-oss-120b")


def test_predictions_that_cannot_be_scored_are_refused_in_words(workspace, tmp_path, capsys):
    shutil.rmtree(workspace / "data")
    assert peira(["import", "excellence", str(workspace / "experiments")]) == 2
    assert "no data/prepared beside or above" in capsys.readouterr().err
    only = tmp_path / "t0_r20250818"
    (only / "batch_inputs").mkdir(parents=True)
    with pytest.raises(InputError, match="batch inputs only: nothing was answered"):
        list(excellence.read(only, Notes()))


# -- scenarios -------------------------------------------------------------------------------------
CONFIG = """
experiment_name: Old batch
base_scenario: scenarios/gone
variations:
  - {type: actor_model, actor: regulator, values: [openai/small, openai/large]}
"""
METRICS = {
    "level": {"description": "0-10", "type": "float", "extraction_method": "regex",
              "pattern": "level (\\d+)"},
    "odd": {"type": "integer", "extraction_method": "divination"},
}  # fmt: skip


def lab_run(folder: Path, model: str, level: float, **changes) -> None:
    """One run as the tool left it."""
    folder.mkdir(parents=True)
    actor = {"name": "The Regulator", "short_name": "regulator", "llm_model": model}
    state = {
        "scenario_name": "Old", "status": "completed", "current_turn": 2, "total_turns": 2,
        "world_state": {
            "turn_duration": "2 weeks", "states": {"0": "start", "1": "one", "2": "two"},
            "actor_decisions": {"1": {"The Regulator": {"reasoning": "since", "action": "signs"}}},
        },
        "actors": {"regulator": actor},
    }  # fmt: skip
    by_turn = {"1": {"level": 1.0, "odd": 1}, "2": {"level": level, "odd": "many"}}
    metrics = {"metrics_definitions": METRICS, "metrics_by_turn": by_turn}
    costs = {"totals": {"total_cost_usd": 0.02}, "costs_by_actor": {}}
    for name, data in (("scenario-state", state | changes), ("metrics", metrics), ("costs", costs)):
        (folder / f"{name}.json").write_text(json.dumps(data))


@pytest.fixture
def batch(tmp_path) -> Path:
    """Two models, three runs each: the larger one's last was halted, another failed without files."""
    folder = tmp_path / "batch"
    for variation, (model, level) in enumerate((("openai/small", 3), ("openai/large", 5)), start=1):
        for replicate in (1, 2, 3):
            name = f"var-{variation:03d}-run-{replicate:03d}"
            halted = {"status": "halted", "halt_reason": "rate_limit", "current_turn": 1}
            changes = halted if (variation, replicate) == (2, 3) else {}
            lab_run(folder / "runs" / name, model, level + replicate / 10, **changes)
    (folder / "batch-config.yaml").write_text(CONFIG)
    state = {"failed_runs": [{"run_id": "var-002-run-004", "error": "429"}]}
    (folder / "batch-state.json").write_text(json.dumps(state))
    return folder


def test_a_batch_is_a_run_with_its_states_factors_and_values(batch, tmp_path):
    run, warnings = imported(scenario_lab, batch, tmp_path / "run")
    assert len(warnings) == 1 and "the states stand in" in warnings[0]
    with RunView(run) as view:
        tally = view.tally
        assert (tally.done, tally.halted, tally.failed, tally.pending) == (5, 1, 1, 0)
        records = {r.slug: r for r in view.records()}
        first = records["var-001-run-001"]
        assert first.cell == {"regulator": "openai/small"}
        assert first.outcome["final"] == {"level": 3.1, "odd": None}
        assert first.outcome["final_reasons"] == {"odd": "bad_type"}
        assert first.cost == 20_000
        assert view.events(first.number)[1]["turn"]["decisions"]["regulator"]["action"] == "signs"
        lost = records["var-002-run-004"]
        assert (lost.cell, lost.message) == ({"regulator": "openai/large"}, "429")
        assert records["var-002-run-003"].cause == "provider"
    (means,) = (t for t in api.analyse(run).tables if t.name == "variations")
    assert [(r["level"].estimate, r["level"].n) for r in means.rows] == [
        (pytest.approx(3.2), 3),
        (pytest.approx(5.15), 2),
    ]


def test_a_damaged_file_is_a_warning_and_missing_data(batch, tmp_path):
    (batch / "runs/var-001-run-001/metrics.json").write_text("{torn")
    (batch / "runs/var-001-run-002/scenario-state.json").write_text("")
    (batch / "batch-config.yaml").write_text(": [")
    run, warnings = imported(scenario_lab, batch, tmp_path / "run")
    assert sum(w.startswith("left out: ") for w in warnings) == 3
    with RunView(run) as view:
        records = {r.slug: r for r in view.records()}
    assert records["var-001-run-001"].outcome["final"] == {}
    assert str(records["var-001-run-002"].state) == "failed"


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match="no runs/var"):
        list(scenario_lab.read(tmp_path, Notes()))


# -- negotiation -----------------------------------------------------------------------------------
def test_every_layout_of_a_negotiation_is_found(shared_data, tmp_path):
    games = sorted((shared_data / "bargain/games").iterdir())[:3]
    pair = tmp_path / "old/a_vs_b_config_unknown_runs2_comp0.95"
    nested = tmp_path / "old/a_vs_b/weak_first/comp_0.5/run_1"
    pair.mkdir(parents=True)
    nested.mkdir(parents=True)
    together = []
    for k, game in enumerate(games[:2], start=1):
        shutil.copy(game / "experiment_results.json", pair / f"run_{k}_experiment_results.json")
        together += json.loads((game / "all_interactions.json").read_bytes())
    (pair / "all_interactions.json").write_text(json.dumps(together))
    shutil.copy(games[2] / "experiment_results.json", nested / "result.json")
    shutil.copy(games[2] / "all_interactions.json", nested / "all_interactions.json")
    torn = tmp_path / "old/torn"
    torn.mkdir()
    (torn / "experiment_results.json").write_text("{")
    notes = Notes()
    trials = list(bargain.read(tmp_path / "old", notes))
    assert [t.slug.rpartition("/")[2] for t in trials] == [
        "weak_first_comp_0.5_run_1",
        "a_vs_b_config_unknown_runs2_comp0.95_run_1",
        "a_vs_b_config_unknown_runs2_comp0.95_run_2",
    ]
    assert all(t.state == "done" for t in trials)
    assert len(notes.warnings) == 1 and "torn" in notes.warnings[0]
