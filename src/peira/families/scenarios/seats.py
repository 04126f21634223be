"""One call to a seat, brought to an answer: ladder, one re-ask, the marked default.

Invariant: a truncated or refused reply is never read as an answer, and every answer is counted by
seat, kind and rung.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peira.engine.lab import Lab
from peira.errors import TrialFailed
from peira.families.scenarios import human
from peira.families.scenarios.parse import FORMS, Form, read_form
from peira.families.scenarios.settings import (
    DEFAULT_TOKENS,
    SamplingRules,
    Scenario,
    ScenarioSettings,
)
from peira.families.scenarios.state import Answer, Tally
from peira.subjects.subject import Message, Reply, Sampling, Subject

COLD = ("summary", "metrics", "quality")
Check = Callable[[dict[str, Any]], bool]


def own_stream(settings: ScenarioSettings) -> str:
    """Where a `seed` variation draws its chances; each replicate has one set there too."""
    return "" if settings.seed is None else f"seed {settings.seed}|"


def sampling(scenario: Scenario, seat: str, kind: str) -> Sampling:
    """How a seat's replies are drawn: its own rules, else the scenario's; the offices that report
    run at 0. No seed: each call has one of its own, sent where the provider takes one."""
    rules = scenario.sampling
    own = scenario.actor(seat).sampling if seat in scenario.shorts else SamplingRules()
    tokens = DEFAULT_TOKENS | rules.max_tokens | own.max_tokens
    given = [t for t in (own.temperature, rules.temperature, 1.0) if t is not None]
    temperature = 0.0 if seat in COLD else given[0]
    top_p = rules.top_p if own.top_p is None else own.top_p
    return Sampling(temperature, top_p, max_tokens=tokens[FORMS[kind].tokens])


def samplings(scenario: Scenario) -> Iterator[tuple[str, Sampling]]:
    """(model, sampling) of one call to each seat, as far as its model must be able to carry it."""
    for seat, model in scenario.models.items():
        kind = "verdict" if seat == "quality" else seat if seat in FORMS else "decision"
        drawn = sampling(scenario, seat, kind)
        yield model, replace(drawn, temperature=None) if seat in COLD else drawn


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
        subject = self.lab.subject(self.model(ask.seat), ask.seat)
        messages, drawn = list(ask.messages), sampling(self.scenario, ask.seat, ask.kind)
        if ask.seat in COLD and _one_temperature(subject):
            drawn = replace(drawn, temperature=None)
        if fault == "truncated":
            drawn = replace(drawn, max_tokens=2 * (drawn.max_tokens or 0))
        elif again and fault != "refused" and first is not None:
            messages += _reproof(ask, first, fault)
        return await subject.reply(messages, drawn, ask.observation, label=ask.label)


def _one_temperature(subject: Subject) -> bool:
    """True for a model that takes none of ours; an office that would run at 0 then runs at its."""
    fit: Any = getattr(getattr(subject, "route", None), "fit", None)
    return fit is not None and "temperature" not in fit.carries


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
