"""Rows and request keys: what makes two requests the same one."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785
from hypothesis import HealthCheck, given
from hypothesis import settings as drawn
from hypothesis import strategies as st

from peira.families.prompts.data import Item
from peira.families.prompts.rows import (
    Answers,
    n_rows,
    pack_items,
    planned_rows,
    request_key,
    row_status,
    unpack_items,
)
from peira.subjects.subject import Reply, Usage
from tests.prompts.test_config import settings

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8)
    | st.floats(-2, 2, allow_nan=False).map(lambda x: round(x, 4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1),
                                                                inner, max_size=3),
)  # fmt: skip


@drawn(suppress_health_check=[HealthCheck.too_slow])  # the first text drawn on a machine takes long
@given(st.dictionaries(st.text("abcdef", min_size=1), VALUES, max_size=5))
def test_a_request_key_is_the_hash_of_canonical_json(fields: dict[str, Any]) -> None:
    assert request_key(fields) == hashlib.sha256(rfc8785.dumps(fields)).hexdigest()


def test_one_items_arms_stand_next_to_each_other() -> None:
    rows = list(planned_rows(settings(temps=[0, 1], samples_per_item={"0": 1, "1": 2}), 2))
    assert len(rows) == n_rows(settings(temps=[0, 1], samples_per_item={"0": 1, "1": 2}), 2) == 12
    assert [row.arm for row in rows[:2]] == ["control", "a"]
    assert rows[0].item == rows[5].item != rows[6].item


def test_only_a_complete_reply_with_text_is_ok() -> None:
    assert row_status(Reply("x")) == "ok"
    assert row_status(Reply(" \n", reasoning="long thought")) == "empty"
    assert row_status(Reply("x", finish="length")) == "truncated"
    assert row_status(Reply("x", finish="refusal")) == "refused"


def test_planned_is_the_sum_of_the_statuses() -> None:
    answers = Answers.blank(4)
    answers.put(0, "k0", Reply("x", usage=Usage(1, 2)))
    answers.put(1, "k1", None)
    answers.put(2, "k2", Reply("", finish="empty"))
    counts = answers.counts()
    assert sum(counts.values()) == 4
    assert counts == {
        "ok": 1, "truncated": 0, "refused": 0, "empty": 1, "error": 1, "missing": 1,
    }  # fmt: skip


def test_items_come_back_from_the_transcript_as_they_were() -> None:
    items = [
        Item("d", "1", "q", ("a",), "passage", False, "c", {"difficulty": 1.0}),
        Item("d", "2", "q", (), "passage", True, "c"),
        Item("e", "1", "q", ("b",), "", False, "e/1"),
    ]
    packed = pack_items(items)
    assert packed["passages"] == ["passage"]
    assert unpack_items(packed) == items
