"""What one scenario trial leaves for the analysis.

Invariant: `by_turn` has every turn from 0 to the end; a null in it has its reason in `reasons`.
"""

from __future__ import annotations

from typing import Any

from peira.families.family import Outcome
from peira.families.scenarios.conditions import Value


class ScenarioOutcome(Outcome):
    """A finished trial: every turn had all its decisions, its world and its metrics."""

    turns: int
    ended_by: str | None
    final: dict[str, Value | None]
    final_reasons: dict[str, str]
    by_turn: dict[str, dict[str, Value | None]]
    reasons: dict[str, dict[str, str]]
    thresholds: list[dict[str, Any]]
    events: dict[str, list[int]]
    parse_counts: dict[str, dict[str, dict[str, int]]]
    defaults: int
    quotes: int
    quotes_missing: int
    quality: dict[str, int]
    forked_from: str | None = None
