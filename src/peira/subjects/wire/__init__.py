"""HTTP dialects over one shared client: OpenAI chat, OpenAI responses, Anthropic, Google."""

from __future__ import annotations

from collections.abc import Callable

from peira.subjects.wire.anthropic import Anthropic
from peira.subjects.wire.dialect import Dialect
from peira.subjects.wire.google import Google
from peira.subjects.wire.openai_chat import OpenAIChat
from peira.subjects.wire.openai_responses import OpenAIResponses

DIALECTS: dict[str, Callable[[], Dialect]] = {
    "openai": OpenAIChat,
    "responses": OpenAIResponses,
    "anthropic": Anthropic,
    "google": Google,
}
