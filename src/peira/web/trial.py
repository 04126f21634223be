"""One trial: what happened, as a conversation, with what its family shows beside it."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from peira.store.exports import flattened
from peira.store.records import Filter, Record, RunView, TrialView
from peira.web import queries
from peira.web.page import answer, fragment, opened
from peira.web.pages import adapter
from peira.web.run import frame

SETTINGS_SHOWN = 60
TEXT_SHOWN = 400


def page(request: Request) -> HTMLResponse:
    """The page of one trial."""
    key, view = opened(request)
    with view:
        record = found(request, view)
        before, after = queries.neighbours(view, record.position)
        trial = TrialView(record, view)
        matter = adapter(view.study.family)
        context = frame(key, view) | {
            "record": record, "before": before, "after": after, "calls": record.calls,
            "tokens": record.tokens, "settings": short(record.settings),
            "outcome": short(record.outcome or {}), "cost": record.cost / 1e6,
            "artifacts": sizes(view, record.number),
        }  # fmt: skip
        context |= matter.context(trial, request.query_params)
    return answer(request, matter.template, **context)


def found(request: Request, view: RunView) -> Record:
    """The trial of this number. Raises a 404."""
    number = request.path_params["number"]
    which = Filter(number=number, retired=True)
    records = list(view.records(which)) if number < 1 << 63 else []
    if not records:
        raise HTTPException(404)
    return records[0]


def short(data: Any) -> list[tuple[str, str]]:
    """Flat (name, value) pairs, long values cut."""
    pairs = []
    for name, value in flattened(data):
        if value is None or value == "" or value == "[]":
            continue
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        pairs.append((name, text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…"))
    return pairs[:SETTINGS_SHOWN]


def sizes(view: RunView, number: int) -> list[tuple[str, int]]:
    """Names and sizes (compressed) of what a trial saved."""
    rows = view.query(
        "SELECT name, LENGTH(data) FROM artifacts WHERE trial=? ORDER BY name", (number,)
    )
    return [(name, size) for name, size in rows]


def prompt(request: Request) -> HTMLResponse:
    """The messages that one call sent: fetched when somebody wants to see them."""
    _, view = opened(request)
    with view:
        record, wanted = found(request, view), request.path_params["event"]
        events = [e for e in view.events(record.number) if e.get("n") == wanted]
    if not events:
        raise HTTPException(404)
    return fragment(request, "prompt.html", "messages", messages=events[0].get("messages", []))
