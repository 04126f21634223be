"""Batches of runs: tables, variance shares, patterns, survival, selective prediction, pooling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.stats import (
    anova,
    area_under_curve,
    calibration,
    candidate_patterns,
    chi_squared_permutation,
    clustered_mcnemar,
    cochran_q,
    compare_risk_coverage,
    deal_outcomes,
    differential_loss,
    fisher_exact,
    gini,
    kaplan_meier,
    mantel_haenszel,
    meta_analysis,
    mine_patterns,
    missing_bounds,
    partial_eta2_limits,
    permuted_factor_p,
    permuted_p,
    prediction_powered_mean,
    rate_max_t,
    ratio_of_sums,
    risk_at_coverage,
    risk_coverage,
    rogan_gladen,
    shrunken_means,
    sobol_indices,
)


def test_reml_maximises_the_restricted_likelihood():
    y, v = np.array([0.03, 0.08, -0.01, 0.12, 0.05]), np.array([0.02, 0.03, 0.025, 0.04, 0.02]) ** 2

    def loss(tau2):
        w = 1 / (v + tau2)
        mean = w @ y / w.sum()
        return (np.log(v + tau2)).sum() + np.log(w.sum()) + w @ (y - mean) ** 2

    got = meta_analysis(y, np.sqrt(v), tau="REML").tau2
    assert loss(got) <= min(loss(got * 0.98), loss(got * 1.02)) + 1e-12


def test_shrinkage_draws_the_best_toward_the_rest():
    y = [0.1, 0.2, 0.9, None]
    got = shrunken_means(y, [0.2, 0.2, 0.2, 0.2])
    assert got[3] is None
    assert 0.2 < got[2] < 0.9
    assert meta_analysis([0.1], [0.1]).random.reason == "single_unit"
    assert meta_analysis([], []).random.reason == "empty"


@given(*[st.integers(0, 8)] * 4)
def test_fisher_agrees_with_enumerating_the_tables(a, b, c, d):
    got = fisher_exact(a, b, c, d)
    if 0 in (a + b, c + d, a + c, b + d):
        assert got.reason in ("empty", "missing_arm", "all_tied")
        assert got.estimate is None
        return
    n, row, column = a + b + c + d, a + b, a + c
    law = {
        k: math.comb(row, k) * math.comb(n - row, column - k) / math.comb(n, column)
        for k in range(max(0, column + row - n), min(row, column) + 1)
    }
    expected = sum(p for p in law.values() if p <= law[a] * (1 + 1e-9))
    assert got.p == pytest.approx(expected)
    assert 0 < got.p <= 1


def test_mantel_haenszel_matches_statsmodels():
    from statsmodels.stats.contingency_tables import StratifiedTable

    tables = np.array([[[8, 4], [3, 9]], [[5, 5], [2, 7]], [[10, 2], [6, 6]]])
    want = StratifiedTable([t.astype(float) for t in tables])
    got = mantel_haenszel(tables)
    assert got.estimate == pytest.approx(want.oddsratio_pooled)
    assert (got.low, got.high) == pytest.approx(want.oddsratio_pooled_confint())
    assert got.p == pytest.approx(want.test_null_odds(correction=False).pvalue)
    empty = mantel_haenszel([[[0, 0], [3, 4]]])
    assert (empty.reason, empty.missing) == ("empty", 1)
    assert mantel_haenszel([[[5, 0], [0, 5]]]).reason == "separation"


def test_cochran_q_matches_statsmodels_and_two_arms_are_mcnemar():
    from statsmodels.stats.contingency_tables import cochrans_q

    x = np.random.default_rng(0).integers(0, 2, (30, 3))
    want, got = cochrans_q(x), cochran_q(x)
    assert (got.estimate, got.p) == pytest.approx((want.statistic, want.pvalue))
    b, c = ((x[:, 0] > x[:, 1]).sum(), (x[:, 0] < x[:, 1]).sum())
    assert cochran_q(x[:, :2]).estimate == pytest.approx((b - c) ** 2 / (b + c))
    assert cochran_q([[1, 1], [0, 0]]).reason == "no_discordant_pairs"
    assert cochran_q([[1], [0]]).reason == "missing_arm"


def test_degenerate_clustered_tables_have_a_reason():
    assert clustered_mcnemar([], [], []).reason == "empty"
    assert clustered_mcnemar([1], [0], ["a"]).reason == "rank_deficient"
    assert clustered_mcnemar([1, 0], [1, 0], ["a", "b"]).reason == "no_discordant_pairs"


def test_permutation_chi_squared_agrees_with_enumeration():
    rows, columns = "aaabbb", "xxyyxx"
    got = chi_squared_permutation(rows, columns, seed=1)

    def statistic(labels):
        return abs(sum(r == "a" and s == "x" for r, s in zip(rows, labels, strict=True)) - 2)

    orders = list(itertools.permutations(columns))
    expected = np.mean([statistic(o) >= statistic(columns) for o in orders])
    assert (got.p, got.how, got.arrangements) == (pytest.approx(expected), "exact", 15)
    assert chi_squared_permutation("aaa", "xyx", seed=1) == "all_tied"
    assert chi_squared_permutation([], [], seed=1) == "empty"


def test_too_many_arrangements_are_drawn_with_their_error():
    from scipy.stats import chi2_contingency

    table = np.array([[30, 20, 10], [20, 25, 30]])
    rows = np.repeat([0, 1], table.sum(axis=1)).tolist()
    columns = np.concatenate([np.repeat([0, 1, 2], line) for line in table]).tolist()
    got = chi_squared_permutation(rows, columns, seed=1, draws=2000)
    assert got.how == "Monte Carlo"
    assert got.p == pytest.approx(chi2_contingency(table).pvalue, abs=4 * got.mc_error)


def test_a_statistic_below_zero_has_the_same_p_as_above():
    from peira.stats.permutation import permuted_p

    values = np.array([3.0, 1.0, 1.0, 1.0])  # a quarter of all arrangements tie with the first
    above, below = (
        permuted_p(values, None, lambda y, by=by: y[:, 0] + by, seed=1, draws=999).p
        for by in (0.0, -10.0)
    )
    assert above == below > 0.1


def test_arrangements_of_labels_keep_each_strata_and_come_once():
    from peira.stats.permutation import rearrangements

    labels, strata = np.array([0, 1, 2, 0, 1, 1]), list("xxxyyy")
    whole = itertools.product(
        itertools.permutations(labels[:3]), itertools.permutations(labels[3:])
    )
    expected = {(*one, *other) for one, other in whole}
    found = rearrangements(labels, strata).tolist()
    assert (len(found), {tuple(row) for row in found}) == (18, expected)
    assert rearrangements(np.arange(10), None) is None


def test_a_permuted_statistic_of_a_small_design_is_enumerated():
    y, strata = np.array([0.3 - 0.2, 0.1, 0.7, 0.4, 0.9]), list("xxyyy")

    def statistic(rows):
        return np.abs(rows[:, 0] - rows[:, 1]) + np.abs(rows[:, 2] - 2 * rows[:, 3])

    orders = [
        [*a, *b] for a in itertools.permutations(y[:2]) for b in itertools.permutations(y[2:])
    ]
    every = statistic(np.array(orders))
    got = permuted_p(y, strata, statistic, seed=1)
    assert got.p == pytest.approx(np.mean(every >= every[0] - 1e-10))
    assert (got.how, got.arrangements, got.mc_error) == (
        "exact",
        6,
        None,
    )  # 0.3 - 0.2 ties with 0.1
    drawn = permuted_p(np.arange(30.0), None, lambda rows: rows[:, 0], seed=4, draws=99)
    assert (drawn.how, drawn.seed) == ("Monte Carlo", 4)


def test_rates_of_a_small_batch_are_compared_over_every_arrangement_of_its_blocks():
    rng = np.random.default_rng(2)
    block, cell = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    mixed = rng.permutation(9)
    outcome = np.array([1.0, 0, 0, 1, 1, 0, 1, 1, 0])[mixed]
    has = np.stack([cell == 0, cell == 1, rng.random(9) < 0.5])[:, mixed].astype(float)
    grid = np.empty((3, 3))
    grid[block[mixed], cell[mixed]] = outcome
    every = [
        np.array([[grid[b][c] for c in inner] for b, inner in zip(outer, within, strict=True)])
        for outer in itertools.permutations(range(3))
        for within in itertools.product(itertools.permutations(range(3)), repeat=3)
    ]

    def gaps(y):
        n1, n0 = has.sum(axis=1), (1 - has).sum(axis=1)
        pooled = y.mean()
        spread = np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
        return np.abs(has @ y / n1 - (1 - has) @ y / n0) / spread

    largest = np.array([gaps(each[block[mixed], cell[mixed]]).max() for each in every])
    expected = [np.mean(largest >= value - 1e-9) for value in gaps(outcome)]
    got = rate_max_t(outcome, has, block[mixed], cell[mixed], seed=1)
    assert [each.p for each in got] == pytest.approx(expected)
    assert {(each.how, each.arrangements) for each in got} == {("exact", 3 * 27)}
    uneven = rate_max_t(outcome[:-1], has[:, :-1], block[mixed][:-1], cell[mixed][:-1], seed=1)
    assert {each.how for each in uneven} == {"exact"}


def test_anova_matches_statsmodels_and_shows_the_noise():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(3)
    a, b = np.tile(["x", "y"], 24), np.repeat(["p", "q", "r"], 16)
    y = rng.normal(size=48) + (a == "x") + 0.5 * (b == "q")
    y[:3] = np.nan
    frame = pd.DataFrame({"y": y, "a": a, "b": b}).dropna()
    want = anova_lm(ols("y ~ a * b", frame).fit(), typ=2)
    got = anova(y, {"a": a.tolist(), "b": b.tolist()})
    for effect, name in zip(got.effects, ("a", "b", "a:b"), strict=True):
        assert effect.sum_of_squares == pytest.approx(want.loc[name, "sum_sq"])
        assert (effect.f, effect.p) == pytest.approx(
            (want.loc[name, "F"], want.loc[name, "PR(>F)"])
        )
        assert (effect.partial_low > 0) == (effect.p < 0.05)
    assert (got.missing, got.balanced) == (3, False)
    assert got.noise_share == pytest.approx(
        want.loc["Residual", "sum_sq"] / ((frame.y - frame.y.mean()) ** 2).sum()
    )


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([], "empty"),
        ([1.0, 2.0], "too_few_units"),
        ([1.0] * 8, "zero_variance"),
        ([None, None], "empty"),
    ],
)
def test_degenerate_batches_have_a_reason(y, reason):
    labels = (["x", "y"] * 8)[: len(y)]
    got = anova(y, {"f": labels})
    assert got.reason == reason
    assert got.effects == ()


def test_a_missing_cell_is_rank_deficient_not_guessed():
    y = [1.0, 2.0, 3.0, 4.0, 5.5, 6.0]
    got = anova(y, {"a": list("xxxxyy"), "b": list("ppqqpp")})
    assert got.reason == "rank_deficient"


def test_omega_squared_may_be_negative_for_noise():
    y = np.tile([0.0, 1.0], 10)
    got = anova(y, {"f": np.repeat(["p", "q"], 10).tolist()}).effects[0]
    assert got.omega2 < 0


def test_limits_of_partial_eta2_put_the_observed_f_at_the_tails():
    from scipy.stats import ncf

    low, high = partial_eta2_limits(6.0, 3, 40, level=0.9)
    for limit, tail in ((low, 0.95), (high, 0.05)):
        assert ncf.cdf(6.0, 3, 40, 44 * limit / (1 - limit)) == pytest.approx(tail, abs=1e-6)
    assert partial_eta2_limits(0.1, 3, 40)[0] == 0


def test_sobol_indices_of_ishigami():
    def ishigami(x):
        return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])

    box = dict.fromkeys("abc", (-math.pi, math.pi))
    got = sobol_indices(ishigami, box, seed=1, n=2**14)
    assert got.first == pytest.approx((0.3139, 0.4424, 0.0), abs=0.01)
    assert got.total == pytest.approx((0.5576, 0.4424, 0.2437), abs=0.01)
    assert sobol_indices(lambda x: np.ones(len(x)), box, seed=1, n=64).reason == "zero_variance"


def test_permuted_factor_sees_through_blocks():
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(10), 4)
    factor = np.tile(["x", "x", "y", "y"], 10)
    y = 5.0 * rng.normal(size=10)[block] + (factor == "x") + 0.3 * rng.normal(size=40)
    few = [y[:8], factor[:8].tolist()]
    orders = itertools.product(itertools.permutations("xxyy"), repeat=2)
    centred = few[0] - np.repeat(few[0].reshape(2, 4).mean(axis=1), 4)
    gaps = [abs(centred @ (np.array([*a, *b]) == "x")) for a, b in orders]
    expected = np.mean(np.array(gaps) >= abs(centred @ (factor[:8] == "x")) - 1e-9)
    exact = permuted_factor_p(*few, strata=block[:8].tolist(), seed=1)
    assert (exact.p, exact.arrangements) == (pytest.approx(expected), 36)
    inside = permuted_factor_p(y, factor.tolist(), strata=block.tolist(), seed=1, draws=999)
    assert inside.p == pytest.approx(0.001)
    assert permuted_factor_p(y, factor.tolist(), seed=1, draws=999).p > 0.05
    assert permuted_factor_p([1.0, 1.0], ["a", "b"], seed=1) == "zero_variance"
    assert permuted_factor_p([], [], seed=1) == "empty"


def test_patterns_planted_are_found_and_confirmed_and_noise_is_not():
    rng = np.random.default_rng(1)
    n = 400
    planted = rng.integers(0, 2, n)
    noise = {f"noise {i}": rng.integers(0, 2, n) for i in range(20)}
    scenario = np.repeat(np.arange(40), 10).tolist()
    y = (rng.random(n) < 0.2 + 0.5 * planted).astype(float)
    found = mine_patterns(y, {**noise, "planted": planted}, scenario, seed=2, draws=499)
    assert [p.name for p in found.confirmed] == ["planted"]
    assert found.candidates == 21
    assert found.auc > 0.6
    nothing = mine_patterns(rng.integers(0, 2, n), noise, scenario, seed=2, draws=499)
    assert nothing.confirmed == ()
    assert nothing.auc is None


def test_the_adjusted_p_of_one_candidate_is_its_own_permutation_p():
    rng = np.random.default_rng(5)
    y, pattern = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    found = mine_patterns(y, {"p": pattern}, range(60), seed=4, draws=4999)
    half = np.random.default_rng(4).permutation(60)[:30]
    rows = np.isin(np.arange(60), half)
    n, hits, with_it = 30, int(y[rows].sum()), int(pattern[rows].sum())
    both = int((y * pattern)[rows].sum())
    law = {k: math.comb(hits, k) * math.comb(n - hits, with_it - k) / math.comb(n, with_it)
           for k in range(max(0, with_it + hits - n), min(hits, with_it) + 1)}  # fmt: skip
    middle = hits * with_it / n
    expected = sum(p for k, p in law.items() if abs(k - middle) >= abs(both - middle) - 1e-9)
    assert found.discovery[0].adjusted_p == pytest.approx(expected, abs=0.03)


def test_patterns_below_support_are_not_tested():
    y = [0.0, 1.0] * 20
    rare = [1] + [0] * 39
    found = mine_patterns(y, {"rare": rare}, list(range(40)), seed=1, draws=99)
    assert (found.below_support, found.discovery) == (1, ())
    assert list(candidate_patterns({"f": ["a", "b"], "g": ["x", "x"]})) == ["f = b"]


def test_simpsons_paradox_is_flagged():
    # Charig et al. 1986: treatment A is better for small and for large stones, worse pooled.
    cells = [(1, 0, 81, 87), (1, 1, 192, 263), (0, 0, 234, 270), (0, 1, 55, 80)]
    rows = [
        (treatment, float(k < hits), stone) for treatment, stone, hits, n in cells for k in range(n)
    ]
    column, y, strata = (list(part) for part in zip(*rows, strict=True))
    units = list(range(len(y)))
    found = mine_patterns(y, {"A": column}, units, strata=strata, seed=3, draws=99)
    assert found.discovery[0].odds_ratio.estimate < 1
    assert found.discovery[0].simpson
    assert not mine_patterns(y, {"A": column}, units, seed=3, draws=99).discovery[0].simpson


def test_area_under_curve_is_the_share_of_ordered_pairs():
    s, y = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 1, 0, 1])
    pairs = [(a > b) + 0.5 * (a == b) for a in s[y == 1] for b in s[y == 0]]
    assert area_under_curve(s, y) == pytest.approx(np.mean(pairs))
    assert area_under_curve(s, np.ones(4)) is None


def test_kaplan_meier_matches_statsmodels():
    from statsmodels.duration.survfunc import SurvfuncRight

    rng = np.random.default_rng(0)
    t, event = rng.integers(1, 12, 60).astype(float), rng.integers(0, 2, 60)
    want, got = SurvfuncRight(t, event), kaplan_meier(t, event)
    assert got.time == pytest.approx(want.surv_times)
    assert got.survival == pytest.approx(want.surv_prob)
    low, high = want.quantile_ci(0.5, method="cloglog")
    assert got.median.estimate == want.quantile(0.5)
    assert (got.median.low, got.median.high or math.inf) == (low, high)


@pytest.mark.parametrize(
    ("time", "event", "reason"),
    [([], [], "empty"), ([5, 5], [0, 0], "not_reached"), ([None], [1], "empty")],
)
def test_survival_without_events_is_not_a_time(time, event, reason):
    assert kaplan_meier(time, event).median.reason == reason


def test_gini_is_the_mean_gap_between_any_two_over_twice_the_mean():
    assert gini([0, 0, 0, 1]) == pytest.approx(3 / 4)
    assert gini([2, 2, None, 2]) == 0
    x = np.array([1.0, 2, 3, 4, 10])
    assert gini(x) == pytest.approx(np.abs(np.subtract.outer(x, x)).mean() / (2 * x.mean()))
    assert gini([0, 0]) is gini([]) is gini([-1, 2]) is None


def test_tied_confidence_has_the_base_risk_and_order_within_ties_is_averaged():
    correct = [1, 1, 0, 1, 0, 1, 0, 1]
    tied = risk_coverage([0.5] * 8, correct)
    assert tied.aurc == pytest.approx(0.375)
    confidence = [0.9, 0.9, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1]
    groups = [[0, 1], [2, 3, 4], [5, 6, 7]]
    areas = []
    for parts in itertools.product(*(itertools.permutations(g) for g in groups)):
        wrong = np.array([1 - correct[i] for part in parts for i in part])
        areas.append((wrong.cumsum() / np.arange(1, 9)).mean())
    assert risk_coverage(confidence, correct).aurc == pytest.approx(np.mean(areas))


def test_a_perfect_ranking_has_no_excess_area():
    got = risk_coverage([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])
    assert got.excess_aurc == pytest.approx(0)
    assert risk_at_coverage([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.5) == 0
    assert risk_coverage([], []).reason == "empty"
    assert risk_at_coverage([], [], 0.5) is None


def test_paired_areas_and_ratios():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(80), rng.integers(0, 2, 80).astype(float)
    same = compare_risk_coverage((confidence, correct), (confidence, correct), seed=1, resamples=50)
    assert same.reason == "zero_variance"
    sharp = compare_risk_coverage(
        (correct + 0.1 * confidence, correct), (confidence, correct), seed=1, resamples=200
    )
    assert sharp.high < 0
    ratio = ratio_of_sums([2, 3, 1, 4], [4, 4, 2, 4])
    assert ratio.estimate == pytest.approx(10 / 14)
    assert ratio.low < ratio.estimate < ratio.high
    assert ratio_of_sums([0, 0], [0, 0]).reason == "empty"
    assert ratio_of_sums([1, 2], [2, 4]).reason == "zero_variance"
    assert ratio_of_sums([1], [2]).reason == "single_unit"


def test_arms_are_compared_at_the_same_coverage():
    rng = np.random.default_rng(3)
    t, c = ((rng.random(60), rng.integers(0, 2, 60).astype(float)) for _ in range(2))
    got = compare_risk_coverage(t, c, coverage=0.5, seed=9, resamples=200)
    gap = risk_at_coverage(*t, 0.5) - risk_at_coverage(*c, 0.5)
    draws = np.random.default_rng(9)
    again = []
    for _ in range(200):
        rows = draws.integers(0, 60, 60)
        best = [np.argsort(-s[rows], kind="stable")[:30] for s, _ in (t, c)]
        wrong = [1 - y[rows][top].mean() for (_, y), top in zip((t, c), best, strict=True)]
        again.append(wrong[0] - wrong[1])
    assert got.estimate == pytest.approx(gap)
    assert (got.low, got.high) == pytest.approx(np.quantile(again, [0.025, 0.975]))


def test_miscalibration_by_chance_alone_is_taken_off_its_estimate():
    rng = np.random.default_rng(7)
    plain, debiased = [], []
    for _ in range(300):
        p = rng.integers(1, 10, 180) / 10
        got = calibration(p, rng.random(180) < p, binning="distinct")
        plain.append(got.reliability)
        debiased.append(got.reliability_debiased)
    assert np.mean(plain) > 0.008
    assert np.mean(debiased) == pytest.approx(0, abs=4 * np.std(debiased) / math.sqrt(300))
    assert calibration([0.1, 0.9], [0, 1]).reliability_debiased is None


def test_murphys_terms_add_up_to_the_brier_score():
    rng = np.random.default_rng(0)
    p = rng.integers(1, 10, 300) / 10
    y = (rng.random(300) < p).astype(float)
    got = calibration(p, y, binning="distinct")
    assert got.brier == pytest.approx(got.reliability - got.resolution + got.uncertainty)
    assert got.cox_slope == pytest.approx(1, abs=0.4)
    assert calibration(p, y).ece != calibration(p, y, binning="equal mass").ece
    assert calibration([], []).reason == "empty"
    assert calibration([0.5, 0.5], [0, 1]).reason == "zero_variance"


def test_judges_are_corrected_and_useless_ones_refused():
    got = rogan_gladen((60, 100), (90, 100), (80, 100))
    assert got.estimate == pytest.approx((0.6 + 0.8 - 1) / 0.7)
    assert got.low < got.estimate < got.high
    assert rogan_gladen((60, 100), (50, 100), (50, 100)).reason == "not_identified"
    assert rogan_gladen((0, 0), (1, 2), (1, 2)).reason == "empty"
    powered = prediction_powered_mean([0.8] * 50 + [0.6] * 50, [0.8, 0.6, 0.7], [0.6, 0.5, 0.4])
    assert powered.estimate == pytest.approx(0.7 - 0.2)
    assert prediction_powered_mean([], [], []).reason == "empty"


def test_lost_scores_are_bounded_and_loss_is_compared():
    t, c = [1.0, None, 0.0, 1.0], [0.0, 0.0, None, 1.0]
    got = missing_bounds(t, c, (0, 1))
    assert (got.low, got.high) == (pytest.approx(0.0), pytest.approx(0.5))
    assert got.missing == 2
    assert differential_loss(t, c).estimate == 0
    assert differential_loss([None] * 9, [1.0] * 9).p < 0.05
    assert missing_bounds([], [], (0, 1)).reason == "empty"
    assert missing_bounds([None], [1.0], (0, 1)).reason == "missing_arm"


def test_no_deal_counts_at_the_disagreement_payoff():
    got = deal_outcomes([60.0, None, 40.0, None], [1, 0, 1, 0], disagreement=0.0)
    assert got["deal_rate"].estimate == 0.5
    assert got["utility"].estimate == 25
    assert got["utility_given_deal"].estimate == 50
    assert "conditional_on_deal" in got["utility_given_deal"].flags
    assert got["utility_given_deal"].missing == 0
    nothing = deal_outcomes([None, None], [0, 0])
    assert nothing["utility_given_deal"].reason == "empty"


def test_areas_are_the_mean_over_every_order_within_ties():
    correct = np.array([1, 0, 0, 1, 0, 1, 1])
    confidence = [0.9, 0.9, 0.5, 0.5, 0.5, 0.1, 0.1]
    groups = [[0, 1], [2, 3, 4], [5, 6]]
    aurc, augrc = [], []
    for parts in itertools.product(*(itertools.permutations(g) for g in groups)):
        wrong = (1 - correct[list(itertools.chain(*parts))]).cumsum()
        aurc.append((wrong / np.arange(1, 8)).mean())
        augrc.append(wrong.mean() / 7)
    got = risk_coverage(confidence, correct)
    assert got.aurc == pytest.approx(np.mean(aurc))
    assert got.augrc == pytest.approx(np.mean(augrc))
    best = np.sort(1 - correct).cumsum() / np.arange(1, 8)
    assert got.excess_aurc == pytest.approx(np.mean(aurc) - best.mean())


def test_a_ratio_of_sums_is_weighted_least_squares_through_the_origin():
    from statsmodels.regression.linear_model import WLS

    right, answered = np.array([2.0, 3, 1, 4, 0, 2]), np.array([4.0, 4, 2, 4, 1, 5])
    fit = WLS(right, answered, weights=1 / answered).fit(cov_type="HC1", use_t=True)
    got = ratio_of_sums(right, answered)
    assert (got.estimate, got.se) == pytest.approx((fit.params[0], fit.bse[0]))
    assert (got.low, got.high) == pytest.approx(tuple(fit.conf_int()[0]))


def test_calibration_agrees_with_the_librarys_regression_and_with_loops_over_bins():
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    rng = np.random.default_rng(4)
    p = rng.uniform(0.02, 0.98, 200)
    y = (rng.random(200) < p**1.5).astype(float)
    got = calibration(p, y)
    logit = np.log(p / (1 - p))
    fit = GLM(y, np.column_stack([np.ones(200), logit]), Binomial()).fit()
    assert (got.cox_intercept, got.cox_slope) == pytest.approx(tuple(fit.params), rel=1e-6)
    assert got.log_loss == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).mean())
    for binning, edge in (
        ("equal width", np.arange(11) / 10),
        ("equal mass", np.quantile(p, np.arange(11) / 10)),
    ):
        ece = 0.0
        for k in range(10):
            inside = (p >= edge[k]) & ((p < edge[k + 1]) | (k == 9))
            ece += inside.mean() * abs(p[inside].mean() - y[inside].mean())
        assert calibration(p, y, binning=binning).ece == pytest.approx(ece)
