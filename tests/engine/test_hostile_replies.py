"""No reply, however hostile, crashes a parser, is read as what it is not, or changes on replay."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings

from peira.engine.ledger import pack, storable, unpack
from peira.engine.parsing import read_json
from peira.families.negotiation import parsing
from peira.families.prompts.abstention import AbstentionDetector
from peira.families.prompts.data import Item
from peira.families.prompts.scoring import ScoringRules, score
from peira.families.scenarios import parse
from peira.report.tables import prose
from peira.subjects.subject import Reply, user
from peira.subjects.wire.client import Answer
from peira.testing.hostile import MARK, TEXTS
from tests.strategies import replies

NAMES = parsing.Names.of(("Agent 1", "Agent 2"), ("Apple", "Jewel"))
ITEM = Item("d", "1", "What?", ("Paris",), context="Paris is a city.")
RULES = ScoringRules(AbstentionDetector())


def read_by_all(text: str) -> None:
    offer = parsing.read_offer(text, NAMES)
    assert offer.allocation is None or sorted({*offer.allocation, 0, 1}) == [0, 1]
    ballot = parsing.read_ballot(text, (1, 2))
    assert all(vote is None for vote in ballot.votes) or not ballot.fault or None in ballot.votes
    parsing.read_plan(text)
    for form in parse.FORMS.values():
        for value in (parse.read_form(form, text).value or {}).values():
            parse.as_text(value)
            parse.as_list(value)
            parse.as_truth(value)
    assert 0 <= score(ITEM, text, RULES).f1 <= 1


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_every_hostile_text_is_read_without_a_crash(text):
    read_by_all(text)


@given(replies())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_shape_of_reply_crashes_a_parser(text):
    read_by_all(text)


def test_json_deeper_than_any_answer_is_no_answer():
    deep = '{"reasoning":' + "[" * 500 + "]" * 500 + "}"
    assert read_json(deep, required=("reasoning",)).value is None
    assert read_json('{"reasoning": [[[1]]]}', required=("reasoning",)).rung == "strict"


def test_a_trial_sees_the_reply_that_its_replay_will_see():
    said = Reply("half \ud800 a pair", "\udfff", served_model="m\ud800")
    assert unpack(pack(said), 0) == replace(storable(said), source="ledger")
    assert storable(said).text == "half \ufffd a pair"
    whole = Reply("whole \U0001f600")
    assert storable(whole) is whole


def test_half_a_surrogate_pair_in_a_prompt_is_asked_as_the_replacement_character():
    message = user("a \ud83d b \ud83d\ude00 é 😀")
    assert message.content == "a \ufffd b 😀 é 😀"


def test_half_a_surrogate_pair_in_a_body_is_a_reply_and_not_a_broken_connection():
    assert Answer(200, {}, b'{"text": "a \\ud800"}').json() == {"text": "a \ud800"}


@pytest.mark.parametrize(
    ("text", "rung"),
    [
        ('{"a": "x \\ud83d y", "b": "\\ud83d\\ude00"}', "strict"),
        ('```json\n{"a": "x \\ud83d y", "b": "\\ud83d\\ude00"}\n```', "fenced"),
        ('so: {"a": "x \\ud83d y", "b": "\\ud83d\\ude00"} is it', "repaired"),
        ('{"a": "x \\ud83d y", "b": "\U0001f600",', "repaired"),
    ],
)
def test_an_escaped_half_of_a_surrogate_pair_in_an_answer_is_read(text, rung):
    parsed = read_json(text, required=("a", "b"))
    assert (parsed.rung, parsed.value) == (rung, {"a": "x \ufffd y", "b": "\U0001f600"})
    assert orjson.loads(orjson.dumps(parsed.value)) == parsed.value


def test_an_escape_does_not_let_in_what_is_no_json():
    assert read_json('{"a": NaN, "b": "\\ud83d"}', required=("a", "b")).rung != "strict"


def test_markdown_files_show_model_text_and_run_nothing():
    text = prose(f"a < b <think>x</think> {TEXTS['html']} {TEXTS['markdown']} {TEXTS['terminal']}")
    assert "a < b &lt;think>" in text
    assert "<script" not in text and "<img" not in text and "](" not in text and "\x1b" not in text
    assert MARK in text


def test_a_line_of_spaces_between_partners_costs_no_time():
    form = next(f for f in parse.FORMS.values() if any(x.name == "partners" for x in f.fields))
    found = parse.labelled(form, "**PARTNERS**: a" + " " * 200_000 + "b, c and d")
    assert [len(name) for name in found["partners"]] == [200_002, 1, 1]
