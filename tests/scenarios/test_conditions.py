"""Conditions hold only on values that are there and of the right kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.families.scenarios.conditions import (
    OPERATORS,
    all_hold,
    missed_criteria,
    parse_comparison,
    succeeded,
    undecided,
)


@given(st.sampled_from(sorted(OPERATORS)), st.integers(-9, 9), st.integers(-9, 9))
def test_comparisons_mean_what_python_means(op: str, left: int, right: int) -> None:
    comparison = parse_comparison(f"{op} {right}")
    assert comparison is not None
    assert comparison.holds(left) == OPERATORS[op](left, right)


@given(st.sampled_from(sorted(OPERATORS)), st.sampled_from(["3", "true", "calm"]))
def test_a_missing_value_satisfies_nothing(op: str, right: str) -> None:
    comparison = parse_comparison(f"{op} {right}")
    assert comparison is not None and not comparison.holds(None)


def test_unlike_kinds_never_hold() -> None:
    assert not all_hold({"x": "== true"}, {"x": 1})
    assert not all_hold({"x": "!= calm"}, {"x": 3})
    assert all_hold({"x": "== true", "y": "!= calm"}, {"x": True, "y": "loud"})


@pytest.mark.parametrize("text", ["6", "=> 6", ">=", "", None, 6])
def test_what_is_no_comparison_is_not_read(text: object) -> None:
    assert parse_comparison(text) is None


def test_success_is_open_only_while_values_are_missing() -> None:
    criteria = {"level": {"x": ">= 6"}, "peace": {"y": "== true"}}
    assert succeeded(criteria, {"x": 7, "y": True}) is True
    assert succeeded(criteria, {"x": 5, "y": None}) is False
    assert succeeded(criteria, {"x": 7, "y": None}) is None
    assert succeeded({}, {"x": 7}) is None
    assert missed_criteria(criteria, {"x": 5, "y": True}) == ["level"]
    assert undecided({"x": ">= 6"}, {}) and not undecided({"x": ">= 6"}, {"x": 1})
