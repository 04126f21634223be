"""An experiment on representations: its curves by layer and by context length, with their bands.

Each curve is drawn beside its nulls (shuffled contexts, untrained weights); bands are the trial's own
95 % intervals over contexts. Source: the trial's `summary.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from peira.engine.attempt import decompress
from peira.store.records import TrialView
from peira.web.charts import Chart, Line, draw
from peira.web.pages import Query, conversation


def context(view: TrialView, query: Query) -> dict[str, Any]:
    """The trial's answer, its charts, and its events."""
    summary = _summary(view)
    found = [draw(chart) for chart in (*_geometry(summary), *_predictions(summary))]
    return conversation.context(view, query) | {
        "charts": [chart for chart in found if chart], "answer": str(summary.get("answer", "")),
    }  # fmt: skip


def _summary(view: TrialView) -> Mapping[str, Any]:
    rows = view.run.query(
        "SELECT data FROM artifacts WHERE trial=? AND name='summary.json'", (view.record.number,)
    )
    found: Mapping[str, Any] = orjson.loads(decompress(rows[0][0])) if rows else {}
    return found


def _geometry(summary: Mapping[str, Any]) -> Iterator[Chart]:
    """One chart a metric: by layer, at the longest context."""
    layers = [-1.0 if layer == "emb" else float(layer) for layer in summary.get("layers", [])]
    longest = (summary.get("lengths") or [""])[-1]
    for name, variants in summary.get("curves", {}).get("geometry", {}).items():
        lines = [
            _line(variant, layers, curve, lambda values: [row[-1] for row in values])
            for variant, curve in variants.items() if isinstance(curve, Mapping)
        ]  # fmt: skip
        yield Chart(f"{_words(name)} at N {longest}", lines, "layer")


def _predictions(summary: Mapping[str, Any]) -> Iterator[Chart]:
    """One chart a measure of prediction: by context length."""
    lengths = [float(length) for length in summary.get("lengths", [])]
    for name, variants in summary.get("curves", {}).get("predictions", {}).items():
        lines = [
            _line(variant, lengths, curve, list)
            for variant, curve in variants.items() if isinstance(curve, Mapping)
        ]  # fmt: skip
        yield Chart(_words(name), lines, "context length (tokens)")


def _line(name: str, x: Sequence[float], curve: Mapping[str, Any], pick: Any) -> Line:
    mean, low, high = (pick(curve[part]) for part in ("mean", "low", "high"))
    return Line(name, x[: len(mean)], mean, low, high)


def _words(name: str) -> str:
    return name.replace("_", " ")
