"""Factors to cells: every combination once, in the order promised."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.errors import StudyError
from peira.study.grid import cells, merged
from peira.study.study import Study

names = st.lists(st.sampled_from("abcde"), unique=True, min_size=1, max_size=3)


def factors_of(study: Study) -> list[dict]:
    return [dict(cell.factors) for cell in cells(study)]


@given(names, st.data())
def test_crossing_gives_the_product_last_factor_fastest(chosen, data):
    values = {
        name: data.draw(st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=4))
        for name in chosen
    }
    study = Study(family="negotiation", factors=values)
    expected = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
    assert factors_of(study) == expected


def test_zip_moves_in_step_and_varies_fastest():
    study = Study(family="x", factors={"a": [1, 2]}, zip={"b": [3, 4], "c": [5, 6]})
    assert factors_of(study) == [
        {"a": a, "b": b, "c": c} for a in (1, 2) for b, c in ((3, 5), (4, 6))
    ]


def test_exclude_removes_what_it_matches_and_numbers_close_up():
    study = Study(
        family="x", factors={"a": [1, 2], "b": [3, 4]}, exclude=[{"a": 1, "b": 4}, {"a": 2, "b": 3}]
    )
    assert [(c.index, dict(c.factors)) for c in cells(study)] == [
        (0, {"a": 1, "b": 3}),
        (1, {"a": 2, "b": 4}),
    ]


def test_explicit_cells_follow_the_crossed_ones():
    study = Study(family="x", factors={"a": [1]}, cells=[{"a": 7}])
    assert factors_of(study) == [{"a": 1}, {"a": 7}]
    assert factors_of(Study(family="x", cells=[{"a": 7}])) == [{"a": 7}]


def test_dotted_names_reach_into_nested_settings_without_touching_the_original():
    fixed = {"sampling": {"temperature": 0.0, "top_p": 1.0}}
    assert merged(fixed, {"sampling.temperature": 0.7})["sampling"] == {
        "temperature": 0.7,
        "top_p": 1.0,
    }
    assert fixed["sampling"]["temperature"] == 0.0


few = st.lists(st.sampled_from([0, 1, 2, "1"]), min_size=1, max_size=3)
explicit = st.lists(st.fixed_dictionaries({"a": st.integers(0, 2)}, optional={"b": st.integers(0, 1)}),
                    max_size=3)  # fmt: skip


@given(few, few, explicit)
def test_a_cell_that_stands_twice_is_refused_and_no_other(a, b, extra):
    study = Study(family="x", factors={"a": a}, zip={"b": b, "c": b}, cells=extra)
    crossed = [{"a": x, "b": y, "c": y} for x in a for y in b]
    keys = [repr(sorted(cell.items())) for cell in [*crossed, *extra]]
    if len(set(keys)) == len(keys):
        assert len(factors_of(study)) == len(keys)
    else:
        with pytest.raises(StudyError, match="duplicate cell"):
            factors_of(study)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factors": {"a": []}}, "no values"),
        ({"zip": {"a": [1], "b": [1, 2]}}, "unequal length"),
        ({"factors": {"a": [1]}, "zip": {"a": [1]}}, "keep one"),
        ({"factors": {"a": [1]}, "exclude": [{"z": 1}]}, "not a factor"),
        ({"factors": {"a": [1]}, "cells": [{"a": 1}]}, "duplicate cell"),
        ({"zip": {"a": [1, 1], "b": [2, 2]}}, "duplicate cell"),
        ({"cells": [{"a": 1}, {"a": 1}]}, "duplicate cell"),
    ],
)
def test_impossible_grids_are_refused_in_words(changes, words):
    with pytest.raises(StudyError, match=words):
        list(cells(Study(family="x", **changes)))
