"""Metrics that a model reads: one call per turn for all of them, each value with a quote.

Invariant: a quote that is not in the text is counted, and the value it should prove is kept but
marked, so a report can say how far to trust it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peira.families.scenarios.metrics import Text, converted, series, texts
from peira.families.scenarios.parse import FORMS, as_text
from peira.families.scenarios.prompts import Prompter
from peira.families.scenarios.seats import Ask, Seats
from peira.families.scenarios.settings import Metric
from peira.families.scenarios.state import Answer, Measure, Turn
from peira.families.scenarios.world import request_line
from peira.subjects.subject import Message, user


@dataclass(frozen=True, slots=True)
class Wanted:
    """One series to be read, with the texts it may be read from."""

    name: str
    metric: Metric
    texts: tuple[Text, ...]


def wanted(prompter: Prompter, turn: Turn) -> list[Wanted]:
    """The series a model must read in this turn; none at turn 0 where `initial` says it all."""
    found = []
    for name, (metric, actor) in series(prompter.scenario, llm=True).items():
        if turn.number == 0 and metric.initial is not None:
            continue
        sources = tuple(text for text in texts(metric, turn, actor) if text.text.strip())
        if sources:
            found.append(Wanted(name, metric, sources))
    return found


def prompt(prompter: Prompter, turn: Turn, items: list[Wanted]) -> list[Message]:
    """The one prompt for all readings of a turn; each text stands in it once."""
    sources = dict.fromkeys(text for item in items for text in item.texts)
    quoted = [prompter.fence(text.source, text.text) for text in sources]
    lines = []
    for item in items:
        where = ", ".join(text.source for text in item.texts)
        lines.append(f"{request_line(item.name, item.metric)} (read: {where})")
        if item.metric.prompt:
            lines.append(f"  {item.metric.prompt.strip()}")
    ask = "Read these values. Give null where the text does not say:\n" + "\n".join(lines)
    return [
        prompter.system("metrics"),
        user("\n\n".join([f"# Turn {turn.number}", *quoted, ask, FORMS["metrics"].request()])),
    ]


async def read(
    seats: Seats, prompter: Prompter, turn: Turn, wording: str = ""
) -> dict[str, Measure]:
    """Series -> reading. Empty when no model has anything to read. `wording` tells apart the
    questions of a transcript that is read again."""
    items = wanted(prompter, turn)
    if not items:
        return {}
    names = {item.name: item.metric.range for item in items}
    ask = Ask(
        "metrics", "metrics", f"turn {turn.number}/metrics{wording}", prompt(prompter, turn, items),
        {"ask": "metrics", "names": names, "texts": [t.text for i in items for t in i.texts]},
        lambda value: isinstance(value["metrics"], dict),
    )  # fmt: skip
    answer = await seats.answer(ask)
    return {item.name: _reading(seats, item, answer) for item in items}


def _reading(seats: Seats, item: Wanted, answer: Answer) -> Measure:
    if answer.value is None:
        return Measure(None, answer.fault, source="metrics")
    entries: Mapping[str, Any] = answer.value["metrics"]
    if item.name not in entries:
        return Measure(None, "null_answer", source="metrics")
    entry = entries[item.name]
    value, quote = (
        (entry.get("value"), entry.get("quote")) if isinstance(entry, dict) else (entry, "")
    )
    found = converted(item.metric, value, "metrics", as_text(quote))
    if found.value is not None:
        seats.tally.quotes += 1
        seats.tally.quotes_missing += not _quoted(as_text(quote), item.texts)
    return found


def _quoted(quote: str, sources: tuple[Text, ...]) -> bool:
    plain = _plain(quote)
    return bool(plain) and any(plain in _plain(text.text) for text in sources)


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()
