"""Metric functions of the grid outage desk. Each gets a turn and gives a value or None."""

from typing import Any


def words(turn: Any) -> int | None:
    """Words in all actions of this turn."""
    spoken = sum(len(action.split()) for action in turn.actions.values())
    return spoken or None
