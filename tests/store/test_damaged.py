"""A damaged or foreign run.db is refused in words, never with a traceback."""

import os
import sqlite3
from pathlib import Path

import pytest

from peira import api
from peira.errors import StoreError
from peira.store.records import RunView
from peira.study.study import Study


def test_a_run_db_with_bytes_replaced_is_read_or_refused_in_words(tmp_path):
    toy = Path(__file__).parents[1] / "engine" / "toy.py"
    api.run(Study(family=f"{toy}:Toy", name="toy"), api.Options(run_dir=tmp_path / "run"))
    with sqlite3.connect(tmp_path / "run/run.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (tmp_path / "run/run.db").read_bytes()
    refused = 0
    for place in range(100, len(whole), 1511):
        (tmp_path / "run/run.db").write_bytes(whole[:place] + b"\xff\x00\xc3{" + whole[place + 4 :])
        try:
            with RunView(tmp_path / "run") as run:
                assert run.tally.planned >= 0
                assert [run.events(record.number) for record in run.records()]
        except StoreError as error:
            assert "run.db" in str(error)
            refused += 1
    assert refused


def test_a_run_of_an_older_schema_is_refused_with_the_remedy(tmp_path):
    api.run(
        Study(family="negotiation", name="old", fixed={"models": ["sim:skill=0.1"] * 2}),
        api.Options(run_dir=tmp_path),
    )
    with sqlite3.connect(tmp_path / "run.db") as db:
        db.execute("PRAGMA user_version=0")
    with pytest.raises(StoreError, match="peira run with its study"):
        RunView(tmp_path)


def test_a_run_in_a_directory_nobody_can_write_can_be_looked_at(tmp_path, monkeypatch):
    toy = Path(__file__).parents[1] / "engine" / "toy.py"
    api.run(Study(family=f"{toy}:Toy", name="toy"), api.Options(run_dir=tmp_path / "run"))
    with sqlite3.connect(tmp_path / "run/run.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for rest in ("run.db-wal", "run.db-shm"):
        (tmp_path / "run" / rest).unlink(missing_ok=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with RunView(tmp_path / "run") as run:
        assert run.tally.done == 1
    assert not (tmp_path / "run/run.db-shm").exists()
