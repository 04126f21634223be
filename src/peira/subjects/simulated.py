"""Simulated subjects: no network, text in and out, marked as simulated wherever results appear.

Names are `sim:KIND[=VALUE][,option=value…]`. A family registers what its kinds answer; this module
parses the names and gives every kind the same dials for misfortune: `latency`, `rate_limit`,
`status` with `at`, `garble`, `refuse`, `truncate`, `cost` and `worst`.
Invariant: an answer is a pure function of the request, so order of execution never matters.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from peira.errors import InputError, ProviderStop, RateLimited, TransientError
from peira.subjects.subject import Finish, Reply, Request, Usage

PREFIX = "sim:"
COMMON_OPTIONS = (
    "latency", "rate_limit", "status", "at", "cost", "worst", "garble", "refuse", "truncate",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SimSpec:
    """A parsed `sim:` name: `sim:skill=0.9,lies=0.2` -> kind skill, value "0.9", options."""

    kind: str
    value: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def number(self, option: str, default: float) -> float:
        """A numeric option, or InputError naming it."""
        text = self.options.get(option)
        return default if text is None else _number(f"sim:{self.kind}", option, text)

    def level(self, default: float) -> float:
        """The kind's own value (`sim:skill=0.9`) as a number."""
        return default if self.value is None else _number("sim:", self.kind, self.value)

    def only(self, *allowed: str) -> None:
        """Refuse options that this kind does not know."""
        known = {*allowed, *COMMON_OPTIONS}
        for name in self.options:
            if name not in known:
                raise InputError(
                    f"subject sim:{self.kind}: unknown option {name!r}\n"
                    f"  allowed: {', '.join(sorted(known))}"
                )


def _number(where: str, name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"subject {where}: {name}={text!r}\n  allowed: a number")
    return found


class Answerer(Protocol):
    """What a simulated subject says. Pure: draws only from `request.seed`."""

    def answer(self, request: Request) -> str | Reply: ...


SimulatedKinds = Mapping[str, Callable[[SimSpec], Answerer]]


def parse_sim(name: str) -> SimSpec:
    """Parse a `sim:` name. Raises InputError with the form expected."""
    head, *rest = name.removeprefix(PREFIX).split(",")
    kind, _, value = head.partition("=")
    options: dict[str, str] = {}
    for part in rest:
        key, equals, text = part.partition("=")
        if not equals or not key:
            raise InputError(f"subject {name!r}: option {part!r}\n  allowed: name=value")
        options[key.strip()] = text.strip()
    if not kind:
        raise InputError(f"subject {name!r}: no kind\n  allowed: sim:KIND[=VALUE][,option=value]")
    return SimSpec(kind, value or None, options)


class Echo:
    """`sim:echo`: answers with the last message; for trying things out."""

    def answer(self, request: Request) -> str:
        return request.messages[-1].content if request.messages else ""


class Noop:
    """`sim:noop`: a constant answer, to measure the engine alone."""

    def answer(self, request: Request) -> str:
        return "ok"


GENERIC: SimulatedKinds = {"echo": lambda spec: Echo(), "noop": lambda spec: Noop()}


@dataclass(frozen=True, slots=True)
class Misfortune:
    """The common dials, parsed once."""

    latency: float = 0.0
    rate_limit: float = 0.0
    status: int = 0
    at: int = 1
    garble: float = 0.0
    refuse: float = 0.0
    truncate: float = 0.0

    @classmethod
    def of(cls, spec: SimSpec) -> Misfortune:
        return cls(
            spec.number("latency", 0.0), spec.number("rate_limit", 0.0),
            int(spec.number("status", 0)), int(spec.number("at", 1)),
            spec.number("garble", 0.0), spec.number("refuse", 0.0), spec.number("truncate", 0.0),
        )  # fmt: skip

    @property
    def any(self) -> bool:
        return self != Misfortune()


class SimulatedWire:
    """A simulated subject as a wire. Free unless its `cost` option says otherwise."""

    def __init__(self, name: str, kinds: SimulatedKinds) -> None:
        self.name = name
        spec = parse_sim(name)
        maker = kinds.get(spec.kind) or GENERIC.get(spec.kind)
        if maker is None:
            known = ", ".join(sorted({*kinds, *GENERIC}))
            raise InputError(f"subject {name!r}: unknown kind {spec.kind!r}\n  allowed: {known}")
        self.answerer = maker(spec)
        self.cost = round(spec.number("cost", 0.0) * 1_000_000)
        self.worst = round(spec.number("worst", 0.0) * 1_000_000) or self.cost
        self.misfortune = Misfortune.of(spec)
        self.unlucky = self.misfortune.any
        self.free = self.cost == 0 and not (self.misfortune.status or self.misfortune.rate_limit)
        self._calls = 0

    async def send(self, request: Request) -> Reply:
        """Answer, after whatever misfortune the name asks for."""
        if self.unlucky:
            await self._suffer()
        answer = self.answerer.answer(request)
        reply = answer if isinstance(answer, Reply) else self._reply(request, answer)
        return self._spoil(reply, request) if self.unlucky else reply

    async def close(self) -> None:
        return None

    def _reply(self, request: Request, text: str) -> Reply:
        length = sum([len(m.content) for m in request.messages])
        usage = Usage(length // 4 + 1, len(text) // 4 + 1)
        return Reply(text, usage=usage, served_model=self.name, cost=self.cost)

    async def _suffer(self) -> None:
        self._calls += 1
        if self.misfortune.latency:
            await asyncio.sleep(self.misfortune.latency)
        if self.misfortune.status and self._calls == self.misfortune.at:
            raise _http_error(self.misfortune.status)
        # Draws by call number on purpose: a retry of the same request must be able to succeed.
        if random.Random(self._calls * 7919).random() < self.misfortune.rate_limit:
            raise RateLimited("simulated: 429 too many requests", retry_after=0.001)

    def _spoil(self, reply: Reply, request: Request) -> Reply:
        dice = random.Random(request.seed ^ 0x5EED)
        dials = self.misfortune
        if dice.random() < dials.garble:
            return replace(reply, text="".join(dice.sample(reply.text, len(reply.text))))
        for chance, finish in ((dials.refuse, "refusal"), (dials.truncate, "length")):
            if dice.random() < chance:
                text = "" if finish == "refusal" else reply.text[: len(reply.text) // 2]
                return replace(reply, text=text, finish=_finish(finish))
        return reply


def _finish(name: str) -> Finish:
    return "refusal" if name == "refusal" else "length"


def _http_error(status: int) -> Exception:
    message = f"simulated: HTTP {status}"
    if status == 429:
        return RateLimited(message, retry_after=0.001)
    return TransientError(message) if status >= 500 or status == 408 else ProviderStop(message)
