"""Questions about more than two arms, or more than one dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.stats.clustered import cluster_mean
from peira.stats.meta import meta_analysis
from peira.stats.permutation import monte_carlo_p
from peira.stats.tables import cochran_q

Floats = NDArray[np.float64]


def several_arms(means: Floats, single: bool, draws: int, seed: int) -> dict[str, Any]:
    """Do all arms share one mean? Items × arms: Cochran's Q for one 0/1 sample an item, else arms
    permuted within each item."""
    seen = means[np.isfinite(means)]
    if not (single and np.isin(seen, (0.0, 1.0)).all()):
        return permutation_q(means, draws, seed)
    found = cochran_q(means)
    entry: dict[str, Any] = {
        "method": "Cochran's Q", "arms": means.shape[1], "n_items": found.n,
        "range": _range(means), "Q": found.estimate, "p_value": found.p,
    }  # fmt: skip
    missing = [name for name in ("range", "Q", "p_value") if entry[name] is None]
    return entry | ({"_reasons": dict.fromkeys(missing, found.reason)} if missing else {})


def _range(means: Floats) -> float | None:
    """Largest less smallest arm mean, over items that all arms have."""
    whole = means[np.isfinite(means).all(axis=1)]
    return float(np.ptp(whole.mean(axis=0))) if len(whole) else None


def permutation_q(means: Floats, draws: int, seed: int) -> dict[str, Any]:
    """Within-item permutation of the arms; the statistic is the spread of the arm means."""
    whole = means[np.isfinite(means).all(axis=1)]
    base = {
        "method": "within-item permutation", "arms": means.shape[1], "n_items": len(whole),
        "range": _range(means),
    }  # fmt: skip
    if len(whole) < 2:
        return base | {"p_value": None, "_reasons": {"p_value": "empty"}}
    rng = np.random.default_rng(seed)
    observed = _spread(whole)
    hits = sum(_spread(rng.permuted(whole, axis=1)) >= observed - 1e-12 for _ in range(draws))
    found = monte_carlo_p(int(hits), draws)
    return base | {"p_value": found.p, "mc_error": found.mc_error}


def _spread(rows: Floats) -> float:
    arms = rows.mean(axis=0)
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
    limits = None if found.low is None or found.high is None else [found.low, found.high]
    entry = {
        "method": pooled.method, "k": found.n, "estimate": found.estimate, "ci_95": limits,
        "p_value": found.p, "tau2": pooled.tau2, "i2": pooled.i2,
        "prediction_95": None if pooled.prediction is None else list(pooled.prediction),
    }  # fmt: skip
    reasons = {name: found.reason or "too_few_units" for name, v in entry.items() if v is None}
    return entry | ({"_reasons": reasons} if reasons else {})
