"""The world after a turn, and the summaries that keep prompts short.

Invariant: the world writer sees what is public plus roles, background and its own notes; never
reasoning, private talk or private information.
"""

from __future__ import annotations

from typing import Any

from peira.families.scenarios.parse import as_list, as_text
from peira.families.scenarios.seats import Ask
from peira.families.scenarios.settings import Metric
from peira.families.scenarios.state import Turn, World
from peira.families.scenarios.talk import Table, gathered


async def update(table: Table, turn: Turn) -> World:
    """Ask the world writer for the state after this turn."""
    metrics = table.seats.scenario.metrics
    wanted = [request_line(name, m) for name, m in metrics.items() if m.ask_writer]
    ask = Ask(
        "world", "world", f"turn {turn.number}/world",
        table.prompter.world_call(turn, wanted),
        table.look("world", turn, "world"),
        lambda value: bool(as_text(value["narrative"])),
    )  # fmt: skip
    answer = await table.seats.answer(ask)
    value = table.seats.must(answer, f"world update of turn {turn.number}")
    measures = value.get("measures")
    return World(
        as_text(value["narrative"]), tuple(as_list(value.get("changes"))),
        tuple(as_list(value.get("consequences"))),
        measures if isinstance(measures, dict) else {}, answer.rung,
    )  # fmt: skip


def request_line(name: str, metric: Metric) -> str:
    """One line that tells a model which value is wanted."""
    details = [metric.description.strip(), f"type {metric.kind}"]
    if metric.levels:
        details.append(f"one of {', '.join(metric.levels)}")
    if metric.unit:
        details.append(f"in {metric.unit}")
    if metric.range:
        details.append(f"from {metric.range[0]:g} to {metric.range[1]:g}")
    return f'- "{name}": ' + "; ".join(details)


async def fold(table: Table, number: int) -> None:
    """Fold the turn that leaves the window into the summaries: one public, one per actor whose
    private matters that turn had."""
    prompter = table.prompter
    old = prompter.turns[number - 1 - table.seats.scenario.context_window_size]
    label = f"turn {number}/summary"
    asks = [Ask("summary", "summary", label, prompter.public_fold(old), {"ask": "summary"}, _text)]
    private = [
        short for short in table.seats.scenario.shorts
        if prompter.private_talk(old, short) or prompter.told(old, short)
    ]  # fmt: skip
    asks += [
        Ask("summary", "summary", f"{label} {short}", prompter.private_fold(old, short),
            {"ask": "summary"}, _text)
        for short in private
    ]  # fmt: skip
    answers = await gathered([table.seats.answer(ask) for ask in asks])
    what = f"summary of turn {old.number}"
    texts = [as_text(table.seats.must(answer, what)["summary"]) for answer in answers]
    prompter.summary = texts[0]
    prompter.private.update(zip(private, texts[1:], strict=True))


def _text(value: dict[str, Any]) -> bool:
    return bool(as_text(value["summary"]))
