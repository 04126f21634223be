"""Statistics for experiments on language models: arrays in, frozen results out.

No function here reads a file, keeps state or imports the rest of Peira, and every one that
draws random numbers takes its seed. Names are loaded on first use, so importing this package
costs nothing. docs/statistics.md says which method is used where, and why.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Module -> its public names.
_HOMES = {
    "bootstrap": "bca_limits bootstrap_t_limits",
    "clustered": "cluster_mean wild_mean_p",
    "confidence_sequences": """
        ConfidenceSequence anytime_p asymptotic_sequence average_e_values best_rho
        betting_sequence e_benjamini_hochberg empirical_bernstein_sequence log_e_value
        normal_mixture_radius sub_gaussian_sequence theta_limits
    """,
    "designs": """
        ClusteredPairs Design NonInferiority PairedBinary PairedMean RoundRobin ScenarioRuns
        TwoRates best_of_k_inflation connor_units mcnemar_power miller_units
    """,
    "dyad_models": "SocialRelations crossed_slope social_relations",
    "dyads": """
        DyadicErrors ModelScores capability_permutation capability_slope dyadic_errors
        model_scores
    """,
    "effects": "cliffs_delta dominance equivalence gini noninferiority standardised_difference",
    "factorial": """
        BlockedFactorial VarianceShare any_level_p blocked_factorial factor_contrast
        variance_shares
    """,
    "group_sequential": """
        AdjustedResult Bounds Characteristics adjusted_result characteristics
        conditional_power exit_probabilities obrien_fleming_spending pocock_spending
        spending_bounds stagewise_p
    """,
    "hashing": "canonical_json derived_generator seed_sequence spec_hash",
    "intervals": """
        clopper_pearson correlation independent_difference jeffreys mean_interval pass_at_k
        pass_hat_k risk_difference t_interval wilson
    """,
    "judges": "prediction_powered_mean rogan_gladen",
    "marginal": "marginal_odds_ratio",
    "mcnemar": """
        bonett_price_limits conditional_odds_ratio mcnemar_asymptotic_p mcnemar_exact_p
        mcnemar_mid_p newcombe_limits paired_binary paired_outcomes tango_limits
    """,
    "measurement": "Line corrected_slope deming reliability simex_slope york york_with_scatter",
    "meta": "MetaAnalysis macro_average meta_analysis micro_average shrunken_means shrunken_rates",
    "missing": "deal_outcomes differential_loss missing_bounds",
    "mixed": "mixed_difference mixed_model",
    "mixed_logistic": "logistic_mixed logistic_random_intercept",
    "multiplicity": """
        Adjusted benjamini_hochberg benjamini_yekutieli bonferroni hochberg holm hommel
        dunnett
    """,
    "paired": "optimal_replicates paired_difference variance_split VarianceSplit",
    "patterns": """
        MaxT Pattern PatternSearch area_under_curve candidate_patterns max_t mine_patterns
        rate_max_t
    """,
    "permutation": "PValue monte_carlo_p permuted_p shuffle_within sign_flip_p",
    "power": "Goal PowerPlan detectable_effect pilot_sd plan_power power_curve units_needed",
    "power_law": "PowerLaw SuccessCurve fit_power_law fit_success_curve power_law_interval",
    "rank": "hodges_lehmann sign_flip wilcoxon",
    "ratings": """
        RankInterval Ratings bootstrap_ratings bradley_terry davidson half_win_logit
        simultaneous_ranks
    """,
    "regression": "Fit cluster_covariance contrast_t cr2 least_squares slope wild_cluster_p",
    "result": "Estimate REASONS undefined",
    "scaling": """
        Band Comparison ScalingFit band bootstrap_parameters compare_forms
        extrapolation_grid fit_form lofo_rmse lomo_rmse model_means parameter_interval
    """,
    "scaling_backtest": "Backtest backtest",
    "scaling_forms": "isotonic",
    "selective": """
        Calibration RiskCoverage calibration compare_risk_coverage expected_errors
        ratio_of_sums risk_at_coverage risk_coverage
    """,
    "sequential": "Decision StopRule decide rule_bounds",
    "survival": "SurvivalCurve kaplan_meier",
    "tables": "chi_squared_permutation clustered_mcnemar cochran_q fisher_exact mantel_haenszel",
    "variance": """
        Effect SobolIndices VarianceTable anova partial_eta2_limits permuted_factor_p
        sobol_indices
    """,
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'peira.stats' has no attribute {name!r}")
    value = getattr(import_module(f"peira.stats.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
