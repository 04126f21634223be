"""What a provider's batch interface must offer, and what the engine is handed of it.

Invariant: a line of an input file is a pure function of the request, so that building it again
gives the same bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson

from peira.errors import PeiraError, TransientError
from peira.subjects.keys import scrub_reply
from peira.subjects.subject import Reply, Request
from peira.subjects.wire.client import Answer, HttpClient
from peira.subjects.wire.dialect import Dialect, Endpoint
from peira.subjects.wire.http import error_of, read_reply, refusal_or_raise

if TYPE_CHECKING:
    from peira.subjects.options import BatchOptions
    from peira.subjects.prices import TokenPrice

ADMIN_SECONDS = 600.0
TRIES = 6  # of an administrative call that failed before it could do anything
HEX = set("0123456789abcdef")


def custom_id(trial: int, key: str) -> str:
    """The id of a row: a content key's first 32 hex, else a hash of (trial, key)."""
    if len(key) >= 32 and set(key) <= HEX:
        return key[:32]
    return blake2b(f"{trial}|{key}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a job: its id and the body of the call."""

    custom_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job to be made, or one of which only the ids are known any more (`lines` empty)."""

    name: str
    ids: tuple[str, ...]
    lines: tuple[Line, ...] = ()
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the provider says of a job. An unknown state is shown and polled on."""

    state: Literal["working", "ended"]
    words: str
    files: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one row: a reply, or the error that a live call would have raised."""

    custom_id: str
    reply: Reply | None = None
    error: PeiraError | None = None


class Unsure(TransientError):
    """A job at the provider may be ours, and cannot be told yet: wait, submit nothing."""


class BatchAdapter(Protocol):
    """One provider's batch interface. Every method is one step; none retries what may have worked."""

    max_rows: int
    max_bytes: int

    def encode(self, line: Line) -> bytes:
        """The line as it stands in the provider's file."""
        ...

    async def upload(self, spec: JobSpec) -> str:
        """Put the lines there; returns the file's id ("" where requests go inline)."""
        ...

    async def create(self, spec: JobSpec, file: str) -> str:
        """Start the job; returns its id. A lost answer raises TransientError(lost=True)."""
        ...

    async def status(self, job: str) -> JobStatus: ...

    async def results(self, job: str, status: JobStatus) -> list[Delivered]:
        """Every row delivered, from output and error files."""
        ...

    async def find(self, spec: JobSpec, file: str) -> str | None:
        """The job that an unrecorded `create` made, or None. Raises Unsure while it may be one."""
        ...


@dataclass(frozen=True, slots=True)
class BatchRoute:
    """How a subject's calls go into batch jobs."""

    kind: str
    adapter: BatchAdapter
    options: BatchOptions
    endpoint: Endpoint
    dialect: Dialect
    price: TokenPrice | None = None

    def line(self, request: Request, row: str) -> Line:
        """One row of an input file."""
        return Line(row, self.dialect.body(request, self.endpoint))


@dataclass(slots=True)
class Desk:
    """The provider's administrative interface over the shared client."""

    endpoint: Endpoint
    dialect: Dialect
    headers: Mapping[str, str]
    client: HttpClient
    base_url: str = ""
    backoff: float = 0.5
    extra: Mapping[str, str] = field(default_factory=dict)

    async def get(self, path: str) -> Any:
        """JSON at `path`, trying again after transient faults (reading is always safe)."""
        return (await self.patiently("GET", path)).json()

    async def raw(self, path: str) -> bytes:
        """The bytes at `path` or at a whole address."""
        return (await self.patiently("GET", path)).body

    async def post(self, path: str, data: Any) -> Any:
        """One attempt: its effect must not happen twice. Raises TransientError."""
        headers = {"Content-Type": "application/json"}
        answer = await self._send("POST", path, orjson.dumps(data), headers)
        return answer.json()

    async def post_file(self, path: str, form: Mapping[str, str], name: str, data: bytes) -> Any:
        """Upload a file as a form. A second copy does no harm, so it may be tried again."""
        return (await self.patiently("POST", path, form=(form, name, data))).json()

    async def patiently(self, method: str, path: str, form: Any = None) -> Answer:
        """The exchange, again after transient faults."""
        for attempt in range(TRIES):
            try:
                return await self._send(method, path, _form(*form) if form else None, {})
            except TransientError:
                if attempt == TRIES - 1:
                    raise
                await asyncio.sleep(min(60.0, self.backoff * 2**attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _send(self, method: str, path: str, data: Any, more: Mapping[str, str]) -> Answer:
        outside = path.startswith("http")  # a signed address needs, and may see, no key
        url = path if outside else f"{self.base_url or self.endpoint.base_url}{path}"
        headers = {} if outside else {**self.headers, **self.extra, **more}
        answer = await self.client.send(
            method, url, headers=headers, data=data, timeout=ADMIN_SECONDS
        )
        if answer.status >= 300:
            raise error_of(answer)
        return answer


def _form(fields: Mapping[str, str], name: str, data: bytes) -> Any:
    import aiohttp

    form = aiohttp.FormData()
    for key, value in fields.items():
        form.add_field(key, value)
    form.add_field("file", data, filename=name, content_type="application/jsonl")
    return form


def read_rows(data: bytes, read: Callable[[Any], Delivered]) -> list[Delivered]:
    """The rows of a JSONL file; a line that is torn or of another shape is left out (its row counts
    as not delivered)."""
    found = []
    for line in data.splitlines():
        with suppress(TransientError, AttributeError, KeyError, TypeError, ValueError):
            found.append(read(Answer(200, {}, line).json()))
    return found


def delivered(dialect: Dialect, row: str, status: int, body: Any, request_id: str) -> Delivered:
    """One row's answer, judged exactly as a live call's would be."""
    try:
        if status >= 300:
            reply = refusal_or_raise(Answer(status, {}, json.dumps(body).encode()))
        else:
            reply = read_reply(dialect, body)
    except PeiraError as error:
        return Delivered(row, error=error)
    if request_id and not reply.request_id:
        reply = replace(reply, request_id=request_id)
    return Delivered(row, scrub_reply(reply))


def open_batch(desk: Desk, options: BatchOptions, price: TokenPrice | None) -> BatchRoute:
    """The route of one subject's batch jobs."""
    from peira.subjects.batch.anthropic import AnthropicBatches
    from peira.subjects.batch.fireworks import FireworksBatches
    from peira.subjects.batch.openai import OpenAIBatches

    makers: dict[str, Any] = {
        "openai": OpenAIBatches, "anthropic": AnthropicBatches, "fireworks": FireworksBatches,
    }  # fmt: skip
    kind = options.kind or "openai"
    adapter: BatchAdapter = makers[kind](desk, options)
    batched = price.batched() if price is not None else None
    return BatchRoute(kind, adapter, options, desk.endpoint, desk.dialect, batched)


def joined(lines: Sequence[bytes]) -> bytes:
    """A JSONL file."""
    return b"\n".join(lines) + b"\n"
