"""Questions about more than two arms, or more than one dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.effects import reasoned
from peira.stats.clustered import cluster_mean
from peira.stats.meta import meta_analysis
from peira.stats.permutation import monte_carlo_p
from peira.stats.tables import cochran_q

Floats = NDArray[np.float64]


def several_arms(
    means: Floats, clusters: NDArray[Any], single: bool, draws: int, seed: int
) -> dict[str, Any]:
    """Do all arms share one mean? Items × arms: Cochran's Q for one 0/1 sample an item and items
    that share no passage, else arms permuted within each cluster of items."""
    seen = means[np.isfinite(means)]
    alone = len(set(clusters)) == len(clusters)
    if not (single and alone and np.isin(seen, (0.0, 1.0)).all()):
        return permutation_q(means, clusters, draws, seed)
    found = cochran_q(means)
    entry: dict[str, Any] = {
        "method": "Cochran's Q", "arms": means.shape[1], "n_items": found.n,
        "range": _range(means), "Q": found.estimate, "p_value": found.p,
    }  # fmt: skip
    return reasoned(entry, found.reason)


def _range(means: Floats) -> float | None:
    """Largest less smallest arm mean, over items that all arms have."""
    whole = means[np.isfinite(means).all(axis=1)]
    return float(np.ptp(whole.mean(axis=0))) if len(whole) else None


def permutation_q(means: Floats, clusters: NDArray[Any], draws: int, seed: int) -> dict[str, Any]:
    """Arms permuted within clusters, all items of one together; the statistic is the spread of
    the arm means."""
    seen = np.isfinite(means).all(axis=1)
    parts = _parts(means[seen], clusters[seen])
    where = "items" if len(parts) == seen.sum() else "clusters"
    entry: dict[str, Any] = {
        "method": f"permutation of arms within {where}", "arms": means.shape[1],
        "n_items": int(seen.sum()), "n_clusters": len(parts), "range": _range(means),
    }  # fmt: skip
    if len(parts) < 2:
        return reasoned(entry | {"p_value": None}, "empty")
    rng = np.random.default_rng(seed)
    least = _spread(parts) - 1e-12
    hits = sum(_spread(rng.permuted(parts, axis=1)) >= least for _ in range(draws))
    found = monte_carlo_p(int(hits), draws, seed)
    return entry | {"p_value": found.p, "mc_error": found.mc_error, "p_seed": found.seed}


def _parts(rows: Floats, clusters: NDArray[Any]) -> Floats:
    """Clusters × arms: what the items of each add to the arms' means."""
    names, place = np.unique(clusters.astype(str), return_inverse=True)
    parts = np.zeros((len(names), rows.shape[1]))
    np.add.at(parts, place, rows / max(1, len(rows)))
    return parts


def _spread(parts: Floats) -> float:
    arms = parts.sum(axis=0)
    return float(((arms - arms.mean()) ** 2).sum())


def over_datasets(
    delta: Floats, dataset: NDArray[Any], clusters: NDArray[Any]
) -> dict[str, Any] | None:
    """δ pooled over two or more datasets by random effects; None for one dataset."""
    names = sorted(set(dataset))
    if len(names) < 2:
        return None
    parts = [cluster_mean(delta[dataset == name], clusters[dataset == name]) for name in names]
    pooled = meta_analysis([p.estimate for p in parts], [p.se for p in parts])
    found = pooled.random
    entry = {
        "method": pooled.method, "k": found.n, "estimate": found.estimate, "ci_95": found.limits,
        "p_value": found.p, "tau2": pooled.tau2, "i2": pooled.i2,
        "prediction_95": None if pooled.prediction is None else list(pooled.prediction),
    }  # fmt: skip
    return reasoned(entry, found.reason or "too_few_units")
