"""Data without information: every public function says why it has no number.

A result is honest when no number in it is NaN, no p is 0, no interval has zero width, and whatever
is None is told with a reason code. The surface is taken from the package: a new function that takes
data fails here until it has a line.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import peira.stats as ps

N = 12
NUMBERS = [0.1, 0.4, 0.35, 0.8, 0.2, 0.9, 0.55, 0.6, 0.3, 0.7, 0.45, 0.15]

#: kind -> (treatment, control): what may go wrong with two arms on the same units.
SCORES: dict[str, tuple[list[Any], list[Any]]] = {
    "empty": ([], []),
    "one unit": ([0.5], [0.2]),
    "constant": ([0.5] * N, [0.25] * N),
    "all ties": ([0.5] * N, [0.5] * N),
    "same arms": (NUMBERS, NUMBERS),
    "NaN in one arm": ([float("nan")] * N, NUMBERS),
    "one pair left": ([0.5, *[None] * (N - 1)], NUMBERS),
    "all missing": ([None] * N, [None] * N),
}
PASSES: dict[str, tuple[list[Any], list[Any]]] = {
    "empty": ([], []),
    "one unit": ([1], [0]),
    "constant": ([1] * N, [1] * N),
    "no discordant pair": ([1, 0] * 6, [1, 0] * 6),
    "always better": ([1] * N, [0] * N),
    "NaN in one arm": ([float("nan")] * N, [1, 0] * 6),
    "one pair left": ([1, *[None] * (N - 1)], [1, 0] * 6),
    "all missing": ([None] * N, [None] * N),
}
UNCERTAIN = {"empty", "one unit", "constant", "all ties", "NaN in one arm", "one pair left", "all missing"}  # fmt: skip


def _ids(values: list[Any], groups: int = 0) -> list[int]:
    return [i % groups if groups else i for i in range(len(values))]


def _names(values: list[Any]) -> tuple[list[str], list[str]]:
    """First and second player of as many games, over four models."""
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a", "c"), ("b", "d")]
    played = [pairs[i % 6] for i in range(len(values))]
    return [p[0] for p in played], [p[1] for p in played]


CAPABILITY = {"a": 0.1, "b": 0.4, "c": 0.5, "d": 0.9}


def _long(t: list[Any], c: list[Any]) -> tuple[list[Any], list[int], list[float]]:
    """Rows of both arms: value, item, treated."""
    return [*t, *c], [*_ids(t), *_ids(c)], [1.0] * len(t) + [0.0] * len(c)


def _plain(values: list[Any]) -> np.ndarray:
    return np.array([v for v in values if v is not None and v == v], dtype=float)


def _known(t: list[Any], c: list[Any]) -> tuple[list[Any], list[float], list[int]]:
    """Rows of both arms that have a value: value, treated, item."""
    value, item, treated = _long(t, c)
    rows = [r for r in zip(value, treated, item, strict=True) if r[0] is not None and r[0] == r[0]]
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


def _blocked(t: list[Any], c: list[Any]) -> ps.BlockedFactorial:
    value, item, treated = _long(t, c)
    return ps.blocked_factorial(value, {"arm": [str(x) for x in treated]}, item)


def _if_both(t: list[Any], c: list[Any], ask: Callable[[Any], Any]) -> Any:
    data = _blocked(t, c)
    return ask(data) if data.levels else None


Case = Callable[[list[Any], list[Any]], Any]
RULE = ps.StopRule("confidence-sequence", 100, value_range=(-1, 1))

ON_SCORES: dict[str, Case] = {
    "blocked_factorial": _blocked,
    "factor_contrast": lambda t, c: _if_both(
        t, c, lambda data: ps.factor_contrast(data, ("arm", 0, 1), seed=1)
    ),
    "permuted_p": lambda t, c: ps.permuted_p(_plain(t), None, lambda y: y.sum(axis=1), 1, 99),
    "variance_shares": lambda t, c: ps.variance_shares(_blocked(t, c)),
    "anova": lambda t, c: ps.anova([*t, *c], {"arm": _long(t, c)[2]}),
    "any_level_p": lambda t, c: _if_both(t, c, lambda data: ps.any_level_p(data, "arm", seed=1)),
    "anytime_p": lambda t, c: ps.anytime_p(_plain(t)),
    "area_under_curve": lambda t, c: ps.area_under_curve(_plain(t), _plain(t) > 0.5),
    "asymptotic_sequence": lambda t, c: ps.asymptotic_sequence(_plain(t)),
    "backtest": lambda t, c: ps.backtest("linear", t, c, [i >= 8 for i in range(len(t))]),
    "band": lambda t, c: ps.band(ps.fit_form("linear", t, c), [0.5]),
    "bca_limits": lambda t, c: ps.bca_limits(_plain(t), None, 0.95, 1, 200),
    "betting_sequence": lambda t, c: ps.betting_sequence(_plain(t), (0, 1)),
    "bootstrap_parameters": lambda t, c: ps.bootstrap_parameters("linear", t, c, seed=1, resamples=50),
    "bootstrap_t_limits": lambda t, c: ps.bootstrap_t_limits(_plain(t), 0.95, 1, 200),
    "capability_permutation": lambda t, c: ps.capability_permutation(*_names(t), t, CAPABILITY, seed=1),
    "capability_slope": lambda t, c: ps.capability_slope(*_names(t), t, CAPABILITY),
    "chi_squared_permutation": lambda t, c: ps.chi_squared_permutation(_plain(t), _plain(t), seed=1, draws=99),
    "cliffs_delta": lambda t, c: ps.cliffs_delta(t, c),
    "cluster_mean": lambda t, c: ps.cluster_mean(t, _ids(t, 6)),
    "compare_forms": lambda t, c: ps.compare_forms(t, c),
    "contrast_t": lambda t, c: ps.contrast_t([*t, *c], _long(t, c)[2], [0, 1]),
    "corrected_slope": lambda t, c: ps.corrected_slope(t, c, [0.1] * len(t)),
    "correlation": lambda t, c: ps.correlation(t, c),
    "crossed_slope": lambda t, c: ps.crossed_slope(*_names(t), t, CAPABILITY),
    "deal_outcomes": lambda t, c: ps.deal_outcomes(t, [None if v is None or v != v else 1 for v in t]),
    "decide": lambda t, c: ps.decide(RULE, t),
    "deming": lambda t, c: ps.deming(t, c, 1.0),
    "differential_loss": lambda t, c: ps.differential_loss(t, c),
    "dominance": lambda t, c: ps.dominance(t, c),
    "dunnett": lambda t, c: ps.dunnett({"one": t, "two": t}, c, seed=1),
    "dyadic_errors": lambda t, c: ps.dyadic_errors(*_names(t), t, [0.1] * len(t)),
    "empirical_bernstein_sequence": lambda t, c: ps.empirical_bernstein_sequence(_plain(t), (0, 1)),
    "equivalence": lambda t, c: ps.equivalence(t, c, margin=0.1),
    "expected_errors": lambda t, c: ps.expected_errors(_plain(t), (_plain(t) > 0.5) * 1.0),
    "fit_form": lambda t, c: ps.fit_form("logistic4", t, c),
    "fit_power_law": lambda t, c: ps.fit_power_law(t, c),
    "fit_success_curve": lambda t, c: ps.fit_success_curve(t, [1] * len(t), [2] * len(t)),
    "gini": lambda t, c: ps.gini(t),
    "hodges_lehmann": lambda t, c: ps.hodges_lehmann(t, c),
    "independent_difference": lambda t, c: ps.independent_difference(t, c),
    "isotonic": lambda t, c: ps.isotonic(_plain(t), _plain(t)),
    "kaplan_meier": lambda t, c: ps.kaplan_meier(t, [0] * len(t)),
    "least_squares": lambda t, c: ps.least_squares(t, c),
    "lofo_rmse": lambda t, c: ps.lofo_rmse("linear", t, c, _ids(t, 3)),
    "lomo_rmse": lambda t, c: ps.lomo_rmse("isotonic", t, c),
    "macro_average": lambda t, c: ps.macro_average(t, c),
    "max_t": lambda t, c: ps.max_t({"one": t, "two": c}, seed=1, draws=99),
    "mean_interval": lambda t, c: ps.mean_interval(t),
    "meta_analysis": lambda t, c: ps.meta_analysis(t, [0.1] * len(t)),
    "micro_average": lambda t, c: ps.micro_average(t, c, [5] * len(t)),
    "missing_bounds": lambda t, c: ps.missing_bounds(t, c, (0, 1)),
    "mixed_difference": lambda t, c: ps.mixed_difference(*_long(t, c)),
    "mixed_model": lambda t, c: ps.mixed_model([*t, *c], _long(t, c)[2], {"item": _long(t, c)[1]}, [0, 1]),
    "model_means": lambda t, c: ps.model_means(_ids(t, 3), t, c)[1:3],
    "model_scores": lambda t, c: ps.model_scores(*_names(t), t),
    "noninferiority": lambda t, c: ps.noninferiority(t, c, margin=0.1),
    "paired_difference": lambda t, c: ps.paired_difference(t, c, seed=1, resamples=200),
    "parameter_interval": lambda t, c: ps.parameter_interval("linear", "slope", t, c),
    "permuted_factor_p": lambda t, c: ps.permuted_factor_p([*t, *c], _long(t, c)[2], seed=1, draws=99),
    "pilot_sd": lambda t, c: ps.pilot_sd(t),
    "power_law_interval": lambda t, c: ps.power_law_interval(t, c, seed=1, resamples=10),
    "prediction_powered_mean": lambda t, c: ps.prediction_powered_mean(t, t, c),
    "ratio_of_sums": lambda t, c: ps.ratio_of_sums(t, c),
    "reliability": lambda t, c: ps.reliability(t, [0.1] * len(t)),
    "shrunken_means": lambda t, c: [v for v in ps.shrunken_means(t, c) if v is not None],
    "shuffle_within": lambda t, c: ps.shuffle_within(_plain(t), None, np.random.default_rng(1)),
    "sign_flip": lambda t, c: ps.sign_flip(t, c, seed=1),
    "sign_flip_p": lambda t, c: ps.sign_flip_p(_plain(t), 1),
    "simex_slope": lambda t, c: ps.simex_slope(t, c, [0.1] * len(t), seed=1, draws=20),
    "slope": lambda t, c: ps.slope(t, c),
    "social_relations": lambda t, c: ps.social_relations(*_names(t), t, c),
    "standardised_difference": lambda t, c: ps.standardised_difference(t, c),
    "sub_gaussian_sequence": lambda t, c: ps.sub_gaussian_sequence(_plain(t), 0.5),
    "t_interval": lambda t, c: ps.t_interval(t),
    "variance_split": lambda t, c: ps.variance_split([[v] for v in t], [[v] for v in c]),
    "wilcoxon": lambda t, c: ps.wilcoxon(t, c),
    "wild_cluster_p": lambda t, c: ps.wild_cluster_p(t, c, _ids(t, 6)),
    "wild_mean_p": lambda t, c: ps.wild_mean_p(t, _ids(t, 6)),
    "york": lambda t, c: ps.york(t, c, [0.1] * len(t), [0.1] * len(t)),
    "york_with_scatter": lambda t, c: ps.york_with_scatter(t, c, [0.1] * len(t), [0.1] * len(t)),
}  # fmt: skip


def _counts(t: list[Any], c: list[Any]) -> tuple[int, int, int, int]:
    """Both pass, gains, losses, both fail."""
    pairs = [(a, b) for a, b in zip(t, c, strict=True) if a in (0, 1) and b in (0, 1)]
    return tuple(pairs.count(p) for p in ((1, 1), (1, 0), (0, 1), (0, 0)))  # type: ignore[return-value]


ON_PASSES: dict[str, Case] = {
    "marginal_odds_ratio": lambda t, c: ps.marginal_odds_ratio(*_known(t, c)),
    "rate_max_t": lambda t, c: ps.rate_max_t(
        np.array(_known(t, c)[0], dtype=float), np.array([_known(t, c)[1]]),
        np.array(_known(t, c)[2], dtype=int), np.array(_known(t, c)[1]), seed=1, draws=19,
    ),
    "bonett_price_limits": lambda t, c: ps.bonett_price_limits(*_counts(t, c)[1:3], len(_plain(t))),
    "bootstrap_ratings": lambda t, c: ps.bootstrap_ratings(*_names(t), t, seed=1, resamples=20),
    "bradley_terry": lambda t, c: ps.bradley_terry(*_names(t), t),
    "calibration": lambda t, c: ps.calibration(t, c),
    "clopper_pearson": lambda t, c: ps.clopper_pearson(int(_plain(t).sum()), _plain(t).size),
    "clustered_mcnemar": lambda t, c: ps.clustered_mcnemar(t, c, _ids(t, 6)),
    "cochran_q": lambda t, c: ps.cochran_q(np.array([t, c], dtype=float).T),
    "compare_risk_coverage": lambda t, c: ps.compare_risk_coverage((t, t), (c, c), seed=1, resamples=50),
    "conditional_odds_ratio": lambda t, c: ps.conditional_odds_ratio(*_counts(t, c)[1:3]),
    "davidson": lambda t, c: ps.davidson(*_names(t), t),
    "fisher_exact": lambda t, c: ps.fisher_exact(*_counts(t, c)),
    "jeffreys": lambda t, c: ps.jeffreys(int(_plain(t).sum()), _plain(t).size),
    "logistic_mixed": lambda t, c: ps.logistic_mixed(
        _long(t, c)[0], _long(t, c)[2], {"item": _long(t, c)[1], "half": _ids([*t, *c], 2)}
    ),
    "logistic_random_intercept": lambda t, c: ps.logistic_random_intercept(*_long(t, c)),
    "mantel_haenszel": lambda t, c: ps.mantel_haenszel([np.reshape(_counts(t, c), (2, 2))]),
    "mcnemar_asymptotic_p": lambda t, c: ps.mcnemar_asymptotic_p(*_counts(t, c)[1:3]),
    "mcnemar_exact_p": lambda t, c: ps.mcnemar_exact_p(*_counts(t, c)[1:3]),
    "mcnemar_mid_p": lambda t, c: ps.mcnemar_mid_p(*_counts(t, c)[1:3]),
    "mine_patterns": lambda t, c: ps.mine_patterns(t, {"p": np.array(c) == 1}, _ids(t), seed=1, draws=19),
    "newcombe_limits": lambda t, c: ps.newcombe_limits(*_counts(t, c)),
    "paired_binary": lambda t, c: ps.paired_binary(*_counts(t, c)[1:3], sum(_counts(t, c))),
    "paired_outcomes": lambda t, c: ps.paired_outcomes(t, c),
    "risk_at_coverage": lambda t, c: [ps.risk_at_coverage(t, c, 0.5)] if _counts(t, c) != (0,) * 4 else None,
    "risk_coverage": lambda t, c: ps.risk_coverage(t, c),
    "risk_difference": lambda t, c: ps.risk_difference(
        int(_plain(t).sum()), _plain(t).size, int(_plain(c).sum()), _plain(c).size
    ),
    "rogan_gladen": lambda t, c: ps.rogan_gladen(
        (int(_plain(t).sum()), _plain(t).size), (int(_plain(c).sum()), _plain(c).size), (0, 5)
    ),
    "simultaneous_ranks": lambda t, c: ps.simultaneous_ranks(ps.bradley_terry(*_names(t), t), seed=1, draws=50),
    "tango_limits": lambda t, c: ps.tango_limits(*_counts(t, c)[1:3], sum(_counts(t, c))),
    "theta_limits": lambda t, c: ps.theta_limits(*_counts(t, c)[1:3]),
    "wilson": lambda t, c: ps.wilson(int(_plain(t).sum()), _plain(t).size),
}  # fmt: skip

#: Functions of numbers that a caller states, or of what another function returned.
NOT_OF_DATA = {
    "adjusted_result", "average_e_values", "best_of_k_inflation", "best_rho", "candidate_patterns",
    "canonical_json", "characteristics", "cluster_covariance", "conditional_power", "connor_units",
    "cr2", "derived_generator", "detectable_effect", "e_benjamini_hochberg", "exit_probabilities",
    "extrapolation_grid", "half_win_logit", "log_e_value", "mcnemar_power", "miller_units",
    "monte_carlo_p", "normal_mixture_radius", "obrien_fleming_spending", "optimal_replicates",
    "partial_eta2_limits", "pass_at_k", "pass_hat_k", "plan_power", "pocock_spending", "power_curve",
    "shrunken_rates",
"seed_sequence", "sobol_indices", "spec_hash", "spending_bounds", "stagewise_p",
    "undefined", "units_needed",
    # p values adjusted: see test_multiplicity.py
    "benjamini_hochberg", "benjamini_yekutieli", "bonferroni", "hochberg", "holm", "hommel",
}  # fmt: skip

#: Where a degenerate sample still has a proper interval: rates, counts, bounds, and totals whose
#: errors are given.
PROPER = {
    "differential_loss", "dominance", "macro_average", "micro_average", "missing_bounds",
    "meta_analysis", "deal_outcomes", "decide",
}  # fmt: skip


def test_every_public_function_has_its_place():
    public = {n for n in ps.__all__ if inspect.isfunction(getattr(ps, n))}
    assert public == {*ON_SCORES, *ON_PASSES, *NOT_OF_DATA}
    assert not set(ON_SCORES) & set(ON_PASSES)


def faults(found: Any, path: str = "") -> list[str]:
    """Everything in a result that claims to know what it cannot."""
    if isinstance(found, ps.Estimate):
        return _of_estimate(found, path)
    if dataclasses.is_dataclass(found):
        fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        p = fields.get("p")
        bad = [f"{path}.p is {p}"] if isinstance(p, float) and not 0 < p <= 1 else []
        return bad + faults(fields, path)
    if isinstance(found, Mapping):
        return [f for key, value in found.items() for f in faults(value, f"{path}.{key}")]
    if isinstance(found, list | tuple):
        return [f for i, value in enumerate(found) for f in faults(value, f"{path}[{i}]")]
    if isinstance(found, np.ndarray):
        return [f"{path} holds NaN"] if found.size and np.isnan(found.astype(float)).any() else []
    if isinstance(found, float) and math.isnan(found):
        return [f"{path} is NaN"]
    return []


def _of_estimate(e: ps.Estimate, path: str) -> list[str]:
    bad = []
    if e.p is not None and not 0 < e.p <= 1:
        bad.append(f"{path}.p is {e.p}")
    if e.reason is not None and e.reason not in ps.REASONS:
        bad.append(f"{path}.reason is {e.reason}")
    if None not in (e.low, e.high) and not (e.low < e.high or "bounds" in e.flags):
        bad.append(f"{path} is [{e.low}, {e.high}]")
    if e.se == 0:
        bad.append(f"{path}.se is 0")
    return bad


def _estimates(found: Any) -> list[ps.Estimate]:
    if isinstance(found, ps.Estimate):
        return [found]
    if dataclasses.is_dataclass(found):
        found = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    parts = (
        found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ()
    )
    return [e for part in parts for e in _estimates(part)]


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("name", ON_SCORES)
def test_scores_without_information_are_told(name, kind):
    found = ON_SCORES[name](*SCORES[kind])
    assert not faults(found), faults(found)
    if isinstance(found, str):
        assert found in ps.REASONS
    if kind in UNCERTAIN and name not in PROPER:
        for estimate in _estimates(found):
            assert estimate.reason in ps.REASONS or estimate.low is None, estimate
            assert not estimate.defined, estimate


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("name", ON_PASSES)
def test_passes_without_information_are_told(name, kind):
    found = ON_PASSES[name](*PASSES[kind])
    assert not faults(found), faults(found)
    if isinstance(found, str):
        assert found in ps.REASONS
    for estimate in _estimates(found):
        assert estimate.estimate is not None or estimate.reason in ps.REASONS
        if kind in ("empty", "all missing"):
            assert not estimate.defined, estimate
