"""Beside the comparison of means: McNemar's table, loss, subgroups, power, models, money.

Each function answers one question of significance.json about one comparison; what cannot be
answered is None with a reason.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.effects import Comparison, Sides, cluster_sums, scored_mean, sides
from peira.families.prompts.scoring import Unsupported
from peira.stats.clustered import cluster_mean
from peira.stats.intervals import is_constant, normal_quantile, t_p_value, t_quantile
from peira.stats.mcnemar import conditional_odds_ratio, mcnemar_exact_p, mcnemar_mid_p
from peira.stats.permutation import sign_flip_p
from peira.study.seeds import derive

Floats = NDArray[np.float64]


def discordant(values: Sides) -> tuple[int, int, int]:
    """(gains, losses, pairs) of two arms of 0/1 outcomes."""
    delta = (values.arm - values.control)[np.isfinite(values.arm - values.control)]
    return int((delta > 0).sum()), int((delta < 0).sum()), int(delta.size)


def mcnemar_block(at: Comparison, metric: str) -> dict[str, Any] | None:
    """b = reference wrong and arm right, c the reverse; None unless one 0/1 sample an item."""
    values = sides(at, metric)
    seen = np.concatenate([values.arm, values.control])
    if not at.single or not np.isin(seen[np.isfinite(seen)], (0.0, 1.0)).all():
        return None
    b, c, n = discordant(values)
    ratio = conditional_odds_ratio(b, c, method="exact")
    limits = [_finite(ratio.low), _finite(ratio.high)]
    clusters = at.clusters()
    block: dict[str, Any] = {
        "b": b, "c": c, "n": n, "p_exact": mcnemar_exact_p(b, c), "p_midp": mcnemar_mid_p(b, c),
        "odds_ratio": _finite(ratio.estimate), "or_ci_95": limits if b + c else None,
        "_reasons": {},
    }  # fmt: skip
    if len(set(clusters)) < len(clusters):
        block["note"] = "items taken as independent"
    if block["odds_ratio"] is None:
        block["_reasons"]["odds_ratio"] = "no_discordant_pairs" if b + c == 0 else "unbounded"
    if b + c == 0:
        block["_reasons"]["or_ci_95"] = "no_discordant_pairs"
    elif limits[1] is None:
        block["_reasons"]["or_ci_95/1"] = "unbounded"
    return block


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def loss_test(at: Comparison) -> dict[str, Any]:
    """Are rows lost (cut, refused, empty) more in one arm? Sign-flip of the lost shares."""
    lost = [(at.block(at.trial.status, arm) != "ok").mean(axis=1) for arm in (at.reference, at.arm)]
    delta = lost[1] - lost[0]
    seed = derive(at.stats.random_seed, at.name, "loss")
    test = sign_flip_p(cluster_sums(delta, at.clusters()), seed, at.stats.permutation_samples)
    return {
        "control_share": float(lost[0].mean()), "arm_share": float(lost[1].mean()),
        "p_value": test.p, "method": f"sign-flip of lost shares ({test.how})",
    }  # fmt: skip


def subgroups(at: Comparison, metric: str) -> dict[str, Any]:
    """δ by dataset and by answerability, with a test of the interaction, never of each part."""
    items = [at.trial.items[n] for n in at.items]
    labels = {
        "dataset": np.array([item.dataset for item in items], dtype=object),
        "answerable": np.array([str(item.answerable).lower() for item in items], dtype=object),
    }
    values = sides(at, metric)
    delta = values.arm - values.control
    found = {}
    for name, label in labels.items():
        levels = sorted(set(label))
        if len(levels) > 1:
            found[name] = _subgroup(delta, label, levels, at.clusters())
    return found


def _subgroup(
    delta: Floats, label: NDArray[Any], levels: list[str], clusters: NDArray[Any]
) -> dict[str, Any]:
    parts = {level: _part(delta[label == level], clusters[label == level]) for level in levels}
    tests = [_contrast(delta, label, levels[0], level, clusters) for level in levels[1:]]
    known = [p for p in tests if p is not None]
    p = min(1.0, len(tests) * min(known)) if known else None
    interaction: dict[str, Any] = {
        "p_value": p,
        "method": "difference of subgroup means, cluster t"
        + (", Bonferroni" if len(tests) > 1 else ""),
    }
    if p is None:
        interaction["_reasons"] = {"p_value": "not_identified"}
    return {**parts, "interaction": interaction}


def _contrast(
    delta: Floats, label: NDArray[Any], first: str, second: str, clusters: NDArray[Any]
) -> float | None:
    """p of the difference of two subgroup means. A cluster may have items in both: its influence
    on the difference is summed before it is squared."""
    sides = [(label == level) & np.isfinite(delta) for level in (first, second)]
    if not all(side.any() for side in sides):
        return None
    n = sum(int(side.sum()) for side in sides)
    means = [float(delta[side].mean()) for side in sides]
    influence = np.zeros(len(delta))
    for side, mean, sign in zip(sides, means, (-1, 1), strict=True):
        influence[side] = sign * (delta[side] - mean) * n / side.sum()
    either = sides[0] | sides[1]
    spread = cluster_mean(influence[either], clusters[either])
    if spread.se is None or spread.df is None or spread.se == 0:
        return None
    return t_p_value((means[1] - means[0]) / spread.se, spread.df)


def _part(delta: Floats, clusters: NDArray[Any]) -> dict[str, Any]:
    found = cluster_mean(delta, clusters)
    limits = None if found.low is None or found.high is None else [found.low, found.high]
    part: dict[str, Any] = {"n_items": found.n, "delta_mean": found.estimate, "ci_95": limits}
    missing = [name for name, value in part.items() if value is None]
    return part | ({"_reasons": dict.fromkeys(missing, found.reason)} if missing else {})


def power(at: Comparison, metric: str) -> dict[str, Any]:
    """Smallest effect found with the power asked for, (z_{1-α/2} + z_power)·sd(δ)/√n; the error
    by clusters where there are any. A margin that needs more items says so."""
    from scipy.special import ndtri

    values = sides(at, metric)
    delta = (values.arm - values.control)[np.isfinite(values.arm - values.control)]
    stats = at.stats
    base = {"alpha": stats.alpha, "power": stats.power, "n_items": int(delta.size)}
    if delta.size < 2 or is_constant(delta):
        reason = (
            "single_unit" if delta.size == 1 else "empty" if not delta.size else "zero_variance"
        )
        return base | {"mde": None, "_reasons": {"mde": reason}}
    clusters = at.clusters()[np.isfinite(values.arm - values.control)]
    spread = cluster_mean(delta, clusters)
    sd = float(delta.std(ddof=1))
    error = spread.se if spread.se is not None else sd / math.sqrt(delta.size)
    mde = (normal_quantile(1 - stats.alpha) + float(ndtri(stats.power))) * error
    reach = (float(ndtri(1 - stats.tost_alpha)) + float(ndtri((1 + stats.power) / 2))) * error
    margins = {
        name: "can conclude" if margin >= reach else "cannot conclude"
        for name, margin in stats.tost_margins.items()
        if name == metric
    }
    return base | {"sd": sd, "se": error, "mde": mde, "margins": margins}


def unsupported_sensitivity(at: Comparison) -> dict[str, Any] | None:
    """δ of the unsupported rate under both plain rules, for open items."""
    if at.kind != "open":
        return None
    rules = at.trial.settings.analysis.unsupported
    kinds: tuple[Any, ...] = ("baseline", "overlap")
    return {
        kind: _unsupported_delta(at, Unsupported(kind, rules.threshold, rules.min_token_overlap))
        for kind in kinds
    }


def _unsupported_delta(at: Comparison, rule: Unsupported) -> dict[str, Any]:
    means = []
    texts = np.array(at.trial.columns["text"], dtype=object).reshape(at.trial.shape)
    for arm in (at.reference, at.arm):
        block, quiet = at.block(texts, arm), at.block(at.trial.values("abstain_rate"), arm)
        judged = [
            [
                rule.judge(at.trial.items[n], text) if silent == 0 else np.nan
                for text, silent in zip(said, silences, strict=True)
            ]
            for n, said, silences in zip(at.items, block, quiet, strict=True)
        ]
        means.append(scored_mean(np.array(judged, dtype=float).reshape(len(at.items), -1)))
    return _part(means[1] - means[0], at.clusters())


def cost_effectiveness(at: Comparison, metric: str) -> dict[str, Any]:
    """Signed Δusd per item and Δmetric: dominates, dominated, or a trade-off."""
    usd = np.array(at.trial.costs.usd, dtype=float).reshape(at.trial.shape)
    means = [at.block(usd, arm).sum(axis=1).mean() for arm in (at.reference, at.arm)]
    values = sides(at, metric)
    delta = (values.arm - values.control)[np.isfinite(values.arm - values.control)]
    gain = float(delta.mean()) if delta.size else None
    cost = float(means[1] - means[0])
    entry: dict[str, Any] = {
        "delta_usd_per_item": cost, f"delta_{metric}": gain, "quadrant": quadrant(cost, gain),
    }  # fmt: skip
    if gain is not None and gain > 0:
        entry["usd_per_point"] = cost / (100 * gain)
    if gain is None:
        entry["_reasons"] = {f"delta_{metric}": "empty", "quadrant": "empty"}
    return entry


def quadrant(cost: float, gain: float | None) -> str | None:
    """Where an arm lies: better and no dearer, worse and no cheaper, or a trade-off."""
    if gain is None:
        return None
    if gain == 0 and cost == 0:
        return "same"
    if gain >= 0 and cost <= 0:
        return "dominates"
    return "dominated" if gain <= 0 and cost >= 0 else "trade-off"


def logistic(at: Comparison, metric: str) -> dict[str, Any] | None:
    """Odds ratio of the arm by GEE (marginal, not item-specific), clusters exchangeable."""
    rows, arm, group = [], [], []
    names = {name: n for n, name in enumerate(dict.fromkeys(at.clusters()))}
    codes = np.array([names[name] for name in at.clusters()])
    for place, name in enumerate((at.reference, at.arm)):
        block = at.block(at.trial.values(metric), name)
        seen = np.isfinite(block)
        rows.append(block[seen])
        arm.append(np.full(int(seen.sum()), float(place)))
        group.append(np.repeat(codes, seen.sum(axis=1)))
    y, x, g = np.concatenate(rows), np.concatenate(arm), np.concatenate(group)
    if not np.isin(y, (0.0, 1.0)).all():
        return None
    cells = {(a, v): int(((x == a) & (y == v)).sum()) for a in (0.0, 1.0) for v in (0.0, 1.0)}
    method = "GEE, logit, exchangeable within clusters (marginal odds ratio)"
    if len(y) < 10 or min(cells.values()) == 0 or len(names) < 10:
        return {"method": method, "odds_ratio": None, "_reasons": {"odds_ratio": "separation"}}
    return {"method": method, **_gee(y, x, g)}


def _gee(y: Floats, x: Floats, group: NDArray[Any]) -> dict[str, Any]:
    import warnings

    import statsmodels.api as sm

    order = np.argsort(group, kind="stable")
    design = np.column_stack([np.ones(len(y)), x])[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is checked below and told as a reason
        model = sm.GEE(
            y[order], design, groups=group[order], family=sm.families.Binomial(),
            cov_struct=sm.cov_struct.Exchangeable(),
        )  # fmt: skip
        fit = model.fit(maxiter=60)
    error = float(fit.bse[1])
    if not fit.converged or not math.isfinite(error) or error <= 0:
        return {"odds_ratio": None, "_reasons": {"odds_ratio": "not_converged"}}
    # The library's z is too sure of itself with few clusters.
    beta, df = float(fit.params[1]), len(set(group)) - 1
    low, high = (beta + sign * t_quantile(0.95, df) * error for sign in (-1, 1))
    return {
        "odds_ratio": math.exp(beta), "ci_95": [math.exp(low), math.exp(high)],
        "p_value": t_p_value(beta / error, df), "n_rows": len(y), "n_clusters": df + 1,
    }  # fmt: skip
