"""Any transcript as a conversation: who said what, what they thought, what else happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from peira.store.records import TrialView
from peira.web.pages import Query

SEATS = 7  # colours of seats
PER_PAGE = 200  # entries of a page
LONG = 20_000  # characters of one text on the page


@dataclass(frozen=True, slots=True)
class Said:
    """One entry. `number` is the event's; a text of the model or of the trial."""

    number: int
    kind: str
    seat: str
    colour: int
    title: str
    text: str
    thoughts: str = ""
    private: bool = False
    facts: tuple[tuple[str, str], ...] = ()
    has_prompt: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Entries under one heading: a round, a turn, a phase."""

    title: str
    entries: tuple[Said, ...]


def context(view: TrialView, query: Query) -> dict[str, Any]:
    """Chapters of the conversation, one page of them."""
    events = view.events
    page, pages = paging(query, len(events))
    chosen = events[(page - 1) * PER_PAGE : page * PER_PAGE]
    return {"chapters": chapters(chosen), "page": page, "pages": pages}


def paging(query: Query, count: int, size: int = PER_PAGE) -> tuple[int, int]:
    """(page asked for, number of pages), both at least 1."""
    pages = max(1, -(-count // size))
    asked = query.get("page", "1")
    return (min(max(1, int(asked)), pages) if asked.isdecimal() and len(asked) < 9 else 1), pages


def chapters(events: Sequence[Mapping[str, Any]]) -> list[Chapter]:
    """Events under headings taken from the labels of calls (`round 3/vote` → `round 3`)."""
    colours = Colours()
    found: list[tuple[str, list[Said]]] = []
    for event in events:
        title = heading(event)
        if not found or (title and title != found[-1][0]):
            found.append((title or (found[-1][0] if found else ""), []))
        found[-1][1].append(said(event, colours))
    return [Chapter(title, tuple(entries)) for title, entries in found]


def heading(event: Mapping[str, Any]) -> str:
    """Which chapter an event opens or belongs to; empty when it does not say."""
    label = str(event.get("label", ""))
    if "/" in label:
        return label.split("/", 1)[0]
    for name in ("round", "turn"):
        if isinstance(event.get(name), int):
            return f"{name} {event[name]}"
    return ""


class Colours:
    """One colour a seat, in order of appearance."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, seat: str) -> int:
        return self._seen.setdefault(seat, len(self._seen)) % SEATS


def said(event: Mapping[str, Any], colours: Colours) -> Said:
    """One event as an entry."""
    if event.get("kind") == "call":
        return call(event, colours)
    rest = {k: v for k, v in event.items() if k not in ("n", "kind")}
    text = str(rest.pop("text", ""))
    seat = str(rest.pop("seat", ""))
    facts = tuple((name, brief(value)) for name, value in rest.items() if value not in ("", None))
    return Said(event.get("n", -1), "event", seat, colours.of(seat) if seat else 0,
                str(event.get("kind", "event")), cut(text), facts=facts)  # fmt: skip


def call(event: Mapping[str, Any], colours: Colours) -> Said:
    """A call: the reply in plain, the reasoning as private thoughts."""
    seat, finish = str(event.get("seat", "")), str(event.get("finish", "stop"))
    return Said(
        event.get("n", -1), "call", seat, colours.of(seat),
        str(event.get("label", "")).split("/", 1)[-1], cut(str(event.get("reply", ""))),
        thoughts=cut(str(event.get("reasoning") or "")), facts=tuple(call_facts(event)),
        has_prompt=bool(event.get("messages")), fault="" if finish == "stop" else finish,
    )  # fmt: skip


def call_facts(event: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Model, tokens, seconds, cost of a call, as far as they are known."""
    usage = event.get("usage") or {}
    yield "model", str(event.get("served_model") or event.get("model", ""))
    tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    if any(tokens):
        yield "tokens", f"{tokens[0]:,} → {tokens[1]:,}"
    if event.get("seconds"):
        yield "seconds", f"{event['seconds']:.2f}"
    if event.get("cost"):
        yield "cost", f"${event['cost'] / 1e6:.4f}"
    if event.get("rung") not in (None, "", "strict"):
        yield "read as", str(event["rung"])
    if event.get("fault"):
        yield "fault", str(event["fault"])


def brief(value: Any, length: int = 600) -> str:
    """A value as a short text."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= length else text[: length - 1] + "…"


def cut(text: str) -> str:
    """A text of at most LONG characters; what is left out is said."""
    if len(text) <= LONG:
        return text
    return f"{text[:LONG]}\n… {len(text) - LONG:,} more characters (peira show has them)"
