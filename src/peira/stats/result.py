"""What every function of `peira.stats` returns, and why a number may be absent.

Invariant: a statistic that is undefined is `None` together with a reason code. It is never 0,
never an interval of zero width, and its p value is never 0. Inputs that are missing are counted.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

EMPTY: Final = "empty"
SINGLE_UNIT: Final = "single_unit"
ZERO_VARIANCE: Final = "zero_variance"
NO_DISCORDANT_PAIRS: Final = "no_discordant_pairs"
ALL_TIED: Final = "all_tied"
SEPARATION: Final = "separation"
RANK_DEFICIENT: Final = "rank_deficient"
NOT_IDENTIFIED: Final = "not_identified"
DEGENERATE_EIGENSPACE: Final = "degenerate_eigenspace"
MISSING_ARM: Final = "missing_arm"
TOO_FEW_UNITS: Final = "too_few_units"
TOO_FEW_CLUSTERS: Final = "too_few_clusters"
TOO_FEW_MODELS: Final = "too_few_models"
NOT_CONVERGED: Final = "not_converged"
UNBOUNDED: Final = "unbounded"
NOT_REACHED: Final = "not_reached"
BEFORE_FIRST_LOOK: Final = "before_first_look"

REASONS: Final[Mapping[str, str]] = {
    EMPTY: "no units were observed",
    SINGLE_UNIT: "one unit has no spread, so nothing can be said about its error",
    ZERO_VARIANCE: "all units are equal, so the spread is not estimable",
    NO_DISCORDANT_PAIRS: "no pair differs between the arms",
    ALL_TIED: "all values are tied",
    SEPARATION: "one side always wins, so the estimate is infinite",
    RANK_DEFICIENT: "the design does not separate the effects",
    NOT_IDENTIFIED: "the data cannot tell the parameter's values apart",
    DEGENERATE_EIGENSPACE: "the target directions are not unique",
    MISSING_ARM: "one arm has no observed value",
    TOO_FEW_UNITS: "fewer units than the method needs",
    TOO_FEW_CLUSTERS: "fewer than six independent clusters: the error is not estimable",
    TOO_FEW_MODELS: "fewer models than the form needs",
    NOT_CONVERGED: "the fit did not converge",
    UNBOUNDED: "the quantity is infinite",
    NOT_REACHED: "the event was not reached within the observation",
    BEFORE_FIRST_LOOK: "the stop rule has not looked yet",
}

# Flags: the number stands, but the reader must know this.
INTERVAL_UNRELIABLE: Final = "interval_unreliable"
INTERVAL_CAPPED: Final = "interval_capped"
INTERVAL_AND_TEST_DISAGREE: Final = "interval_and_test_disagree"
ONE_SIDED_INTERVAL: Final = "one_sided_interval"

#: What `extra` tells of limits and a p that were drawn at random (the p's error is `mc_error`).
RESAMPLED: Final = ("interval_seed", "low_mc_error", "high_mc_error", "p_seed")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with its error.

    `estimate`, `low`, `high` are None when undefined, and `reason` says why; a defined estimate
    whose error is undefined (one unit, all units equal) keeps its value and has a reason too.
    `n` counts independent units, `n_rows` the rows behind them, `missing` the units left out.
    `extra` holds further numbers by name. Infinite limits stay infinite here and become strings
    in `extra` of `to_dict`.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    p: float | None = None
    n: int = 0
    n_rows: int | None = None
    missing: int = 0
    method: str = ""
    estimand: str = ""
    reason: str | None = None
    flags: tuple[str, ...] = ()
    mc_error: float | None = None
    se: float | None = None
    df: float | None = None
    extra: Mapping[str, float | int | str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("estimate", "low", "high", "p", "mc_error", "se", "df"):
            value = getattr(self, name)
            if value is not None:
                number = float(value)
                object.__setattr__(self, name, None if math.isnan(number) else number)
        if self.p is not None:
            object.__setattr__(self, "p", as_p(self.p))
        if self.estimate is None and self.reason is None:
            raise ValueError("an estimate that is None needs a reason code")

    @property
    def defined(self) -> bool:
        """True when both the estimate and its interval exist."""
        return None not in (self.estimate, self.low, self.high)

    @property
    def limits(self) -> list[float] | None:
        """[low, high], or None where one of them is undefined."""
        return None if self.low is None or self.high is None else [self.low, self.high]

    def with_(self, **changes: Any) -> Estimate:
        """The same estimate with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON-safe mapping: no NaN, no Infinity; infinite values as text in `extra`."""
        raw = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        extra = {name: json_number(value) for name, value in self.extra.items()}
        for name in ("estimate", "low", "high", "se", "df"):
            value = raw[name]
            if value is not None and math.isinf(value):
                extra[name] = json_number(value)
                raw[name] = None
        if raw["estimate"] is None and self.reason is None:
            raw["reason"] = UNBOUNDED
        return raw | {"flags": list(self.flags), "extra": extra}


def as_p(value: float) -> float:
    """A p value that stays within (0, 1] where floating point would underflow or overshoot."""
    return min(1.0, max(float(value), sys.float_info.min))


def json_number(value: Any) -> float | int | str | bool | None:
    """A number as strict JSON allows it: NaN becomes None, infinities become text."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return int(value) if number.is_integer() and not isinstance(value, float) else number


def undefined(reason: str, **fields: Any) -> Estimate:
    """An estimate that does not exist, with the code that says why."""
    return Estimate(None, reason=reason, **fields)
