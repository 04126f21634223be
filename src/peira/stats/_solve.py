"""Finding the point where a predicate turns."""

from __future__ import annotations

from collections.abc import Callable


def bisect(holds: Callable[[float], bool], low: float, high: float, steps: int = 60) -> float:
    """The point between `low`, where the predicate is true, and `high`, where it is false."""
    for _ in range(steps):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2
