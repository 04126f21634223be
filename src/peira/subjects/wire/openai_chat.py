"""OpenAI's chat completions: also OpenRouter, xAI, Fireworks, Together, Groq, vLLM, Ollama, …"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from peira.errors import TransientError
from peira.subjects.subject import Finish, Reply, Request, Usage
from peira.subjects.wire.dialect import (
    SETTINGS,
    Endpoint,
    count,
    finished,
    present,
    seed_of,
    split_thinking,
)

FINISH: dict[str, Finish] = {
    "stop": "stop", "eos": "stop", "tool_calls": "stop", "function_call": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
    "content_filter": "refusal", "safety": "refusal",
}  # fmt: skip
BROKEN = ("error", "abort", "insufficient_system_resource")  # vLLM and DeepSeek: not a whole answer
# OpenAI advises at least 25,000 tokens for reasoning; models that reason have 8,192 anyway.
THOUGHTS = {"high": 25_000, "xhigh": 50_000}


class OpenAIChat:
    """`POST /chat/completions`."""

    carries = frozenset(SETTINGS)
    limits: Mapping[str, tuple[float, float]] = {
        "temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "top_k": (1, inf), "max_tokens": (1, inf),
    }  # fmt: skip
    thoughts: Mapping[str, int] = THOUGHTS
    unthinking: frozenset[str] = frozenset()

    def url(self, endpoint: Endpoint) -> str:
        return f"{endpoint.base_url}/chat/completions"

    def auth(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def body(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        sampling = request.sampling
        limit = "max_completion_tokens" if "completion_limit" in endpoint.quirks else "max_tokens"
        system = "developer" if "developer_role" in endpoint.quirks else "system"
        seed_name = "random_seed" if "random_seed" in endpoint.quirks else "seed"
        return {
            "model": request.model,
            "messages": [
                {"role": system if m.role == "system" else m.role, "content": m.content}
                for m in request.messages
            ],
            **present(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                stop=list(sampling.stop) or None,
                reasoning_effort=sampling.reasoning_effort,
                response_format={"type": "json_object"} if sampling.json_mode else None,
                **{limit: sampling.max_tokens, seed_name: seed_of(request, endpoint)},
            ),
            **endpoint.extra_body,
        }

    def reply(self, data: Mapping[str, Any]) -> Reply:
        choice = data["choices"][0]
        reason = choice.get("finish_reason")
        if choice.get("error") or reason in BROKEN:
            why = choice.get("error") or reason
            raise TransientError(f"the provider broke off: {why}", lost=True)
        message = choice["message"]
        text, thoughts = split_thinking(_text(message.get("content")))
        finish = FINISH.get(reason or "stop", "stop")
        if message.get("refusal"):
            text, finish = str(message["refusal"]), "refusal"
        return Reply(
            text,
            _reasoning(message) or thoughts,
            _usage(data.get("usage")),
            finished(finish, text),
            str(data.get("model") or ""),
            str(data.get("id") or ""),
        )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(p.get("text", "") for p in content if p.get("type", "text") == "text")
    return content or ""


def _reasoning(message: Mapping[str, Any]) -> str:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):
            return str(message[name])
    return ""


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        # Batch files of some servers report in the responses dialect's words.
        count(usage, "prompt_tokens") or count(usage, "input_tokens"),
        count(usage, "completion_tokens") or count(usage, "output_tokens"),
        count(prompt, "cached_tokens") if prompt else 0,
        count(prompt, "cache_write_tokens") if prompt else 0,
        count(completion, "reasoning_tokens") if completion else 0,
    )
