"""An experiment on representations: its curves by layer, and whatever else the trial noted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peira.store.records import TrialView
from peira.web.charts import Chart, Line, draw
from peira.web.pages import Query, conversation

MOST = 12  # charts of a page


def context(view: TrialView, query: Query) -> dict[str, Any]:
    """Charts of every curve in the outcome, and the trial's events."""
    found = [draw(chart) for chart in curves(view.record.outcome or {})]
    return conversation.context(view, query) | {"charts": found[:MOST]}


def curves(outcome: Mapping[str, Any], path: str = "") -> Iterator[Chart]:
    """Every numeric list, and every mapping from numbers to numbers, as a line chart."""
    for name, value in outcome.items():
        where = f"{path}.{name}" if path else str(name)
        line = _line(where, value)
        if line is not None:
            yield Chart(where, [line], "layer" if "layer" in where else "")
        elif isinstance(value, Mapping):
            yield from curves(value, where)


def _line(name: str, value: Any) -> Line | None:
    if isinstance(value, list) and len(value) > 1 and all(_plain(v) for v in value):
        return Line(name, list(range(len(value))), value)
    if isinstance(value, Mapping) and len(value) > 1:
        places = [_number(key) for key in value]
        if all(p is not None for p in places) and all(_plain(v) for v in value.values()):
            pairs = sorted(zip([p for p in places if p is not None], value.values(), strict=True))
            return Line(name, [x for x, _ in pairs], [y for _, y in pairs])
    return None


def _plain(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return -1.0 if text == "emb" else None
