"""Google's generateContent interface."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from peira.subjects.subject import Finish, Reply, Request, Usage
from peira.subjects.wire.dialect import (
    SETTINGS,
    Endpoint,
    count,
    finished,
    present,
    seed_of,
    split_system,
)

THINKING_TOKENS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
FINISH: dict[str, Finish] = {
    "STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "refusal", "RECITATION": "refusal",
    "PROHIBITED_CONTENT": "refusal", "BLOCKLIST": "refusal", "SPII": "refusal",
    "IMAGE_SAFETY": "refusal", "LANGUAGE": "refusal", "OTHER": "length",
}  # fmt: skip


class Google:
    """`POST /models/MODEL:generateContent`."""

    carries = frozenset(SETTINGS)
    limits: Mapping[str, tuple[float, float]] = {
        "temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "top_k": (1, inf), "max_tokens": (1, inf),
    }  # fmt: skip
    thoughts: Mapping[str, int] = THINKING_TOKENS
    unthinking: frozenset[str] = frozenset()

    def url(self, endpoint: Endpoint) -> str:
        return f"{endpoint.base_url}/models/{endpoint.model}:generateContent"

    def auth(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def body(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        system, turns = split_system(request)
        return {
            "contents": [
                {"role": "model" if role == "assistant" else "user", "parts": [{"text": text}]}
                for role, text in turns
            ],
            **present(systemInstruction={"parts": [{"text": system}]} if system else None),
            "generationConfig": _config(request, endpoint),
            **endpoint.extra_body,
        }

    def reply(self, data: Mapping[str, Any]) -> Reply:
        candidates = data.get("candidates") or ()
        usage = data.get("usageMetadata")
        thoughts = count(usage, "thoughtsTokenCount")
        spent = Usage(
            count(usage, "promptTokenCount"),
            count(usage, "candidatesTokenCount") + thoughts,
            count(usage, "cachedContentTokenCount"),
            0,
            thoughts,
        )
        text, reasoning, finish = _answer(candidates[0]) if candidates else ("", "", "refusal")
        return Reply(
            text,
            reasoning,
            spent,
            finish,
            str(data.get("modelVersion") or ""),
            str(data.get("responseId") or ""),
        )


def _config(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    sampling = request.sampling
    return present(
        temperature=sampling.temperature,
        topP=sampling.top_p,
        topK=sampling.top_k,
        maxOutputTokens=sampling.max_tokens,
        stopSequences=list(sampling.stop) or None,
        seed=seed_of(request, endpoint),
        responseMimeType="application/json" if sampling.json_mode else None,
        thinkingConfig=_thinking(sampling.reasoning_effort, endpoint),
    )


def _thinking(effort: str | None, endpoint: Endpoint) -> dict[str, Any] | None:
    if effort is None:
        return None
    if "thinking_level" in endpoint.quirks:
        return {"thinkingLevel": effort, "includeThoughts": True}
    tokens = THINKING_TOKENS.get(effort, THINKING_TOKENS["medium"])
    return {"thinkingBudget": tokens, "includeThoughts": tokens > 0}


def _answer(candidate: Mapping[str, Any]) -> tuple[str, str, Finish]:
    parts = (candidate.get("content") or {}).get("parts") or ()
    text = "".join(p.get("text", "") for p in parts if not p.get("thought"))
    reasoning = "".join(p.get("text", "") for p in parts if p.get("thought"))
    finish = FINISH.get(candidate.get("finishReason") or "STOP", "stop")
    return text, reasoning, finished(finish, text)
