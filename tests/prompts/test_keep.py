"""Archive, restore, compare, clean: nothing is lost and nothing foreign is touched."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from peira import api
from peira.cli.main import run
from peira.errors import InputError, StoreError
from peira.families import load_family
from peira.store import archive
from peira.store.compare import compare, load_side
from peira.store.records import RunView
from peira.store.rundir import RunDir

RunStudy = Callable[..., api.RunReport]


def done(run_study: RunStudy, folder: Path, name: str, **changes: object) -> Path:
    target = folder / "experiments" / f"run_{name}"
    report = run_study(api.Options(run_dir=target), **changes)
    assert report.exit_code == 0
    return target


# -- archive ------------------------------------------------------------------------------------
def test_an_archive_is_sealed_verified_and_restored(run_study: RunStudy, folder: Path) -> None:
    source = done(run_study, folder, "a")
    target = folder / "experiments" / "t0_a"
    sealed = archive.seal(RunDir(source), target)
    assert (sealed.how, sealed.partial) == ("sealed", False)
    assert archive.verify(target) == []
    assert archive.seal(RunDir(source), target).how == "identical"
    archive.restore(target, folder / "experiments" / "run_back")
    again = run_study(api.Options(run_dir=folder / "experiments" / "run_back"))
    assert (again.ran, again.exit_code) == (0, 0)


def test_what_was_changed_after_sealing_is_told(run_study: RunStudy, folder: Path) -> None:
    target = folder / "experiments" / "x"
    archive.seal(RunDir(done(run_study, folder, "a")), target)
    (target / "results.csv").write_text("mended")
    (target / "summary.json").unlink()
    (target / "new.txt").write_text("?")
    assert sorted(archive.verify(target)) == [
        "added: new.txt", "changed: results.csv", "missing: summary.json",
    ]  # fmt: skip
    with pytest.raises(StoreError, match="does not match"):
        archive.restore(target, folder / "back")


def test_a_taken_name_is_refused_and_an_incomplete_run_too(
    run_study: RunStudy, folder: Path
) -> None:
    first, second = done(run_study, folder, "a"), done(run_study, folder, "b", top_p=0.5)
    target = folder / "experiments" / "x"
    archive.seal(RunDir(first), target)
    with pytest.raises(InputError, match="taken"):
        archive.seal(RunDir(second), target)
    half = folder / "experiments" / "run_half"
    run_study(api.Options(run_dir=half), condition="treatment")
    with pytest.raises(StoreError, match="not complete") as caught:
        archive.seal(RunDir(half), folder / "experiments" / "y")
    assert caught.value.exit_code == 3


def test_a_fuller_archive_replaces_a_partial_one_of_its_run(
    run_study: RunStudy, folder: Path
) -> None:
    source, target = folder / "experiments" / "run_h", folder / "experiments" / "h"
    run_study(api.Options(run_dir=source), condition="treatment")
    assert archive.seal(RunDir(source), target, allow_incomplete=True).partial
    run_study(api.Options(run_dir=source))
    assert archive.seal(RunDir(source), target).how == "replaced"
    assert archive.verify(target) == []
    with RunView(target) as view:
        assert view.tally.done == 1


def test_one_trial_may_be_archived_alone(run_study: RunStudy, folder: Path) -> None:
    source = done(run_study, folder, "two", trials=[{"id": "x"}, {"id": "y", "temps": [1.0]}])
    slugs = sorted(path.name for path in (source / "trials").iterdir())
    archive.seal(RunDir(source), folder / "one", trial=slugs[0])
    assert [path.name for path in (folder / "one" / "trials").iterdir()] == [slugs[0]]
    assert not (folder / "one" / slugs[1]).is_symlink()


def test_a_dry_run_writes_nothing(
    run_study: RunStudy, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done(run_study, folder, "a")
    assert run(["archive", "--dry-run", "--experiment-name", "x"]) == 0
    assert "would seal" in capsys.readouterr().out
    assert not (folder / "experiments" / "x").exists()


def test_a_named_archive_takes_the_newest_run_even_if_it_has_one(
    run_study: RunStudy, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done(run_study, folder, "a")
    assert run(["archive", "--experiment_name", "t0_a"]) == 0
    assert run(["archive"]) == 2
    assert "no finished run without an archive" in capsys.readouterr().err
    assert run(["archive", "--experiment_name", "t15_custom"]) == 0
    assert (folder / "experiments" / "t15_custom" / "archive_manifest.json").exists()


# -- compare ------------------------------------------------------------------------------------
def test_two_runs_are_paired_item_by_item(run_study: RunStudy, folder: Path) -> None:
    done(run_study, folder, "a")
    done(run_study, folder, "b", simulated={"effects": {"plain.treatment": {"accuracy": 3.0}}})
    experiments = folder / "experiments"
    sides = [load_side(name, experiments, load_family) for name in ("a", "run_b")]
    found = compare(*sides)
    assert [path for path, _, _ in found.config] == ["simulated.effects.plain.treatment.accuracy"]
    effects = {c.first.title: c for c in found.changes if c.first.kind == "effect"}
    change = effects["em · treatment · closed · effect"]
    assert change.change is not None and change.change.n == 40
    assert change.change.estimate == pytest.approx(
        change.second.mean - change.first.mean  # type: ignore[operator]
    )
    control = next(c for c in found.changes if c.first.title == "em · control · closed")
    assert control.change is not None and control.change.estimate == 0


def test_trials_and_results_without_a_database_are_compared_too(
    run_study: RunStudy, folder: Path
) -> None:
    source = done(run_study, folder, "a")
    (trial,) = (source / "trials").iterdir()
    old = folder / "experiments" / "t1_r20250821"
    shutil.copytree(trial, old)
    (old / "results" / "predictions.csv").unlink()
    ours = load_side(str(trial), folder / "experiments", load_family)
    theirs = load_side("t1_r20250821", folder / "experiments", load_family)
    found = compare(ours, theirs)
    em = next(c for c in found.changes if c.first.title == "em · treatment · closed")
    assert em.change is not None and em.change.estimate == 0 and em.change.n == 40
    (old / "results" / "per_item_scores.csv").unlink()
    summary = load_side("t1_r20250821", folder / "experiments", load_family)
    stated = {series.title: series.mean for series in summary.series}
    assert stated["em · 0.0 · closed · treatment · effect"] == pytest.approx(
        next(s.mean for s in ours.series if s.quantity == "em" and s.kind == "effect")
    )


def test_an_earlier_schema_of_significance_is_read(folder: Path) -> None:
    path = folder / "significance.json"
    path.write_bytes(orjson.dumps({"open_book": {"em": {"mean_diff": 0.25, "n": 12}}}))
    side = load_side(str(path), folder, load_family)
    assert [(s.title, s.mean, s.n) for s in side.series] == [("em · open_book · effect", 0.25, 12)]


def test_a_run_without_results_exits_3(
    run_study: RunStudy, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done(run_study, folder, "a")
    run_study(api.Options(run_dir=folder / "experiments" / "run_half"), condition="control")
    assert run(["compare", "a", "half"]) == 3
    (folder / "experiments" / "t0_r20250818" / "batch_inputs").mkdir(parents=True)
    assert run(["compare", "a", "t0_r20250818"]) == 3
    assert run(["compare", "a", "run_aa"]) == 2
    assert "did you mean `run_a`" in capsys.readouterr().err


# -- clean --------------------------------------------------------------------------------------
def workspace(folder: Path) -> None:
    for name in (
        "data/batch_inputs/x.jsonl", "results/old.csv", "results/run_manifest.json",
        "reports/r.md", "data/prepared/open_book.jsonl", "data/raw/dev.json",
        "experiments/run_a/run.db", "results/css/run.db",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_clean_moves_the_four_working_paths_to_the_trash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace(tmp_path)
    before = files(tmp_path)
    assert run(["clean", "--dry-run"]) == 0
    listed = {line.strip() for line in capsys.readouterr().out.splitlines()[:-1]}
    assert files(tmp_path) == before
    assert run(["clean"]) == 0
    left = {name for name in files(tmp_path) if not name.startswith(".peira-trash")}
    assert before - left == listed == {
        "data/batch_inputs/x.jsonl", "results/old.csv", "results/run_manifest.json",
        "reports/r.md",
    }  # fmt: skip
    assert {"/".join(Path(n).parts[2:]) for n in files(tmp_path) - left} == listed


def test_clean_prepared_adds_the_prepared_data_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace(tmp_path)
    assert run(["clean", "--clean_prepared"]) == 0
    left = {name for name in files(tmp_path) if not name.startswith(".peira-trash")}
    assert left == {"data/raw/dev.json", "experiments/run_a/run.db", "results/css/run.db"}
    assert run(["clean", "--purge"]) == 0  # stdin is no terminal: nothing deleted
    assert any(name.startswith(".peira-trash") for name in files(tmp_path))
    assert run(["clean", "--purge", "--yes"]) == 0
    assert files(tmp_path) == left


def test_clean_never_touches_tracked_files_or_what_lies_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "work"
    workspace(inside)
    monkeypatch.chdir(inside)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (inside / "reports" / "link").symlink_to(tmp_path / "outside")
    (inside / "config").mkdir()
    (inside / "config" / "eval_config.yaml").write_text(
        "paths: {results_dir: ../outside, reports_dir: reports}\n"
    )
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "reports/r.md"], check=True)
    assert run(["clean"]) == 0
    assert (tmp_path / "outside" / "precious").exists()
    assert (inside / "reports" / "r.md").exists()
    assert (inside / "reports" / "link").is_symlink()


# -- list ---------------------------------------------------------------------------------------
def test_archives_of_earlier_tools_are_listed_by_what_they_hold(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("t0_r20250818/batch_inputs/x.jsonl", "t1_r20250821/results/significance.json"):
        (folder / "experiments" / name).parent.mkdir(parents=True)
        (folder / "experiments" / name).write_text("{}")
    (folder / "experiments" / "notes").mkdir()
    assert run(["list", "--json"]) == 0
    found = {row["name"]: row["state"] for row in orjson.loads(capsys.readouterr().out)}
    assert found == {
        "t0_r20250818": "inputs only (earlier tool)", "t1_r20250821": "complete (earlier tool)",
    }  # fmt: skip
    assert run(["list", "-v"]) == 0
