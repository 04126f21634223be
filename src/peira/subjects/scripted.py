"""Recorded answers as a subject: for tests, demonstrations and replay.

A script is a list (answers in turn, whatever is asked), a mapping (label or text of the prompt ->
answer or answers in turn) or a function. Invariant: what is answered depends on the request alone,
except where a list says that it is used up in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from peira.errors import InputError, ProviderStop
from peira.subjects.route import Route
from peira.subjects.subject import Reply, Request, Usage

Answer = str | Reply | Exception
Script = Sequence[Answer] | Mapping[str, Answer | Sequence[Answer]] | Callable[[Request], Answer]
ANY = "*"


@dataclass(slots=True)
class ScriptedWire:
    """Implements `Wire` over a script. `requests` holds every request, in order of arrival.

    `free=False` puts it through ledger, budget and pace like a real one. An exception in a script
    is raised instead of answered. Raises ProviderStop where the script has no answer left.
    """

    script: Script
    free: bool = True
    name: str = "script"
    requests: list[Request] = field(default_factory=list)
    _used: dict[str, int] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """How many requests have been asked."""
        return len(self.requests)

    async def send(self, request: Request) -> Reply:
        """The script's answer to this request."""
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else _reply(answer, request, self.name)

    async def close(self) -> None:
        return None

    def _answer(self, request: Request) -> Answer:
        if callable(self.script):
            return self.script(request)
        if isinstance(self.script, Mapping):
            return self._keyed(self.script, request)
        return self._next(ANY, self.script)

    def _keyed(self, script: Mapping[str, Any], request: Request) -> Answer:
        prompt = request.messages[-1].content if request.messages else ""
        for key in (f"{request.label}|{request.n}", request.label, prompt, ANY):
            if key in script:
                found = script[key]
                return self._next(key, found) if isinstance(found, list | tuple) else found
        raise ProviderStop(
            f"{self.name}: no answer to {request.label!r}\n  allowed: {', '.join(map(repr, script))}"
        )

    def _next(self, key: str, answers: Sequence[Answer]) -> Answer:
        used = self._used.get(key, 0)
        if used >= len(answers):
            raise ProviderStop(
                f"{self.name}: the script has only {len(answers)} answers to {key!r}"
            )
        self._used[key] = used + 1
        return answers[used]


def _reply(text: str, request: Request, served: str) -> Reply:
    usage = Usage(request.prompt_bytes // 4 + 1, len(text) // 4 + 1)
    finish = "stop" if text.strip() else "empty"
    return Reply(text, usage=usage, finish=finish, served_model=served)  # type: ignore[arg-type]


def open_script(name: str, options: Any = None) -> Route:
    """`script:FILE.json`: a JSON list or object as described above; `{"text": …, "finish": …}` in
    place of a text states more of the reply. Raises InputError for an unreadable file."""
    path = Path(name.removeprefix("script:")).expanduser()
    wire = ScriptedWire(_read(path), name=name)
    return Route(name, wire, name, "script", details={"file": path.name})


def _read(path: Path) -> Script:
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError(f"script {path}: {error}\n  allowed: a JSON file of answers") from error
    if isinstance(data, list):
        return [_as_answer(each, path) for each in data]
    if isinstance(data, dict):
        return {key: _as_answers(each, path) for key, each in data.items()}
    raise InputError(f"script {path}: {type(data).__name__}\n  allowed: a list or an object")


def _as_answers(data: Any, path: Path) -> Any:
    return (
        [_as_answer(each, path) for each in data]
        if isinstance(data, list)
        else _as_answer(data, path)
    )


def _as_answer(data: Any, path: Path) -> Answer:
    if isinstance(data, str):
        return data
    if not isinstance(data, dict) or "text" not in data:
        raise InputError(f"script {path}: {data!r}\n  allowed: a text, or {{text: …, finish: …}}")
    usage = Usage(**data.get("usage", {}))
    known = {key: data[key] for key in ("finish", "reasoning", "served_model") if key in data}
    return replace(Reply(data["text"], usage=usage), **known)


# -- replay -------------------------------------------------------------------------------------
class ReplayWire:
    """Answers from the replies of a recorded run, by key of the request. Costs nothing."""

    free = True

    def __init__(self, name: str, replies: Mapping[bytes, Sequence[Reply]]) -> None:
        self.name = name
        self.replies = replies
        self._used: dict[bytes, int] = {}

    async def send(self, request: Request) -> Reply:
        """The recorded reply; the same request again gets the next recorded one, then the last."""
        digest = digest_of(request)
        found = self.replies.get(digest)
        if not found:
            raise ProviderStop(
                f"{self.name}: the recording holds no reply to {request.label!r}; replay is offline"
            )
        used = min(self._used.get(digest, 0), len(found) - 1)
        self._used[digest] = used + 1
        return replace(found[used], source="ledger")

    async def close(self) -> None:
        return None


def digest_of(request: Request) -> bytes:
    """What makes two requests the same for a replay: messages and label, not the model's name."""
    from hashlib import blake2b

    parts = [request.label, *(f"{m.role}\0{m.content}" for m in request.messages)]
    return blake2b("\1".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def open_replay(name: str, options: Any = None) -> Route:
    """`replay:FILE.jsonl`: one `{"label", "messages", "reply"}` a line, as a transcript's call
    events are. Raises InputError for an unreadable file."""
    path = Path(name.removeprefix("replay:")).expanduser()
    replies: dict[bytes, list[Reply]] = {}
    try:
        for line in path.read_bytes().splitlines():
            digest, reply = _recorded(orjson.loads(line))
            replies.setdefault(digest, []).append(reply)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"replay {path}: {error!r}\n  allowed: JSON lines with label, messages, reply"
        ) from error
    return Route(name, ReplayWire(name, replies), name, "replay", details={"file": path.name})


def _recorded(data: Mapping[str, Any]) -> tuple[bytes, Reply]:
    from peira.subjects.subject import Message, Sampling

    messages = tuple(Message(m["role"], m["content"]) for m in data["messages"])
    request = Request("", messages, Sampling(), label=data.get("label", "call"))
    reply = Reply(
        data["reply"], data.get("reasoning", ""), Usage(**data.get("usage", {})),
        data.get("finish", "stop"), data.get("served_model", ""),
    )  # fmt: skip
    return digest_of(request), reply
