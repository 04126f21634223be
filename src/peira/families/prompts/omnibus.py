"""Questions about more than two arms, or more than one dataset."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.stats.clustered import cluster_mean
from peira.stats.permutation import monte_carlo_p

Floats = NDArray[np.float64]


def cochran_q(outcomes: Floats) -> dict[str, Any]:
    """Cochran's Q over items × arms of 0/1 outcomes: Q = (k-1)[kΣG² − (ΣG)²]/(kΣL − ΣL²).

    Items with a missing arm are left out. Source: Cochran 1950; chi-squared with k − 1 df.
    """
    from scipy.special import chdtrc

    whole = outcomes[np.isfinite(outcomes).all(axis=1)]
    k = outcomes.shape[1]
    arms, items = whole.sum(axis=0), whole.sum(axis=1)
    below = float(k * items.sum() - (items**2).sum())
    base = {"method": "Cochran's Q", "arms": k, "n_items": len(whole)}
    if below == 0:
        reasons = {"Q": "no_discordant_pairs", "p_value": "no_discordant_pairs"}
        return base | {"Q": None, "p_value": None, "_reasons": reasons}
    q = float((k - 1) * (k * (arms**2).sum() - arms.sum() ** 2)) / below
    return base | {"Q": q, "p_value": float(chdtrc(k - 1, q))}


def permutation_q(means: Floats, draws: int, seed: int) -> dict[str, Any]:
    """The same question for item means over samples: arms permuted within each item; the statistic
    is the spread of the arm means."""
    whole = means[np.isfinite(means).all(axis=1)]
    k = means.shape[1]
    base = {"method": "within-item permutation", "arms": k, "n_items": len(whole)}
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


def random_effects(
    delta: Floats, dataset: NDArray[Any], clusters: NDArray[Any]
) -> dict[str, Any] | None:
    """δ over two or more datasets: DerSimonian-Laird τ², Hartung-Knapp t interval.

    None for one dataset. Sources: DerSimonian & Laird 1986; Knapp & Hartung 2003.
    """
    from scipy.special import stdtr, stdtrit

    names = sorted(set(dataset))
    if len(names) < 2:
        return None
    parts = [cluster_mean(delta[dataset == name], clusters[dataset == name]) for name in names]
    known = [(p.estimate, p.se) for p in parts if p.estimate is not None and p.se]
    base = {"method": "random effects (DL, Hartung-Knapp)", "k": len(known)}
    if len(known) < 2:
        return base | {"estimate": None, "_reasons": {"estimate": "too_few_units"}}
    y, v = np.array([e for e, _ in known]), np.array([s**2 for _, s in known])
    w = 1 / v
    fixed = float((w * y).sum() / w.sum())
    heterogeneity = float((w * (y - fixed) ** 2).sum())
    df = len(y) - 1
    scale = float(w.sum() - (w**2).sum() / w.sum())
    tau2 = max(0.0, (heterogeneity - df) / scale)
    w = 1 / (v + tau2)
    mean = float((w * y).sum() / w.sum())
    error = math.sqrt(float((w * (y - mean) ** 2).sum()) / (df * float(w.sum())))
    found = base | {"estimate": mean, "tau2": tau2, "Q": heterogeneity, "df": df}
    if error == 0:
        return found | {"ci_95": None, "_reasons": {"ci_95": "zero_variance"}}
    half = float(stdtrit(df, 0.975)) * error
    p = float(2 * stdtr(df, -abs(mean / error)))
    return found | {"ci_95": [mean - half, mean + half], "p_value": p}
