"""Beside the comparison of means: McNemar's table, loss, subgroups, power, models, money.

Each function answers one question of significance.json about one comparison; what cannot be
answered is None with a reason.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.effects import (
    Comparison,
    cluster_sums,
    reasoned,
    scored_mean,
    sides,
    why_no_spread,
)
from peira.families.prompts.scoring import Unsupported
from peira.stats.clustered import cluster_mean
from peira.stats.intervals import t_p_value
from peira.stats.marginal import marginal_odds_ratio
from peira.stats.mcnemar import conditional_odds_ratio, mcnemar_exact_p, mcnemar_mid_p
from peira.stats.permutation import sign_flip_p
from peira.study.seeds import derive

Floats = NDArray[np.float64]


def mcnemar_block(at: Comparison, metric: str) -> dict[str, Any] | None:
    """b = reference wrong and arm right, c the reverse; None unless one 0/1 sample an item."""
    values = sides(at, metric)
    if not at.single or not values.binary:
        return None
    delta, clusters = values.known, at.clusters()
    b, c = int((delta > 0).sum()), int((delta < 0).sum())
    ratio = conditional_odds_ratio(b, c, method="exact")
    limits = [_finite(ratio.low), _finite(ratio.high)]
    reasons = {}
    if b + c == 0:
        reasons = dict.fromkeys(("odds_ratio", "or_ci_95"), "no_discordant_pairs")
    else:
        reasons |= {"odds_ratio": "unbounded"} if _finite(ratio.estimate) is None else {}
        reasons |= {"or_ci_95/1": "unbounded"} if limits[1] is None else {}
    return {
        "b": b, "c": c, "n": int(delta.size), "p_exact": mcnemar_exact_p(b, c),
        "p_midp": mcnemar_mid_p(b, c), "odds_ratio": _finite(ratio.estimate),
        "or_ci_95": limits if b + c else None, "_reasons": reasons,
        **({"note": "items taken as independent"} if len(set(clusters)) < len(clusters) else {}),
    }  # fmt: skip


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
        **({} if test.mc_error is None else {"mc_error": test.mc_error, "p_seed": test.seed}),
    }  # fmt: skip


def subgroups(at: Comparison, metric: str) -> dict[str, Any]:
    """δ by dataset and by answerability, with a test of the interaction, never of each part."""
    items = [at.trial.items[n] for n in at.items]
    labels = {
        "dataset": np.array([item.dataset for item in items], dtype=object),
        "answerable": np.array([str(item.answerable).lower() for item in items], dtype=object),
    }
    delta, clusters = sides(at, metric).delta, at.clusters()
    found = {}
    for name, label in labels.items():
        first, *others = levels = sorted(set(label))
        if not others:
            continue
        parts = {level: mean_delta(delta[label == level], clusters[label == level])
                 for level in levels}  # fmt: skip
        tests = [_contrast(delta, label, first, level, clusters) for level in others]
        known = [p for p in tests if p is not None]
        bonferroni = ", Bonferroni" if len(tests) > 1 else ""
        interaction = {
            "p_value": min(1.0, len(tests) * min(known)) if known else None,
            "method": f"difference of subgroup means, cluster t{bonferroni}",
        }
        found[name] = {**parts, "interaction": reasoned(interaction, "not_identified")}
    return found


def _contrast(
    delta: Floats, label: NDArray[Any], first: str, second: str, clusters: NDArray[Any]
) -> float | None:
    """p of the difference of two subgroup means. A cluster may have items in both: its influence
    on the difference is summed before it is squared."""
    parts = [(label == level) & np.isfinite(delta) for level in (first, second)]
    if not all(part.any() for part in parts):
        return None
    either = parts[0] | parts[1]
    means = [float(delta[part].mean()) for part in parts]
    influence = np.zeros(len(delta))
    for part, mean, sign in zip(parts, means, (-1, 1), strict=True):
        influence[part] = sign * (delta[part] - mean) * either.sum() / part.sum()
    spread = cluster_mean(influence[either], clusters[either])
    if spread.se is None or spread.df is None or spread.se == 0:
        return None
    return t_p_value((means[1] - means[0]) / spread.se, spread.df)


def mean_delta(delta: Floats, clusters: NDArray[Any]) -> dict[str, Any]:
    """Mean of item differences, its error by clusters."""
    found = cluster_mean(delta, clusters)
    part = {"n_items": found.n, "delta_mean": found.estimate, "ci_95": found.limits}
    return reasoned(part, found.reason)


def power(at: Comparison, metric: str) -> dict[str, Any]:
    """Smallest effect found with the power asked for, (z_{1-α/2} + z_power)·sd(δ)/√n; the error
    by clusters where there are any. A margin that needs more items says so."""
    values, stats = sides(at, metric), at.stats
    delta = values.known
    base = {"alpha": stats.alpha, "power": stats.power, "n_items": int(delta.size)}
    if (why := why_no_spread(delta)) is not None:
        return base | reasoned({"mde": None}, why)
    sd = float(delta.std(ddof=1))
    clustered = cluster_mean(delta, at.clusters()[values.both]).se
    error = sd / math.sqrt(delta.size) if clustered is None else clustered
    z = NormalDist().inv_cdf
    mde = (z(1 - stats.alpha / 2) + z(stats.power)) * error
    reach = (z(1 - stats.tost_alpha) + z((1 + stats.power) / 2)) * error
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
    return {
        kind: _unsupported_delta(at, Unsupported(kind, min_token_overlap=rules.min_token_overlap))
        for kind in ("baseline", "overlap")
    }  # fmt: skip


def _unsupported_delta(at: Comparison, rule: Unsupported) -> dict[str, Any]:
    means = []
    texts = at.trial.column("text", object)
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
    return mean_delta(means[1] - means[0], at.clusters())


def cost_effectiveness(at: Comparison, metric: str) -> dict[str, Any]:
    """Signed Δusd per item and Δmetric: dominates, dominated, or a trade-off."""
    means = [at.block(at.trial.usd, arm).sum(axis=1).mean() for arm in (at.reference, at.arm)]
    delta = sides(at, metric).known
    gain = float(delta.mean()) if delta.size else None
    cost = float(means[1] - means[0])
    entry: dict[str, Any] = {
        "delta_usd_per_item": cost, f"delta_{metric}": gain, "quadrant": quadrant(cost, gain),
    }  # fmt: skip
    if gain is not None and gain > 0:
        entry["usd_per_point"] = cost / (100 * gain)
    return reasoned(entry, "empty")


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
    clusters = at.clusters()
    blocks = [at.block(at.trial.values(metric), arm) for arm in (at.reference, at.arm)]
    seen = [np.isfinite(block) for block in blocks]
    y = np.concatenate([block[s] for block, s in zip(blocks, seen, strict=True)])
    if not np.isin(y, (0.0, 1.0)).all():
        return None
    x = np.repeat((0.0, 1.0), [s.sum() for s in seen])
    group = np.concatenate([np.repeat(clusters, s.sum(axis=1)) for s in seen])
    found = marginal_odds_ratio(y, x, group)
    entry = {"method": found.method, "odds_ratio": found.estimate}
    if found.estimate is None:
        return reasoned(entry, found.reason)
    return entry | {
        "ci_95": found.limits, "p_value": found.p, "n_rows": found.n_rows, "n_clusters": found.n,
    }  # fmt: skip
