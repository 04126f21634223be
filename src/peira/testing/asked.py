"""A request as the fault server understood it, and the answer in the same dialect.

Invariant: the answer depends on model, messages and sampling alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "flint",
    "grove", "heath", "inlet", "jasper", "kelp", "larch",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One call in any dialect."""

    dialect: str
    model: str
    messages: tuple[tuple[str, str], ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """16 hex that change whenever the request does."""
        data = [self.model, self.messages, self.sampling]
        return blake2b(orjson.dumps(data, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()

    @property
    def prompt_tokens(self) -> int:
        return sum(len(text) for _, text in self.messages) // 4 + 3 * len(self.messages)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the server's request log. No key is ever kept."""

    n: int
    time: float
    path: str
    digest: str
    attempt: int
    fault: str
    status: int


@dataclass(frozen=True, slots=True)
class Said:
    """What the server answers, before it is put into a dialect."""

    text: str
    finish: str = "stop"
    completion_tokens: int = 0


Answerer = Callable[[Asked], str]


def plain_answer(asked: Asked) -> str:
    """A few words drawn from the request's hash; JSON where JSON was asked for."""
    number = int(asked.digest, 16)
    words = [WORDS[(number >> shift) % len(WORDS)] for shift in range(0, 24, 4)]
    if asked.sampling.get("json"):
        return orjson.dumps({"answer": words[0], "score": number % 11}).decode()
    return " ".join(words) + f" {number % 1000}"


# -- reading ------------------------------------------------------------------------------------
def read_openai(data: Mapping[str, Any]) -> Asked:
    wants_json = (data.get("response_format") or {}).get("type") == "json_object"
    limit = data.get("max_completion_tokens", data.get("max_tokens"))
    names = ("temperature", "top_p", "top_k", "stop", "seed", "reasoning_effort")
    messages = tuple((str(m["role"]), str(m["content"])) for m in data["messages"])
    return Asked("openai", str(data["model"]), messages, _set(data, names, limit, wants_json))


def read_responses(data: Mapping[str, Any]) -> Asked:
    messages = tuple((str(m["role"]), str(m["content"])) for m in data["input"])
    wants_json = bool((data.get("text") or {}).get("format"))
    sampling = _set(data, ("temperature", "top_p"), data.get("max_output_tokens"), wants_json)
    return Asked("responses", str(data["model"]), messages, sampling)


def read_anthropic(data: Mapping[str, Any]) -> Asked:
    system = data.get("system") or ""
    if isinstance(system, list):
        system = "".join(block["text"] for block in system)
    head = (("system", system),) if system else ()
    messages = tuple((str(m["role"]), str(m["content"])) for m in data["messages"])
    names = ("temperature", "top_p", "top_k", "stop_sequences")
    sampling = _set(data, names, data["max_tokens"], False)
    return Asked("anthropic", str(data["model"]), head + messages, sampling)


def read_google(data: Mapping[str, Any], model: str) -> Asked:
    config = data.get("generationConfig") or {}
    system = data.get("systemInstruction")
    head = (("system", _parts(system)),) if system else ()
    messages = tuple((str(c["role"]), _parts(c)) for c in data["contents"])
    wants_json = config.get("responseMimeType") == "application/json"
    names = ("temperature", "topP", "topK", "stopSequences", "seed")
    sampling = _set(config, names, config.get("maxOutputTokens"), wants_json)
    return Asked("google", model, head + messages, sampling)


def _parts(content: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for part in content["parts"])


def _set(data: Mapping[str, Any], names: tuple[str, ...], limit: Any, json: bool) -> dict[str, Any]:
    found = {name: data[name] for name in names if data.get(name) is not None}
    if limit is not None:
        found["max_tokens"] = limit
    return {**found, "json": True} if json else found


# -- answering ----------------------------------------------------------------------------------
def answer_body(asked: Asked, said: Said) -> dict[str, Any]:
    """The reply in the dialect of the request."""
    return _BODIES[asked.dialect](asked, said)


def _openai(asked: Asked, said: Said) -> dict[str, Any]:
    refused = said.finish == "refusal"
    message = {"role": "assistant", "content": None if refused else said.text}
    if refused:
        message["refusal"] = said.text
    finish = {"refusal": "content_filter"}.get(said.finish, said.finish)
    return {
        "id": f"chatcmpl-{asked.digest}", "object": "chat.completion", "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": asked.prompt_tokens, "completion_tokens": said.completion_tokens,
            "total_tokens": asked.prompt_tokens + said.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip


def _responses(asked: Asked, said: Said) -> dict[str, Any]:
    kind = {"refusal": {"type": "refusal", "refusal": said.text}}
    part = kind.get(said.finish, {"type": "output_text", "text": said.text})
    cut = said.finish == "length"
    return {
        "id": f"resp_{asked.digest}", "object": "response", "model": asked.model,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [part]},
        ],
        "usage": {"input_tokens": asked.prompt_tokens, "output_tokens": said.completion_tokens,
                  "input_tokens_details": {"cached_tokens": 0},
                  "output_tokens_details": {"reasoning_tokens": 0}},
    }  # fmt: skip


def _anthropic(asked: Asked, said: Said) -> dict[str, Any]:
    stop = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}[said.finish]
    return {
        "id": f"msg_{asked.digest}", "type": "message", "role": "assistant", "model": asked.model,
        "content": [{"type": "text", "text": said.text}], "stop_reason": stop,
        "usage": {"input_tokens": asked.prompt_tokens, "output_tokens": said.completion_tokens},
    }  # fmt: skip


def _google(asked: Asked, said: Said) -> dict[str, Any]:
    stop = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}[said.finish]
    content = {"role": "model", "parts": [{"text": said.text}]}
    return {
        "candidates": [{"content": content, "finishReason": stop, "index": 0}],
        "usageMetadata": {"promptTokenCount": asked.prompt_tokens,
                          "candidatesTokenCount": said.completion_tokens},
        "modelVersion": asked.model, "responseId": asked.digest,
    }  # fmt: skip


_BODIES: dict[str, Callable[[Asked, Said], dict[str, Any]]] = {
    "openai": _openai, "responses": _responses, "anthropic": _anthropic, "google": _google,
}  # fmt: skip


def error_body(dialect: str, status: int, message: str) -> dict[str, Any]:
    """An error in the dialect's form."""
    if dialect == "anthropic":
        return {"type": "error", "error": {"type": "api_error", "message": message}}
    if dialect == "google":
        return {"error": {"code": status, "message": message, "status": "INTERNAL"}}
    return {"error": {"message": message, "type": "server_error", "code": None}}
