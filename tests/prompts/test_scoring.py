"""From a reply to its scores: spec prompts §5, acceptance 4 and 5."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.errors import InputError
from peira.families.prompts.abstention import AbstentionDetector, phrases
from peira.families.prompts.data import Item
from peira.families.prompts.scoring import (
    ScoringRules,
    Unsupported,
    contains,
    exact_match,
    f1_score,
    load_scorer,
    normalise,
    normalise_squad,
    score,
)

RULES = ScoringRules(AbstentionDetector())
CLOSED = Item("d", "1", "q?", ("Paris",))
OPEN = Item("d", "2", "q?", ("the red door",), "She opened the red door slowly.")
UNANSWERABLE = Item("d", "3", "q?", (), "Nothing is said.", True)


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.", "I don’t know.", "I donʼt know", "I can't answer that", "unknown",
        "Based on the passage, there is not enough information to answer.", "**I don't know.**",
        "Sorry, but I do not know who wrote it.", "Unfortunately, the text doesn't say.",
        "N/A", "Not stated in the passage.", "Answer: unknown", "The answer is not stated.",
        "It cannot be determined from the given context.", "There's no information about that.",
        "I’m not sure.", "i couldn't find it", "No answer",
    ],
)  # fmt: skip
def test_what_declines_is_an_abstention(text: str) -> None:
    assert AbstentionDetector().rule(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Tomb of the Unknown Soldier", "The answer is Unknown Pleasures",
        "I don't know, but it may be Paris.", "None", "No Information Society",
        "I am not sure, perhaps Paris", "The Passage to India", "Insufficient Memory", "Paris",
        "Not Without My Daughter", "It is unknown Pleasures that he sang",
    ],
)  # fmt: skip
def test_titles_and_hedged_answers_are_answers(text: str) -> None:
    assert AbstentionDetector().rule(text) is None


def test_a_reply_equal_to_a_gold_is_never_an_abstention() -> None:
    album = Item("d", "1", "q?", ("Unknown",))
    assert score(album, "Unknown", RULES).em == 1
    assert not score(album, "unknown.", RULES).abstained


def test_the_studys_own_phrase_comes_first_and_is_no_prefix() -> None:
    detector = AbstentionDetector("PASS")
    assert detector.rule("Pass.") == "phrase"
    assert detector.rule("pass, next question") == "phrase"
    assert detector.rule("Pass the salt") is None


def test_every_phrase_of_the_simulated_respondent_is_known() -> None:
    assert all(AbstentionDetector().rule(phrase) for phrase in phrases())


@pytest.mark.parametrize(
    ("reply", "gold", "em"),
    [
        ("Café", "cafe", 1), ("1990–1995", "1990-1995", 1), ("ﬁve", "five", 1),
        ("“The” O’Neill", "o'neill", 1), ("twenty-one", "twenty one", 0), ("+", "-", 0),
        ("The The", "the", 0), ("  PARIS. ", "Paris", 1),
    ],
)  # fmt: skip
def test_exact_match(reply: str, gold: str, em: int) -> None:
    assert exact_match(reply, [gold]) == em


def test_f1_counts_tokens_with_their_multiplicity() -> None:
    assert f1_score("the cat sat on the mat", ["cat on mat"]) == pytest.approx(6 / 7)
    assert f1_score("", [""]) == 1
    assert f1_score("x", [""]) == 0


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_and_never_empties(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert bool(once) == bool(text.split())


@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetric_within_bounds_and_one_for_equals(a: str, b: str) -> None:
    assert 0 <= f1_score(a, [b]) <= 1
    assert f1_score(a, [b]) == f1_score(b, [a])
    assert f1_score(a, [a]) == 1
    assert exact_match(a, [b]) <= f1_score(a, [b])


def test_the_official_squad_rule_is_ascii() -> None:
    assert normalise_squad("The Café!") == "café"
    assert normalise_squad("O’Neill") == "o’neill"


@pytest.mark.parametrize(
    ("item", "reply", "em", "false_answer"),
    [
        (CLOSED, "Paris", 1, None), (CLOSED, "I don't know.", 0, None), (CLOSED, "Rome", 0, None),
        (UNANSWERABLE, "I don't know.", 1, 0), (UNANSWERABLE, "Rome", 0, 1),
    ],
)  # fmt: skip
def test_the_table_of_scores(item: Item, reply: str, em: float, false_answer: float | None) -> None:
    found = score(item, reply, RULES)
    assert (found.em, found.f1, found.false_answer) == (em, em, false_answer)


def test_support_is_judged_on_answered_rows_with_a_passage_only() -> None:
    assert score(OPEN, "red door", RULES).unsupported == 0
    assert score(OPEN, "blue door", RULES).unsupported == 1
    assert score(OPEN, "I don't know.", RULES).unsupported is None
    assert score(CLOSED, "Rome", RULES).unsupported is None


def test_overlap_asks_for_a_share_of_content_tokens() -> None:
    rule = Unsupported("overlap", min_token_overlap=0.6)
    assert rule.judge(OPEN, "door, red and slowly") == 0
    assert rule.judge(OPEN, "the blue window") == 1
    assert rule.judge(OPEN, "of the") == 1  # no content token: the baseline rule


def test_contains_parts_knowledge_from_brevity() -> None:
    assert contains(CLOSED, "It is Paris, I believe") == {"contains": 1.0}
    assert contains(CLOSED, "Parisian") == {"contains": 0.0}
    assert contains(UNANSWERABLE, "x") == {"contains": None}


def test_a_scorer_that_cannot_be_loaded_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("x = 1\n")
    with pytest.raises(InputError, match="existing file"):
        load_scorer("missing.py:f", tmp_path)
    with pytest.raises(InputError, match="no function 'f'"):
        load_scorer("s.py:f", tmp_path)
