"""Trials as they are named: by slug first, then by place, then by the beginning of an identity."""

import sqlite3

import pytest

from peira import api
from peira.errors import InputError
from peira.store.records import RunView
from peira.study.study import Study
from tests.engine.toy import Toy

TOY = f"{Toy.run.__code__.co_filename}:Toy"


def test_a_name_that_could_mean_two_trials_means_the_plainest_or_none(tmp_path):
    study = Study(family=TOY, factors={"level": [0, 1, 2, 3]}, save_individual_runs=False)
    assert api.run(study, api.Options(run_dir=tmp_path / "run")).exit_code == 0
    ids = ["abcdef" + "0" * 26, "abcdef" + "1" * 26, "123456" + "2" * 26, "fedcba" + "3" * 26]
    with sqlite3.connect(tmp_path / "run" / "run.db") as connection:
        for place, identity in enumerate(ids):
            connection.execute("UPDATE trials SET id=? WHERE position=?", (identity, place))
        connection.execute("UPDATE trials SET slug='2' WHERE position=3")
        connection.execute("UPDATE trials SET slug='a_b%' WHERE position=0")
    connection.close()
    with RunView(tmp_path / "run") as run:
        named = {
            name: run.record(name).position for name in ("2", "1", "123456", "fedcba3", "a_b%")
        }
        assert named == {"2": 3, "1": 1, "123456": 2, "fedcba3": 3, "a_b%": 0}
        with pytest.raises(InputError, match="several trials"):
            run.record("abcdef")
        for nothing in ("______", "%", "fed", "01", "9", ""):
            with pytest.raises(InputError, match="no such trial"):
                run.record(nothing)
