"""A person in a seat: the same prompt a model would get, the same blanks to fill.

Answers are durable before the trial sees them and enter the ledger at cost 0, so a resumed trial
never asks twice; while a person thinks the trial's clock stands. Invariant: one question at a time
on one desk, whatever the parallelism.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO
from weakref import WeakKeyDictionary

import orjson

from peira.engine.desk import Desk, chosen_desk, terminal_alone
from peira.engine.lab import Lab
from peira.engine.ledger import pack, request_hash
from peira.errors import InputError, ReplayDiverged, TrialHalted
from peira.families.scenarios.parse import Field, Form, as_truth
from peira.families.scenarios.settings import Scenario
from peira.subjects.subject import Message, Reply, Sampling

if TYPE_CHECKING:
    from peira.families.scenarios.seats import Ask


@dataclass(frozen=True, slots=True)
class Question:
    """What is put before a person. `form` names the blanks; `required` must be filled."""

    trial: str
    seat: str
    label: str
    messages: tuple[Message, ...]
    form: Form


_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def desk() -> Desk:
    """The desk in use: the one chosen, else the terminal. Raises InputError when there is none."""
    chosen = chosen_desk()
    if chosen is not None:
        return chosen
    if sys.stdin is not None and sys.stdin.isatty():
        return Terminal()
    raise InputError(
        "a human seat needs a terminal or a browser, and there is neither\n"
        "  remedy: run it in a terminal, add --view, or give the seat a model (--model SEAT=MODEL)"
    )


async def fill(lab: Lab, scenario: Scenario, ask: Ask) -> dict[str, Any]:
    """The person's answer to this call, from an earlier attempt if it was given there."""
    name = f"human/{ask.seat}/{ask.label}"
    digest = request_hash("human", ask.messages, Sampling())
    saved = lab.restored(name)
    if saved is not None:
        known = orjson.loads(saved)
        if known["hash"] != digest.hex():
            raise ReplayDiverged(f"replay diverged at {name!r}: the question is another now")
        value: dict[str, Any] = known["value"]
    else:
        question = Question(lab.slug, ask.seat, ask.label, tuple(ask.messages), ask.form)
        value = await _ask(lab, question, ask.valid)
        await lab.checkpoint(name, {"hash": digest.hex(), "value": value})
    _record(lab, ask, digest, value)
    return value


async def _ask(
    lab: Lab, question: Question, valid: Callable[[dict[str, Any]], bool] | None
) -> dict[str, Any]:
    where = desk()
    lock = _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    with lab.off_the_clock():
        async with lock:
            while True:
                value = await where.ask(question)
                if valid is None or valid(value):
                    return value


def _record(lab: Lab, ask: Ask, digest: bytes, value: Mapping[str, Any]) -> None:
    text = orjson.dumps(value).decode()
    reply = Reply(text, served_model="human")
    lab.keep((f"{ask.seat}|{ask.label}|0", digest, "human", pack(reply)))
    lab.emit(
        "call", seat=ask.seat, label=ask.label, call=0, model="human", served_model="human",
        reply=text, reasoning="", finish="stop", usage=reply.usage, cost=0, seconds=0.0,
        messages=list(ask.messages),
    )  # fmt: skip


@dataclass
class Terminal:
    """Asks on a terminal (or any pair of streams, for scripts and tests)."""

    source: TextIO = field(default_factory=lambda: sys.stdin)
    sink: TextIO = field(default_factory=lambda: sys.stderr)

    async def ask(self, question: Question) -> dict[str, Any]:
        """Show the prompt, then one blank after another; blank lines are allowed but one."""
        with terminal_alone():
            return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Question) -> dict[str, Any]:
        self._say(f"\n=== {question.trial}: {question.seat}, {question.label} ===\n")
        for message in question.messages:
            self._say(_without_request(message.content, question.form))
        return {item.name: self._field(item, question.form) for item in question.form.fields}

    def _field(self, item: Field, form: Form) -> Any:
        while True:
            self._say(f"{item.name} ({_hint(item)}):")
            line = self.source.readline()
            if not line:
                raise TrialHalted(
                    "interrupted",
                    "the terminal was closed while a person's answer was awaited\n"
                    "  remedy: run the same command again; earlier answers are kept",
                )
            value = _value(item, line.strip())
            if value not in ("", None) or item.name != form.required or item.name == "target":
                return value
            self._say("(this blank must be filled)")

    def _say(self, text: str) -> None:
        self.sink.write(text + "\n")
        self.sink.flush()


def _without_request(text: str, form: Form) -> str:
    return text.replace(form.request(), "").rstrip() + "\n"


def _hint(item: Field) -> str:
    if item.many:
        return "several, separated by ;"
    if item.name == "accept":
        return "yes or no"
    return "a short name, or nothing" if item.name == "target" else "one line"


def _value(item: Field, line: str) -> Any:
    if item.many:
        return [part.strip() for part in line.split(";") if part.strip()]
    if item.name == "accept":
        return as_truth(line)
    if item.name == "target":
        return line or None
    return line
