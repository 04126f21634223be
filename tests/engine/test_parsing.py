"""The ladder accepts what is clear, repairs what can be, and refuses the rest without crashing."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.engine.parsing import read_json

FIELDS = ("vote", "why")
GOOD = {"vote": "accept", "why": "fair"}


@pytest.mark.parametrize(
    ("text", "rung"),
    [
        (json.dumps(GOOD), "strict"),
        (f"  \n{json.dumps(GOOD)}\n", "strict"),
        (f"Here you are:\n```json\n{json.dumps(GOOD)}\n```\nDone.", "fenced"),
        (f"```\n{json.dumps(GOOD)}\n```", "fenced"),
        (f"I think {json.dumps(GOOD)} is best.", "repaired"),
        ("{'vote': 'accept', 'why': 'fair',}", "repaired"),
        ('{"vote": "accept", "why": "fair"', "repaired"),
        (f'<think>{{"vote": "reject", "why": "x"}}</think>{json.dumps(GOOD)}', "strict"),
    ],
)
def test_readable_forms(text, rung):
    parsed = read_json(text, required=FIELDS)
    assert (parsed.value, parsed.rung) == (GOOD, rung)


@pytest.mark.parametrize(
    "text",
    [
        "", "I accept.", '{"vote": "accept"}', "[1, 2]", "null", "{" * 50_000,
        '<think>{"vote": "accept", "why": "secret"}</think>I will answer later.',
        '<think>{"vote": "accept", "why": "never closed"}',
        "{" + '"a":{' * 500 + "}" * 500 + "}",
    ],
)  # fmt: skip
def test_unreadable_forms_say_what_is_wrong(text):
    parsed = read_json(text, required=FIELDS)
    assert parsed.value is None
    assert parsed.rung == "none"
    assert parsed.fault


def test_a_labelled_form_is_the_last_rung():
    def labelled(text: str):
        head, _, tail = text.partition("WHY:")
        return {"vote": head.removeprefix("VOTE:").strip(), "why": tail.strip()} if tail else None

    parsed = read_json("VOTE: accept\nWHY: fair", required=FIELDS, labelled=labelled)
    assert (parsed.value, parsed.rung, parsed.repaired) == (GOOD, "labelled", True)


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_no_text_crashes_the_ladder(text):
    parsed = read_json(text, required=FIELDS)
    assert (parsed.value is None) == (parsed.rung == "none")


@given(
    st.dictionaries(st.sampled_from(["vote", "why", "x"]), st.text(max_size=20)),
    st.text(max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_whole_json_is_read_back_as_it_was(value, noise):
    value = {"vote": "v", "why": "w"} | value
    parsed = read_json(json.dumps(value), required=FIELDS)
    assert parsed.value == value
    fenced = read_json(
        f"{noise.replace('`', '').replace('{', '').replace('<', '')}\n```json\n{json.dumps(value)}\n```",
        required=FIELDS,
    )
    assert fenced.value is not None
