"""What a watcher of a run is told about each trial at work."""

from peira import api
from peira.engine.executors.worker import Work
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


def test_what_trials_say_is_forgotten_when_they_end(bench):
    board = Noted()

    def watch(session):
        session.ledger.progress = board
        session.bench.tell = board.__setitem__

    bench.scenario(turns=1)
    assert bench.go({"on_start": watch}, runs_per_variation=2).exit_code == 0
    assert {trial for trial, _ in board.said} == {1, 2}
    assert (1, "turn 1 of 1: world") in board.said
    assert not board


async def test_a_worker_tells_the_newest_word_of_each_trial():
    work = Work()
    for trial, words in ((1, "turn 1"), (2, "turn 1"), (1, "turn 2")):
        work._note(trial, words)
    work._tell()
    assert work.channel._outgoing == [("progress", {1: "turn 2", 2: "turn 1"})]


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


def test_trials_that_are_run_again_are_counted_once(bench):
    costly = "sim:actor,lift=0,cost=0.25,worst=0.25"
    bench.scenario(turns=2, actors={"a": {"llm_model": costly}})
    bench.go(cost_per_run_limit=0.25, runs_per_variation=3)
    seen = []

    def watch(session):
        session.driver.listeners.append(lambda result: seen.append(api.live(session)))

    assert bench.go({"on_start": watch}, runs_per_variation=3, max_parallel=1).exit_code == 0
    assert [(each["planned"], each["done"], each["halted"]) for each in seen] == [
        (3, 1, 2), (3, 2, 1), (3, 3, 0),
    ]  # fmt: skip
