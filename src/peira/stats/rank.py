"""Rank methods for paired scores: Wilcoxon signed rank, Hodges-Lehmann, sign-flip.

Invariant: ties and zeros are part of the exact distribution, never ignored, and the number of
zeros is reported. `control=None` means that the first argument holds differences already.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from peira.stats._arrays import Floats, Ints, Seed, tie_grid
from peira.stats.intervals import normal_quantile
from peira.stats.paired import Pairs, Values, pairs
from peira.stats.permutation import sign_flip_p, subset_sum_distribution, two_sided_subset_p
from peira.stats.result import (
    ALL_TIED,
    INTERVAL_UNRELIABLE,
    SINGLE_UNIT,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)

#: Up to here the signed-rank distribution is exact; beyond, normal.
EXACT_UNITS = 400


def read_pairs(treatment: Values, control: Values | None) -> Pairs:
    """Pairs of two arms, or differences paired with zeros."""
    if control is not None:
        return pairs(treatment, control)
    data = pairs(treatment, np.zeros(len(np.asarray(treatment))))
    return replace(data, rows=data.rows - data.differences.size - data.missing)


def sign_flip(
    treatment: Values, control: Values | None = None, *, seed: Seed, level: float = 0.95
) -> Estimate:
    """Sign-flip test of the mean paired difference (null: symmetric about zero).

    Exact whenever the values lie on a decimal grid or at most 20 differ from zero; else Monte
    Carlo with 9,999 draws. No interval: see `paired_difference`.
    """
    data = read_pairs(treatment, control)
    about: dict[str, Any] = data.about(level) | {
        "method": "sign-flip",
        "estimand": "mean paired difference",
    }
    if data.absent:
        return undefined(data.absent, **about)
    test = sign_flip_p(data.differences, seed)
    mean, method = float(data.differences.mean()), f"sign-flip ({test.how})"
    return test.on(Estimate(mean, **about | {"method": method}))


def wilcoxon(
    treatment: Values,
    control: Values | None = None,
    *,
    zeros: str = "pratt",
    continuity: bool = True,
    level: float = 0.95,
) -> Estimate:
    """Wilcoxon signed-rank test; the estimate is the matched rank-biserial correlation.

    `zeros`: "pratt" ranks them with the rest and then drops them, "drop" drops them first: two
    different tests. Midranks for ties; exact by convolution up to 400 units, else normal with
    the ties' variance and, unless `continuity` is off, R's continuity correction. `extra` has
    W+, W- and the number of zeros.
    """
    if zeros not in ("pratt", "drop"):
        raise ValueError(f"zeros must be 'pratt' or 'drop'; got {zeros!r}")
    data = read_pairs(treatment, control)
    about: dict[str, Any] = data.about(level) | {
        "method": f"Wilcoxon signed rank, zeros {'ranked (Pratt)' if zeros == 'pratt' else zeros}",
        "estimand": "matched rank-biserial correlation (W+ - W-)/(W+ + W-)",
    }
    if data.absent:
        return undefined(data.absent, **about)
    whole, _ = tie_grid(data.differences)
    doubled = _doubled_midranks(whole, zeros)
    plus, minus = int(doubled[whole > 0].sum()), int(doubled[whole < 0].sum())
    about["extra"] = about["extra"] | {
        "W_plus": plus / 2,
        "W_minus": minus / 2,
        "n_zero": int((whole == 0).sum()),
    }
    if plus + minus == 0:
        return undefined(ALL_TIED, p=1.0, **about)
    p = _signed_rank_p(doubled[whole != 0], plus, continuity)
    return Estimate(_rank_biserial(whole), p=p, **about)


def _rank_biserial(whole: Ints) -> float:
    """(W+ - W-)/(W+ + W-), zeros dropped: the definition, whichever test goes with it."""
    doubled = _doubled_midranks(whole, "drop")
    return float((np.sign(whole) * doubled).sum() / doubled.sum())


def _doubled_midranks(whole: Ints, zeros: str) -> Ints:
    from scipy.stats import rankdata

    size = np.abs(whole)
    doubled = np.zeros(whole.size, dtype=np.int64)
    ranked = np.ones(whole.size, dtype=bool) if zeros == "pratt" else whole != 0
    if ranked.any():
        doubled[ranked] = np.rint(2 * rankdata(size[ranked]))
    return doubled


def _signed_rank_p(doubled: Ints, plus: int, continuity: bool = True) -> float:
    if doubled.size <= EXACT_UNITS:
        return two_sided_subset_p(doubled, plus)
    return _signed_rank_normal_p(doubled, plus, continuity)


def _signed_rank_normal_p(doubled: Ints, plus: int, continuity: bool) -> float:
    from scipy.special import ndtr

    ranks = doubled.astype(float)
    deviation = math.sqrt(float((ranks**2).sum())) / 2
    gap = max(abs(plus - float(ranks.sum()) / 2) - (1.0 if continuity else 0.0), 0.0)
    return min(1.0, float(2 * ndtr(-gap / deviation)))


def hodges_lehmann(
    treatment: Values, control: Values | None = None, *, level: float = 0.95
) -> Estimate:
    """Median of the n(n+1)/2 Walsh averages, with the signed-rank interval.

    Exact order statistics at every n: found by bisection on counts, O(n log n), so no other
    estimator stands in at large n. `extra["achieved_level"]` is the interval's true confidence.
    """
    data = read_pairs(treatment, control)
    about: dict[str, Any] = data.about(level) | {
        "method": "Hodges-Lehmann, Walsh order statistics",
        "estimand": "pseudomedian of the paired difference",
    }
    if data.absent:
        return undefined(data.absent, **about)
    averages = WalshAverages(data.differences)
    estimate = averages.median()
    if data.reason in (SINGLE_UNIT, ZERO_VARIANCE):
        return Estimate(estimate, reason=data.reason, **about)
    k, achieved = _signed_rank_index(data.differences.size, 1 - level)
    about["extra"] = about["extra"] | {"achieved_level": achieved}
    low, high = averages.smallest(k), averages.smallest(averages.count + 1 - k)
    flags = (INTERVAL_UNRELIABLE,) if achieved < level - 1e-9 else ()
    if low == high:
        return Estimate(estimate, reason=ALL_TIED, **about)
    return Estimate(estimate, low, high, flags=flags, **about)


class WalshAverages:
    """The averages (x_i + x_j)/2, i <= j, of a sample, by rank, without forming them."""

    def __init__(self, values: Floats) -> None:
        self._sorted, self._step = tie_grid(np.sort(values))
        n = values.size
        self.count = n * (n + 1) // 2

    def _at_most(self, total: int) -> int:
        """Number of pairs with x_i + x_j <= total."""
        x = self._sorted
        ordered = int(np.searchsorted(x, total - x[::-1], side="right").sum())
        return (ordered + int((2 * x <= total).sum())) // 2

    def smallest(self, k: int) -> float:
        """The k-th smallest average, k = 1..count."""
        low, high = 2 * int(self._sorted[0]), 2 * int(self._sorted[-1])
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._at_most(middle) >= k else (middle + 1, high)
        return low * self._step / 2

    def median(self) -> float:
        """Median of all averages."""
        upper = self.smallest(self.count // 2 + 1)
        if self.count % 2:
            return upper
        return (self.smallest(self.count // 2) + upper) / 2


def _signed_rank_index(n: int, alpha: float) -> tuple[int, float]:
    """Index k of the lower Walsh limit (R's qsignrank, at least 1) and the achieved level."""
    if n <= EXACT_UNITS:
        cumulative = np.cumsum(subset_sum_distribution(np.arange(1, n + 1)))
        k = max(1, int(np.searchsorted(cumulative, alpha / 2 * (1 - 1e-12))))
        return k, 1 - 2 * float(cumulative[k - 1])
    from scipy.special import ndtr

    mean, deviation = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    k = max(1, math.floor(mean - normal_quantile(1 - alpha) * deviation + 0.5))
    return k, float(1 - 2 * ndtr((k - 0.5 - mean) / deviation))
