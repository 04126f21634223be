"""One game from start to end: phases, re-asks, private and public, what is counted and kept."""

import orjson
import pytest

from peira.errors import ProviderFailure, TransientError, TrialFailed
from peira.families.negotiation import context, prompts
from peira.families.negotiation.context import GameLog
from peira.families.negotiation.game import Game
from peira.families.negotiation.outcome import NegotiationOutcome
from peira.families.negotiation.settings import NegotiationSettings
from peira.subjects.scripted import ScriptedWire
from peira.subjects.subject import Reply

TAKE_ALL = '{"allocation": {"Agent 1": ["%s"], "Agent 2": []}, "reasoning": "all mine"}'
INSTANCE = {"items": ["Apple", "Jewel"], "values": [[60, 40], [30, 70]]}
BASE = {
    "models": ["one", "two"], "num_items": 2, "max_rounds": 3, "instance": INSTANCE,
    "discussion_turns": 1, "gamma_discount": 0.5,
}  # fmt: skip
SPLIT = '{"allocation": {"Agent 1": ["Apple"], "Agent 2": ["Jewel"]}, "reasoning": "fair"}'
MINE = '{"allocation": {"Agent 1": ["Apple", "Jewel"], "Agent 2": []}, "reasoning": "mine"}'
YES, NO = '{"votes": ["accept", "accept"]}', '{"votes": ["reject", "reject"]}'


def seat(proposal=SPLIT, vote=YES, **more):
    """A scripted seat: the same answers in every round, `more` by label."""

    def answer(request):
        if request.label in more:
            return (
                more[request.label](request)
                if callable(more[request.label])
                else more[request.label]
            )
        phase = request.label.partition("/")[2]
        plain = {"discussion": "Hello.", "thinking": '{"reasoning": "secret plan"}',
                 "reflection": "private regret"}  # fmt: skip
        return {"proposal": proposal, "vote": vote, **plain}[phase]

    return ScriptedWire(answer)


def kinds(events, kind):
    return [event for event in events if event["kind"] == kind]


def test_a_deal_in_round_one_ends_the_game(game):
    outcome, events = game(BASE, wires={"one": seat(), "two": seat()})
    assert outcome.consensus and outcome.final_round == 1
    assert outcome.allocation == (0, 1) and outcome.raw == (60.0, 70.0) == outcome.utility
    assert outcome.winner == 1 and outcome.utility_difference == -10.0
    assert [e["label"] for e in kinds(events, "call")] == [
        "round 1/discussion", "round 1/discussion", "round 1/thinking", "round 1/thinking",
        "round 1/proposal", "round 1/proposal", "round 1/vote", "round 1/vote",
    ]  # fmt: skip
    assert outcome.spent["vote"]["Agent 2"]["calls"] == 1
    assert outcome.yardsticks.pareto_optimal


def test_delay_is_discounted_and_no_deal_pays_the_disagreement(game):
    late = seat(vote=NO, **{"round 3/vote": YES})
    outcome, _ = game(BASE, wires={"one": seat(), "two": late})
    assert (
        outcome.final_round == 3 and outcome.utility == (15.0, 17.5) and outcome.raw == (60.0, 70.0)
    )
    stubborn, events = game(
        BASE | {"disagreement": 5.0}, wires={"one": seat(), "two": seat(vote=NO)}
    )
    assert not stubborn.consensus and stubborn.utility == (5.0, 5.0) and stubborn.winner is None
    assert len(kinds(events, "reflection")) == 4  # not after the last round: nothing could follow


def test_an_illegal_offer_is_asked_for_again_with_its_fault_and_then_left_out(game):
    wire = seat(proposal='{"allocation": {"Agent 1": ["Apple"]}}')
    outcome, _ = game(
        BASE | {"max_rounds": 1}, wires={"one": wire, "two": seat(vote='{"vote": "accept"}')}
    )
    assert outcome.counts["Agent 1"]["illegal_offers"] == 3
    assert outcome.rounds[0].proposers == (1,)
    asked = [r for r in wire.requests if r.label == "round 1/proposal"]
    assert [len(r.messages) for r in asked] == [2, 4, 6]
    assert "not given to any agent: Jewel" in asked[1].messages[-1].content
    assert "made no valid proposal" in wire.requests[-1].messages[-1].content


def test_a_mended_offer_counts(game):
    answers = iter(["nonsense", SPLIT])
    outcome, _ = game(
        BASE, wires={"one": seat(**{"round 1/proposal": lambda r: next(answers)}), "two": seat()}
    )
    assert outcome.consensus and outcome.counts["Agent 1"]["reasks"] == 1


def test_a_missing_vote_is_a_rejection_after_one_reask(game):
    wire = seat(vote="I like the first.")
    outcome, _ = game(BASE | {"max_rounds": 1}, wires={"one": seat(), "two": wire})
    assert not outcome.consensus and outcome.counts["Agent 2"]["missing_votes"] == 2
    assert sum(r.label == "round 1/vote" for r in wire.requests) == 2
    assert outcome.rounds[0].votes == ((True, True), (False, False))


def test_a_cut_reply_is_never_scored_as_an_answer(game):
    cut = Reply(SPLIT, finish="length")
    outcome, _ = game(
        BASE | {"max_rounds": 1},
        wires={"one": seat(proposal=cut), "two": seat(vote=Reply(YES, finish="length"))},
    )
    assert outcome.counts["Agent 1"]["truncated"] == 3 and outcome.rounds[0].proposers == (1,)
    assert not outcome.consensus and outcome.counts["Agent 2"]["missing_votes"] == 1


def test_a_provider_failure_fails_the_trial_and_is_not_no_deal(game):
    broken = seat(**{"round 1/vote": lambda r: TransientError("503")})
    with pytest.raises(ProviderFailure):
        game(BASE, wires={"one": seat(), "two": broken})


def test_private_words_and_values_never_reach_the_other_seat(game):
    one, two = seat(vote=NO), seat(vote=NO)
    game(BASE | {"models": ["zeta-9", "yota-8"]}, wires={"zeta-9": one, "yota-8": two})
    for request in two.requests:
        text = "".join(m.content for m in request.messages)
        assert "- Apple: 60" not in text and "- Apple: 30" in text
        assert "zeta-9" not in text and "yota-8" not in text
    thoughts = seat(**{"round 1/thinking": '{"reasoning": "UNIQUE-THOUGHT"}'})
    thoughts_other = seat(vote=NO)
    game(BASE, wires={"one": thoughts, "two": thoughts_other})
    assert not any(
        "UNIQUE-THOUGHT" in m.content for r in thoughts_other.requests for m in r.messages
    )
    assert any("UNIQUE-THOUGHT" in m.content for r in thoughts.requests for m in r.messages)


def test_nothing_stands_twice_in_a_prompt(game):
    said = seat(vote=NO, **{f"round {r}/discussion": f"MARK-{r}." for r in (1, 2, 3)})
    game(BASE, wires={"one": said, "two": seat(vote=NO)})
    last = said.requests[-1].messages[-1].content
    assert [last.count(f"MARK-{r}.") for r in (1, 2, 3)] == [1, 1, 1]
    assert last.count("== Round 2 of 3 ==") == 1
    assert "Rules:" in said.requests[-1].messages[0].content


def test_phases_can_be_switched_off(game):
    bare = BASE | {"discussion_turns": 0, "thinking": False, "reflection": False, "max_rounds": 2}
    _, events = game(bare, wires={"one": seat(vote=NO), "two": seat(vote=NO)})
    assert {e["phase"] for e in kinds(events, "call")} == {"proposal", "vote"}


def test_three_seats_and_a_majority(game):
    instance = {"items": ["Apple", "Jewel"], "values": [[60, 40], [30, 70], [50, 50]]}
    settings = {"models": ["one", "two", "three"], "instance": instance, "max_rounds": 1,
                "acceptance": "majority"}  # fmt: skip
    yes = '{"votes": {"1": "accept", "2": "reject", "3": "reject"}}'
    no = '{"votes": {"1": "reject", "2": "reject", "3": "reject"}}'
    outcome, _ = game(
        settings, wires={"one": seat(vote=yes), "two": seat(vote=yes), "three": seat(vote=no)}
    )
    assert outcome.consensus and outcome.raw == (60.0, 70.0, 0.0)
    assert outcome.utility_difference is None


def test_the_same_seed_gives_the_same_game_and_another_seed_another(game):
    settings = {"models": ["sim:skill=0.3", "sim:skill=0.9"]}
    first, again, other = game(settings, 5), game(settings, 5), game(settings, 6)
    assert first == again and first[1] != other[1]


@pytest.mark.parametrize(
    "kind",
    ["random", "conceder", "linear", "boulware", "tough", "tit-for-tat", "micro", "skill=0.5"],
)
@pytest.mark.parametrize("agents", [2, 3])
def test_every_simulated_kind_plays_legally_through_the_ordinary_parser(game, kind, agents):
    settings = {"models": [f"sim:{kind}"] * agents, "competition_level": 0.5}
    outcome, events = game(settings)
    assert outcome.counts == {}
    assert all(e["rung"] in ("", "strict") for e in kinds(events, "call"))
    NegotiationOutcome.model_validate_json(outcome.model_dump_json())


def test_matrix_preferences_are_told_and_paid(game):
    settings = {"models": ["sim:linear", "sim:linear"], "preferences": "matrix", "cooperation": 0.5}
    outcome, _ = game(settings)
    own = [
        sum(v for v, k in zip(outcome.values[i], outcome.allocation, strict=True) if k == i)
        for i in (0, 1)
    ]
    assert outcome.raw == pytest.approx((own[0] + 0.5 * own[1], own[1] + 0.5 * own[0]))
    checked = NegotiationSettings.model_validate(settings)
    log = GameLog(checked, Game(outcome.items, outcome.values, 0.5))
    assert "if Agent 2 receives it" in log.systems[0].content


# -- prompts as a function of the log ----------------------------------------------------------
def test_prompts_rebuilt_from_the_transcript_equal_those_sent(game):
    one, two = seat(vote=NO, proposal='{"allocation": {}}'), seat(vote=NO)
    _, events = game(BASE, wires={"one": one, "two": two})
    settings = NegotiationSettings.model_validate(BASE)
    log = GameLog(settings, Game(("Apple", "Jewel"), ((60.0, 40.0), (30.0, 70.0))))
    sent = {1: iter(one.requests), 2: iter(two.requests)}
    for event in events:
        if event["kind"] == "call":
            number = int(event["seat"][-1])
            request = next(sent[number])
            if event["ask"] == 0:
                built = context.messages(log, number - 1, event["phase"], event["lap"])
                assert built == request.messages
        log.add(event)


def test_a_window_too_small_is_met_by_a_summary_then_by_failing_before_paying(game):
    wordy = seat(vote=NO, **{f"round {r}/discussion": "word " * 300 for r in (1, 2, 3)})
    _, events = game(BASE, wires={"one": wordy, "two": seat(vote=NO)})
    settings = NegotiationSettings.model_validate(BASE)
    log = GameLog(settings, Game(("Apple", "Jewel"), ((60.0, 40.0), (30.0, 70.0))))
    for event in events:
        log.add(event)
    whole = sum(len(m.content) for m in context.messages(log, 0, "vote"))
    short = context.messages(log, 0, "vote", room=(whole - 500) // context.CHARACTERS_PER_TOKEN)
    assert "Round 1 (summary): no deal." in short[1].content and "== Round 2" in short[1].content
    assert short[0] == context.messages(log, 0, "vote")[0]
    with pytest.raises(context.ContextTooLong, match="larger window"):
        context.messages(log, 0, "vote", room=100)


def test_a_subject_without_room_fails_the_trial_with_cause_context():
    from peira.engine.lab import Bench, Lab, TrialTask
    from peira.engine.ledger import Sharing
    from peira.families.negotiation.trial import Play
    from peira.subjects.route import Routes

    from .conftest import NoLedger

    wires = {"one": seat(), "two": seat()}
    lab = Lab(
        TrialTask(1, "i", "s", 1, 1, 1, {}, {}),
        Bench(Routes(wires=wires), NoLedger(), Sharing(), 0),
    )
    played = Play(NegotiationSettings.model_validate(BASE), lab)
    played.rooms = [10, 10]
    played.emit("round", round=1, order=(0, 1))
    with pytest.raises(TrialFailed) as caught:
        played.prompt(0, "discussion")
    assert caught.value.cause == "context" and wires["one"].calls == 0


def test_the_prompt_hash_stands_in_the_record(game):
    outcome, _ = game(BASE, wires={"one": seat(), "two": seat()})
    assert outcome.prompt_hash == prompts.prompt_hash() and len(outcome.prompt_hash) == 16


def test_events_are_json_safe(game):
    _, events = game({"models": ["sim:random", "sim:micro"]})
    orjson.dumps(events)


def test_a_shortened_prompt_is_rebuilt_as_it_was_sent():
    """The room is in the event, so the files show the prompt that was really sent."""
    from types import SimpleNamespace

    from peira.engine.lab import Bench, Lab, TrialTask
    from peira.engine.ledger import Sharing
    from peira.families.negotiation.files import interactions
    from peira.families.negotiation.trial import Play
    from peira.subjects.route import Routes

    from .conftest import NoLedger

    wordy = {f"round {r}/discussion": "word " * 300 for r in (1, 2, 3)}
    wires = {"one": seat(vote=NO, **wordy), "two": seat(vote=NO)}
    bench = Bench(Routes(wires=wires), NoLedger(), Sharing(), 0)
    lab = Lab(TrialTask(1, "i", "s", 1, 1, 1, {}, {}), bench)
    played = Play(NegotiationSettings.model_validate(BASE), lab)
    played.rooms = [1400, None]
    import asyncio

    asyncio.run(played.run())
    record = SimpleNamespace(settings=BASE)
    rebuilt = [e for e in interactions(record, lab.events) if e["seat"] == "Agent 1"]
    sent = [[(m.role, m.content) for m in r.messages] for r in wires["one"].requests]
    assert [[(m["role"], m["content"]) for m in e["messages"]] for e in rebuilt] == sent
    assert any("(summary)" in messages[-1][1] for messages in sent)
