"""A run as tidy frames and as files: the same rows, right types, in parts."""

import csv
import json
from pathlib import Path

import pandas
import pytest

import peira
from peira import api
from peira.cli.main import run as command
from peira.store import exports
from peira.store.frames import frame
from peira.study.study import Study

TOY = f"{Path(__file__).parents[1] / 'engine' / 'toy.py'}:Toy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "run"
    study = {
        "family": TOY, "name": "toy", "factors": {"level": [0, 0.5], "fail": ["", "refused"]},
        "fixed": {"model": "sim:dice,cost=0.01,worst=0.02"}, "replicates": 2,
    }  # fmt: skip
    api.run(Study.model_validate(study), api.Options(run_dir=path))
    return path


def test_trials_are_one_row_each_with_factors_outcomes_and_money(folder):
    with peira.load(folder) as run:
        trials = run.trials()
    assert len(trials) == 8
    done = trials[trials.state == "done"]
    assert done.cost_usd.sum() == pytest.approx(0.12)
    assert list(done.columns)[:2] == ["id", "slug"]
    assert set(trials.level) == {0, 0.5}


def test_types_are_those_of_the_values(folder):
    with peira.load(folder) as run:
        trials, replies = run.trials(), run.replies()
    assert str(trials.total.dtype) == "Int64", "failed trials have no total: no float, no text"
    assert trials.total.isna().sum() == 4
    assert str(trials.draw.dtype) == "float64"
    assert str(trials.seed.dtype) == "int64"
    assert str(trials.simulated.dtype) == "bool"
    assert str(replies.tokens_in.dtype) == "int64"
    assert pandas.api.types.is_string_dtype(trials.cause)


def test_events_and_replies_are_in_order(folder):
    with peira.load(folder) as run:
        events, replies = run.events(), run.replies()
    assert len(replies) == 12
    assert set(replies.text) <= set("123456")
    first = events[events.slug == events.slug[0]]
    assert list(first.n) == list(range(len(first)))
    assert set(events.kind) >= {"call", "sum"}


def test_parts_make_the_same_frame_as_a_whole(monkeypatch):
    rows = [{"a": n if n % 3 else None, "b": n > 5, "c": "x" if n == 7 else None} for n in range(9)]
    whole = frame(iter(rows))
    monkeypatch.setattr("peira.store.frames.batched", lambda r: exports.batched(r, 2))
    pandas.testing.assert_frame_equal(frame(iter(rows)), whole)
    assert (str(whole.a.dtype), str(whole.b.dtype)) == ("Int64", "bool")


def test_an_empty_run_gives_an_empty_frame():
    assert frame(iter([])).empty


@pytest.mark.parametrize("what", ["trials", "events", "replies"])
def test_files_hold_the_same_rows(folder, tmp_path, what):
    for suffix in ("csv", "jsonl"):
        target = tmp_path / f"{what}.{suffix}"
        assert command(["export", str(folder), "--what", what, "-o", str(target)]) == 0
    with (tmp_path / f"{what}.csv").open() as handle:
        table = list(csv.DictReader(handle))
    lines = [json.loads(line) for line in (tmp_path / f"{what}.jsonl").read_text().splitlines()]
    assert len(table) == len(lines) > 0
    assert [row["slug"] for row in table] == [row["slug"] for row in lines]


def test_parquet_keeps_types(folder, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install 'peira[parquet]')")
    target = tmp_path / "trials.parquet"
    assert command(["export", str(folder), "-o", str(target)]) == 0
    table = pandas.read_parquet(target)
    assert len(table) == 8
    assert table.total.dropna().between(3, 18).all()
    assert str(table.seed.dtype) == "int64"


def test_bad_requests_are_refused_and_leave_nothing(folder, tmp_path, capsys):
    assert command(["export", str(folder), "--what", "thoughts"]) == 2
    assert command(["export", str(folder), "-o", str(tmp_path / "x.xlsx")]) == 2
    assert ".parquet" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command(["export", str(folder), "-o", str(tmp_path / "file" / "x.csv")]) == 3
    assert not list(tmp_path.glob(".*.tmp"))
