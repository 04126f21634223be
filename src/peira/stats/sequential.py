"""Stopping a study early: declared rules, and what may be said after the stop.

Invariant: a rule is declared before the data; a decision is a pure function of the rule and the
complete pairs so far, in the order fixed in advance. After a stop the estimate comes with the
interval that its rule keeps honest, never with the naive one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, check_positive, floats
from peira.stats.confidence_sequences import (
    ConfidenceSequence,
    anytime_p,
    asymptotic_sequence,
    betting_sequence,
    empirical_bernstein_sequence,
    log_e_value,
    theta_limits,
)
from peira.stats.group_sequential import (
    Bounds,
    adjusted_result,
    check_looks,
    conditional_power,
    spending_bounds,
)
from peira.stats.intervals import is_constant
from peira.stats.result import (
    BEFORE_FIRST_LOOK,
    EMPTY,
    INTERVAL_AND_TEST_DISAGREE,
    NOT_IDENTIFIED,
    SINGLE_UNIT,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)

METHODS = ("group-sequential", "e-process", "confidence-sequence")
ESTIMAND = "mean difference over units, treatment - control"
#: Planned units beyond which the sequence is the one that is cheap to follow.
LONG = 5_000


@dataclass(frozen=True, slots=True)
class StopRule:
    """A declared stop rule.

    `units` is the planned largest number of pairs (or of blocks, each with one value). `looks` are
    the fractions of it at which a group-sequential rule looks. `value_range` is the range of a
    monitored value, (-1, 1) for differences of scores in (0, 1), which the sequences need (without
    it the confidence sequence is asymptotic). `null` is the mean that efficacy excludes; None
    tests nothing. `half_width` stops a sequence once its interval is that narrow, `margin` once it
    lies within (null - margin, null + margin). `futility` stops a group-sequential rule,
    non-binding, when conditional power under the current trend falls below it. `fewest` units come
    before any stop.
    """

    method: str
    units: int
    alpha: float = 0.05
    looks: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    spending: str = "obrien-fleming"
    value_range: tuple[float, float] | None = None
    null: float | None = 0.0
    half_width: float | None = None
    futility: float | None = None
    margin: float | None = None
    fewest: int = 20

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}; got {self.method!r}")
        if self.units < 2 or not 0 < self.alpha < 1:
            raise ValueError(f"need units >= 2 and 0 < alpha < 1; got {self.units}, {self.alpha}")
        check_looks(self.looks, self.spending)
        if self.method == "group-sequential" and abs(self.looks[-1] - 1) > 1e-9:
            raise ValueError(f"the last look must be at 1.0; got {self.looks}")
        aims = {"half_width": self.half_width, "margin": self.margin, "futility": self.futility}
        check_positive(**{name: aim for name, aim in aims.items() if aim is not None})
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range is (lowest, highest); got {self.value_range}")
        if self.null is None and self.method != "confidence-sequence":
            raise ValueError(f"{self.method} tests a null; only a confidence sequence does without")

    @property
    def look_sizes(self) -> tuple[int, ...]:
        """Pairs at each look of a group-sequential rule; of looks at the same pair, one is left."""
        sizes = [math.ceil(f * self.units - 1e-9) for f in self.looks]
        return tuple(dict.fromkeys(sizes))


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to stop, why ("efficacy", "precision", "equivalence", "futility", "planned end", or
    None to go on), the units the decision used, and the estimate with the rule's own interval."""

    stop: bool
    why: str | None
    units: int
    estimate: Estimate


def decide(rule: StopRule, differences: ArrayLike | Sequence[float | None]) -> Decision:
    """Decide from the paired differences so far (treatment - control), in their fixed order.

    Missing differences (a pair with a lost side) are counted and skipped. Differences beyond the
    first stop are ignored, so a decision does not change when late pairs come in.
    """
    given = floats(differences)
    null = rule.null or 0.0
    if null:
        shifted = replace(rule, null=0.0, value_range=_around(rule.value_range, null))
        found = decide(shifted, given - null)
        return replace(found, estimate=_moved(found.estimate, null))
    d = given[np.isfinite(given)][: rule.units]
    missing = int(np.isnan(given).sum())
    if d.size < 2:
        reason = SINGLE_UNIT if d.size else EMPTY
        return Decision(False, None, d.size, _nothing(rule, d, missing, reason))
    deciders = {
        "group-sequential": _by_group_sequential,
        "e-process": _by_e_process,
        "confidence-sequence": _by_confidence_sequence,
    }
    return deciders[rule.method](rule, d, missing)


def _around(limits: tuple[float, float] | None, null: float) -> tuple[float, float] | None:
    return None if limits is None else (limits[0] - null, limits[1] - null)


def _moved(estimate: Estimate, by: float) -> Estimate:
    """An estimate of a mean's distance from the null, as one of the mean itself."""
    told = {name: getattr(estimate, name) for name in ("estimate", "low", "high")}
    return estimate.with_(**{k: None if v is None else v + by for k, v in told.items()})


def _nothing(rule: StopRule, d: Floats, missing: int, reason: str) -> Estimate:
    about: dict[str, Any] = {
        "level": 1 - rule.alpha,
        "n": d.size,
        "missing": missing,
        "method": rule.method,
    }
    if d.size == 0:
        return undefined(reason, estimand=ESTIMAND, **about)
    return Estimate(float(d.mean()), reason=reason, estimand=ESTIMAND, **about)


def _by_group_sequential(rule: StopRule, d: Floats, missing: int) -> Decision:
    sizes = rule.look_sizes
    bounds = rule_bounds(rule)
    reached = [k for k, size in enumerate(sizes) if size <= d.size]
    for k in reached:
        z = _z_of(d[: sizes[k]])
        if z is None or (sizes[k] < rule.fewest and k < len(sizes) - 1):
            continue
        why = _why_stop(rule, bounds, k, z)
        if why:
            return Decision(True, why, sizes[k], _after_stop(bounds, k, z, d[: sizes[k]], missing))
    if not reached or _z_of(d[: sizes[reached[-1]]]) is None:
        return Decision(
            d.size >= rule.units,
            "planned end" if d.size >= rule.units else None,
            d.size,
            _nothing(rule, d, missing, ZERO_VARIANCE if is_constant(d) else BEFORE_FIRST_LOOK),
        )
    k = reached[-1]
    return Decision(False, None, sizes[k], _repeated(bounds, k, d[: sizes[k]], missing))


@lru_cache(maxsize=64)
def rule_bounds(rule: StopRule) -> Bounds:
    """Bounds of a group-sequential rule at its look sizes. Kept: a study asks after every batch."""
    fractions = [size / rule.units for size in rule.look_sizes]
    return spending_bounds(fractions, alpha=rule.alpha, spending=rule.spending)


def _z_of(d: Floats) -> float | None:
    """Normal score of the t statistic of the differences; None without spread."""
    from scipy.special import ndtri, stdtr

    if d.size < 2 or is_constant(d):
        return None
    t = float(d.mean() / d.std(ddof=1)) * math.sqrt(d.size)
    tail = max(float(stdtr(d.size - 1, -abs(t))), 1e-300)
    return math.copysign(-float(ndtri(tail)), t)


def _why_stop(rule: StopRule, bounds: Bounds, k: int, z: float) -> str | None:
    if abs(z) >= bounds.critical[k]:
        return "efficacy"
    if k == len(bounds.critical) - 1:
        return "planned end"
    if rule.futility is not None:
        trend = abs(z) / math.sqrt(bounds.fractions[k])
        if conditional_power(bounds, k, abs(z), trend) < rule.futility:
            return "futility"
    return None


def _after_stop(bounds: Bounds, k: int, z: float, d: Floats, missing: int) -> Estimate:
    """Median-unbiased estimate, stage-wise; drift is turned back into the outcome's units."""
    level = 1 - bounds.alpha
    result = adjusted_result(bounds, k, z, level)
    mean, se = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(d.size)
    unit = abs(mean / z) * math.sqrt(bounds.fractions[k]) if z else se
    return Estimate(
        result.drift * unit,
        result.low * unit,
        result.high * unit,
        level,
        p=result.p,
        n=d.size,
        missing=missing,
        method=f"group-sequential ({bounds.spending}), stage-wise median-unbiased",
        estimand=ESTIMAND,
        flags=("stopped_by_rule",),
        se=se,
        extra={"look": k + 1, "naive_mean": mean, "z": z, "bound": bounds.critical[k]},
    )


def _repeated(bounds: Bounds, k: int, d: Floats, missing: int) -> Estimate:
    """Repeated confidence interval while the study goes on: mean +- bound x standard error."""
    mean, se = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(d.size)
    half = bounds.critical[k] * se
    return Estimate(
        mean,
        mean - half,
        mean + half,
        1 - bounds.alpha,
        n=d.size,
        missing=missing,
        method=f"group-sequential ({bounds.spending}), repeated confidence interval",
        estimand=ESTIMAND,
        se=se,
        extra={"look": k + 1, "bound": bounds.critical[k]},
    )


def _by_e_process(rule: StopRule, d: Floats, missing: int) -> Decision:
    log_e = log_e_value(np.cumsum(d > 0), np.cumsum(d < 0))
    crossed = np.flatnonzero((log_e >= math.log(1 / rule.alpha)) & _late_enough(rule, d))
    at = int(crossed[0]) + 1 if crossed.size else d.size
    gains, losses = int((d[:at] > 0).sum()), int((d[:at] < 0).sum())
    low, high = theta_limits(gains, losses, rule.alpha)
    found = _sequence_estimate(rule, d[:at], missing).with_(
        p=anytime_p(d[:at]),
        extra={"gains": gains, "losses": losses, "theta_low": low, "theta_high": high},
    )
    # The test counts signs and the interval is that of the mean: two questions.
    excludes = found.low is not None and found.high is not None and found.low * found.high > 0
    flags = (INTERVAL_AND_TEST_DISAGREE,) if crossed.size and not excludes else ()
    method = f"e-process on discordant pairs + {found.method}"
    found = found.with_(method=method, flags=(*found.flags, *flags))
    return _decision(rule, bool(crossed.size), "efficacy", at, found)


def _late_enough(rule: StopRule, d: Floats) -> np.ndarray:
    return np.asarray(np.arange(1, d.size + 1) >= min(rule.fewest, rule.units))


def _value_range(rule: StopRule, d: Floats) -> tuple[float, float] | None:
    """The declared range; (-1, 1) when an e-process watches differences of passes and fails."""
    if rule.value_range is None and rule.method == "e-process" and np.isin(d, (-1, 0, 1)).all():
        return -1.0, 1.0
    return rule.value_range


def _sequence(rule: StopRule, d: Floats) -> ConfidenceSequence:
    limits = _value_range(rule, d)
    if limits is None:
        return asymptotic_sequence(d, best_at=max(20, rule.units // 2), alpha=rule.alpha)
    follow = empirical_bernstein_sequence if rule.units > LONG else betting_sequence
    return follow(d, limits, alpha=rule.alpha)


def _sequence_estimate(rule: StopRule, d: Floats, missing: int) -> Estimate:
    sequence = _sequence(rule, d)
    low, high = float(sequence.low[-1]), float(sequence.high[-1])
    empty = low >= high or not math.isfinite(low)
    return Estimate(
        float(d.mean()),
        None if empty else low,
        None if empty else high,
        1 - rule.alpha,
        n=d.size,
        missing=missing,
        method=f"confidence sequence ({sequence.method})",
        estimand=ESTIMAND,
        reason=NOT_IDENTIFIED if empty else None,
        flags=("asymptotic",) if sequence.method == "asymptotic" else (),
    )


def _by_confidence_sequence(rule: StopRule, d: Floats, missing: int) -> Decision:
    sequence = _sequence(rule, d)
    late = _late_enough(rule, d)
    margin = -math.inf if rule.margin is None else rule.margin
    narrow = -math.inf if rule.half_width is None else rule.half_width
    tests = {
        "efficacy": ((sequence.low > 0) | (sequence.high < 0)) & (rule.null is not None),
        "precision": (sequence.high - sequence.low) / 2 <= narrow,
        "equivalence": (sequence.low > -margin) & (sequence.high < margin),
    }
    stops = np.flatnonzero(late & np.any(list(tests.values()), axis=0))
    at = int(stops[0]) + 1 if stops.size else d.size
    why = next((name for name, met in tests.items() if stops.size and met[stops[0]]), "")
    return _decision(rule, bool(stops.size), why, at, _sequence_estimate(rule, d[:at], missing))


def _decision(rule: StopRule, crossed: bool, why: str, at: int, estimate: Estimate) -> Decision:
    if crossed:
        flags = (*estimate.flags, "stopped_by_rule")
        return Decision(True, why, at, estimate.with_(flags=flags))
    if at >= rule.units:
        return Decision(True, "planned end", at, estimate)
    return Decision(False, None, at, estimate)
