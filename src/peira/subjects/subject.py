"""A subject: a model under study behind one interface, whatever serves it.

A `Wire` is the one seam to the outside (HTTP dialect, local model, simulated, scripted); everything
above it (ledger, budget, pace) is the engine's and the same for all. Invariant: a real subject
never sees `observation`; a simulated one answers in text, so the same parser runs on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "refusal", "empty"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt. Half of a surrogate pair, which no provider can be sent, is U+FFFD
    from here on."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if not self.content.isascii():
            object.__setattr__(self, "content", whole(self.content))


def whole(text: str) -> str:
    """The text, with U+FFFD for each half of a surrogate pair: what UTF-8 can hold."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn. None leaves a setting to the provider's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    json_mode: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply. `cached_tokens` are part of the prompt's, `reasoning_tokens` part of
    the completion's; `cache_write_tokens` are the prompt tokens written to a provider's cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """What a subject returns. `cost` is in micro-dollars, `seconds` from send to last byte,
    `asked_at` is Unix time. A reply that is cut (`length`), refused or empty is marked, not raised:
    the family decides, and never scores it as an answer."""

    text: str
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)
    finish: Finish = "stop"
    served_model: str = ""
    request_id: str = ""
    seconds: float = 0.0
    cost: int = 0
    asked_at: float = 0.0
    source: Literal["live", "ledger"] = "live"

    def bought(self, asked_at: float, seconds: float, cost: int) -> Reply:
        """The same with when it was asked, how long it took and what it cost (half the time of
        `dataclasses.replace`, at every call)."""
        return Reply(
            self.text, self.reasoning, self.usage, self.finish, self.served_model, self.request_id,
            seconds, cost, asked_at, self.source,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One call as a wire sees it. `seed` is derived from trial seed, seat and label: simulated
    subjects draw from it, so that their answers do not depend on the order of execution."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    observation: Any = None
    seed: int = 0
    label: str = "call"
    n: int = 0

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 length of the prompt: no tokenizer makes more tokens than bytes."""
        return sum([len(m.content.encode()) for m in self.messages])


@runtime_checkable
class Wire(Protocol):
    """The way to a model. `free`: costs nothing, so neither budget, pace nor a durable wait."""

    free: bool

    async def send(self, request: Request) -> Reply:
        """One attempt. Raises TransientError, RateLimited or ProviderStop; never retries."""
        ...

    async def close(self) -> None:
        """Release connections or memory."""
        ...


class Subject(Protocol):
    """What a trial holds: a model in a seat."""

    name: str
    simulated: bool

    async def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        observation: Any = None,
        *,
        label: str = "call",
        key: str | None = None,
        record: bool = True,
    ) -> Reply:
        """Ask once. `label` names the call ("round 3/vote"): it is the phase in cost tables and the
        ledger's key within the trial, so a seat may ask concurrently only under distinct labels.
        `key` is a content key for subjects of run scope. `record=False` keeps the call out of the
        transcript (for families that make very many)."""
        ...

    async def recall(
        self, messages: Sequence[Message], sampling: Sampling | None = None, *, key: str
    ) -> Reply | None:
        """The reply that the run already has under a content key (run scope), or None; never
        asks, never buys."""
        ...


def system(content: str) -> Message:
    """A system message."""
    return Message("system", content)


def user(content: str) -> Message:
    """A user message."""
    return Message("user", content)
