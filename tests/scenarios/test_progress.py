"""What a watcher of a run is told about each trial at work."""

import pytest

from peira import api
from tests.scenarios.conftest import Scripted, polite


class Noted(dict):
    """A progress board that remembers everything ever written on it."""

    def __init__(self):
        super().__init__()
        self.said = []

    def __setitem__(self, trial, words):
        self.said.append((trial, words))
        super().__setitem__(trial, words)


def test_a_trial_says_which_turn_and_phase_it_is_at_and_what_it_has_cost(bench):
    seen, sessions = [], []

    def answer(request):
        active = api.live(sessions[0])["active"]
        seen.append((active[0]["trial"], active[0]["at"], active[0]["usd"]))
        return polite(request)

    wire = Scripted(answer)
    bench.scenario(turns=1, world_state_model="x", actors={"a": {"llm_model": "x"}})
    bench.go({"wires": {"x": wire}, "on_start": sessions.append})
    assert seen == [
        ("var-001-run-001", "turn 1 of 1: decisions", 0.0),
        ("var-001-run-001", "turn 1 of 1: world", 0.0),
    ]
    assert api.live(sessions[0])["active"] == []


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_progress_reaches_the_driver_from_wherever_trials_run(bench, executor):
    board = Noted()

    def watch(session):
        session.ledger.progress = board
        session.bench.tell = board.__setitem__

    bench.scenario(turns=1)
    report = bench.go({"on_start": watch, "executor": executor}, runs_per_variation=2)
    assert report.exit_code == 0
    assert {trial for trial, _ in board.said} == {1, 2}
    assert (1, "turn 1 of 1: world") in board.said
    assert not board


def test_earlier_attempts_count_in_a_resumed_trials_cost(bench):
    sessions, seen = [], []
    costly = "sim:actor,lift=0,cost=0.25,worst=0.25"
    bench.scenario(turns=2, actors={"a": {"llm_model": costly}})
    assert bench.go(budget_limit=0.25).exit_code == 4

    def watch(session):
        sessions.append(session)
        session.bench.tell = lambda trial, words: seen.append(api.live(session)["active"][0]["usd"])

    assert bench.go({"on_start": watch}, budget_limit=1.0).exit_code == 0
    assert seen[0] == 0.25
    assert seen[-1] == 0.5
