"""A run against its own ledger gives its outcomes again, offline; a change since then is found."""

import json
import sqlite3
from pathlib import Path

import orjson
import pytest

from peira import api
from peira.cli.main import run as peira
from peira.study.study import Study
from peira.subjects.scripted import ScriptedWire
from peira.testing import FaultServer

CHAT = f"{Path(__file__).parents[1] / 'subjects' / 'chat.py'}:Chat"
TOY = f"{Path(__file__).parents[1] / 'engine' / 'toy.py'}:Toy"


def study(**changes) -> Study:
    base = {"family": TOY, "name": "toy", "factors": {"level": [0, 0.5]}, "replicates": 2}
    return Study.model_validate(base | changes)


@pytest.fixture
def folder(tmp_path) -> Path:
    api.run(study(), api.Options(run_dir=tmp_path / "run"))
    return tmp_path / "run"


def test_a_simulated_run_replays_as_recorded(folder, capsys):
    before = (folder / "run.db").read_bytes()
    assert peira(["replay", str(folder)]) == 0
    assert "4 trials replayed as recorded, 0 differ" in capsys.readouterr().out
    assert (folder / "run.db").read_bytes() == before


def test_a_real_model_replays_without_its_server_or_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STUB_KEY", "sk-stub-0123456789abcdef")
    with FaultServer().running() as server:
        options = {"base_url": f"{server.url}/v1", "model": "m-1", "api_key_env": "STUB_KEY"}
        served = Study(
            family=CHAT, fixed={"model": "served"}, factors={"topic": ["rain", "wind"]},
            subjects={"served": options | {"price": "free"}},
        )  # fmt: skip
        assert api.run(served, api.Options(run_dir=tmp_path / "run")).exit_code == 0
        asked = len(server.log)
    monkeypatch.delenv("STUB_KEY")
    assert peira(["replay", str(tmp_path / "run")]) == 0
    assert "2 trials replayed as recorded" in capsys.readouterr().out
    assert len(server.log) == asked


def test_wires_that_were_given_are_not_needed(tmp_path):
    wire = ScriptedWire(lambda request: str(request.seed % 6 + 1), free=False)
    options = api.Options(run_dir=tmp_path / "run", wires={"mine": wire})
    assert api.run(study(fixed={"model": "mine"}), options).exit_code == 0
    assert peira(["replay", str(tmp_path / "run")]) == 0
    assert wire.calls == 12


def test_a_changed_outcome_is_shown_by_path_with_exit_3(folder, capsys):
    with sqlite3.connect(folder / "run.db") as db:
        (data,) = db.execute("SELECT outcome FROM trials WHERE position=1").fetchone()
        outcome = orjson.loads(data) | {"total": 99}
        db.execute("UPDATE trials SET outcome=? WHERE position=1", (orjson.dumps(outcome),))
    assert peira(["replay", str(folder), "--json"]) == 3
    (difference,) = json.loads(capsys.readouterr().out)["differences"]
    assert (difference["path"], difference["recorded"]) == ("outcome.total", 99)


def test_a_changed_prompt_is_found(folder, capsys):
    with sqlite3.connect(folder / "run.db") as db:
        db.execute("UPDATE replies SET hash=x'00' WHERE trial=1 AND key LIKE '%|0'")
    assert peira(["replay", str(folder)]) == 3
    assert "replay diverged" in capsys.readouterr().out


def test_a_missing_reply_is_found(folder, capsys):
    with sqlite3.connect(folder / "run.db") as db:
        db.execute("DELETE FROM replies WHERE trial=1")
    assert peira(["replay", str(folder), "0"]) == 3
    assert "holds no reply" in capsys.readouterr().out


def test_failures_that_follow_from_replies_replay_and_others_are_skipped(tmp_path, capsys):
    failing = study(fixed={"fail": "refused"})
    assert api.run(failing, api.Options(run_dir=tmp_path / "run")).exit_code == 3
    assert peira(["replay", str(tmp_path / "run")]) == 0
    assert api.run(study(fixed={"fail": "provider"}), api.Options(run_dir=tmp_path / "p")).exit_code
    assert peira(["replay", str(tmp_path / "p")]) == 0
    assert "4 not replayed" in capsys.readouterr().out


def test_no_run_is_refused(tmp_path):
    assert peira(["replay", str(tmp_path)]) == 2
