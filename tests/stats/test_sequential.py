"""Stop rules and the planner: published bounds, brute force, and pure decisions."""

from __future__ import annotations

import json
import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.stats import (
    ClusteredPairs,
    Goal,
    NonInferiority,
    PairedBinary,
    PairedMean,
    RoundRobin,
    ScenarioRuns,
    StopRule,
    TwoRates,
    anytime_p,
    asymptotic_sequence,
    best_of_k_inflation,
    best_rho,
    betting_sequence,
    capability_slope,
    characteristics,
    conditional_power,
    decide,
    e_benjamini_hochberg,
    empirical_bernstein_sequence,
    miller_units,
    pilot_sd,
    plan_power,
    spending_bounds,
    stagewise_p,
    sub_gaussian_sequence,
    theta_limits,
)
from peira.stats.confidence_sequences import log_e_value, normal_mixture_radius
from peira.stats.group_sequential import adjusted_result, exit_probabilities


def test_bounds_match_rpact():
    one = spending_bounds([1 / 3, 2 / 3, 1], alpha=0.025, sides=1)
    assert one.critical == pytest.approx((3.7103, 2.5114, 1.9930), abs=5e-5)
    two = spending_bounds([0.25, 0.5, 0.75, 1])
    assert two.critical == pytest.approx((4.3326, 2.9631, 2.3590, 2.0141), abs=5e-5)
    design = characteristics(two)
    assert design.inflation == pytest.approx(1.0196, abs=5e-5)
    assert design.expected_under_alternative == pytest.approx(0.839, abs=5e-4)


def test_classical_pocock_and_obrien_fleming_constants_have_level_five_percent():
    from peira.stats.group_sequential import Bounds

    t = tuple(k / 5 for k in range(1, 6))
    for critical in ((2.413,) * 5, tuple(2.040 / math.sqrt(f) for f in t)):
        bounds = Bounds(t, critical, (0.0,) * 5, 0.05, 2, "classical")
        upper, lower = exit_probabilities(bounds, 0.0)
        assert upper.sum() + lower.sum() == pytest.approx(0.05, abs=2e-4)


def test_exit_probabilities_agree_with_simulation():
    bounds = spending_bounds([0.3, 0.6, 1.0], spending="pocock")
    rng = np.random.default_rng(0)
    t = np.array(bounds.fractions)
    steps = rng.normal(size=(200_000, 3)) * np.sqrt(np.diff([0, *t])) + 2.0 * np.diff([0, *t])
    z = steps.cumsum(axis=1) / np.sqrt(t)
    crossed = np.abs(z) >= np.array(bounds.critical)
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), -1)
    upper, lower = exit_probabilities(bounds, 2.0)
    for k in range(3):
        assert (first == k).mean() == pytest.approx(upper[k] + lower[k], abs=4e-3)


def test_stagewise_estimate_is_median_unbiased():
    bounds = spending_bounds([0.5, 1.0])
    rng = np.random.default_rng(1)
    truth, above = 2.5, 0
    for _ in range(400):
        first = rng.normal(truth * math.sqrt(0.5), 1)
        final = math.sqrt(0.5) * first + math.sqrt(0.5) * rng.normal(truth * math.sqrt(0.5), 1)
        look, z = (0, first) if abs(first) >= bounds.critical[0] else (1, final)
        above += stagewise_p(bounds, look, z, truth) < 0.5
    assert above / 400 == pytest.approx(0.5, abs=0.08)
    result = adjusted_result(bounds, 1, 2.2)
    assert result.low < result.drift < result.high
    assert stagewise_p(bounds, 1, bounds.critical[1]) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("fractions", [[], [0.5, 0.5], [0.9, 0.3], [0.5, 1.2]])
def test_bad_looks_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions"):
        spending_bounds(fractions)


def test_conditional_power_is_the_share_of_paths_that_cross_at_the_end():
    bounds = spending_bounds([0.25, 0.5, 1.0])
    z, drift, steps = 1.2, 2.5, 50
    rng = np.random.default_rng(6)
    rest = rng.normal(drift * 0.5 / steps, math.sqrt(0.5 / steps), (20_000, steps)).sum(axis=1)
    share = float((z * math.sqrt(0.5) + rest > bounds.critical[-1]).mean())
    assert conditional_power(bounds, 1, z, drift) == pytest.approx(share, abs=0.011)
    assert conditional_power(bounds, 2, 3.0, drift) == 1.0


def test_e_values_have_mean_one_under_the_null():
    for m in (1, 5, 12):
        b = np.arange(m + 1)
        law = np.array([math.comb(m, k) for k in b]) / 2.0**m
        assert (law * np.exp(log_e_value(b, m - b))).sum() == pytest.approx(1)


def test_e_value_is_the_running_kt_bet():
    outcomes = [1, 1, 0, 1, 0, 1, 1, 1]
    wealth, b, c = 1.0, 0, 0
    for won in outcomes:
        chance = (b + 0.5) / (b + c + 1)
        wealth *= 2 * (chance if won else 1 - chance)
        b, c = b + won, c + 1 - won
    assert math.exp(log_e_value(b, c)) == pytest.approx(wealth)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=60))
def test_anytime_p_only_falls_and_stays_a_probability(d):
    p = [anytime_p(d[:k]) for k in range(len(d) + 1)]
    assert all(0 < value <= 1 for value in p)
    assert all(later <= earlier for earlier, later in pairwise(p))


@given(st.integers(0, 30), st.integers(0, 30))
def test_theta_limits_exclude_a_half_exactly_when_the_e_value_says_so(b, c):
    low, high = theta_limits(b, c)
    e = float(log_e_value(b, c))
    if abs(e - math.log(20)) > 1e-9:
        assert (low > 0.5 or high < 0.5) == (e > math.log(20))


def test_normal_mixture_radius_is_the_published_formula():
    assert normal_mixture_radius(100.0, 10.0) == pytest.approx(
        math.sqrt(110 * math.log(110 / (10 * 0.0025)))
    )


@pytest.mark.parametrize("kind", ["bernstein", "betting", "asymptotic"])
def test_sequences_cover_the_truth_at_all_times(kind):
    rng = np.random.default_rng(2)
    failed = 0
    for _ in range(150):
        x = rng.beta(2, 3, 200)
        if kind == "bernstein":
            sequence = empirical_bernstein_sequence(x, (0, 1))
        elif kind == "betting":
            sequence = betting_sequence(x, (0, 1))
        else:
            sequence = asymptotic_sequence(x, best_at=100)
        failed += bool((sequence.low > 0.4).any() or (sequence.high < 0.4).any())
        assert (sequence.low[1:] >= sequence.low[:-1]).all()
    assert failed / 150 <= 0.05 + 0.04


def test_e_bh_and_bad_range():
    assert e_benjamini_hochberg([100.0, 1.0, 0.5]) == [True, False, False]
    assert e_benjamini_hochberg([1.0, 1.0]) == [False, False]
    with pytest.raises(ValueError, match="range"):
        betting_sequence([2.0], (0, 1))


RULES = [
    StopRule("group-sequential", 200),
    StopRule("group-sequential", 200, futility=0.1),
    StopRule("e-process", 200, value_range=(-1, 1)),
    StopRule("confidence-sequence", 200, value_range=(-1, 1)),
    StopRule("confidence-sequence", 200, value_range=(-1, 1), margin=0.2),
]


@pytest.mark.parametrize("rule", RULES)
def test_a_strong_effect_stops_early_with_the_rules_own_interval(rule):
    d = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], p=[0.05, 0.45, 0.5], size=200)
    got = decide(rule, d)
    assert got.stop
    assert got.why == "efficacy"
    assert got.units < 200
    assert got.estimate.low < got.estimate.estimate < got.estimate.high
    assert "stopped_by_rule" in got.estimate.flags
    json.dumps(got.estimate.to_dict(), allow_nan=False)


@pytest.mark.parametrize("rule", RULES)
def test_a_decision_does_not_change_when_late_pairs_come_in(rule):
    d = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], p=[0.05, 0.45, 0.5], size=200)
    first = next(k for k in range(2, 201) if decide(rule, d[:k]).stop)
    for k in (first + 1, first + 7, 200):
        assert decide(rule, d[:k]) == decide(rule, d[:first])


@pytest.mark.parametrize("rule", RULES[:4])
def test_nothing_to_find_runs_to_the_planned_end(rule):
    d = np.tile([1.0, -1.0, 0.0, 0.0], 50)
    got = decide(rule, d)
    assert got.stop
    assert got.why in ("planned end", "futility")
    assert not decide(rule, d[:10]).stop


def test_a_margin_stops_for_equivalence():
    rule = StopRule("confidence-sequence", 2000, value_range=(-1, 1), margin=0.2)
    d = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], p=[0.02, 0.96, 0.02], size=2000)
    assert decide(rule, d).why == "equivalence"


@pytest.mark.parametrize("rule", RULES)
def test_degenerate_looks_never_stop_for_efficacy(rule):
    assert decide(rule, []).estimate.reason == "empty"
    assert decide(rule, [0.5]).estimate.reason == "single_unit"
    zero = decide(rule, np.zeros(60))
    assert zero.why != "efficacy"
    assert zero.estimate.p is None or zero.estimate.p == 1
    assert decide(rule, [None, 1.0, float("nan")]).estimate.missing == 2


def test_a_clean_sweep_has_an_interval_of_its_own():
    got = decide(StopRule("e-process", 50), [1.0] * 40)
    assert (got.why, got.units) == ("efficacy", 20)
    assert 0 < got.estimate.low < got.estimate.high <= 1
    assert got.estimate.p <= 0.05
    assert got.estimate.extra["theta_low"] > 0.5
    uneven = decide(StopRule("e-process", 50, value_range=(-9, 9)), [0.1] * 40).estimate
    assert "interval_and_test_disagree" in uneven.flags
    flat = decide(StopRule("confidence-sequence", 50), [1.0] * 40).estimate
    assert (flat.low, flat.reason) == (None, "not_identified")


def test_bad_rules_are_refused():
    with pytest.raises(ValueError, match="method"):
        StopRule("peek", 100)
    with pytest.raises(ValueError, match="last look"):
        StopRule("group-sequential", 100, looks=(0.5,))
    with pytest.raises(ValueError, match="units"):
        StopRule("e-process", 1)


def test_planner_matches_the_published_numbers():
    within = {"within_treatment": 1 / 6, "within_control": 1 / 6}
    units = [miller_units(PairedMean(1 / 9, **within, replicates=k), 0.03) for k in (1, 10, 10**9)]
    assert units == [3876, 1260, 969]
    assert plan_power(NonInferiority(0.35, 0.02), Goal(0.0)).n == pytest.approx(1894, abs=2)
    assert plan_power(NonInferiority(0.35, 0.01), Goal(0.0)).n == pytest.approx(7600, rel=0.01)
    assert [round(best_of_k_inflation(k), 2) for k in (2, 5, 10, 24)] == [0.56, 1.16, 1.54, 1.95]
    deff = ClusteredPairs(1.0, 10, 0.05, size_cv=0.5).design_effect
    assert deff == pytest.approx(1 + ((1 + 0.25) * 10 - 1) * 0.05)


def test_paired_t_power_equals_the_library():
    from statsmodels.stats.power import TTestPower

    for n, d in ((10, 0.2), (50, 0.3), (200, 0.1)):
        want = TTestPower().power(d, n, 0.05)
        assert PairedMean(1.0).power(n, d, 0.05) == pytest.approx(want, rel=1e-8)


def test_scenario_power_equals_the_library():
    from statsmodels.stats.power import FTestAnovaPower

    n, cells, effect = 12, 4, 0.8
    f = effect / math.sqrt(2 * cells)
    want = FTestAnovaPower().power(f, n * cells, 0.05, k_groups=cells)
    assert ScenarioRuns(1.0, cells).power(n, effect, 0.05) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("design", "effect"),
    [
        (PairedMean(0.25), 0.1),
        (ClusteredPairs(0.35, 4, 0.2), 0.05),
        (PairedBinary(0.15), 0.05),
        (PairedBinary(0.15, test="exact"), 0.05),
        (TwoRates(0.5), 0.1),
        (ScenarioRuns(1.0, 6), 1.0),
        (RoundRobin(0.4, 1.0, draws=500), 0.3),
    ],
)
def test_a_plan_reaches_its_power_and_its_effect_is_the_smallest_seen(design, effect):
    plan = plan_power(design, Goal(effect, unit_cost=0.5))
    assert plan.achieved_power >= 0.8
    assert plan.mde == pytest.approx(effect, rel=0.05)
    assert plan.cost == pytest.approx(plan.n * 0.5)
    assert [n for n, _ in plan.curve] == sorted({n for n, _ in plan.curve})
    json.dumps(plan.to_dict(), allow_nan=False)


def test_power_over_models_is_that_of_analysing_whole_tournaments():
    models, runs, rng = 6, 200, np.random.default_rng(8)
    design = RoundRobin(model_sd=0.3, game_sd=1.0, seeds=2)
    first, second = np.array(list(permutations(range(models), 2)) * 2).T
    x = np.linspace(-1, 1, models) / np.linspace(-1, 1, models).std(ddof=1)
    found = 0
    for _ in range(runs):
        skill = 0.5 * x + rng.normal(0, 0.3, models)
        y = skill[first] - skill[second] + rng.normal(0, 1, first.size)
        found += capability_slope(first, second, y, dict(enumerate(x))).p <= 0.05
    assert design.power(models, 0.5, 0.05) == pytest.approx(found / runs, abs=0.1)


def test_a_budget_too_small_cannot_conclude():
    plan = plan_power(PairedMean(0.25), Goal(0.1, unit_cost=0.01, budget=1.0))
    assert plan.flags == ("cannot_conclude",)
    assert plan.affordable == 100
    assert plan.power_affordable < 0.8
    assert plan.mde > 0.1
    hopeless = plan_power(PairedBinary(0.04), Goal(0.05))
    assert (hopeless.n, hopeless.reason) == (None, "not_reached")
    with pytest.raises(ValueError, match="unit_cost"):
        Goal(0.1, budget=5.0)


@settings(max_examples=20)
@given(st.integers(2, 60), st.floats(0.05, 1.0))
def test_power_grows_with_n_and_effect(n, effect):
    design = PairedMean(1.0)
    assert design.power(n + 1, effect, 0.05) >= design.power(n, effect, 0.05) - 1e-9
    assert design.power(n, effect * 1.1, 0.05) >= design.power(n, effect, 0.05) - 1e-9


@pytest.mark.parametrize(
    "design",
    [
        lambda: PairedMean(0.0),
        lambda: ClusteredPairs(0.0, 4, 0.1),
        lambda: PairedBinary(0.0),
        lambda: PairedBinary(1.2),
        lambda: NonInferiority(0.3, 0.0),
        lambda: ScenarioRuns(float("nan")),
        lambda: RoundRobin(0.1, 0.0),
    ],
)
def test_designs_without_spread_cannot_be_planned(design):
    with pytest.raises(ValueError, match=r"must be positive|discordance"):
        design()


def test_pilot_bound_is_above_the_pilot():
    got = pilot_sd([0.1, 0.2, 0.5, 0.3, None])
    assert got.high > got.estimate
    assert got.missing == 1
    assert pilot_sd([1.0, 1.0]).reason == "zero_variance"
    assert pilot_sd([]).reason == "empty"


def test_two_rates_power_equals_the_library():
    from statsmodels.stats.proportion import power_proportions_2indep

    for rate, effect, n in ((0.5, 0.1, 200), (0.2, -0.1, 80), (0.9, 0.05, 400)):
        want = power_proportions_2indep(effect, rate, n, alpha=0.05)
        assert TwoRates(rate).power(n, effect, 0.05) == pytest.approx(float(want.power), abs=1e-9)


def test_the_mixture_is_tightest_where_it_is_told_to_be():
    rho = best_rho(100.0)
    here = normal_mixture_radius(100.0, rho)
    assert here < min(normal_mixture_radius(100.0, rho * f) for f in (0.5, 0.9, 1.1, 2.0))
    steady = sub_gaussian_sequence(np.full(100, 0.5), 0.5, best_at=100)
    assert steady.high[-1] - 0.5 == pytest.approx(
        float(normal_mixture_radius(25.0, best_rho(25.0))) / 100
    )


def test_predictable_bernstein_and_betting_are_their_published_sums():
    x = np.random.default_rng(1).beta(2, 5, 30)
    mean, variance, bets, total, weighted, penalty = 0.5, 0.25, [], 0.0, 0.0, 0.0
    lows, highs = [], []
    for t, value in enumerate(x.tolist(), start=1):
        bet = math.sqrt(2 * math.log(40) / (variance * t * math.log(t + 1)))
        bets.append(bet)
        capped = min(bet, 0.5)
        total, weighted = total + capped, weighted + capped * value
        penalty += (-math.log(1 - capped) - capped) * (value - mean) ** 2
        half = (math.log(40) + penalty) / total
        lows.append(max(0.0, weighted / total - half))
        highs.append(min(1.0, weighted / total + half))
        mean = (0.5 + float(x[:t].sum())) / (t + 1)
        means = [(0.5 + float(x[:s].sum())) / (s + 1) for s in range(1, t + 1)]
        variance = (0.25 + sum((v - m) ** 2 for v, m in zip(x[:t], means, strict=True))) / (t + 1)
    found = empirical_bernstein_sequence(x, (0, 1))
    assert found.low == pytest.approx(np.maximum.accumulate(lows))
    assert found.high == pytest.approx(np.minimum.accumulate(highs))
    betting = betting_sequence(x, (0, 1), grid=100)
    for m in (0.05, 0.2, 0.35, 0.6, 0.9):
        up = down = 0.0
        for value, bet in zip(x, bets, strict=True):
            up += math.log1p(min(bet, 0.5 / m) * (value - m))
            down += math.log1p(-min(bet, 0.5 / (1 - m)) * (value - m))
        if max(up, down) >= math.log(40):  # left by the end, if not before
            assert not betting.low[-1] + 0.01 < m < betting.high[-1] - 0.01
