"""One trial: how many calls, what a bad answer does, when it ends, what it leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from peira.families.scenarios.events import fired
from peira.families.scenarios.settings import Event
from peira.study.seeds import derive
from peira.subjects.subject import Reply, Request
from tests.scenarios.conftest import LEVEL, QUALITY, Bench, polite


def test_three_turns_make_fifteen_calls(bench: Bench) -> None:
    assert bench.go().exit_code == 0
    assert bench.calls() == 15


def test_three_quality_checks_make_thirty(bench: Bench) -> None:
    bench.scenario(quality=QUALITY)
    bench.go()
    assert bench.calls() == 30


def test_one_offer_a_turn_makes_eighteen(bench: Bench) -> None:
    bench.scenario(actors={"a": {"llm_model": "sim:actor,talk=1"}, "b": {}})
    bench.go()
    assert bench.calls() == 18
    channel = bench.turns()[1]["channels"][0]
    assert channel["pair"] == ["a", "b"]
    assert [said["author"] for said in channel["said"]] == ["a", "b"]


def test_sixty_turns_make_356_calls_and_prompts_stay_short(bench: Bench) -> None:
    bench.scenario(turns=60)
    bench.go()
    assert bench.calls() == 356
    sizes = {
        e["label"]: sum(len(m["content"]) for m in e["messages"])
        for e in bench.events() if e["kind"] == "call" and e["seat"] == "regulator"
    }  # fmt: skip
    assert sizes["turn 60/decision"] <= 1.2 * sizes["turn 10/decision"]


def test_further_exchanges_and_crossing_offers(bench: Bench) -> None:
    def answer(request: Request) -> dict[str, Any]:
        if "bilateral offer" in request.label and request.label.startswith("turn 1"):
            me = "Regulator" in request.messages[0].content.split("You play ")[1][:12]
            return {"target": "tech-company" if me else "Regulator", "message": "hello"}
        return polite(request)

    bench.play(answer, communication={"bilateral": True, "exchanges": 2}, turns=1)
    channel = bench.turns()[1]["channels"][0]
    assert channel["crossing"] is True
    authors = [said["author"] for said in channel["said"]]
    assert authors == ["regulator", "tech-company", "regulator", "tech-company"]


def test_coalitions_need_unanimity_and_posts_read_earlier_posts(bench: Bench) -> None:
    def answer(request: Request) -> dict[str, Any]:
        system, label = request.messages[0].content, request.label
        if "proposal" in label and "You play A." in system:
            return {"partners": ["b", "C"], "purpose": "a pact", "message": "join"}
        if "proposal" in label and "You play B." in system:
            return {"partners": ["a", "c"] if "turn 1" in label else ["c", "a"], "purpose": "too"}
        if "response" in label:
            return {"accept": "turn 1" in label, "message": "my answer"}
        if "post" in label:
            return {"message": f"post {system.split('You play ')[1][0]}"}
        return polite(request)

    actors = {s: {"name": s.upper()} for s in ("a", "b", "c")}
    wire = bench.play(answer, actors=actors, turns=2)
    first, second = (bench.turns()[n]["coalitions"] for n in (1, 2))
    assert len(first) == 1 and first[0]["proposers"] == ["a", "b"]  # same members: one coalition
    assert first[0]["formed"] and [p["text"] for p in first[0]["posts"]] == [
        "post A", "post B", "post C"]  # fmt: skip
    assert not second[0]["formed"] and second[0]["posts"] == []
    posts = [r for r in wire.requests if "coalition post" in r.label]
    assert "post A" in posts[1].messages[1].content
    assert "post B" not in posts[1].messages[1].content
    folder = bench.run / "runs" / "var-001-run-001"
    assert (folder / "coalition-a-b-c-001.md").is_file()


# -- bad answers ---
def failing(word: str, say: Any, times: int = 99) -> Any:
    """Answers politely but for calls whose label holds `word`."""
    count = {"n": 0}

    def answer(request: Request) -> Any:
        if word in request.label and count["n"] < times:
            count["n"] += 1
            return say
        return polite(request)

    return answer


def test_an_unreadable_answer_is_asked_for_once_more(bench: Bench) -> None:
    wire = bench.play(failing("turn 2/decision", "gibberish", 1))
    assert bench.report.exit_code == 0
    asked = [r for r in wire.requests if r.label == "turn 2/decision"]
    assert len(asked) == 3
    again = next(r for r in asked if r.n == 1)
    assert [m.role for m in again.messages[-2:]] == ["assistant", "user"]
    outcome = bench.batch().trials[0]
    rungs = outcome.rungs["regulator"]["decision"] | outcome.rungs["tech-company"]["decision"]
    assert rungs["re-asked"] == 1 and outcome.defaults == 0


def test_an_actor_that_cannot_be_read_takes_no_action(bench: Bench) -> None:
    bench.play(failing("turn 2/decision", "gibberish"))
    decisions = bench.turns()[2]["decisions"]
    assert {d["action"] for d in decisions.values()} == {"takes no action"}
    assert {d["marked"] for d in decisions.values()} == {"unreadable"}
    assert bench.batch().trials[0].defaults == 2


@pytest.mark.parametrize(("finish", "cause"), [("refusal", "refused"), ("length", "truncated")])
def test_refused_and_truncated_decisions_fail_the_trial(
    bench: Bench, finish: Any, cause: str
) -> None:
    bench.play(failing("turn 2/decision", Reply('{"action": "half"}', finish=finish)))
    trial = bench.batch().trials[0]
    assert (trial.state, trial.cause, trial.success) == ("failed", cause, None)
    assert bench.report.exit_code == 3


def test_a_truncated_reply_is_asked_for_at_twice_the_tokens(bench: Bench) -> None:
    wire = bench.play(failing("turn 1/world", Reply('{"narr', finish="length"), 1))
    asked = [r.sampling.max_tokens for r in wire.requests if r.label == "turn 1/world"]
    assert asked == [2000, 4000] and bench.report.exit_code == 0


def test_a_refusal_may_be_an_abstention(bench: Bench) -> None:
    refusal = Reply("", finish="refusal")
    bench.play(failing("turn 1/decision", refusal), on_refusal="abstain")
    assert bench.report.exit_code == 0
    assert bench.turns()[1]["decisions"]["regulator"]["marked"] == "refused"


def test_an_unreadable_world_fails_the_trial(bench: Bench) -> None:
    bench.play(failing("turn 2/world", "the world ends"))
    trial = bench.batch().trials[0]
    assert (trial.state, trial.cause) == ("failed", "unreadable")
    assert bench.json("batch-summary.json")["failed_runs"][0]["cause"] == "unreadable"


def test_retry_failed_buys_only_the_failing_call(bench: Bench) -> None:
    bench.play(failing("turn 2/world", "the world ends"))
    before = bench.calls()
    from tests.scenarios.conftest import Scripted

    again = Scripted(polite)
    report = bench.go({"wires": {"x": again}, "retry_failed": True})
    assert report.exit_code == 0
    assert again.requests[0].label == "turn 2/world"
    assert len(again.requests) == 6  # the failing call, then turn 3
    assert bench.calls() == before - 1 + 6
    assert bench.json("batch-summary.json")["failed_runs"] == []


def test_quality_findings_may_halt_and_unknown_is_never_a_pass(bench: Bench) -> None:
    bad = {"verdict": "no", "issues": ["out of character"], "severity": "high"}
    rules = QUALITY | {"validation_model": "x", "severity_thresholds": {"high": "halt"}}
    bench.play(failing("turn 2/quality actor", bad), quality=rules)
    trial = bench.batch().trials[0]
    assert (trial.state, trial.cause) == ("failed", "quality")
    assert "out of character" in (trial.message or "")


def test_unreadable_verdicts_are_unknown(bench: Bench) -> None:
    rules = QUALITY | {"validation_model": "x"}
    bench.play(failing("quality world", "hm"), quality=rules)
    assert bench.batch().trials[0].quality == {"passed": 12, "unknown": 3}
    summary = (bench.run / "runs/var-001-run-001/validation-summary.md").read_text()
    assert "| world_state_coherence | 0 | 0 | 3 |" in summary


# -- ends and events ---
def test_an_end_condition_ends_the_trial_as_done(bench: Bench) -> None:
    ends = [{"name": "calm", "when": {"cooperation_level": "== 5"}, "for_turns": 2}]
    bench.play(polite, end_conditions=ends, turns=9)
    trial = bench.batch().trials[0]
    assert (trial.state, trial.turns, trial.ended_by) == ("done", 2, "calm")


def event(**fields: Any) -> Event:
    return Event.model_validate({"name": "e", "description": "d"} | fields)


def schedule(which: Event, turns: int, seed: int = 7) -> list[int]:
    past: list[str] = []
    found = []
    for turn in range(1, turns + 1):
        names = fired([which], turn, turns, past, {}, lambda p: derive(seed, p))
        past += names
        found += [turn] * len(names)
    return found


def test_a_trend_fires_at_its_frequency_within_its_range() -> None:
    assert schedule(event(type="trend", frequency=4, turn_range=[2, 11]), 20) == [2, 6, 10]
    assert schedule(event(type="trend", frequency=4, turn_range=[2, 11], once=True), 20) == [2]
    assert schedule(event(type="scheduled", turn=3), 5) == [3]


def test_random_events_happen_once_unless_told_otherwise() -> None:
    often = event(type="random", probability=0.9, once=False)
    assert len(schedule(often, 50)) > 30
    assert len(schedule(event(type="random", probability=0.9), 50)) == 1


EVENTS = [
    {"name": "r", "description": "d", "type": "random", "probability": 0.4, "once": False},
    {"name": "c", "description": "d", "type": "conditional",
     "conditions": {"cooperation_level": ">= 4"}},
]  # fmt: skip


def test_one_seed_has_one_schedule_in_every_variation(bench: Bench) -> None:
    bench.scenario(events=EVENTS, turns=6)
    bench.go(runs_per_variation=4, variations=[
        {"type": "actor_model", "actor": "regulator", "values": ["sim:actor", "sim:actor,lift=2"]},
    ])  # fmt: skip
    trials = bench.batch().trials
    for replicate in range(1, 5):
        own = {t.events.get("r", ()) for t in trials if t.replicate == replicate}
        assert len(own) == 1
    assert len({t.events.get("r", ()) for t in trials}) > 1
    assert all(t.events["c"] == (1,) for t in trials)  # turn 0 is measured, so turn 1 works


def test_events_can_be_switched_off(bench: Bench) -> None:
    bench.scenario(events=EVENTS, turns=6)
    bench.go(variations=[{"type": "events", "event": "all", "values": ["on", "off"]}])
    on, off = bench.batch().trials
    assert on.events and not off.events
    assert on.description == "all=on"


# -- files ---
def test_the_files_of_a_trial(bench: Bench) -> None:
    bench.scenario(quality=QUALITY, actors={"a": {"llm_model": "sim:actor,talk=1"}, "b": {}},
                   success_criteria={"good": {"cooperation_level": ">= 0"}},
                   metrics={"cooperation_level": LEVEL | {"thresholds": {"warning": ">= 0"}}})  # fmt: skip
    bench.go()
    folder = bench.run / "runs" / "var-001-run-001"
    names = {path.name for path in folder.iterdir()}
    for turn in ("001", "002", "003"):
        assert {f"world-state-{turn}.md", f"actor-a-{turn}.md", f"actor-b-{turn}.md",
                f"bilateral-a-b-{turn}.md", f"validation-{turn}.md"} <= names  # fmt: skip
    assert {"world-state-000.md", "validation-summary.md", "scenario.log", "metrics.json",
            "costs.json", "scenario-state.json"} <= names  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["final_metrics"]["cooperation_level"] is not None
    assert metrics["by_turn"]["0"]["cooperation_level"]["value"] == 4.0
    assert metrics["thresholds"] == [{"metric": "cooperation_level", "level": "warning", "turn": 0}]
    state = json.loads((folder / "scenario-state.json").read_text())
    assert state["status"] == "done" and state["success"] is True and state["simulated"] is True
    costs = json.loads((folder / "costs.json").read_text())
    assert {r["phase"] for r in costs["records"]} == {"bilateral", "decision", "world", "quality"}
    assert "Simulated" in (folder / "world-state-001.md").read_text()


def test_what_an_actor_writes_is_inert_in_html(bench: Bench) -> None:
    from peira.cli.finish import finish

    def answer(request: Request) -> Any:
        if "decision" in request.label:
            return {"action": "<script>alert(1)</script> cooperation level: 5"}
        return polite(request)

    word = {"description": "d", "type": "str", "extraction_method": "regex",
            "source": ["actions"], "pattern": "(<script>.*</script>)"}  # fmt: skip
    bench.play(answer, metrics={"word": word, "cooperation_level": LEVEL})
    finish(bench.run, quiet=True, figures=False)
    assert bench.batch().trials[0].final["word"] == "<script>alert(1)</script>"
    assert "<script>alert" not in (bench.run / "report.html").read_text()
