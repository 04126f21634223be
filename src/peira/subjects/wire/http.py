"""A model behind an HTTP dialect: send, read, and turn every refusal into one of our errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import orjson

from peira.errors import (
    PeiraError,
    ProviderStop,
    RateLimited,
    TransientError,
    TrialFailed,
)
from peira.subjects.keys import scrub, scrub_reply
from peira.subjects.subject import Reply, Request
from peira.subjects.wire.client import EXCERPT, Answer, HttpClient, excerpt
from peira.subjects.wire.dialect import Dialect, Endpoint
from peira.subjects.wire.lane import Lane

REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-goog-request-id", "cf-ray")
OUT_OF_CREDIT = (
    "insufficient_quota",
    "billing_hard_limit",
    "credit balance",
    "exceeded your current quota",
)
TOO_LONG = (
    "context_length_exceeded", "maximum context length", "context window", "prompt is too long",
    "input is too long", "exceeds the maximum number of tokens", "too many tokens",
)  # fmt: skip
BLOCKED = ("content_policy_violation", "content_filter", "ResponsibleAIPolicyViolation")


class HttpWire:
    """A model behind an HTTP dialect. Implements `Wire`."""

    free = False

    def __init__(
        self, endpoint: Endpoint, dialect: Dialect, client: HttpClient, headers: Mapping[str, str]
    ) -> None:
        self.endpoint = endpoint
        self.dialect = dialect
        self.client = client
        self.headers = {"Content-Type": "application/json", **headers}
        self._lane = Lane(client, dialect.url(endpoint), self.headers)

    async def send(self, request: Request) -> Reply:
        """One attempt."""
        body = orjson.dumps(self.dialect.body(request, self.endpoint))
        answer = await self._lane.post(body, self.endpoint.timeout)
        if answer.status >= 300:
            return refusal_or_raise(answer)
        reply = read_reply(self.dialect, answer.json())
        if not reply.request_id:
            reply = replace(reply, request_id=request_id(answer.headers))
        return scrub_reply(reply)

    async def close(self) -> None:
        """The client is shared; its owner closes it."""


def read_reply(dialect: Dialect, data: Any) -> Reply:
    """A 200's JSON as a reply. Raises the provider's error if one is inside, or TransientError
    (lost) if its shape is not the dialect's."""
    if isinstance(data, Mapping) and data.get("error") and not data.get("choices"):
        raise _error_inside(data["error"])
    try:
        return dialect.reply(data)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        text = excerpt(f"{data!s:.{4 * EXCERPT}}")
        raise TransientError(f"an answer of an unknown shape: {text}", lost=True) from error


def _error_inside(error: Any) -> PeiraError:
    """OpenRouter and others report an upstream failure inside a 200."""
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    body = orjson.dumps({"error": error})
    return error_of(Answer(status, {}, body))


def refusal_or_raise(answer: Answer) -> Reply:
    """A prompt blocked by the provider's filter is a refused reply; anything else is raised."""
    text = answer.body[:4000].decode("utf-8", "replace")
    if answer.status in (400, 403) and any(word in text for word in BLOCKED):
        return Reply(message_of(answer), finish="refusal", request_id=request_id(answer.headers))
    raise error_of(answer)


def error_of(answer: Answer) -> PeiraError:
    """Which of our errors an HTTP status means."""
    status, message = answer.status, message_of(answer)
    text = f"HTTP {status}: {message}"
    if status == 429 and any(word in message for word in OUT_OF_CREDIT):
        return ProviderStop(text)
    if status in (429, 529) or (status == 503 and retry_after(answer) is not None):
        return RateLimited(text, retry_after(answer))
    if status in (408, 409, 425) or status >= 500:
        return TransientError(text)
    if status in (400, 413, 422) and any(word in message.lower() for word in TOO_LONG):
        return TrialFailed("context", text)
    return ProviderStop(text)


def message_of(answer: Answer) -> str:
    """The provider's own words, without keys."""
    try:
        data = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.excerpt() or "no message"
    found = _message(data)
    code = _code(data)
    words = found if not code or code in found else f"{found} ({code})"
    return scrub(words)[: 2 * EXCERPT] or answer.excerpt()


def _message(data: Any) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, list):
        return _message(data[0]) if data else ""
    if not isinstance(data, Mapping):
        return ""
    for name in ("error", "message", "detail", "msg"):
        if data.get(name):
            return _message(data[name])
    return ""


def _code(data: Any) -> str:
    error = data.get("error") if isinstance(data, Mapping) else None
    code = error.get("code") or error.get("type") if isinstance(error, Mapping) else None
    return code if isinstance(code, str) else ""


def request_id(headers: Mapping[str, str]) -> str:
    """The id to quote to the provider's support."""
    return next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), "")


def retry_after(answer: Answer) -> float | None:
    """Seconds the provider asks us to wait: header (seconds, ms or date) or Google's detail."""
    headers = answer.headers
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return ms / 1000
    text = headers.get("Retry-After") or headers.get("retry-after")
    if text is None:
        return _retry_delay(answer.body)
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, TypeError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e9 else None


def _retry_delay(body: bytes) -> float | None:
    """Google states it as `"retryDelay": "17s"` among the error's details."""
    _, found, rest = body.partition(b'"retryDelay"')
    return _number(rest.split(b'"')[1].decode().rstrip("s")) if found and b'"' in rest else None
