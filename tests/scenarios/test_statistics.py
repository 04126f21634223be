"""The numbers of a batch: worked examples, planted effects found, nothing found where none is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.families.scenarios import patterns, summaries
from peira.families.scenarios.analysis import Results
from peira.families.scenarios.batch import Batch, Trial
from peira.families.scenarios.effects import columns
from peira.families.scenarios.settings import Metric
from peira.stats.factorial import (
    any_level_p,
    blocked_factorial,
    factor_contrast,
    variance_shares,
)
from peira.stats.meta import shrunken_rates
from peira.stats.tables import chi_squared_permutation
from tests.scenarios.conftest import LEVEL
from tests.scenarios.planted import METRIC, batch_of, planted


def test_four_values_of_six_trials() -> None:
    values = [2.0, 4.0, 4.0, 5.0, None, None]
    trials = [
        Trial(f"r{i}", 1, i, i, "done", None, None, {}, final={"x": v},
              reasons={} if v is not None else {"x": "no_match"})
        for i, v in enumerate(values)
    ]  # fmt: skip
    found = summaries.metric_summary("x", Metric.model_validate(LEVEL), trials, pooled=True)
    assert (found["n"], found["missing"], found["missing_reasons"]) == (4, 2, {"no_match": 2})
    assert found["mean"] == 3.75 and found["std"] == pytest.approx(1.258, abs=5e-4)
    assert found["ci"] == pytest.approx([1.748, 5.752], abs=5e-4)


def test_seven_of_ten_has_wilsons_interval() -> None:
    trials = [Trial(f"r{i}", 1, i, i, "done", None, None, {}, success=i < 7) for i in range(10)]
    found = summaries.success_summary(trials, True)
    assert found["success_rate"] == 0.7
    assert found["success_ci"] == pytest.approx([0.397, 0.892], abs=5e-4)


def test_lost_trials_count_as_not_met_and_bounds_say_what_they_hide() -> None:
    trials = [
        Trial("a", 1, 1, 1, "done", None, None, {}, success=True),
        Trial("b", 1, 2, 1, "failed", "provider", None, {}),
        Trial("c", 1, 3, 1, "done", None, None, {}, success=None),
        Trial("d", 1, 4, 1, "pending", None, None, {}),
    ]
    found = summaries.success_summary(trials, True)
    assert found["success_rate"] == 0.25 and found["success_bounds"] == [0.25, 1.0]
    assert found["success_done"]["rate"] == 1.0 and found["success_done"]["n"] == 1


CELLS = blocked_factorial(
    [1, 3, 5, 3, 5, 7, 9, 7], {"A": list("aaaabbbb"), "B": list("xxyyxxyy")}, [1, 2] * 4
)


def test_the_worked_variance_table() -> None:
    table = variance_shares(CELLS)
    sums = {term: round(share.ss or 0.0, 9) for term, share in table.items()}
    assert sums == {"A": 32.0, "B": 8.0, "A × B": 0.0, "replicate": 0.0, "residual": 8.0}
    omega = [table[term].omega2 for term in ("A", "B", "A × B")]
    assert omega == pytest.approx([0.579, 0.105, -0.053], abs=5e-4)


def test_contrasts_are_differences_of_cell_means() -> None:
    effect = factor_contrast(CELLS, ("A", 0, 1), seed=1)
    assert effect.estimate == pytest.approx(4.0) and effect.df == 3
    assert effect.p == pytest.approx(0.125)  # 2 of the 16 ways to swap labels in four strata
    both = factor_contrast(CELLS, ("A", 0, 1), ("B", 0, 1), seed=1)
    assert both.estimate == pytest.approx(0.0, abs=1e-9)


def test_an_incomplete_replicate_still_counts() -> None:
    data = blocked_factorial(
        [1, 3, 5, 3, 5, 7, 9, None], {"A": list("aaaabbbb"), "B": list("xxyyxxyy")}, [1, 2] * 4
    )
    effect = factor_contrast(data, ("A", 0, 1), seed=1)
    assert (effect.n, effect.missing) == (7, 1) and effect.low is not None


def test_undefined_contrasts_have_a_reason() -> None:
    lone = blocked_factorial([1, 2], {"A": ["a", "b"]}, [1, 1])
    assert factor_contrast(lone, ("A", 0, 1), seed=1).reason == "too_few_units"
    alike = blocked_factorial([1, 1, 1, 1], {"A": ["a", "b"] * 2}, [1, 1, 2, 2])
    assert factor_contrast(alike, ("A", 0, 1), seed=1).reason == "zero_variance"
    nothing = blocked_factorial([None, None], {"A": ["a", "b"]}, [1, 1], {"A": ("a", "b")})
    assert nothing.n == 0 and nothing.levels == {}


def test_empty_cells_leave_interactions_undefined() -> None:
    data = blocked_factorial([1, 3, 5, 3, 5, 7], {"A": list("aaaabb"), "B": list("xxyyxx")},
                            [1, 2] * 3)  # fmt: skip
    table = variance_shares(data)
    assert table["A × B"].ss is None and table["A × B"].reason == "not_identified"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=12, max_size=12), st.floats(-3, 3), st.floats(0.1, 4))
def test_contrasts_move_and_scale_with_the_values(
    y: list[float], shift: float, scale: float
) -> None:
    factors = {"A": ["a", "b"] * 6, "B": ["x", "x", "y", "y"] * 3}
    blocks = [1] * 4 + [2] * 4 + [3] * 4
    one = factor_contrast(blocked_factorial(y, factors, blocks), ("A", 0, 1), seed=1)
    moved = [scale * v + shift for v in y]
    two = factor_contrast(blocked_factorial(moved, factors, blocks), ("A", 0, 1), seed=1)
    assert two.estimate == pytest.approx(scale * (one.estimate or 0.0), abs=1e-6)
    order = np.random.default_rng(1).permutation(12)
    shuffled = blocked_factorial(
        [y[i] for i in order], {n: [c[i] for i in order] for n, c in factors.items()},
        [blocks[i] for i in order], {"A": ("a", "b"), "B": ("x", "y")},
    )  # fmt: skip
    again = factor_contrast(shuffled, ("A", 0, 1), seed=1)
    assert again.estimate == pytest.approx(one.estimate, abs=1e-9)
    assert again.p == pytest.approx(one.p)


def test_three_levels_have_an_omnibus_p() -> None:
    rng = np.random.default_rng(3)
    levels = ["a", "b", "c"] * 12
    y = [float(v) + (2.0 if level == "c" else 0.0) for v, level in
         zip(rng.normal(size=36), levels, strict=True)]  # fmt: skip
    data = blocked_factorial(y, {"A": levels}, [i // 3 for i in range(36)])
    test = any_level_p(data, "A", seed=5)
    assert test is not None and test.p < 0.01
    codes = blocked_factorial([0.0, 1.0, 1.0] * 12, {"A": levels}, [i // 3 for i in range(36)])
    chi = chi_squared_permutation(codes.codes["A"], codes.y, seed=5, strata=codes.strata("A"))
    assert not isinstance(chi, str) and chi.p < 0.001


def test_a_planted_effect_is_found_and_a_null_is_not() -> None:
    """A small share of the 200-seed gate of benchmarks/bench_scenarios.py."""
    covered = found = false = nulls = 0
    for seed in range(25):
        results = Results(planted(seed, lift=1.5))
        tests = {(e.outcome, e.factor): e for e in results.effects.confirmatory}
        regulator = tests[METRIC, "regulator"].estimate
        assert regulator.low is not None and regulator.high is not None
        covered += regulator.low <= 1.5 <= regulator.high
        found += (tests[METRIC, "regulator"].p_adjusted or 1) < 0.05
        false += (tests[METRIC, "tech-company"].p_adjusted or 1) < 0.05
        null = Results(planted(1000 + seed, lift=0.0))
        nulls += any((e.p_adjusted or 1) < 0.05 for e in null.effects.confirmatory)
    assert covered >= 21 and found >= 24 and false <= 4 and nulls <= 4


def test_a_cause_of_success_is_listed_and_a_null_lists_nothing() -> None:
    strong = planted(1, lift=2.0, replicates=100, block_sd=0.0)
    found = patterns.identify(strong)
    assigned = [(f["factor"], f["level"]) for f in found["success_factors"] if f["cause"]]
    assert assigned == [("regulator", "firm")]
    row = next(f for f in found["success_factors"] if f["cause"])
    assert row["odds_ratio"] < 0.2 and row["ci"][1] < 1 and not row["simpson"]
    empty = sum(
        not patterns.identify(planted(100 + seed, lift=0.0))["success_factors"]
        for seed in range(20)
    )
    assert empty >= 19


def test_nothing_is_best_where_nothing_succeeded() -> None:
    none = batch_of([(v, r, {METRIC: 1.0}) for v in (1, 2) for r in range(1, 6)])
    found = patterns.identify(none)
    assert found["best_variation"] is None and found["success_factors"] == []
    assert found["failure_modes"][0] | {"ci": None} == {
        "mode": "high", "kind": "criterion", "n": 10, "share": 1.0, "ci": None,
        "by_variation": {"1": 5, "2": 5},
    }  # fmt: skip


def test_the_best_rate_is_shrunken_towards_the_mean() -> None:
    rates = shrunken_rates([(9, 10), (5, 10), (4, 10)])
    assert 0.6 < rates[0] < 0.9 and 0.4 < rates[2] < 0.6
    assert shrunken_rates([(1, 2)]) == [0.5]


def test_costs_have_intervals_and_free_batches_a_reason() -> None:
    rows = [(v, r, {METRIC: 9.0 if r % 2 else 1.0}) for v in (1, 2) for r in range(1, 21)]
    costly = batch_of(rows, cost=lambda v, r: 0.1 * v + 0.01 * r)
    first, second = summaries.cost_efficiency(costly)
    assert first["usd_per_success"] == pytest.approx(2 * first["usd_per_run"])
    assert first["ci"][0] < first["usd_per_success"] < first["ci"][1]
    assert first["pareto"] and not second["pareto"]
    free = summaries.cost_efficiency(batch_of(rows))[0]
    assert free["runs_per_dollar"] is None and free["reason"] == "free"


def test_a_trial_without_a_value_is_missing_whatever_the_levels_are_called() -> None:
    mood = Metric(description="mood", type="categorical", categories=("None", "Good"),
                  extraction_method="manual")  # fmt: skip
    batch = batch_of([(1, 1, {"mood": "None"}), (1, 2, {"mood": None}), (2, 1, None)])
    (column,) = [c for c in columns(replace(batch, metrics={"mood": mood})) if c.name == "mood"]
    assert column.values == (0.0, None, None)


def test_uneven_loss_warns() -> None:
    rows: list[Any] = [(1, r, {METRIC: 5.0}) for r in range(1, 11)]
    rows += [(2, r, None if r < 9 else {METRIC: 5.0}) for r in range(1, 11)]
    (said,) = summaries.loss_warnings(batch_of(rows))
    assert "Levels of seat lost trials at different rates" in said and "level 2: 8 of 10" in said
    assert summaries.loss_warnings(batch_of(rows[:10] + rows[18:])) == []


def test_loss_that_is_spread_over_the_variations_of_one_level_warns() -> None:
    trials = [
        Trial(f"r{v}-{r}", v, r, r, "failed" if v <= 9 and r == 1 + v % 4 else "done", None, None,
              {"side": "a" if v <= 9 else "b", "other": str(v % 9)}, f"variation {v}")
        for v in range(1, 19) for r in range(1, 9)
    ]  # fmt: skip
    levels = {"side": ("a", "b"), "other": tuple(str(v) for v in range(9))}
    batch = Batch("b", "s", tuple(trials), {}, {}, levels)
    (said,) = summaries.loss_warnings(batch)
    assert "Levels of side" in said and "most in a: 9 of 72" in said


def test_turns_after_an_early_end_are_ended_not_missing() -> None:
    trial = Trial("a", 1, 1, 1, "done", None, None, {}, turns=1,
                  by_turn={0: {METRIC: 4.0}, 1: {METRIC: 5.0}}, final={METRIC: 5.0})  # fmt: skip
    batch = Batch("b", "s", (trial,), {METRIC: Metric.model_validate(LEVEL)}, {}, {}, length=3)
    points = summaries.trajectory(METRIC, batch.metrics[METRIC], batch)["1"]
    assert points["1"]["n"] == 1 and points["2"] == {
        "n": 0, "missing": 0, "ended": 1, "mean": None, "ci": None}  # fmt: skip
    assert summaries.change(METRIC, trial) == 1.0
