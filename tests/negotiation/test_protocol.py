"""Who speaks when, what passes, what a reply means: the rules of a round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from peira.families.negotiation.parsing import Names, read_ballot, read_offer, read_plan
from peira.families.negotiation.protocol import (
    Proposal,
    Tally,
    passed,
    speaking_order,
    tabulate,
    votes_needed,
)
from peira.families.negotiation.settings import NegotiationSettings

NAMES = Names.of(("Agent 1", "Agent 2"), ("Apple", "Jewel", "Stone"))


@pytest.mark.parametrize(
    ("acceptance", "n", "needed"),
    [("unanimity", 5, 5), ("two_thirds", 3, 2), ("two_thirds", 4, 3), ("two_thirds", 5, 4),
     ("majority", 2, 2), ("majority", 3, 2), ("majority", 4, 3)],
)  # fmt: skip
def test_votes_needed(acceptance, n, needed):
    assert votes_needed(acceptance, n) == needed


def test_most_accepts_win_then_the_lowest_number():
    assert passed([Tally(1, 2, 1), Tally(2, 3, 0), Tally(3, 3, 0)], 2) == Tally(2, 3, 0)
    assert passed([Tally(1, 2, 1), Tally(2, 2, 1)], 2) == Tally(1, 2, 1)
    assert passed([Tally(1, 1, 2)], 2) is None
    assert passed([], 2) is None


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=6))
def test_counts_of_a_proposal_add_up_to_the_seats(votes):
    proposals = [Proposal(k + 1, 0, (0,)) for k in range(3)]
    for tally in tabulate(proposals, votes):
        assert tally.accepts + tally.rejects == len(votes)


def test_speaking_orders():
    three = {"models": ["a", "b", "c"]}
    fixed = NegotiationSettings(**three)
    rotate = NegotiationSettings(**three, speaking_order="rotate")
    shuffled = NegotiationSettings(**three, speaking_order="random")
    assert [speaking_order(fixed, r, 1) for r in (1, 2)] == [(0, 1, 2), (0, 1, 2)]
    assert [speaking_order(rotate, r, 1) for r in (1, 2, 4)] == [(0, 1, 2), (1, 2, 0), (0, 1, 2)]
    orders = [speaking_order(shuffled, r, 1) for r in range(1, 20)]
    assert orders == [speaking_order(shuffled, r, 1) for r in range(1, 20)]
    assert len(set(orders)) > 2 and all(sorted(o) == [0, 1, 2] for o in orders)


@pytest.mark.parametrize(
    "text",
    [
        '{"allocation": {"Agent 1": ["Apple", "Jewel"], "Agent 2": ["Stone"]}, "reasoning": "x"}',
        '{"allocation": {"agent_1": [0, 1], "Agent 2": ["2"]}}',
        '{"allocation": {"Apple": "Agent 1", "Jewel": "Agent 1", "Stone": "Agent 2"}}',
        'Here it is:\n```json\n{"allocation": {"Agent 1": "Apple, Jewel", "Agent 2": "Stone"}}\n```',
        "<think>{\"allocation\": {}}</think>{'allocation': {'Agent 1': ['the Apple', '1: Jewel'],"
        " 'Agent 2': ['Stone']}}",
    ],
)
def test_a_legal_proposal_is_read_in_all_its_forms(text):
    assert read_offer(text, NAMES).allocation == (0, 0, 1)


@pytest.mark.parametrize(
    ("allocation", "fault"),
    [
        ('{"Agent 1": ["Apple"], "Agent 2": ["Jewel"]}', "not given to any agent: Stone"),
        ('{"Agent 1": ["Apple", "Jewel", "Stone"], "Agent 2": ["Stone"]}', "given twice"),
        ('{"Agent 1": ["Apple", "Jewel"], "Agent 3": ["Stone"]}', "unknown agent 'Agent 3'"),
        ('{"Agent 1": ["Apple", "Jewel", "Stone"], "nobody": []}', "unknown agent 'nobody'"),
        ('{"Agent 1": ["Apple", "Jewel", "Diamond"]}', "unknown item 'Diamond'"),
        ("[]", "must map each agent"),
        ("{}", "must map each agent"),
    ],
)
def test_an_illegal_proposal_has_its_fault_named_and_nothing_is_invented(allocation, fault):
    offer = read_offer(f'{{"allocation": {allocation}}}', NAMES)
    assert offer.allocation is None and fault in offer.fault


def test_what_stands_in_thoughts_is_never_the_answer():
    offer = read_offer(
        '<think>{"allocation": {"Agent 1": ["Apple","Jewel","Stone"], "Agent 2": []}}', NAMES
    )
    assert offer.allocation is None and "empty" in offer.fault


@pytest.mark.parametrize(
    ("text", "votes"),
    [
        ('{"votes": {"1": "accept", "2": "reject"}}', (True, False)),
        ('{"votes": {"Proposal 1": "Accept.", "#2": false}}', (True, False)),
        ('{"votes": [{"proposal": 2, "vote": "accept"}, {"proposal": 1, "vote": "reject"}]}', (False, True)),
        ('{"votes": ["accept", "accept"]}', (True, True)),
        ('{"votes": [{"proposal_number": 1, "vote_decision": "reject"}]}', (False, None)),
        ('{"votes": {"1": "maybe", "2": "accept"}}', (None, True)),
        ('{"vote": "accept"}', (None, None)),
        ("I accept both.", (None, None)),
    ],
)  # fmt: skip
def test_votes_are_read_or_missing_never_guessed(text, votes):
    ballot = read_ballot(text, [1, 2])
    assert ballot.votes == votes
    assert bool(ballot.fault) == (None in votes)


def test_a_single_vote_needs_no_number():
    assert read_ballot('{"vote": "reject"}', [1]).votes == (False,)
    assert read_ballot('{"vote_decision": "accept"}', [4]).votes == (True,)


def test_unreadable_thinking_is_kept_as_text():
    assert read_plan("I want the jewel.").reasoning == "I want the jewel."
    plan = read_plan(
        '{"reasoning": "r", "key_priorities": ["Jewel"], "potential_concessions": "Stone, Apple"}'
    )
    assert plan.key_priorities == ("Jewel",) and plan.potential_concessions == ("Stone", "Apple")


@given(st.text(max_size=300))
def test_no_text_breaks_the_parsers(text):
    read_offer(text, NAMES)
    read_ballot(text, [1, 2])
    read_plan(text)


# -- settings --------------------------------------------------------------------------------
def test_the_guides_form_resolves_to_seats_and_stays_in_the_record():
    settings = NegotiationSettings(weak_model="w", strong_model="s", model_order="strong_first")
    assert settings.models == ("s", "w") and settings.num_agents == 2
    assert settings.model_dump()["weak_model"] == "w"
    again = NegotiationSettings.model_validate(settings.model_dump(mode="json"))
    assert again == settings


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"models": ["a"]}, "2 to 10"),
        ({"models": ["a", "b"], "num_agents": 3}, "2, the number of"),
        ({"models": ["a", "b", "c"], "num_items": 2, "competition_level": 0}, "num_items >= 3"),
        (
            {"models": ["a", "b", "c"], "num_items": 2, "competition_level": 0.5},
            "no such values exist",
        ),
        ({"models": ["a", "b"], "cooperation": 0.5}, "preferences to matrix"),
        ({"models": ["a", "b"], "weak_model": "a"}, "it needs strong_model"),
        ({"models": ["a", "b"], "weak_model": "a", "strong_model": "c"}, "give one form"),
        ({"models": ["a", "b"], "sampling": {"c": {}}}, "sampling"),
        ({"models": ["a", "b"], "gamma_discount": 0}, "greater than 0"),
        ({"models": ["a", "b"], "colour": "red"}, "Extra inputs"),
        (
            {"models": ["a", "b"], "instance": {"items": ["x"], "values": [[1, 2], [1, 2]]}},
            "2 rows of 1",
        ),
    ],
)
def test_impossible_settings_are_refused_with_the_remedy(data, said):
    with pytest.raises(ValidationError, match=said):
        NegotiationSettings.model_validate(data)


def test_anonymous_prompts_never_name_a_model():
    assert NegotiationSettings(models=["gpt-4o", "o3"]).seats == ("Agent 1", "Agent 2")
    shown = NegotiationSettings(models=["gpt-4o", "o3"], anonymous=False)
    assert shown.seats == ("gpt_4o_1", "o3_2")
