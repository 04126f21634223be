"""One call to a seat, brought to an answer: ladder, one re-ask, the marked default.

Invariant: a truncated or refused reply is never read as an answer, and every answer is counted by
seat, kind and rung.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peira.engine.lab import Lab
from peira.errors import TrialFailed
from peira.families.scenarios import human
from peira.families.scenarios.parse import FORMS, Form, read_form
from peira.families.scenarios.settings import DEFAULT_TOKENS, Scenario
from peira.families.scenarios.state import Answer, Tally
from peira.subjects.subject import Message, Reply, Sampling

COLD = ("summary", "metrics", "quality")
Check = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Ask:
    """One call: to whom, for which form, under which label."""

    seat: str
    kind: str
    label: str
    messages: Sequence[Message]
    observation: dict[str, Any] = field(default_factory=dict)
    valid: Check | None = None

    @property
    def form(self) -> Form:
        """The form this call must bring back."""
        return FORMS[self.kind]


@dataclass
class Seats:
    """The seats of one trial."""

    scenario: Scenario
    lab: Lab
    derive: Callable[[str], int]
    tally: Tally = field(default_factory=Tally)

    async def answer(self, ask: Ask) -> Answer:
        """Ask, climb the ladder, ask once more if need be, and count what came of it."""
        if ask.seat in self.people:
            value = await human.fill(self.lab, self.scenario, ask)
            return self._count(ask, Answer(value, "human"))
        fault, reply = "", None
        for again in (False, True):
            reply = await self._call(ask, again, fault, reply)
            answer = _read(ask, reply)
            if answer.value is not None:
                return self._count(ask, replace(answer, rung="re-asked") if again else answer)
            fault = answer.fault
        key = f"{ask.seat}|{ask.label}|1"
        return self._count(ask, Answer(None, f"default: {_cause(fault)}", _cause(fault), key))

    def must(self, answer: Answer, what: str) -> dict[str, Any]:
        """The value of a call without a default. Raises TrialFailed with the fault as its cause."""
        if answer.value is None:
            self.lab.last_key = answer.key
            raise TrialFailed(answer.fault, f"{what}: {answer.fault} twice, and it has no default")
        return answer.value

    @property
    def people(self) -> frozenset[str]:
        """Seats that a person fills."""
        if self.lab.bench.routes.stand_in is not None:
            return frozenset()  # simulated subjects sit everywhere
        return frozenset(actor.short_name for actor in self.scenario.actors if actor.human)

    def model(self, seat: str) -> str:
        """The model in a seat; `human` for a person."""
        return self.scenario.models.get(seat, f"human:{seat}")

    def _count(self, ask: Ask, answer: Answer) -> Answer:
        self.tally.note(ask.seat, ask.kind, answer.rung)
        return answer

    async def _call(self, ask: Ask, again: bool, fault: str, first: Reply | None) -> Reply:
        messages, sampling = list(ask.messages), self._sampling(ask, int(again))
        if fault == "truncated":
            sampling = replace(sampling, max_tokens=2 * (sampling.max_tokens or 0))
        elif again and fault != "refused" and first is not None:
            messages += _reproof(ask, first, fault)
        subject = self.lab.subject(self.model(ask.seat), ask.seat)
        return await subject.reply(messages, sampling, ask.observation, label=ask.label)

    def _sampling(self, ask: Ask, n: int) -> Sampling:
        rules = self.scenario.sampling
        own = None
        if ask.seat in self.scenario.shorts:
            own = self.scenario.actor(ask.seat).sampling
        tokens = DEFAULT_TOKENS | rules.max_tokens | (own.max_tokens if own else {})
        hot = own.temperature if own and own.temperature is not None else rules.temperature
        temperature = 0.0 if ask.seat in COLD else 1.0 if hot is None else hot
        top_p = own.top_p if own and own.top_p is not None else rules.top_p
        seed = self.derive(f"{ask.seat}|{ask.label}|{n}") & 0x7FFFFFFF
        return Sampling(temperature, top_p, max_tokens=tokens[ask.form.tokens], seed=seed)


def _read(ask: Ask, reply: Reply) -> Answer:
    if reply.finish == "refusal":
        return Answer(None, "none", "refused")
    if reply.finish == "length":
        return Answer(None, "none", "truncated")
    parsed = read_form(ask.form, reply.text)
    if parsed.value is None:
        return Answer(None, "none", parsed.fault)
    if ask.valid is not None and not ask.valid(parsed.value):
        return Answer(None, "none", f"the field {ask.form.required} holds nothing usable")
    return Answer(parsed.value, parsed.rung)


def _cause(fault: str) -> str:
    return fault if fault in ("refused", "truncated") else "unreadable"


def _reproof(ask: Ask, first: Reply, fault: str) -> list[Message]:
    said = [Message("assistant", first.text)] if first.text.strip() else []
    text = f"That could not be read: {fault}.\n\n{ask.form.request()}"
    return [*said, Message("user", text)]
