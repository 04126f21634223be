"""Counts in tables: Fisher, Mantel-Haenszel, Cochran's Q, permutation chi-squared, and McNemar
with clusters.

Invariant: a table without information (an empty margin) has no statistic, and p is never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import (
    Floats,
    Labels,
    Seed,
    check_level,
    codes,
    floats,
    kept,
    passes,
    same_length,
)
from peira.stats.intervals import normal_quantile
from peira.stats.permutation import DRAWS, PValue, label_permutation_p
from peira.stats.result import (
    ALL_TIED,
    EMPTY,
    MISSING_ARM,
    NO_DISCORDANT_PAIRS,
    RANK_DEFICIENT,
    SEPARATION,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def fisher_exact(a: int, b: int, c: int, d: int, *, level: float = 0.95) -> Estimate:
    """Fisher's exact test of [[a, b], [c, d]]; the estimate is the sample odds ratio ad/(bc).

    Limits are the exact conditional ones (Cornfield). With a zero margin nothing is estimable.
    """
    if min(a, b, c, d) < 0:
        raise ValueError("counts must not be negative")
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": a + b + c + d,
        "method": "Fisher exact, conditional limits",
        "estimand": "odds ratio",
    }
    if a + b + c + d == 0:
        return undefined(EMPTY, **about)
    if 0 in (a + b, c + d):
        return undefined(MISSING_ARM, **about)
    if 0 in (a + c, b + d):
        return undefined(ALL_TIED, p=1.0, **about)
    from scipy.stats import fisher_exact as exact
    from scipy.stats.contingency import odds_ratio

    table = np.array([[a, b], [c, d]])
    limits = odds_ratio(table, kind="conditional").confidence_interval(level)
    ratio = math.inf if b * c == 0 else a * d / (b * c)
    return Estimate(
        ratio, float(limits.low), float(limits.high), p=float(exact(table).pvalue), **about
    )


def mantel_haenszel(tables: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Common odds ratio of strata [[[a, b], [c, d]], ...] with Robins-Breslow-Greenland limits.

    p: Cochran-Mantel-Haenszel chi-squared without continuity correction. Strata with an empty
    margin carry no information and are counted as missing.
    """
    cells = floats(tables, axes=3).reshape(-1, 2, 2)
    if not (cells >= 0).all():
        raise ValueError("counts must be whole numbers from 0 on, none missing")
    informative = (cells.sum(axis=1) > 0).all(axis=1) & (cells.sum(axis=2) > 0).all(axis=1)
    kept = cells[informative]
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": len(kept),
        "n_rows": int(cells.sum()),
        "missing": int((~informative).sum()),
        "method": "Mantel-Haenszel, Robins-Breslow-Greenland",
        "estimand": "common odds ratio over strata",
    }
    if not len(kept):
        return undefined(EMPTY, **about)
    a, b, c, d = kept[:, 0, 0], kept[:, 0, 1], kept[:, 1, 0], kept[:, 1, 1]
    n = a + b + c + d
    r, s = a * d / n, b * c / n
    p = _cmh_p(a, b, c, d, n)
    if r.sum() == 0 or s.sum() == 0:
        return undefined(SEPARATION, p=p, **about)
    ratio = float(r.sum() / s.sum())
    concordant, discordant = (a + d) / n, (b + c) / n
    variance = float(
        (concordant * r).sum() / (2 * r.sum() ** 2)
        + (concordant * s + discordant * r).sum() / (2 * r.sum() * s.sum())
        + (discordant * s).sum() / (2 * s.sum() ** 2)
    )
    half = normal_quantile(level) * math.sqrt(variance)
    return Estimate(
        ratio,
        math.exp(math.log(ratio) - half),
        math.exp(math.log(ratio) + half),
        p=p,
        extra={"se_log": math.sqrt(variance)},
        **about,
    )


def _cmh_p(a: Floats, b: Floats, c: Floats, d: Floats, n: Floats) -> float | None:
    from scipy.special import chdtrc

    expected = (a + b) * (a + c) / n
    spare = np.maximum(n - 1, 1)
    variance = float(((a + b) * (c + d) * (a + c) * (b + d) / (n**2 * spare)).sum())
    if variance == 0:
        return None
    return float(chdtrc(1, float((a - expected).sum()) ** 2 / variance))


def cochran_q(outcomes: ArrayLike) -> Estimate:
    """Cochran's Q: do k paired treatments share one pass rate? Units x treatments of 0/1.

    Rows with a missing value are counted and left out; rows that are all alike do not count.
    """
    from scipy.special import chdtrc

    rows = np.atleast_2d(passes(outcomes, axes=2))
    seen = np.isfinite(rows).all(axis=1)
    x = rows[seen]
    about: dict[str, Any] = {
        "n": len(x),
        "missing": int((~seen).sum()),
        "method": "Cochran's Q, chi-squared",
        "estimand": "Q over treatments",
    }
    if not len(x):
        return undefined(EMPTY, **about)
    k = x.shape[1]
    if k < 2:
        return undefined(MISSING_ARM, **about)
    per_row, per_column = x.sum(axis=1), x.sum(axis=0)
    spread = float((per_row * (k - per_row)).sum())
    if spread == 0:
        return undefined(NO_DISCORDANT_PAIRS, p=1.0, **about)
    q = k * (k - 1) * float(((per_column - per_column.mean()) ** 2).sum()) / spread
    return Estimate(q, p=float(chdtrc(k - 1, q)), df=k - 1, **about)


def chi_squared_permutation(
    rows: Labels, columns: Labels, *, seed: Seed, strata: Labels | None = None, draws: int = DRAWS
) -> PValue | str:
    """p of independence of two labellings, one shuffled (within strata): any table, any size.

    The statistic is Pearson's chi-squared; exact where at most 2^20 arrangements differ. Returns a
    reason code when a labelling is constant.
    """
    r, row_names = codes(rows)
    c, column_names = codes(columns)
    if len(r) != len(c):
        raise ValueError("rows and columns must have one label per unit")
    if not len(r):
        return EMPTY
    if len(row_names) < 2 or len(column_names) < 2:
        return ALL_TIED
    # Pearson's sum is that of count^2/expected, less a constant.
    expected = np.outer(np.bincount(c), np.bincount(r)) / len(r)
    rows_of = np.eye(len(row_names))[r]
    return label_permutation_p(c, rows_of, expected, strata=strata, seed=seed, draws=draws)


def clustered_mcnemar(
    treatment: ArrayLike | Sequence[float | None],
    control: ArrayLike | Sequence[float | None],
    cluster: Labels,
    *,
    variant: str = "obuchowski",
) -> Estimate:
    """McNemar's test for pairs in clusters. The variants have different estimands.

    "obuchowski": difference of rates over pairs; "durkalski": mean over clusters of the
    cluster's difference; "yang": as Obuchowski with a null variance. p by chi-squared, 1 df.
    """
    from scipy.special import chdtrc

    t, c = passes(treatment), passes(control)
    same_length(treatment=t, control=c, cluster=cluster)
    seen = np.isfinite(t) & np.isfinite(c)
    group, names = codes(kept(cluster, seen))
    d = (t - c)[seen]
    about: dict[str, Any] = {
        "n": len(names),
        "n_rows": d.size,
        "missing": int((~seen).sum()),
        "method": f"clustered McNemar ({variant})",
    }
    if variant not in ("obuchowski", "durkalski", "yang"):
        raise ValueError(f"variant must be obuchowski, durkalski or yang; got {variant!r}")
    if len(names) < 2:
        return undefined(RANK_DEFICIENT if len(names) else EMPTY, estimand="", **about)
    if not d.any():
        return undefined(NO_DISCORDANT_PAIRS, p=1.0, estimand="", **about)
    sums, sizes = np.bincount(group, weights=d), np.bincount(group).astype(float)
    if variant == "durkalski":
        share = sums / sizes
        estimate, top, spread = float(share.mean()), share.sum() ** 2, (share**2).sum()
        estimand = "mean over clusters of the difference of pass rates"
    else:
        estimate = float(sums.sum() / sizes.sum())
        around = sums - sizes * estimate if variant == "obuchowski" else sums
        factor = len(names) / (len(names) - 1) if variant == "obuchowski" else 1.0
        top, spread = sums.sum() ** 2, factor * (around**2).sum()
        estimand = "difference of pass rates over pairs"
    if spread <= 1e-12 * d.size:  # gains and losses are alike, or cancel, in every cluster
        return Estimate(estimate, reason=ZERO_VARIANCE, estimand=estimand, **about)
    chi2 = float(top / spread)
    p = float(chdtrc(1, chi2))
    return Estimate(estimate, p=p, estimand=estimand, extra={"chi2": chi2}, **about)
