"""Anthropic's messages interface."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from peira.subjects.subject import Finish, Reply, Request, Sampling, Usage
from peira.subjects.wire.dialect import Endpoint, count, finished, present, split_system

VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the interface requires one
THINKING_TOKENS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384}
FINISH: dict[str, Finish] = {
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "stop", "pause_turn": "stop",
    "max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal",
}  # fmt: skip


class Anthropic:
    """`POST /messages`. Carries neither seed nor JSON mode; beside a reasoning effort it takes no
    temperature, top_p or top_k, and the thoughts need room of their own within max_tokens."""

    carries = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "reasoning_effort"})
    limits: Mapping[str, tuple[float, float]] = {
        "temperature": (0.0, 1.0), "top_p": (0.0, 1.0), "top_k": (1, inf), "max_tokens": (1, inf),
    }  # fmt: skip
    thoughts: Mapping[str, int] = THINKING_TOKENS
    unthinking: frozenset[str] = frozenset({"temperature", "top_p", "top_k"})

    def url(self, endpoint: Endpoint) -> str:
        return f"{endpoint.base_url}/messages"

    def auth(self, key: str) -> dict[str, str]:
        return {"x-api-key": key, "anthropic-version": VERSION}

    def body(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        sampling = request.sampling
        system, turns = split_system(request)
        return {
            "model": request.model,
            "max_tokens": sampling.max_tokens or endpoint.max_output or _default_limit(sampling),
            "messages": [{"role": role, "content": text} for role, text in turns],
            **present(
                system=_system(system, endpoint),
                temperature=sampling.temperature,
                # 1.0 means "all of the mass"; newer models refuse it beside a temperature.
                top_p=None if sampling.top_p == 1.0 else sampling.top_p,
                top_k=sampling.top_k,
                stop_sequences=list(sampling.stop) or None,
            ),
            **_thinking(sampling.reasoning_effort, endpoint),
            **endpoint.extra_body,
        }

    def reply(self, data: Mapping[str, Any]) -> Reply:
        blocks = data.get("content") or ()
        text = "".join(b.get("text", "") for b in blocks if b.get("type") == "text")
        thoughts = [b.get("thinking", "") for b in blocks if b.get("type") == "thinking"]
        usage = data.get("usage")
        cached = count(usage, "cache_read_input_tokens")
        written = count(usage, "cache_creation_input_tokens")
        finish = FINISH.get(data.get("stop_reason") or "end_turn", "stop")
        return Reply(
            text,
            "\n\n".join(thoughts),
            Usage(
                count(usage, "input_tokens") + cached + written,
                count(usage, "output_tokens"),
                cached,
                written,
            ),
            finished(finish, text),
            str(data.get("model") or ""),
            str(data.get("id") or ""),
        )


def _default_limit(sampling: Sampling) -> int:
    return DEFAULT_MAX_TOKENS + THINKING_TOKENS.get(sampling.reasoning_effort or "", 0)


def _system(text: str, endpoint: Endpoint) -> Any:
    if not text:
        return None
    if "cache_system" in endpoint.quirks:
        return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    return text


def _thinking(effort: str | None, endpoint: Endpoint) -> dict[str, Any]:
    if not effort or effort == "none":
        return {}
    if "adaptive_thinking" in endpoint.quirks:
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
    tokens = THINKING_TOKENS.get(effort, THINKING_TOKENS["medium"])
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}}
