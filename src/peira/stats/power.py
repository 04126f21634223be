"""The planner: how many units, what effect can be seen, at what cost.

Invariant: planning uses an effect worth finding and a variance from a pilot with its upper
bound, never the observed effect. When the budget or the pool of units is too small, the plan
says `cannot_conclude` instead of a smaller promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import check_level, check_positive, floats
from peira.stats._solve import bisect
from peira.stats.designs import Design
from peira.stats.result import (
    EMPTY,
    NOT_REACHED,
    SINGLE_UNIT,
    ZERO_VARIANCE,
    Estimate,
    json_number,
    undefined,
)

CANNOT_CONCLUDE = "cannot_conclude"
MOST_UNITS = 10_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """What a plan aims at: power for an effect at level alpha, within what is affordable.

    `unit_cost` is the price of one unit with all its replicates; `budget` and `units` limit n.
    """

    effect: float
    power: float = 0.8
    alpha: float = 0.05
    unit_cost: float | None = None
    budget: float | None = None
    units: int | None = None

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.power < 1):
            raise ValueError(f"power and alpha must lie in (0, 1); got {self.power}, {self.alpha}")
        if not math.isfinite(self.effect):
            raise ValueError(f"effect must be finite; got {self.effect}")
        if self.unit_cost is not None:
            check_positive(unit_cost=self.unit_cost)
        if self.budget is not None and self.unit_cost is None:
            raise ValueError("a budget needs the unit_cost to be of use")

    @property
    def affordable(self) -> int | None:
        """Largest n that budget and pool allow; None without limits."""
        limits = [] if self.units is None else [self.units]
        if self.budget is not None and self.unit_cost:
            limits.append(math.floor(self.budget / self.unit_cost + 1e-9))
        return min(limits) if limits else None


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """A plan. `n` reaches the power (None: not even at ten million units).

    `mde` is the smallest effect seen with the power at n, or at the affordable n when that is
    smaller; `power_affordable` is the power there. `curve` holds (n, power).
    """

    design: str
    unit: str
    effect: float
    power: float
    alpha: float
    n: int | None
    achieved_power: float | None
    mde: float | None
    cost: float | None
    affordable: int | None
    power_affordable: float | None
    curve: tuple[tuple[int, float], ...]
    flags: tuple[str, ...] = ()
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON-safe mapping."""
        raw = {name: getattr(self, name) for name in self.__slots__}
        numbers = {k: json_number(v) for k, v in raw.items() if isinstance(v, int | float)}
        return raw | numbers | {"flags": list(self.flags), "curve": [list(p) for p in self.curve]}


def units_needed(design: Design, goal: Goal) -> int | None:
    """Smallest n from which on the power holds; None if ten million units do not reach it.

    Exact tests have a saw-toothed power: n is the last of the teeth, so that more units never
    fall below the goal again within a tenth of n.
    """
    low = high = design.fewest
    while not design.power(high, goal.effect, goal.alpha) >= goal.power:
        low, high = high, max(high + 1, high * 2)
        if high > MOST_UNITS or math.isnan(design.power(high, goal.effect, goal.alpha)):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = design.power(middle, goal.effect, goal.alpha) >= goal.power
        low, high = (low, middle) if enough else (middle, high)
    last = high + max(3, high // 10)
    step = max(1, (last - high) // 60)
    short = [
        n for n in range(high, last, step) if design.power(n, goal.effect, goal.alpha) < goal.power
    ]
    return short[-1] + step if short else high


def detectable_effect(
    design: Design, n: int, *, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest positive effect seen with the power at n units (MDE); None if none is."""

    def unseen(effect: float) -> bool:
        value = design.power(n, effect, alpha)
        return not math.isnan(value) and value < power

    high = 1e-6
    while unseen(high):
        high *= 2
        if high > 1e9:
            return None
    effect = bisect(unseen, 0.0, high, steps=50)
    reached = design.power(n, effect * (1 + 1e-9), alpha)
    return effect if not math.isnan(reached) and reached >= power - 1e-3 else None


def plan_power(design: Design, goal: Goal) -> PowerPlan:
    """n, cost, smallest detectable effect and power curve of a design for a goal."""
    n = units_needed(design, goal)
    affordable = goal.affordable
    limited = affordable is not None and (n is None or n > affordable)
    at = affordable if limited else n
    usable = at is not None and at >= design.fewest
    effect = (
        detectable_effect(design, at, power=goal.power, alpha=goal.alpha)
        if usable and at is not None
        else None
    )
    return PowerPlan(
        type(design).__name__,
        design.unit,
        goal.effect,
        goal.power,
        goal.alpha,
        n,
        _power(design, n, goal),
        effect,
        n * goal.unit_cost if n is not None and goal.unit_cost is not None else None,
        affordable,
        _power(design, affordable, goal),
        power_curve(design, goal, at if usable and at is not None else design.fewest * 10),
        (CANNOT_CONCLUDE,) if limited else (),
        NOT_REACHED if n is None else None,
    )


def _power(design: Design, n: int | None, goal: Goal) -> float | None:
    if n is None or n < design.fewest:
        return None
    value = design.power(n, goal.effect, goal.alpha)
    return None if math.isnan(value) else value


def power_curve(
    design: Design, goal: Goal, around: int, points: int = 21
) -> tuple[tuple[int, float], ...]:
    """(n, power) from a tenth of `around` to twice it."""
    grid = np.unique(
        np.linspace(max(design.fewest, around / 10), max(2 * around, 2), points).astype(int)
    )
    values = ((int(n), _power(design, int(n), goal)) for n in grid if n >= design.fewest)
    return tuple((n, value) for n, value in values if value is not None)


def pilot_sd(values: ArrayLike | Sequence[float | None], level: float = 0.8) -> Estimate:
    """Standard deviation of pilot differences; `high` is its one-sided upper bound at `level`.

    Plan with the upper bound: pilots are small and their sd is as often too low as too high.
    """
    from scipy.special import chdtri

    given = floats(values)
    d = given[np.isfinite(given)]
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": d.size,
        "missing": given.size - d.size,
        "method": "chi-squared upper bound",
        "estimand": "standard deviation of a unit's difference",
    }
    if d.size < 2:
        return undefined(SINGLE_UNIT if d.size else EMPTY, **about)
    sd = float(d.std(ddof=1))
    if sd == 0:
        return undefined(ZERO_VARIANCE, **about)
    upper = sd * math.sqrt((d.size - 1) / float(chdtri(d.size - 1, level)))
    return Estimate(sd, None, upper, flags=("one_sided_interval",), **about)
