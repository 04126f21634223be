"""Conditions: `{metric: ">= 6"}`. All comparisons must hold; a missing value satisfies none.

Invariant: a comparison with a missing value, or between unlike kinds, is False for every
operator, `!=` included; a criterion that only missing values keep from being decided is undecided,
never met.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt,
    "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_FORM = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([^<>=!\s].*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An operator and the value on its right."""

    op: str
    value: Value

    def holds(self, left: Value | None) -> bool:
        """Whether `left op value`; numbers compare with numbers, text with text."""
        if left is None or _kind(left) != _kind(self.value):
            return False
        if _kind(left) != "number" and self.op not in ("==", "!="):
            return False
        return OPERATORS[self.op](left, self.value)


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else "text"


def parse_comparison(text: Any) -> Comparison | None:
    """Read '<op> value'; None when it has no such form."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    return Comparison(found[1], _value(found[2])) if found else None


def _value(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text.strip("'\"")


def all_hold(condition: Mapping[str, str], values: Mapping[str, Value | None]) -> bool:
    """True when every comparison of the condition holds on these values."""
    comparisons = ((values.get(name), parse_comparison(text)) for name, text in condition.items())
    return all(
        comparison is not None and comparison.holds(left) for left, comparison in comparisons
    )


def undecided(condition: Mapping[str, str], values: Mapping[str, Value | None]) -> bool:
    """True when the condition does not hold and only missing values stand in its way."""
    failing = [
        name for name, text in condition.items()
        if not ((comparison := parse_comparison(text)) and comparison.holds(values.get(name)))
    ]  # fmt: skip
    return bool(failing) and all(values.get(name) is None for name in failing)


# -- success ---
Criteria = Mapping[str, Mapping[str, str]]


def succeeded(criteria: Criteria, final: Mapping[str, Value | None]) -> bool | None:
    """True, False, or None when missing values leave it open (and when there are no criteria)."""
    if not criteria:
        return None
    missed = missed_criteria(criteria, final)
    if not missed:
        return True
    return None if all(undecided(criteria[name], final) for name in missed) else False


def missed_criteria(criteria: Criteria, final: Mapping[str, Value | None]) -> list[str]:
    """Names of the criteria that do not hold."""
    return [name for name, condition in criteria.items() if not all_hold(condition, final)]
