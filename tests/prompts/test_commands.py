"""Every command line of the evaluation guide, stdin closed, and what bad input gets (§8, §12.11)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from peira.cli.main import run
from peira.store.records import RunView

REPOSITORY = Path(__file__).parents[2]
Call = Callable[..., int]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh checkout: config, scripts and the package, nothing else."""
    for name in ("config", "scripts"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    (tmp_path / "src").symlink_to(REPOSITORY / "src")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def guide(line: str) -> int:
    """A line of the guide, in this process: script and module forms are one command."""
    words = line.split()
    name = words[1] if words[1] != "-m" else words[2]
    commands = {
        "run_all": "evaluate", "list_runs": "list", "compare_runs": "compare",
        "archive_run": "archive", "clean_workspace": "clean",
    }  # fmt: skip
    rest = words[3:] if words[1] == "-m" else words[2:]
    return run([commands[Path(name.replace("scripts.", "")).stem], *rest])


def test_the_guides_session_from_cleaning_to_comparing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guide("python scripts/clean_workspace.py --dry_run") == 0
    assert guide("python scripts/clean_workspace.py") == 0
    config = "--config config/eval_config.yaml --offline"
    assert guide(f"python -m scripts.run_all {config} --run_id r20250818 --archive") == 0
    (slug,) = (checkout / "experiments/run_r20250818/trials").iterdir()
    assert slug.name == "gpt-oss-120b-operational_only-tp1-tk50-mx1024-1024"
    assert guide(
        f"python -m scripts.run_all {config} --temps 1.0 --run_id r20250821 --condition=treatment"
        " --parts_per_dataset=24 --max_concurrent_jobs=4 --resume --archive"
    ) == 0  # fmt: skip
    assert orjson.loads(Path("experiments/t1_r20250821/archive_manifest.json").read_bytes())[
        "partial"
    ]
    assert guide(
        f"python scripts/run_all.py {config} --temps 1.0 --run_id r20250821 --archive"
    ) == 0  # fmt: skip
    capsys.readouterr()
    assert guide("python scripts/list_runs.py") == 0
    assert guide("python scripts/list_runs.py -v") == 0
    shown = capsys.readouterr().out
    assert "t0_r20250818" in shown and "archived" in shown
    assert guide("python scripts/compare_runs.py --run1 t0_r20250818 --run2 t1_r20250821") == 0
    compared = capsys.readouterr().out
    assert "temperature: 0.0 in the first is matched with 1.0 in the second" in compared
    assert "em · control · closed" in compared and "effect" in compared
    assert run(["evaluate", "--offline", "--run-id", "r3", "--limit-items", "4"]) == 0
    assert guide("python scripts/archive_run.py --experiment_name t15_custom_experiment") == 0
    assert (checkout / "experiments/t15_custom_experiment/run.db").is_file()


@pytest.mark.parametrize(
    "form", [["scripts/list_runs.py"], ["-m", "scripts.list_runs"]], ids=["script", "module"]
)
def test_both_forms_work_without_pythonpath(checkout: Path, form: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *form, "--verbose"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no runs below experiments" in done.stdout


def test_nothing_but_an_empty_folder_gives_a_report_with_a_forest_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", "--simulate"]) == 0
    (folder,) = (tmp_path / "experiments").iterdir()
    assert (folder / "figures" / "forest.png").stat().st_size > 5000
    report = (folder / "report.md").read_text()
    assert report == (folder / "aggregate_report.md").read_text()
    assert "SIMULATED SUBJECTS" in report and "forest.png" in report
    assert "| planted |" in report and "The planted truth lies inside" in report
    assert sorted(p.name for p in tmp_path.iterdir()) == ["experiments"]
    assert "treatment raises exact match" in capsys.readouterr().out


def test_planning_writes_nothing_and_counts_shared_rows_once(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(checkout.rglob("*"))
    sets = "operational_only,philosophy_only,structured"
    assert run(["evaluate", "--plan-only", "--offline", "--prompt-sets", sets, "--json"]) == 0
    plan = orjson.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["requests"], plan["paid"]) == (828, 552, 0)
    assert len(plan["trials"]) == 3 and len(plan["arms"]) == 6
    assert sorted(checkout.rglob("*")) == before
    assert run(["evaluate", "--dry-run"]) == 0
    assert "$" in capsys.readouterr().out


def test_planning_knows_what_is_already_paid_for(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--offline", "--run-id", "p", "--limit-items", "3"]
    assert run([*arguments, "--condition", "control", "--skip-report", "--skip-stats"]) == 0
    capsys.readouterr()
    assert run([*arguments, "--dry-run", "--json"]) == 0
    plan = orjson.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["paid"]) == (12, 6)


def test_skipping_a_step_writes_fewer_files_and_changes_no_result(checkout: Path) -> None:
    arguments = ["evaluate", "--offline", "--run-id", "s", "--limit-items", "4"]
    assert run([*arguments, "--skip-stats", "--skip-report", "--skip-costs"]) == 0
    (results,) = (checkout / "experiments/run_s/trials").glob("*/results")
    assert {p.name for p in results.iterdir()} == {
        "predictions.csv", "row_scores.csv", "per_item_scores.csv", "flips.csv",
    }  # fmt: skip
    scores = (results / "row_scores.csv").read_bytes()
    assert run([*arguments, "--only-step", "stats"]) == 0
    assert (results / "significance.json").is_file()
    assert run([*arguments, "--from-step", "costs"]) == 0
    assert (results / "costs.json").is_file() and (results.parent / "reports/report.md").is_file()
    assert (results / "row_scores.csv").read_bytes() == scores


def test_building_makes_no_call(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--offline", "--skip-batch", "--run-id", "b"]) == 0
    assert "276 rows planned" in capsys.readouterr().out
    assert not Path("experiments/run_b/run.db").exists()
    assert run(["evaluate", "--skip-batch", "--mode", "batch", "--run-id", "b"]) == 0
    (path,) = Path("experiments/run_b/batch_inputs").iterdir()
    assert len(path.read_bytes().splitlines()) == 276


def test_resume_says_which_run_it_goes_on_with(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["evaluate", "--offline", "--limit-items", "3", "--resume", "--skip-report"]
    assert run(small) == 0
    assert "starting" in capsys.readouterr().err
    assert run(small) == 0
    assert "going on with experiments/run_r" in capsys.readouterr().err
    (folder,) = Path("experiments").iterdir()
    with RunView(folder) as view:
        assert view.query("SELECT MAX(attempts) FROM trials") == [(1,)]


def test_skip_prepare_needs_valid_prepared_data(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = checkout / "config/eval_config.yaml"
    config.write_text(config.read_text().replace("source: sample", "source: prepared"))
    assert run(["evaluate", "--offline", "--skip-prepare"]) == 2
    assert "without --skip_prepare" in capsys.readouterr().err
    assert not Path("experiments").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "--config", "nope.yaml"], "no such file"),
        (
            ["evaluate", "--offline", "--condition", "tretment"],
            "--condition: 'tretment'\n  allowed: both, control, treatment\n"
            "  remedy: did you mean `treatment`",
        ),
        (["evaluate", "--offline", "--prompt-sets", "structure"], "--prompt-sets: 'structure'"),
        (["evaluate", "--offline", "--only-step", "scoer"], "did you mean `score`"),
        (["evaluate", "--offline", "--run-id", "a/../b c"], "no run here"),
        (["evaluate", "--offline", "--run-id", "bad name"], "1 to 64"),
        (["evaluate", "--offline", "--temps", "warm"], "numbers from 0 to 2"),
        (["evaluate", "--offline", "--mode", "later"], "live, batch"),
        (["evaluate", "--offline", "--only-step", "stats", "--run-id", "none"], "no run here"),
        (["compare", "one"], "two runs are needed"),
        (["compare", "one", "two"], "no such run"),
        (["archive", "nothing"], "no run here"),
        (["archive"], "no finished run"),
        (["archive", "--verify", "nothing"], "no run here"),
    ],
)
def test_bad_input_is_told_and_exits_2(
    checkout: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    if "a/../b c" in arguments:
        arguments = [*arguments, "--only-step", "report"]
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
