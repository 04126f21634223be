"""Forks: what came before replays free, the rest is bought, and the batch's counts stay."""

from __future__ import annotations

import pytest

from peira import api
from peira.api.forks import fork
from peira.cli.fork import differences
from peira.engine.fork import Branch
from peira.errors import InputError
from peira.store.records import RunView
from peira.store.rundir import RunDir
from tests.scenarios.conftest import Bench, Scripted, polite

SOURCE = "var-001-run-001"


def paid_calls(bench: Bench, slug: str) -> tuple[int, int]:
    """(replies of a trial, those that cost something)."""
    with RunView(bench.run) as run:
        return run.query(
            "SELECT COUNT(*), SUM(r.cost > 0) FROM replies r JOIN trials t ON t.number=r.trial"
            " WHERE t.slug=? AND r.state='done'", (slug,),
        )[0]  # fmt: skip


def test_a_fork_at_turn_three_replays_ten_and_buys_five(bench: Bench) -> None:
    paid = "sim:actor,cost=0.01,worst=0.02"
    bench.scenario(actors={"a": {"llm_model": paid}, "b": {"llm_model": paid}},
                   world_state_model="sim:world,cost=0.01,worst=0.02")  # fmt: skip
    bench.go()
    forked = fork(RunDir(bench.run), SOURCE, Branch(3, samples=2))
    assert forked.done and len(forked.changed) == 2
    for record in forked.changed:
        assert paid_calls(bench, record.slug) == (15, 5)
        assert record.cost == 50_000
    assert forked.changed[0].slug == f"{SOURCE}-fork-001"
    again = fork(RunDir(bench.run), SOURCE, Branch(3, samples=2))
    assert [r.slug for r in again.changed] == [r.slug for r in forked.changed]
    assert paid_calls(bench, f"{SOURCE}-fork-001") == (15, 5)


def test_forks_stand_outside_the_batch(bench: Bench) -> None:
    bench.go(runs_per_variation=2)
    before = bench.batch().trials
    fork(RunDir(bench.run), SOURCE, Branch(2))
    assert bench.batch().trials == before
    bench.go(runs_per_variation=2)
    assert bench.json("batch-summary.json")["total_runs_planned"] == 2
    assert (bench.run / "runs" / f"{SOURCE}-fork-001" / "world-state-003.md").is_file()


def test_a_stated_action_takes_the_place_of_a_decision_in_its_turn_alone(bench: Bench) -> None:
    bench.play(polite)
    wire = Scripted(polite)
    branch = Branch(2, changes={"action.regulator": "refuses all"}, control=True)
    forked = fork(RunDir(bench.run), SOURCE, branch, api.Options(wires={"x": wire}))
    (record,), (control,) = forked.changed, forked.control
    turns = {turn["number"]: turn for turn in bench.turns(record.number)}
    stated = turns[2]["decisions"]["regulator"]
    assert (stated["action"], stated["rung"]) == ("refuses all", "stated")
    assert turns[3]["decisions"]["regulator"]["rung"] != "stated"
    unchanged = {turn["number"]: turn for turn in bench.turns(control.number)}
    assert unchanged[2]["decisions"]["regulator"]["action"] != "refuses all"
    with pytest.raises(InputError, match=r"action\.nobody: no such actor"):
        fork(RunDir(bench.run), SOURCE, Branch(2, changes={"action.nobody": "x"}))


def test_another_subject_takes_the_seat_from_the_turn_on(bench: Bench) -> None:
    bench.play(polite)
    other = Scripted(lambda r: {"action": "NEW"} if "decision" in r.label else polite(r))
    wires = {"x": Scripted(polite), "other": other}
    branch = Branch(2, seats={"regulator": "other"})
    (record,) = fork(RunDir(bench.run), SOURCE, branch, api.Options(wires=wires)).changed
    turns = bench.turns(record.number)
    assert turns[1]["decisions"]["regulator"]["action"] == "waits"
    assert [turns[t]["decisions"]["regulator"]["action"] for t in (2, 3)] == ["NEW", "NEW"]
    assert turns[2]["decisions"]["tech-company"]["action"] == "waits"
    assert all(r.label.startswith(("turn 2", "turn 3")) for r in other.requests)


def test_another_world_and_another_rule(bench: Bench) -> None:
    bench.play(polite)
    wire = Scripted(polite)
    branch = Branch(2, world="A FLOOD CAME.", changes={"actors.regulator.goals": "NEWGOAL"})
    (record,) = fork(RunDir(bench.run), SOURCE, branch, api.Options(wires={"x": wire})).changed
    assert record.done
    first = wire.requests[0]
    assert "A FLOOD CAME." in first.messages[1].content and "NEWGOAL" in first.messages[0].content


def test_controls_are_unchanged_and_the_difference_has_an_interval(bench: Bench) -> None:
    bench.scenario(actors={"a": {}, "b": {}}, world_state_model="sim:world,sd=0.2,block_sd=0")
    bench.go()
    branch = Branch(3, seats={"a": "sim:actor,lift=4"}, samples=4, control=True)
    forked = fork(RunDir(bench.run), SOURCE, branch)
    assert len(forked.control) == len(forked.changed) == 4
    line = next(d for d in differences(forked) if d["outcome"] != "turns")
    assert line["ci"][0] < 4.0 < line["ci"][1] and line["ci"][0] > 2


@pytest.mark.parametrize(("branch", "said"), [
    (Branch(9), "allowed: 1 to 3"), (Branch(2, seats={"regulatr": "m"}), "regulator"),
    (Branch(2, changes={"nonsense": 1}), "unknown"), (Branch(2, changes={"turns": 0}), "turns"),
])  # fmt: skip
def test_what_cannot_be_forked_is_refused(bench: Bench, branch: Branch, said: str) -> None:
    bench.go()
    with pytest.raises(InputError, match=said):
        fork(RunDir(bench.run), SOURCE, branch)


def test_an_unfinished_trial_cannot_be_forked(bench: Bench) -> None:
    bench.scenario(world_state_model="sim:world,status=402,at=2")
    bench.go()
    with pytest.raises(InputError, match="not done"):
        fork(RunDir(bench.run), SOURCE, Branch(1))


def test_each_sample_has_chances_of_its_own(bench: Bench) -> None:
    bench.go()
    forked = fork(RunDir(bench.run), SOURCE, Branch(2, samples=4))
    acted = []
    for record in forked.changed:
        turns = bench.turns(record.number)
        acted.append(tuple(turns[t]["decisions"]["regulator"]["action"] for t in (1, 2, 3)))
    assert len({actions[0] for actions in acted}) == 1
    assert len({actions[1:] for actions in acted}) > 1
