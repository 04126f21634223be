"""Reading answers: every form of the same answer parses alike; a bold word cuts nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.families.scenarios.parse import FORMS, as_list, as_text, as_truth, read_form

DECISION = FORMS["decision"]
SIX = {
    "json": '{"action": "We hold talks."}',
    "fenced": 'Here it is:\n```json\n{"action": "We hold talks."}\n```',
    "heading": "## Action\nWe hold talks.",
    "colon inside": "**Action:** We hold talks.",
    "colon outside": "**Action**: We hold talks.",
    "capitals": "ACTION: We hold talks.",
}


@pytest.mark.parametrize("form", SIX)
def test_six_forms_of_an_answer_parse_alike(form: str) -> None:
    parsed = read_form(DECISION, SIX[form])
    assert parsed.value is not None
    assert parsed.value["action"] == "We hold talks."


def test_inline_bold_survives_whole() -> None:
    text = (
        "## Reasoning\nWe must act.\n## Action\nWe **announce:** a pause, and **Action** follows."
    )
    value = read_form(DECISION, text).value
    assert value is not None
    assert value["action"] == "We **announce:** a pause, and **Action** follows."
    assert value["reasoning"] == "We must act."


def test_a_bold_phrase_alone_is_no_answer() -> None:
    assert read_form(DECISION, "We **announce:** a pause").value is None


def test_a_longer_heading_is_text_and_not_a_label() -> None:
    value = read_form(DECISION, "## Action\nfirst\n## Action plan\nsecond").value
    assert value is not None and value["action"] == "first\n## Action plan\nsecond"


def test_a_rung_without_the_required_field_does_not_succeed() -> None:
    parsed = read_form(DECISION, '{"goals": ["a"]}\n\n## Action\nwe act')
    assert parsed.rung == "labelled"
    assert parsed.value == {"action": "we act"}


def test_lists_in_labelled_answers_lose_their_bullets() -> None:
    value = read_form(DECISION, "# Goals\n- peace\n- 2. trade\n### 4. Action:\nwe act").value
    assert value is not None and value["goals"] == ["peace", "2. trade"]


@pytest.mark.parametrize(("word", "truth"), [
    ("yes", True), ("Accepted", True), (True, True), ("no, never", False), ("refuse", False),
    ("perhaps", None), ("", None),
])  # fmt: skip
def test_truth_is_read_or_left_open(word: object, truth: bool | None) -> None:
    assert as_truth(word) is truth


def test_any_value_becomes_text_and_list() -> None:
    assert as_text({"a": 1, "b": [True]}) == "- a: 1\n- b: - true"
    assert as_list(None) == [] and as_list("x") == ["x"] and as_list(["x", "", 2]) == ["x", "2"]


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    parsed = read_form(DECISION, text)
    assert parsed.value is None or "action" in parsed.value


LINE = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@given(st.lists(LINE, min_size=1, max_size=5))
def test_a_labelled_action_keeps_every_line_that_opens_no_section(lines: list[str]) -> None:
    kept = [line for line in lines if not line.lstrip().startswith(("#", "*", "-", "{", "`", "<"))]
    kept = [line for line in kept if ":" not in line]
    text = "\n".join(" ".join(line.split()) for line in kept).strip()
    value = read_form(DECISION, f"ACTION: {text}").value
    if text and "{" not in text and "`" not in text and "<" not in text:
        assert value is not None and value["action"] == text
