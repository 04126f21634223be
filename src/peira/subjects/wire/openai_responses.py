"""OpenAI's responses interface."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from peira.errors import TransientError
from peira.subjects.subject import Finish, Reply, Request, Usage
from peira.subjects.wire.dialect import Endpoint, count, finished, present
from peira.subjects.wire.openai_chat import THOUGHTS


class OpenAIResponses:
    """`POST /responses`. Carries no top_k, stop or seed; nothing is stored at the provider."""

    carries = frozenset({"temperature", "top_p", "max_tokens", "reasoning_effort", "json_mode"})
    limits: Mapping[str, tuple[float, float]] = {
        "temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "max_tokens": (16, inf),
    }  # fmt: skip
    thoughts: Mapping[str, int] = THOUGHTS
    unthinking: frozenset[str] = frozenset()

    def url(self, endpoint: Endpoint) -> str:
        return f"{endpoint.base_url}/responses"

    def auth(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def body(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        sampling = request.sampling
        effort = sampling.reasoning_effort
        return {
            "model": request.model,
            "input": [{"role": m.role, "content": m.content} for m in request.messages],
            "store": False,
            **present(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_output_tokens=sampling.max_tokens,
                reasoning={"effort": effort, "summary": "auto"} if effort else None,
                text={"format": {"type": "json_object"}} if sampling.json_mode else None,
            ),
            **endpoint.extra_body,
        }

    def reply(self, data: Mapping[str, Any]) -> Reply:
        if data.get("status") == "failed":
            raise TransientError(f"the provider broke off: {data.get('error')}", lost=True)
        text, refusal, reasoning = _texts(data.get("output") or ())
        finish = _finish(data)
        if refusal:
            text, finish = refusal, "refusal"
        usage = data.get("usage")
        return Reply(
            text,
            reasoning,
            Usage(
                count(usage, "input_tokens"),
                count(usage, "output_tokens"),
                count(usage, "input_tokens_details", "cached_tokens"),
                count(usage, "input_tokens_details", "cache_write_tokens"),
                count(usage, "output_tokens_details", "reasoning_tokens"),
            ),
            finished(finish, text),
            str(data.get("model") or ""),
            str(data.get("id") or ""),
        )


def _texts(output: Any) -> tuple[str, str, str]:
    text, refusal, reasoning = [], [], []
    for item in output:
        if item.get("type") == "reasoning":
            reasoning += [part.get("text", "") for part in item.get("summary") or ()]
        for part in item.get("content") or ():
            if part.get("type") == "output_text":
                text.append(part.get("text", ""))
            elif part.get("type") == "refusal":
                refusal.append(part.get("refusal", ""))
    return "".join(text), "".join(refusal), "\n\n".join(reasoning)


def _finish(data: Mapping[str, Any]) -> Finish:
    if data.get("status") != "incomplete":
        return "stop"
    reason = (data.get("incomplete_details") or {}).get("reason")
    return "refusal" if reason == "content_filter" else "length"
