"""Forks of a game: rounds before replay free and word for word, from there on something differs."""

from pathlib import Path

import pytest

from peira import api
from peira.api.forks import fork
from peira.cli.fork import differences
from peira.cli.main import run as peira
from peira.engine.fork import Branch
from peira.errors import InputError
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.study import Study

PAID = "sim:boulware,cost=0.01,worst=0.02"


@pytest.fixture
def run(tmp_path) -> RunDir:
    """A game of boulware negotiators that lasts some rounds."""
    study = Study(
        family="negotiation", name="forks", seeds=[5], save_individual_runs=False,
        fixed={"models": [PAID, PAID], "competition_level": 0.9, "max_rounds": 6},
    )  # fmt: skip
    assert api.run(study, api.Options(run_dir=tmp_path / "run")).exit_code == 0
    return RunDir(tmp_path / "run")


def source(run: RunDir):
    with RunView(run) as view:
        return next(view.done())


def statements(run: RunDir, number: int) -> list[tuple]:
    with RunView(run) as view:
        events = view.events(number)
    return [(e["round"], e["seat"], e["text"]) for e in events if e["kind"] == "statement"]


def test_another_subject_sits_down_at_a_round_and_the_rounds_before_cost_nothing(run):
    first = source(run)
    assert first.outcome["final_round"] >= 2
    branch = Branch(2, seats={"Agent 2": "sim:conceder"}, samples=2, control=True)
    forked = fork(run, first.slug, branch)
    assert forked.done
    before = [s for s in statements(run, first.number) if s[0] < 2]
    for record in (*forked.changed, *forked.control):
        assert [s for s in statements(run, record.number) if s[0] < 2] == before
    for record in forked.changed:
        assert record.subjects["Agent 2"]["name"] == "sim:conceder"
        assert record.cost < first.cost
    with RunView(run) as view:
        assert view.tally.planned == 1, "forks stand outside the counts"
    assert {d["outcome"] for d in differences(forked)} >= {"total utility", "final round", "deal"}
    again = fork(run, first.slug, branch)
    assert [r.slug for r in again.changed] == [r.slug for r in forked.changed]


def test_stated_words_take_the_place_of_a_statement(run):
    first = source(run)
    branch = Branch(1, changes={"say.Agent 1": "You may have it all."})
    (record,) = fork(run, first.slug, branch).changed
    said = statements(run, record.number)
    assert said[0] == (1, 0, "You may have it all.")
    assert statements(run, first.number)[0][2] != "You may have it all."


def test_controls_have_chances_of_their_own(run):
    first = source(run)
    forked = fork(run, first.slug, Branch(1, samples=3, control=True))
    with RunView(run) as view:
        told = [str(view.events(r.number)) for r in forked.control]
    assert len(set(told)) == 3


@pytest.mark.parametrize(
    ("branch", "words"),
    [
        (Branch(99), "allowed: 1 to"),
        (Branch(1, seats={"Agent 7": "sim:conceder"}), "allowed: Agent 1, Agent 2"),
        (Branch(1, changes={"mood": "good"}), "allowed: say.SEAT"),
        (Branch(1, world="x"), "no world"),
    ],
)
def test_what_cannot_be_forked_is_refused(run, branch, words):
    with pytest.raises(InputError, match=words):
        fork(run, source(run).slug, branch)


def test_the_command_shows_the_difference(run, capsys):
    words = ["fork", str(run.path), "--trial", source(run).slug, "--turn", "2", "--samples", "2"]
    assert peira([*words, "--seat", "Agent 2=sim:conceder", "--control"]) == 0
    out = capsys.readouterr().out
    assert "total utility: changed - control" in out
    assert not list(Path(run.path).glob("**/*.tmp"))
