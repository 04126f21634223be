"""Effect sizes and equivalence for paired scores; inequality of shares.

Invariant: a standardised effect without spread is undefined, not zero and not infinite. d_z
grows with the correlation of the arms, so it is never called plainly "Cohen's d".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from peira.stats._arrays import Floats, check_level, check_positive, floats, tie_grid, unit_means
from peira.stats._solve import bisect
from peira.stats.intervals import normal_quantile, t_p_value
from peira.stats.mcnemar import tango_limits
from peira.stats.paired import Values
from peira.stats.rank import read_pairs
from peira.stats.result import (
    ALL_TIED,
    EMPTY,
    MISSING_ARM,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def hedges_correction(df: float) -> float:
    """J(df) = Gamma(df/2)/(sqrt(df/2) Gamma((df-1)/2)), the small-sample bias of d."""
    log = math.lgamma(df / 2) - math.lgamma((df - 1) / 2)
    return math.exp(log) / math.sqrt(df / 2)


def noncentral_t_limits(statistic: float, df: float, level: float) -> tuple[float, float]:
    """Limits of the noncentrality that put the observed t at the tails."""
    from scipy.special import nctdtr

    tail = (1 - level) / 2
    reach = 10 + 3 * abs(statistic)
    span = statistic - reach, statistic + reach
    low = bisect(lambda nc: bool(nctdtr(df, nc, statistic) > 1 - tail), *span)
    return low, bisect(lambda nc: bool(nctdtr(df, nc, statistic) > tail), *span)


def standardised_difference(
    treatment: Values, control: Values | None = None, *, kind: str = "g_z", level: float = 0.95
) -> Estimate:
    """Standardised mean paired difference with its noncentral-t interval.

    `kind`: "d_z" = mean/sd of the differences, "g_z" = d_z with Hedges' correction, "d_av" =
    mean / root mean square of the arms' sds (no interval).
    """
    if kind not in ("d_z", "g_z", "d_av"):
        raise ValueError(f"kind must be 'd_z', 'g_z' or 'd_av'; got {kind!r}")
    data = read_pairs(treatment, control)
    about: dict[str, Any] = data.about(level) | {
        "method": "noncentral t",
        "estimand": f"standardised: {kind}",
    }
    if data.reason:
        return undefined(data.reason, **about)
    d = data.differences
    if kind == "g_z" and d.size < 3:  # J(1) = 0: two differences say nothing of their own spread
        return undefined(TOO_FEW_UNITS, **about)
    if kind == "d_av":
        spread = math.sqrt((data.treatment.var(ddof=1) + data.control.var(ddof=1)) / 2)
        return Estimate(float(d.mean()) / spread, **about | {"method": "average sd"})
    root = math.sqrt(d.size)
    d_z = float(d.mean() / d.std(ddof=1))
    low, high = noncentral_t_limits(d_z * root, d.size - 1, level)
    scale = hedges_correction(d.size - 1) if kind == "g_z" else 1.0
    p = t_p_value(d_z * root, d.size - 1)
    return Estimate(
        d_z * scale, low / root * scale, high / root * scale, p=p, df=d.size - 1, **about
    )


def cliffs_delta(first: Values, second: Values, level: float = 0.95) -> Estimate:
    """Cliff's delta of two independent samples: P(X > Y) - P(X < Y) over all cross pairs.

    Interval: DeLong's variance (1988) with Feng & Cliff's asymmetric limits (2004). For
    matched pairs use `dominance`, which is another quantity.
    """
    given = unit_means(first)[0], unit_means(second)[0]
    x, y = (a[np.isfinite(a)] for a in given)
    missing = sum(a.size for a in given) - x.size - y.size
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": x.size + y.size,
        "missing": missing,
        "method": "Cliff's delta, Feng-Cliff limits",
        "estimand": "P(first > second) - P(first < second)",
    }
    if 0 in (x.size, y.size):
        return undefined(EMPTY if x.size == y.size else MISSING_ARM, **about)
    rows, columns = _dominance_means(x, y)
    delta = float(rows.mean())
    if abs(delta) == 1 or min(x.size, y.size) < 2:
        return Estimate(delta, reason=ZERO_VARIANCE, **about)
    variance = _delta_variance(rows, columns, delta)
    if variance <= 0:
        return Estimate(delta, reason=ALL_TIED, **about)
    z, se = normal_quantile(level), math.sqrt(variance)
    scale = 1 - delta**2 + z**2 * variance
    half = z * se * math.sqrt((1 - delta**2) ** 2 + z**2 * variance)
    centre = delta - delta**3
    low, high = (centre - half) / scale, (centre + half) / scale
    return Estimate(delta, max(low, -1.0), min(high, 1.0), se=se, **about)


def _dominance_means(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Mean sign of x_i against all y, and of all x against y_j, from sorted counts."""
    whole, _ = tie_grid(np.concatenate([x, y]))
    a, b = whole[: x.size], whole[x.size :]

    def signs(of: np.ndarray, against: np.ndarray) -> Floats:
        ordered = np.sort(against)
        below = np.searchsorted(ordered, of, side="left")
        above = ordered.size - np.searchsorted(ordered, of, side="right")
        return np.asarray((below - above) / ordered.size)

    return signs(a, b), -signs(b, a)


def _delta_variance(rows: Floats, columns: Floats, delta: float) -> float:
    """Variance of delta from its two projections (DeLong, DeLong & Clarke-Pearson 1988)."""
    first = float(((rows - delta) ** 2).sum()) / (rows.size * (rows.size - 1))
    second = float(((columns - delta) ** 2).sum()) / (columns.size * (columns.size - 1))
    return first + second


def dominance(treatment: Values, control: Values | None = None, level: float = 0.95) -> Estimate:
    """Matched sign statistic (#gains - #losses)/n: zeros stay in the denominator.

    Interval: Tango's score for paired proportions. `extra` has the paired probability of
    superiority, (gains + ties/2)/n.
    """
    data = read_pairs(treatment, control)
    about: dict[str, Any] = data.about(level) | {
        "method": "sign statistic + Tango score",
        "estimand": "share of units that gain less share that lose",
    }
    if data.absent:
        return undefined(data.absent, **about)
    whole, _ = tie_grid(data.differences)
    gains, losses, n = int((whole > 0).sum()), int((whole < 0).sum()), whole.size
    about["extra"] = about["extra"] | {
        "gains": gains,
        "losses": losses,
        "probability_of_superiority": (gains + (n - gains - losses) / 2) / n,
    }
    low, high = tango_limits(gains, losses, n, level)
    return Estimate((gains - losses) / n, low, high, **about)


def noninferiority(
    treatment: Values, control: Values | None = None, *, margin: float, alpha: float = 0.05
) -> Estimate:
    """One-sided test that the mean difference exceeds -margin; interval of level 1 - 2 alpha.

    Non-inferior exactly when the interval's lower limit lies above -margin. The margin belongs
    in the frozen study, with its rationale. `extra["concluded"]` is 1 or 0.
    """
    return _against_margin(treatment, control, margin, alpha, both=False)


def equivalence(
    treatment: Values, control: Values | None = None, *, margin: float, alpha: float = 0.05
) -> Estimate:
    """Two one-sided tests (TOST) that |mean difference| < margin; interval of 1 - 2 alpha.

    `p` is the larger of the two one-sided p values (Schuirmann 1987).
    """
    return _against_margin(treatment, control, margin, alpha, both=True)


def _against_margin(
    treatment: Values, control: Values | None, margin: float, alpha: float, *, both: bool
) -> Estimate:
    from scipy.special import stdtr, stdtrit

    check_positive(margin=margin)
    if not 0 < alpha < 0.5:
        raise ValueError(f"need 0 < alpha < 0.5; got {alpha}")
    data = read_pairs(treatment, control)
    name = "TOST equivalence" if both else "non-inferiority"
    about: dict[str, Any] = data.about(1 - 2 * alpha) | {
        "method": f"{name}, paired t",
        "estimand": "mean paired difference",
    }
    if data.reason:
        mean = float(data.differences.mean()) if data.differences.size else None
        return Estimate(mean, reason=data.reason, **about)
    d, df = data.differences, data.differences.size - 1
    mean, se = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(d.size)
    p_lower = float(stdtr(df, -(mean + margin) / se))
    p_upper = float(stdtr(df, (mean - margin) / se))
    p = max(p_lower, p_upper) if both else p_lower
    half = float(stdtrit(df, 1 - alpha)) * se
    about["extra"] = about["extra"] | {
        "margin": margin,
        "p_above_lower_margin": p_lower,
        "p_below_upper_margin": p_upper,
        "concluded": int(p <= alpha),
    }
    return Estimate(mean, mean - half, mean + half, p=p, se=se, df=df, **about)


def gini(values: Values) -> float | None:
    """Gini coefficient of the amounts that n parties hold: 0 equal, (n - 1)/n all to one.

    Missing amounts are left out. None where there is nothing to share, or a debt: no share then.
    """
    given = floats(values)
    x = np.sort(given[np.isfinite(given)])
    if not x.size or x[0] < 0 or x.sum() == 0:
        return None
    return float((2 * np.arange(x.size) - x.size + 1) @ x / (x.size * x.sum()))
