"""Our own numbers for the reference files of clusters, dyads and scaling; see `reproduced.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import peira.stats as ps
from peira.stats._arrays import codes
from peira.stats.intervals import t_p_value
from peira.stats.regression import Fit, cr2
from tests.stats.reproduced import Tree, limits


def _root(covariance: np.ndarray, at: int = 1) -> float:
    return math.sqrt(covariance[at, at])


# -- 03: clusters, replicates, dyads --------------------------------------------------------------
def clustered(refs: Any) -> Tree:
    a, b, sa, sb = refs.columns("03_clustered_pairs", "cont_a", "cont_b", "score_a", "score_b")
    cluster = refs.labels("03_clustered_pairs", "cluster")
    outcomes = {
        "cont_a": a, "cont_b": b, "paired_diff": b - a, "score_a": sa, "score_b": sb,
        "paired_diff_binary": sb - sa,
    }  # fmt: skip
    variants = {
        v: ps.clustered_mcnemar(sb, sa, cluster, variant=v)
        for v in ("durkalski", "obuchowski", "yang")
    }
    gains, losses = int((sb > sa).sum()), int((sb < sa).sum())
    return {
        "refs": {
            "clustered": {name: _cluster_mean(y, cluster) for name, y in outcomes.items()}
            | {"corr_items": ps.correlation(a, b).estimate},
            "clustered_mcnemar": {
                "b": gains, "c": losses, "naive_mcnemar_chi2": ps.cochran_q(np.column_stack([sa, sb])).estimate,
                **{f"{v}_chi2": found.extra["chi2"] for v, found in variants.items()},
                **{f"{v}_p": found.p for v, found in variants.items()},
            },
            **_replicates(refs), **_dyads(refs), "few_clusters": _few_clusters(refs),
        }
    }  # fmt: skip


def _cluster_mean(y: np.ndarray, cluster: list[str]) -> Tree:
    found, fit = ps.cluster_mean(y, cluster), ps.least_squares(y, np.ones((y.size, 1)))
    assert isinstance(fit, Fit)
    group = codes(cluster)[0]
    plain, lifted, stata = (
        _root(ps.cluster_covariance(fit, group, kind), 0) for kind in ("CR0", "CR1", "CR1S")
    )
    return {
        "n": found.n, "clusters": found.extra["clusters"], "mean": found.estimate,
        "se_iid": found.extra["se_if_independent"], "se_clustered_CR0_miller": plain,
        "se_clustered_G_over_Gm1": lifted, "se_sandwich_HC0": plain, "se_sandwich_CR1S": stata,
        "se_CR2": found.se, "df_CR2": found.df, "p_CR2": found.p, "ci_CR2": limits(found),
        "design_effect": found.extra["design_effect"],
    }  # fmt: skip


def _replicates(refs: Any) -> Tree:
    rows = refs.rows("03_replicates")
    item = [r["item"] for r in rows]
    treated = [float(r["condition"] == "treatment") for r in rows]
    y = {kind: [float(r[f"y_{kind}"]) for r in rows] for kind in ("cont", "binary")}
    split = {kind: _variance_split(rows, kind) for kind in y}
    cell = list(zip(item, treated, strict=True))
    both, kenward = (
        ps.mixed_difference(y["cont"], item, treated, df=df)
        for df in ("satterthwaite", "kenward-roger")
    )
    wrong = ps.mixed_model(y["cont"], treated, {"item": item}, [0, 1])
    crossed = ps.logistic_mixed(y["binary"], treated, {"cell": cell, "item": item})
    single = ps.logistic_random_intercept(y["binary"], item, treated)
    return {
        "replicates": {"n_items": len(set(item)), "K": len(rows) // (2 * len(set(item))), **split},
        "mixed": {
            "random_item_intercept": _mixed(wrong, "item"),
            "item_plus_item_by_condition": _mixed(both, "item_condition", "item")
            | {"p_kenward_roger": kenward.p, "df_kr": kenward.df},
        },
        "glmm_binary": {
            "beta_logit": crossed.estimate, "se": crossed.se, "p_wald": crossed.p,
            "varcomp": [{"vcov": crossed.extra["var_cell"]}, {"vcov": crossed.extra["var_item"]}],
            "loglik": crossed.extra["log_likelihood"],
        },
        "glmm_binary_item_only_agq25": {
            "beta_logit": single.estimate, "se": single.se, "item_var": single.extra["var_item"],
            "loglik": single.extra["log_likelihood"],
        },
    }  # fmt: skip


def _mixed(found: Any, *terms: str) -> Tree:
    variances = [found.extra[f"var_{name}"] for name in (*terms, "residual")]
    return {
        "beta": found.estimate, "se": found.se, "df_satterthwaite": found.df, "p_satterthwaite": found.p,
        "varcomp": [{"vcov": v} for v in variances], "reml_crit": found.extra["deviance"],
        "singular": "singular" in found.flags,
    }  # fmt: skip


def _variance_split(rows: list[dict[str, str]], kind: str) -> Tree:
    items = sorted({row["item"] for row in rows})
    arms = [
        np.array(
            [
                [float(r[f"y_{kind}"]) for r in rows if (r["item"], r["condition"]) == (i, c)]
                for i in items
            ]
        )
        for c in ("treatment", "control")
    ]
    found, t = ps.variance_split(*arms), ps.t_interval(arms[0].mean(axis=1) - arms[1].mean(axis=1))
    return {
        "mean_diff": found.mean_difference, "se_item_level": found.se, "t": t.estimate / t.se, "p": t.p,
        "within_var": {"control": found.within_control, "treatment": found.within_treatment},
        "var_of_item_diff": found.variance_of_differences, "within_part": found.within_part,
        "between_item_var_of_true_diff": found.between,
    }  # fmt: skip


def tournament(refs: Any) -> tuple[list[str], list[str], np.ndarray, np.ndarray, dict[str, float]]:
    """First and second model, utility difference and capability gap of each game, capabilities."""
    first, second = (refs.labels("03_dyadic_games", c) for c in ("first", "second"))
    u1, u2, c1, c2 = refs.columns(
        "03_dyadic_games", "u_first", "u_second", "cap_first", "cap_second"
    )
    capability = dict(zip(first, c1, strict=True)) | dict(zip(second, c2, strict=True))
    return first, second, u1 - u2, c1 - c2, capability


def _dyads(refs: Any) -> Tree:
    first, second, y, x, capability = tournament(refs)
    found, fit = ps.dyadic_errors(first, second, y, x), ps.least_squares(y, x)
    crossed = ps.crossed_slope(first, second, y, capability, roles=True)
    won = [None if v == 0 else float(v > 0) for v in y]
    rated = ps.bradley_terry(first, second, won, reference="m0")
    names = [f"player{m}" for m in rated.models]
    rest = [i for i, m in enumerate(rated.models) if m != "m0"]
    tables = {"ability": rated.ability, "se": rated.se, "elo": rated.elo}
    return {
        "dyadic": {
            "n_games": found.n_games, "n_models": found.n_models, "n_dyads": found.n_pairs,
            "slope": found.slope, "intercept_first_mover": found.intercept, "se_iid": found.se_iid,
            "se_HC0": _root(ps.cluster_covariance(fit, np.arange(y.size), "CR0")),
            "se_cluster_dyad_CR0": found.se_pair, "se_cluster_first_CR0": found.se_first,
            "se_twoway_first_second_CGM": found.se_two_way, "se_dyadic_aronow": found.se_dyadic,
            "se_intercept_dyadic": found.se_intercept_dyadic,
            "pair_level": _pair_level(first, second, y, capability),
            "node_jackknife": {
                "estimates": list(found.jackknife), "se_dyadic_scaled_Mm2_over_2M": found.se_jackknife,
            },
            "lmer_crossed_first_second": {
                "beta": crossed.estimate, "se": crossed.se, "df": crossed.df,
                "varcomp": [{"vcov": crossed.extra[f"var_{n}"]} for n in ("first", "second", "residual")],
            },
            "qap_p_two_sided_20000": ps.capability_permutation(first, second, y, capability, seed=1).p,
        },
        "bradley_terry": {
            "n": rated.n, "order_effect": rated.order, "order_se": rated.order_se,
            "loglik": rated.log_likelihood,
            **{key: {names[i]: values[i] for i in rest} for key, values in tables.items()},
        },
    }  # fmt: skip


def _pair_level(
    first: list[str], second: list[str], y: np.ndarray, capability: dict[str, float]
) -> Tree:
    """Both orders of a pair averaged first: one row per pair, no order effect left."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for a, b, value in zip(first, second, y, strict=True):
        key = (min(a, b), max(a, b))
        pairs.setdefault(key, []).append(value if a == key[0] else -value)
    gap = np.array([capability[a] - capability[b] for a, b in pairs])
    means = np.array([np.mean(v) for v in pairs.values()])
    fit = ps.least_squares(means, gap[:, None])
    assert isinstance(fit, Fit)
    return {
        "n_pairs": len(pairs), "slope": float(fit.beta[0]),
        "se_iid": math.sqrt(fit.sigma2 * fit.bread[0, 0]),
    }  # fmt: skip


def _few_clusters(refs: Any) -> Tree:
    x, y = refs.columns("03_few_clusters", "x", "y")
    cluster = refs.labels("03_few_clusters", "cluster")
    found, fit = ps.contrast_t(y, x, [0, 1], cluster=cluster), ps.least_squares(y, x)
    wild = ps.wild_cluster_p(y, x, cluster, weights="rademacher")
    assert found.p == ps.wild_cluster_p(y, x, cluster).p  # CR2's p is not offered below 12 clusters
    se = _root(ps.cluster_covariance(fit, codes(cluster)[0], "CR1S"))
    return {
        "G": found.n, "n": found.n_rows, "beta": found.estimate, "se_CR2": found.se, "df_CR2": found.df,
        "p_CR2": t_p_value(found.estimate / found.se, found.df), "se_CR1": se, "t_CR1": found.estimate / se,
        "p_CR1_t_Gm1": t_p_value(found.estimate / se, found.n - 1),
        "se_iid": math.sqrt(fit.sigma2 * fit.bread[1, 1]),
        "p_wild_restricted_rademacher_exhaustive": wild.p, "n_draws": wild.arrangements,
    }  # fmt: skip


# -- 06: scaling ----------------------------------------------------------------------------------
def scaling(refs: Any) -> Tree:
    model = refs.labels("06_scaling_games", "model")
    x, y, errors = refs.columns("06_scaling_games", "elo_gap_obs", "exploitation", "elo_gap_se")
    x = x / 100
    names, xs, ys, se_y = ps.model_means(model, x, y)
    known = dict(zip(model, errors / 100, strict=True))
    se_x = np.array([known[name] for name in names])
    return {
        "refs": {
            "ols": _ols(model, x, y, (xs, ys)), "model_comparison": _comparison(xs, ys),
            "isotonic": _isotonic(xs, ys), "measurement_error": _axis_errors(xs, ys, se_x, se_y),
            "powerlaw": _power_law(refs), "saturating": _saturating(refs),
        }
    }  # fmt: skip


def _ols(
    model: list[str], x: np.ndarray, y: np.ndarray, means: tuple[np.ndarray, np.ndarray]
) -> Tree:
    fit, line = ps.least_squares(y, x), ps.fit_form("linear", *means)
    assert isinstance(fit, Fit)
    group = codes(model)[0]
    se, df = cr2(fit, group, np.array([0.0, 1.0])) or (None, None)
    slope = ps.parameter_interval("linear", "slope", *means)
    mixed = ps.mixed_model(y, x, {"model": model}, [0, 1])
    bands = {kind: ps.band(line, [0, 2, 4, 6], kind=kind) for kind in ("mean", "new model")}
    rows = {kind: np.column_stack([b.mean, b.low, b.high]).tolist() for kind, b in bands.items()}
    total = float(((y - y.mean()) ** 2).sum())
    return {
        "n": y.size, "models": line.n, "slope_per_100elo": float(fit.beta[1]), "intercept": float(fit.beta[0]),
        "r2": 1 - float(fit.residuals @ fit.residuals) / total,
        "se_iid": math.sqrt(fit.sigma2 * fit.bread[1, 1]),
        "se_CR0": _root(ps.cluster_covariance(fit, group, "CR0")),
        "se_CR1": _root(ps.cluster_covariance(fit, group, "CR1S")),
        "se_CR2": se, "df_CR2": df, "p_CR2": ps.contrast_t(y, x, [0, 1], cluster=model).p,
        "model_means": {"slope": slope.estimate, "se": slope.se, "df": slope.df, "r2": line.r_squared},
        "lmer": {"beta": mixed.estimate, "se": mixed.se, "df": mixed.df, "p": mixed.p},
        "mean_ci": rows["mean"], "new_model_pi": rows["new model"], "observed_x_range": list(line.x_range),
    }  # fmt: skip


def _comparison(x: np.ndarray, y: np.ndarray) -> Tree:
    found = ps.compare_forms(x, y)
    keys = {
        "rss": "rss",
        "k": "k_with_sigma",
        "log_likelihood": "loglik",
        "aic": "aic",
        "aicc": "aicc",
        "bic": "bic",
    }
    return {
        "n_models": x.size,
        "ic": {n: {theirs: getattr(fit, ours) for ours, theirs in keys.items()} for n, fit in found.fits.items()},
        "akaike_weights_aicc": found.weights, "logistic4_params": found.fits["logistic4"].parameters,
        "lomo_rmse": {**found.lomo_rmse, "isotonic": ps.lomo_rmse("isotonic", x, y)},
    }  # fmt: skip


def _isotonic(x: np.ndarray, y: np.ndarray) -> Tree:
    order = np.argsort(x)
    x, y = x[order], y[order]
    rank = ps.correlation(x, y, kind="spearman").estimate
    return {"x": x.tolist(), "y": y.tolist(), "fit": ps.isotonic(x, y).tolist(), "spearman": rank}


def _axis_errors(x: np.ndarray, y: np.ndarray, se_x: np.ndarray, se_y: np.ndarray) -> Tree:
    corrected = ps.corrected_slope(x, y, se_x)
    ratio = float((se_y**2).mean() / (se_x**2).mean())
    deming, york = ps.deming(x, y, ratio), ps.york(x, y, se_x, se_y)
    return {
        "var_x_obs": float(x.var(ddof=1)), "reliability_lambda": ps.reliability(x, se_x),
        "slope_naive": corrected.extra["naive"], "slope_moment_corrected": corrected.estimate,
        "deming": {"delta_var_y_over_var_x": ratio, "slope": deming.slope, "intercept": deming.intercept},
        "york": {k: getattr(york, k) for k in ("slope", "intercept", "se_slope", "chi2", "df")},
    }  # fmt: skip


def _power_law(refs: Any) -> Tree:
    compute, loss = refs.columns("06_powerlaw", "compute", "loss")
    tree: Tree = {}
    for delta, key in ((1e-3, "huber_delta_1e3"), (None, "least_squares_log")):
        found = ps.fit_power_law(compute, loss, unit=1e18, delta=delta)
        tree[key] = {
            "A": found.amplitude,
            "alpha": found.exponent,
            "E": found.offset,
            "objective": found.objective,
        }
    line = ps.fit_form("linear", np.log(compute), np.log(loss))
    return tree | {"loglog_no_offset": {"alpha": -line.parameters["slope"], "r2": line.r_squared}}


def _saturating(refs: Any) -> Tree:
    cap, n, k = refs.columns("06_saturating", "cap", "n", "k")
    plain, floored = (
        ps.fit_success_curve(cap, k, n),
        ps.fit_success_curve(cap, k, n, floor=0.25, lapse=True),
    )
    names = ("intercept", "slope", "deviance", "df", "aic")
    return {
        "binomial_logit_no_floor": {name: getattr(plain, name) for name in names},
        "floor25_lapse": {
            "intercept": floored.intercept, "slope": floored.slope, "lapse": floored.lapse, "aic": floored.aic,
            "midpoint": -floored.intercept / floored.slope, "nll": floored.negative_log_likelihood,
        },
    }  # fmt: skip
