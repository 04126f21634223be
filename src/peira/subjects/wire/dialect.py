"""What an HTTP dialect is: pure functions from a request to JSON and from JSON to a reply.

The same functions make live calls and the lines of batch files. Invariant: a dialect sends every
setting that `fit` let through, and nothing else; `fit` refuses what cannot be carried, before any
call is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

from peira.errors import InputError
from peira.subjects.subject import Finish, Reply, Request, Sampling

NOTHING = Sampling()  # every setting left to the provider
SETTINGS = tuple(each.name for each in fields(Sampling))
MOST_TOKENS = 10**9
Quirk = Literal[
    "completion_limit", "developer_role", "random_seed", "thinking_level", "adaptive_thinking",
    "cache_system",
]  # fmt: skip
SEED_MASK = 0x7FFF_FFFF  # providers take signed 32-bit seeds
THINK, END_THINK = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one model is reached. Holds no key."""

    name: str
    provider: str
    base_url: str
    model: str
    timeout: float = 600.0
    max_output: int | None = None
    seeds: bool = False  # send the call's own seed, so that a provider that can will repeat itself
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    quirks: frozenset[str] = frozenset()


class Dialect(Protocol):
    """One provider interface, as pure functions. `thoughts`: tokens to set aside for each reasoning
    effort, since interfaces count them against max_tokens; `unthinking`: settings that are not taken
    beside an effort."""

    carries: frozenset[str]
    limits: Mapping[str, tuple[float, float]]
    thoughts: Mapping[str, int]
    unthinking: frozenset[str]

    def url(self, endpoint: Endpoint) -> str: ...
    def auth(self, key: str) -> dict[str, str]: ...
    def body(self, request: Request, endpoint: Endpoint) -> dict[str, Any]: ...
    def reply(self, data: Mapping[str, Any]) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Fit:
    """Makes a sampling fit what a model's wire can carry."""

    name: str
    where: str
    carries: frozenset[str]
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    allow_drop: frozenset[str] = frozenset()
    fixed: Mapping[str, float] = field(default_factory=dict)  # the only value, so omitting it is it
    allowance: int = 0  # tokens added for reasoning, which providers count against max_tokens
    thoughts: Mapping[str, int] = field(default_factory=dict)  # the same, where an effort is asked
    unthinking: frozenset[str] = frozenset()
    max_output: int | None = None

    def __call__(self, sampling: Sampling) -> Sampling:
        """The sampling as it will be sent. Raises InputError naming what cannot be carried."""
        changes: dict[str, Any] = {}
        effort = sampling.reasoning_effort if "reasoning_effort" in self.carries else None
        thinking = effort not in (None, "none")
        carries = self.carries - self.unthinking if thinking else self.carries
        for setting in SETTINGS:
            value = getattr(sampling, setting)
            if value is None or value is False or value == ():  # 0 is a temperature
                continue
            if setting not in carries:
                if not self._the_only(setting, value) and setting not in self.allow_drop:
                    raise self._refused(setting, value, carries)
                changes[setting] = getattr(NOTHING, setting)
            else:
                self._within(setting, value)
        if sampling.max_tokens is not None and "max_tokens" in carries:
            changes["max_tokens"] = self._with_room(sampling.max_tokens, effort)
        return replace(sampling, **changes) if changes else sampling

    def _within(self, setting: str, value: Any) -> None:
        if setting not in self.limits:
            return
        low, high = self.limits[setting]
        if not low <= value <= high:
            bound = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
            raise InputError(
                f"subject {self.name!r}: {setting}={value!r} is outside what {self.where} takes\n"
                f"  allowed: {bound}"
            )

    def _with_room(self, answer: int, effort: str | None) -> int:
        """The answer's tokens and, within what the model may give, those of its thoughts."""
        if effort == "none":
            return answer
        whole = answer + max(self.allowance, self.thoughts.get(effort or "", 0))
        return max(answer, whole if self.max_output is None else min(whole, self.max_output))

    def _the_only(self, setting: str, value: Any) -> bool:
        """True if leaving it out means the same."""
        neutral = 1 if setting in self.unthinking else None
        return bool(self.fixed.get(setting, neutral) == value)

    def _refused(self, setting: str, value: Any, carries: frozenset[str]) -> InputError:
        beside = " beside a reasoning effort" if setting in self.carries else ""
        return InputError(
            f"subject {self.name!r}: {self.where} cannot carry {setting}={value!r}{beside}\n"
            f"  allowed: {', '.join(sorted(carries))}\n"
            f"  remedy: leave it out, or subjects: {{{self.name}: {{allow_drop: [{setting}]}}}}"
        )


def seed_of(request: Request, endpoint: Endpoint) -> int | None:
    """The seed to send: the study's, else the call's own where the provider takes one."""
    if request.sampling.seed is not None:
        return request.sampling.seed
    return request.seed & SEED_MASK if endpoint.seeds else None


def present(**values: Any) -> dict[str, Any]:
    """Only what is set."""
    return {name: value for name, value in values.items() if value is not None}


def split_system(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """The system text, and the other turns with neighbours of one role joined."""
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    turns: list[tuple[str, str]] = []
    for message in request.messages:
        if message.role == "system":
            continue
        if turns and turns[-1][0] == message.role:
            turns[-1] = (message.role, turns[-1][1] + "\n\n" + message.content)
        else:
            turns.append((message.role, message.content))
    return system, turns


def split_thinking(text: str) -> tuple[str, str]:
    """(answer, reasoning) of a text that opens with a <think> block, closed or cut off."""
    start = text.lstrip()
    if not start.startswith(THINK):
        return text, ""
    reasoning, closed, answer = start[len(THINK) :].partition(END_THINK)
    return (answer.lstrip() if closed else ""), reasoning.strip()


def finished(finish: Finish, text: str) -> Finish:
    """A reply that stopped by itself with no text is `empty`."""
    return "empty" if finish == "stop" and not text.strip() else finish


def count(data: Any, *path: str) -> int:
    """A token count somewhere in a usage block, 0 where it is absent or null. Raises ValueError for
    one that cannot be: money is counted by it."""
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    if not data or not isinstance(data, (int, float)):
        return 0
    if not 0 <= data < MOST_TOKENS:
        raise ValueError(f"{path[-1]}={data!r} is no count of tokens")
    return int(data)
