"""Numbers as prose: three figures, whole per cent, intervals in brackets.

Invariant: what is undefined says so; it is never printed as 0.
"""

from __future__ import annotations


def number(value: float | None, digits: int = 3) -> str:
    """A number for prose; `undefined` when there is none."""
    return "undefined" if value is None else f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A share in whole per cent."""
    return "undefined" if value is None else f"{100 * value:.0f} %"


def between(low: float | None, high: float | None, *, share: bool = False) -> str:
    """`[low, high]`, or nothing."""
    if low is None or high is None:
        return ""
    return f" [{percent(low)}, {percent(high)}]" if share else f" [{number(low)}, {number(high)}]"
