"""Group-sequential tests: bounds from alpha spending, and honest estimates after a stop.

The statistic at information fraction t has mean drift * sqrt(t) and the joint law of a Brownian
motion. Probabilities come from the recursion of Armitage, McPherson & Rowe (1969), integrated
by Gauss-Legendre over each continuation region. Invariant: the estimate reported after a stop
is median-unbiased under stage-wise ordering; the naive one is only shown beside it.
Sources: Lan & DeMets 1983; Jennison & Turnbull 2000.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from peira.stats._arrays import Floats
from peira.stats._solve import bisect

_NODES = 96
_FAR = 9.0


def obrien_fleming_spending(alpha: float, t: float) -> float:
    """2(1 - Phi(z_{alpha/2}/sqrt t)): little early, almost all at the end."""
    from scipy.special import ndtr, ndtri

    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(t)))


def pocock_spending(alpha: float, t: float) -> float:
    """alpha log(1 + (e - 1) t): nearly even."""
    return alpha * math.log(1 + (math.e - 1) * t)


SPENDING = {"obrien-fleming": obrien_fleming_spending, "pocock": pocock_spending}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Critical values of Z at each look; two-sided bounds are symmetric.

    `spent` is the cumulative one-sided error spent.
    """

    fractions: tuple[float, ...]
    critical: tuple[float, ...]
    spent: tuple[float, ...]
    alpha: float
    sides: int
    spending: str


def spending_bounds(
    fractions: Sequence[float],
    *,
    alpha: float = 0.05,
    sides: int = 2,
    spending: str = "obrien-fleming",
) -> Bounds:
    """Bounds that spend alpha over the looks (alpha/2 on each side when two-sided).

    Raises:
        ValueError: fractions are not increasing within (0, 1], or an unknown spending function.
    """
    t = [float(f) for f in fractions]
    check_looks(t, spending)
    if sides not in (1, 2) or not 0 < alpha < 1:
        raise ValueError(f"need sides 1 or 2 and 0 < alpha < 1; got {sides=}, {alpha=}")
    spent = [SPENDING[spending](alpha / sides, f) for f in t]
    steps = np.diff([0.0, *spent])
    critical: list[float] = []
    state: _State | None = None
    for k, step in enumerate(steps):
        move = _Step(t[k - 1] if k else 0.0, t[k], 0.0)
        critical.append(
            bisect(lambda c, m=move, s=state, e=step: m.beyond(s, c) > e, 0.0, 12.0)  # type: ignore[misc]
        )
        low = -critical[-1] if sides == 2 else -_FAR
        state = move.onward(state, low, critical[-1])
    return Bounds(tuple(t), tuple(critical), tuple(spent), alpha, sides, spending)


def check_looks(fractions: Sequence[float], spending: str) -> None:
    """Raise ValueError unless looks increase within (0, 1] and the spending function is known."""
    rising = all(a < b for a, b in pairwise([0.0, *fractions]))
    if not fractions or not rising or fractions[-1] > 1 + 1e-12:
        raise ValueError(f"fractions must increase within (0, 1]; got {list(fractions)}")
    if spending not in SPENDING:
        raise ValueError(f"spending must be one of {sorted(SPENDING)}; got {spending!r}")


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Gauss-Legendre points and weights on (-1, 1)."""
    return np.polynomial.legendre.leggauss(_NODES)


@dataclass(frozen=True, slots=True)
class _State:
    """Sub-density of Z over a continuation region: nodes, and density times quadrature weight."""

    nodes: Floats
    mass: Floats


@dataclass(frozen=True, slots=True)
class _Step:
    """The move from information fraction `before` to `after` under a drift."""

    before: float
    after: float
    drift: float

    def _standardised(self, state: _State, z: Floats | float) -> Floats:
        gap = self.after - self.before
        shift = state.nodes * math.sqrt(self.before) + self.drift * gap
        return np.asarray(
            (np.subtract.outer(np.asarray(z) * math.sqrt(self.after), shift)) / math.sqrt(gap)
        )

    def beyond(self, state: _State | None, z: float) -> float:
        """P(still going before, and Z > z now)."""
        from scipy.special import ndtr

        if state is None:
            return float(ndtr(self.drift * math.sqrt(self.after) - z))
        return float(ndtr(-self._standardised(state, z)) @ state.mass)

    def below(self, state: _State | None, z: float) -> float:
        """P(still going before, and Z < z now)."""
        from scipy.special import ndtr

        if state is None:
            return float(ndtr(z - self.drift * math.sqrt(self.after)))
        return float(ndtr(self._standardised(state, z)) @ state.mass)

    def onward(self, state: _State | None, low: float, high: float) -> _State:
        """Sub-density of Z now, inside (low, high)."""
        centre = self.drift * math.sqrt(self.after)
        low, high = max(low, centre - _FAR), min(high, centre + _FAR)
        if low >= high:
            return _State(np.zeros(1), np.zeros(1))
        points, weights = _quadrature()
        nodes = (high - low) / 2 * points + (high + low) / 2
        scaled = weights * (high - low) / 2 / math.sqrt(2 * math.pi)
        if state is None:
            return _State(nodes, scaled * np.exp(-((nodes - centre) ** 2) / 2))
        kernel = np.exp(-(self._standardised(state, nodes) ** 2) / 2)
        scale = math.sqrt(self.after / (self.after - self.before))
        return _State(nodes, scaled * scale * (kernel @ state.mass))


def exit_probabilities(bounds: Bounds, drift: float) -> tuple[Floats, Floats]:
    """Chance of crossing the upper and the lower bound at each look, under a drift."""
    exits = np.array(list(_exits(bounds, drift)))
    return exits[:, 0], exits[:, 1]


def _exits(bounds: Bounds, drift: float) -> Iterator[tuple[float, float]]:
    state, before = None, 0.0
    for t, c in zip(bounds.fractions, bounds.critical, strict=True):
        move = _Step(before, t, drift)
        low = -c if bounds.sides == 2 else -math.inf
        yield move.beyond(state, c), move.below(state, -c) if bounds.sides == 2 else 0.0
        state, before = move.onward(state, low, c), t


@dataclass(frozen=True, slots=True)
class Characteristics:
    """What a design costs: drift for the power, largest n and expected n relative to fixed n."""

    drift: float
    power: float
    inflation: float
    expected_under_alternative: float
    expected_under_null: float


def characteristics(bounds: Bounds, power: float = 0.8) -> Characteristics:
    """Drift at which the design has the power, and its sample sizes relative to a fixed test."""
    from scipy.special import ndtri

    def short(drift: float) -> bool:
        return float(exit_probabilities(bounds, drift)[0].sum()) < power

    drift = bisect(short, 0.0, 12.0)
    fixed = float(ndtri(1 - bounds.alpha / bounds.sides) + ndtri(power))
    inflation = (drift / fixed) ** 2
    return Characteristics(
        drift,
        power,
        inflation,
        inflation * _expected_fraction(bounds, drift),
        inflation * _expected_fraction(bounds, 0.0),
    )


def _expected_fraction(bounds: Bounds, drift: float) -> float:
    """Expected information at the stop, as a fraction of the largest."""
    upper, lower = exit_probabilities(bounds, drift)
    stops = (upper + lower)[:-1]
    t = np.array(bounds.fractions)
    return float(stops @ t[:-1] + (1 - stops.sum()) * t[-1])


def stagewise_p(bounds: Bounds, look: int, z: float, drift: float = 0.0) -> float:
    """One-sided P(a result at least as extreme upward) under a drift, stage-wise ordering.

    Stopping earlier above the bound is more extreme than any later result.
    """
    state, before, total = None, 0.0, 0.0
    for k in range(look + 1):
        t, c = bounds.fractions[k], bounds.critical[k]
        move = _Step(before, t, drift)
        if k == look:
            return total + move.beyond(state, z)
        total += move.beyond(state, c)
        low = -c if bounds.sides == 2 else -math.inf
        state, before = move.onward(state, low, c), t
    return total


@dataclass(frozen=True, slots=True)
class AdjustedResult:
    """Median-unbiased drift with its limits and the two-sided p, all stage-wise."""

    drift: float
    low: float
    high: float
    p: float


def adjusted_result(bounds: Bounds, look: int, z: float, level: float = 0.95) -> AdjustedResult:
    """Estimate after stopping at `look` (0-based) with statistic z, stage-wise ordering."""

    def drift_at(tail: float) -> float:
        return bisect(lambda d: stagewise_p(bounds, look, z, d) < tail, -30.0, 30.0)

    upward = stagewise_p(bounds, look, z)
    p = min(1.0, 2 * min(upward, 1 - upward))
    tail = (1 - level) / 2
    return AdjustedResult(drift_at(0.5), drift_at(tail), drift_at(1 - tail), p)


def conditional_power(bounds: Bounds, look: int, z: float, drift: float) -> float:
    """Chance of crossing the last upper bound, given Z = z at a look and a drift from there."""
    from scipy.special import ndtr

    t, last = bounds.fractions[look], bounds.fractions[-1]
    if t >= last:
        return float(z > bounds.critical[-1])
    mean = z * math.sqrt(t) + drift * (last - t)
    return float(ndtr((mean - bounds.critical[-1] * math.sqrt(last)) / math.sqrt(last - t)))
