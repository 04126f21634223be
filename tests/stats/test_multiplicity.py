"""Families of hypotheses: adjusted p values, planned tests that never ran, shared controls, max-T."""

from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    benjamini_hochberg,
    benjamini_yekutieli,
    bonferroni,
    dunnett,
    hochberg,
    holm,
    hommel,
    max_t,
    sign_flip,
)

METHODS = {
    "holm": holm,
    "hochberg": hochberg,
    "hommel": hommel,
    "bonferroni": bonferroni,
    "BH": benjamini_hochberg,
    "BY": benjamini_yekutieli,
}
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_lists, st.sampled_from(sorted(METHODS)))
def test_adjusting_is_monotone_and_never_shrinks_p(p, name):
    adjusted = METHODS[name](p).adjusted
    assert all(q >= value - 1e-12 for q, value in zip(adjusted, p, strict=True))
    ranked = [q for _, q in sorted(zip(p, adjusted, strict=True))]
    assert all(a <= b + 1e-12 for a, b in pairwise(ranked))


@given(p_lists, st.sampled_from(sorted(METHODS)), st.randoms(use_true_random=False))
def test_adjusting_does_not_depend_on_the_order(p, name, random):
    order = random.sample(range(len(p)), len(p))
    shuffled = METHODS[name]([p[i] for i in order]).adjusted
    assert shuffled == pytest.approx([METHODS[name](p).adjusted[i] for i in order])


@given(p_lists, st.sampled_from(["holm", "hochberg", "hommel", "BH", "BY"]))
def test_adjusting_agrees_with_statsmodels(p, name):
    from statsmodels.stats.multitest import multipletests

    library = {"hochberg": "simes-hochberg", "BH": "fdr_bh", "BY": "fdr_by"}.get(name, name)
    want = multipletests(p, method=library)[1]
    assert METHODS[name](p).adjusted == pytest.approx(want, abs=1e-9)


def test_nonsense_is_refused_and_nothing_gives_nothing():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([1.2])
    with pytest.raises(ValueError, match="planned"):
        holm([0.1, 0.2], planned=1)
    assert holm([]).adjusted == ()
    assert holm([None, None]).adjusted == (None, None)
    assert holm([0.01, 0.9]).rejected == (True, False)


@pytest.mark.parametrize(
    ("treatment", "control", "reason"),
    [
        ([], [], "empty"),
        ([1.0, 2.0], [], "missing_arm"),
        ([1.0], [1.0, 2.0], "too_few_units"),
        ([1.0, 1.0], [1.0, 1.0], "zero_variance"),
    ],
)
def test_degenerate_shared_controls_have_a_reason(treatment, control, reason):
    assert dunnett({"a": treatment}, control, seed=1)["a"].reason == reason


def test_max_t_of_one_metric_is_the_sign_flip_test():
    d = np.random.default_rng(1).normal(0.35, 1, 25)
    got = max_t({"only": d}, seed=1, draws=20_000)
    assert got.adjusted[0] == pytest.approx(sign_flip(d, seed=2).p, abs=0.01)


def test_max_t_of_few_units_is_the_whole_joint_law():
    rng = np.random.default_rng(2)
    d = {"a": rng.normal(0.6, 1, 9), "b": rng.normal(0, 1, 9)}
    signs = np.array(list(itertools.product([1, -1], repeat=9)))
    standard = np.column_stack([v / np.sqrt((v**2).sum()) for v in d.values()])
    largest = np.abs(signs @ standard).max(axis=1)
    expected = [(largest >= abs(column.sum()) - 1e-10).mean() for column in standard.T]
    got = max_t(d, seed=1)
    assert (got.adjusted, got.draws) == (pytest.approx(expected), 512)


def test_max_t_of_many_metrics_is_summed_block_by_block():
    rng = np.random.default_rng(3)
    d = {f"m{k}": rng.normal(0.4 if k == 0 else 0, 1, 15) for k in range(12)}
    signs = np.array(list(itertools.product([1, -1], repeat=15)))
    standard = np.column_stack([v / np.sqrt((v**2).sum()) for v in d.values()])
    largest = np.abs(signs @ standard).max(axis=1)
    expected = [(largest >= abs(column.sum()) - 1e-10).mean() for column in standard.T]
    got = max_t(d, seed=1)
    assert (got.adjusted, got.draws) == (pytest.approx(expected), 2**15)


def test_max_t_does_not_pay_twice_for_the_same_metric_and_skips_constants():
    d = np.random.default_rng(1).normal(0.5, 1, 40)
    alone = max_t({"a": d}, seed=1)
    doubled = max_t({"a": d, "again": d, "nothing": np.zeros(40)}, seed=1)
    assert doubled.adjusted[0] == pytest.approx(alone.adjusted[0], abs=0.01)
    assert doubled.adjusted[2] is None
    assert max_t({}, seed=1).names == ()
    assert min(p for p in doubled.adjusted if p is not None) > 0
