"""Marginal models of outcomes in clusters (generalised estimating equations).

Invariant: what is estimated is an average over clusters, never a cluster's own effect; few clusters
are said, not glossed over by the normal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Labels, codes, floats
from peira.stats.intervals import t_p_value, t_quantile
from peira.stats.result import NOT_CONVERGED, SEPARATION, Estimate, undefined


def marginal_odds_ratio(outcome: ArrayLike, treated: ArrayLike, cluster: Labels) -> Estimate:
    """Odds ratio of a 0/1 treatment on rows of 0/1 outcomes in clusters, by GEE with exchangeable
    correlation (marginal, not cluster-specific): Liang & Zeger 1986. Limits and p by t with
    clusters - 1 degrees of freedom, since the normal is too sure of itself with few clusters."""
    import warnings

    import statsmodels.api as sm

    y, x = floats(outcome), floats(treated)
    group, names = codes(cluster)
    about: dict[str, Any] = {
        "n": len(names), "n_rows": y.size, "estimand": "marginal odds ratio",
        "method": "GEE, logit, exchangeable within clusters (marginal odds ratio)",
    }  # fmt: skip
    fewest = min(((x == a) & (y == v)).sum() for a in (0, 1) for v in (0, 1))
    if y.size < 10 or fewest == 0 or len(names) < 10:
        return undefined(SEPARATION, **about)
    order = np.argsort(group, kind="stable")
    design = np.column_stack([np.ones(y.size), x])[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is checked below and told as a reason
        model = sm.GEE(
            y[order], design, groups=group[order], family=sm.families.Binomial(),
            cov_struct=sm.cov_struct.Exchangeable(),
        )  # fmt: skip
        fit = model.fit(maxiter=60)
        beta, error = float(fit.params[1]), float(fit.bse[1])
    df = len(names) - 1
    if not fit.converged or not math.isfinite(error) or error <= 0:
        return undefined(NOT_CONVERGED, **about)
    low, high = (math.exp(beta + sign * t_quantile(0.95, df) * error) for sign in (-1, 1))
    return Estimate(math.exp(beta), low, high, p=t_p_value(beta / error, df), df=df, **about)
