"""An imported run is a run: every reader works on it, and nothing unfit gets in."""

import contextlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from peira import api
from peira.cli.main import run as peira
from peira.errors import InputError
from peira.importers import importer
from peira.importers.base import ImportedTrial, Notes, write_run
from peira.store.frames import LoadedRun
from peira.store.records import RunView
from tests.strategies import RECORDED, recordings

TOY = f"{Path(__file__).parents[1] / 'engine' / 'toy.py'}:Toy"


def trial(level: float, seed: int, **changes) -> ImportedTrial:
    base = {
        "slug": f"level_{level}/run_{seed}", "settings": {"model": "sim:dice", "level": level},
        "seed": seed, "factors": {"level": level}, "outcome": {"total": 7, "draw": 0.5},
        "events": [{"kind": "said", "text": "hello"}], "artifacts": {"note.txt": "as it was"},
        "subjects": {"roller": {"name": "gpt-x", "served_model": "gpt-x-1", "simulated": False}},
        "usage": {"roller": {"calls": 3, "tokens_in": 10, "tokens_out": 5}}, "cost": 1500,
    }  # fmt: skip
    return ImportedTrial(**base | changes)


@pytest.fixture
def imported(tmp_path):
    trials = [trial(level, seed) for level in (0.0, 0.5) for seed in (1, 2)]
    failed = trial(0.5, 3, outcome=None, state="failed", cause="provider", message="gone")
    return write_run(tmp_path / "run", TOY, [*trials, failed], "a tool")


def test_records_transcripts_artifacts_and_costs_are_there(imported):
    with RunView(imported) as run:
        assert (run.tally.done, run.tally.failed) == (4, 1)
        record = next(run.records())
        assert (record.cell, record.seed, record.replicate) == ({"level": 0.0}, 1, 1)
        assert record.cost == 1500
        assert run.events(record.number) == [{"n": 0, "kind": "said", "text": "hello"}]
        assert run.artifacts(record.number) == {"note.txt": b"as it was"}
        assert run.study.fixed["model"] == "sim:dice"
        assert run.study.cells == [{"level": 0.0}, {"level": 0.5}]
    assert (imported.path / "trials/level_0.0/run_1/note.txt").read_text() == "as it was"
    assert json.loads((imported.path / "summary.json").read_text())["spent_usd"] == 0.0075


def test_it_analyses_and_loads_like_a_run(imported):
    assert api.analyse(imported).tables
    with LoadedRun(imported.path) as run:
        assert list(run.trials()["total"].dropna()) == [7, 7, 7, 7]


def test_status_and_show_read_it(imported, capsys):
    assert peira(["status", str(imported.path)]) == 3
    assert "failed 1" in capsys.readouterr().out
    assert peira(["show", str(imported.path), "level_0.5/run_2"]) == 0


def test_it_is_never_driven_on_nor_overwritten(imported):
    with pytest.raises(InputError, match="imported from a tool"):
        api.run(imported.path / "study.yaml", api.Options(run_dir=imported.path))
    with pytest.raises(InputError, match="holds a run already"):
        write_run(imported.path, TOY, [trial(0.0, 1)], "again")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": {"total": "many"}}, "outcome: total: many"),
        ({"outcome": None}, "done without an outcome"),
        ({"settings": {"colour": "red"}}, "settings: colour"),
        ({"state": "perfect"}, "allowed: done"),
    ],
)
def test_what_does_not_fit_the_family_is_refused_by_name(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        write_run(tmp_path / "run", TOY, [trial(0.0, 1, **changes)], "a tool")
    assert not (tmp_path / "run").exists()


def test_nothing_and_twice_the_same_are_refused(tmp_path):
    with pytest.raises(InputError, match="no trial was found"):
        write_run(tmp_path / "run", TOY, [], "a tool")
    with pytest.raises(InputError, match="twice"):
        write_run(tmp_path / "run", TOY, [trial(0.0, 1), trial(0.0, 1)], "a tool")


def test_an_unknown_kind_or_folder_is_refused(tmp_path, capsys):
    assert peira(["import", "bargin", str(tmp_path)]) == 2
    assert "bargain" in capsys.readouterr().err


def read(folder: Path, kind: str, files: dict[str, str]) -> tuple[list[ImportedTrial], list[str]]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    notes = Notes()
    return list(importer(kind).read(folder, notes)), notes.warnings


@pytest.mark.parametrize("kind", sorted(set(RECORDED) - {"iclr-induction"}))
def test_a_sound_recording_is_read_whole(tmp_path, kind):
    files = {n: v if isinstance(v, str) else json.dumps(v) for n, v in RECORDED[kind].items()}
    trials, warnings = read(tmp_path, kind, files)
    assert len(trials) >= 1 and warnings == []


@settings(max_examples=40, deadline=None)
@given(recordings())
def test_any_recording_is_read_left_out_or_refused_in_words(drawn):
    with TemporaryDirectory() as folder, contextlib.suppress(InputError):
        trials, warnings = read(Path(folder), *drawn)
        assert trials or warnings
