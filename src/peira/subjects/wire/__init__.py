"""HTTP dialects over one shared client: OpenAI chat, OpenAI responses, Anthropic, Google."""

from __future__ import annotations

from collections.abc import Callable

from peira.subjects.wire.dialect import Dialect


def _openai() -> Dialect:
    from peira.subjects.wire.openai_chat import OpenAIChat

    return OpenAIChat()


def _responses() -> Dialect:
    from peira.subjects.wire.openai_responses import OpenAIResponses

    return OpenAIResponses()


def _anthropic() -> Dialect:
    from peira.subjects.wire.anthropic import Anthropic

    return Anthropic()


def _google() -> Dialect:
    from peira.subjects.wire.google import Google

    return Google()


DIALECTS: dict[str, Callable[[], Dialect]] = {
    "openai": _openai, "responses": _responses, "anthropic": _anthropic, "google": _google,
}  # fmt: skip
