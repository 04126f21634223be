"""A scenario: turn by turn, the world, what the actors did and said in private, and the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peira.store.records import TrialView
from peira.web.charts import Chart, Line, draw
from peira.web.pages import Query
from peira.web.pages.conversation import SEATS, paging

TURNS_PER_PAGE = 25


def context(view: TrialView, query: Query) -> dict[str, Any]:
    """Turns (a page of them), actors with their colours, trajectories of all numeric metrics."""
    events = view.events
    turns = [event["turn"] for event in events if event["kind"] == "turn"]
    scenario = view.record.settings.get("scenario") or {}
    actors = {a.get("short_name", ""): a.get("name", "") for a in scenario.get("actors", [])}
    page, pages = paging(query, len(turns), TURNS_PER_PAGE)
    return {
        "turns": turns[(page - 1) * TURNS_PER_PAGE : page * TURNS_PER_PAGE], "page": page,
        "pages": pages, "actors": actors, "colours": {s: i % SEATS for i, s in enumerate(actors)},
        "described": {e.get("name", ""): e.get("description", "") for e in scenario.get("events", [])},
        "charts": trajectories(turns), "scenario": scenario.get("name", ""),
    }  # fmt: skip


def trajectories(turns: list[dict[str, Any]]) -> list[Any]:
    """One chart for each numeric metric that moved, with the turns' events as rules."""
    names = dict.fromkeys(name for turn in turns for name in turn.get("metrics", {}))
    rules = [(float(t["number"]), ", ".join(t["events"])) for t in turns if t.get("events")]
    found = []
    for name in names:
        values = [_number(turn["metrics"].get(name)) for turn in turns]
        if len({value for value in values if value is not None}) > 1:
            line = Line(name, [t["number"] for t in turns], values)
            found.append(draw(Chart(name, [line], "turn", "", rules=rules)))
    return found


def _number(measure: Mapping[str, Any] | None) -> float | None:
    value = (measure or {}).get("value")
    return float(value) if isinstance(value, bool | int | float) else None
