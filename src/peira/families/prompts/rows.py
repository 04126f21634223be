"""Rows: one request each, item × arm × temperature × sample, and the key each is bought under.

Invariant: the planned rows are a pure function of settings and inputs. The key holds everything
that makes a reply what it is, and neither trial, prompt set nor mode, so a control that several
prompt sets share is bought once; it holds the arm, so equal prompts in two arms make an A/A test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from peira.families.prompts.data import Item, user_message
from peira.families.prompts.inputs import Inputs
from peira.families.prompts.settings import PromptsSettings
from peira.subjects.subject import Message, Reply, Sampling, system, user

STATUSES = ("ok", "truncated", "refused", "empty", "error", "missing")
BY_FINISH = {"stop": "ok", "length": "truncated", "refusal": "refused", "empty": "empty"}


@dataclass(frozen=True, slots=True)
class Row:
    """One planned request. `item` counts in the seeded order of the trial's items."""

    item: int
    arm: str
    temp: float
    sample: int


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model answers: what of it enters the request key."""

    provider: str
    endpoint: str
    model: str
    sampling: Mapping[str, Any]


def planned_rows(settings: PromptsSettings, n_items: int) -> Iterator[Row]:
    """All rows, items in seeded order and one item's arms adjacent, so time drift favours none."""
    arms = tuple(settings.arms)
    draws = [(temp, sample) for temp in settings.temps for sample in range(settings.samples(temp))]
    for item in range(n_items):
        for temp, sample in draws:
            for arm in arms:
                yield Row(item, arm, temp, sample)


def n_rows(settings: PromptsSettings, n_items: int) -> int:
    """How many rows `planned_rows` yields."""
    return n_items * len(settings.arms) * sum(settings.samples(temp) for temp in settings.temps)


class Asking:
    """Builds the messages, sampling and key of a trial's rows; user messages are made once per
    item, so that arms can differ in the system message only."""

    def __init__(
        self, settings: PromptsSettings, inputs: Inputs, address: Address, seed: int
    ) -> None:
        self.settings = settings
        self.items = inputs.items
        self.users = [user_message(item, inputs.instructions[item.type]) for item in inputs.items]
        self.prompts = inputs.arms(settings)
        self._samplings: dict[tuple[str, float], Sampling] = {}
        self._fixed = {
            "provider": address.provider, "endpoint": address.endpoint, "model": address.model,
            "seed": seed,
        }  # fmt: skip
        self._own_sampling = dict(address.sampling)

    def rows(self) -> Iterator[Row]:
        """The trial's planned rows."""
        return planned_rows(self.settings, len(self.items))

    def messages(self, row: Row) -> tuple[Message, ...]:
        """System message of the arm, if it has one, and the item's user message."""
        asked = user(self.users[row.item])
        text = self.prompts[row.arm].text
        return (asked,) if text is None else (system(text), asked)

    def sampling(self, row: Row) -> Sampling:
        """The trial's sampling, the same for every arm."""
        kind = self.items[row.item].type
        if (kind, row.temp) not in self._samplings:
            self._samplings[kind, row.temp] = self.settings.sampling(kind, row.temp)
        return self._samplings[kind, row.temp]

    def key(self, row: Row) -> str:
        """SHA-256 of canonical JSON of all that makes the reply what it is."""
        item = self.items[row.item]
        return request_key(
            self._fixed
            | {
                "arm": row.arm,
                "dataset": item.dataset,
                "item": item.id,
                "messages": [[m.role, m.content] for m in self.messages(row)],
                "sample": row.sample,
                "sampling": _plain(self.sampling(row)) | self._own_sampling,
            }
        )


def request_key(fields: Mapping[str, Any]) -> str:
    """Hash of a request's canonical JSON: sorted keys, whole numbers without a fraction."""
    return hashlib.sha256(orjson.dumps(_numbers(fields), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _numbers(value: Any) -> Any:
    """0 and 0.0 are one number, as RFC 8785 writes them; lone surrogates cannot be written."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {name: _numbers(part) for name, part in value.items()}
    return [_numbers(part) for part in value] if isinstance(value, (list, tuple)) else value


def _plain(sampling: Sampling) -> dict[str, Any]:
    """All of a sampling by name, tuples as lists."""
    values = {name: getattr(sampling, name) for name in Sampling.__slots__}
    return values | {"stop": list(sampling.stop)}


@dataclass(slots=True)
class Answers:
    """What came back for each planned row, in columns; rows not asked stay `missing`."""

    keys: list[str]
    status: list[str]
    text: list[str]
    finish: list[str | None]
    usage: list[tuple[int, int, int, int, int] | None]
    cost: list[int]
    served: list[str]
    request_id: list[str]
    seconds: list[float | None]
    asked_at: list[float | None]

    @classmethod
    def blank(cls, n: int) -> Answers:
        """No row asked yet."""
        return cls(
            [""] * n, ["missing"] * n, [""] * n, [None] * n, [None] * n, [0] * n, [""] * n,
            [""] * n, [None] * n, [None] * n,
        )  # fmt: skip

    def put(self, number: int, key: str, reply: Reply | None) -> None:
        """Keep a reply; None is a call that failed after all retries."""
        self.keys[number] = key
        if reply is None:
            self.status[number] = "error"
            return
        self.status[number] = row_status(reply)
        self.text[number], self.finish[number] = reply.text, reply.finish
        use = reply.usage
        self.usage[number] = (
            use.prompt_tokens, use.completion_tokens, use.cached_tokens, use.cache_write_tokens,
            use.reasoning_tokens,
        )  # fmt: skip
        self.cost[number] = reply.cost
        self.served[number], self.request_id[number] = reply.served_model, reply.request_id
        self.seconds[number] = round(reply.seconds, 4)
        self.asked_at[number] = round(reply.asked_at, 3)

    def counts(self) -> dict[str, int]:
        """Rows by status; planned is their sum."""
        return {name: self.status.count(name) for name in STATUSES}

    def to_dict(self) -> dict[str, Any]:
        """Columns for the transcript."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def row_status(reply: Reply) -> str:
    """Only a complete reply with text is `ok`; reasoning is not text."""
    status = BY_FINISH[reply.finish]
    return "empty" if status == "ok" and not reply.text.strip() else status


def pack_items(items: Sequence[Item]) -> dict[str, Any]:
    """Items for the transcript, each passage once."""
    passages = list(dict.fromkeys(item.context for item in items if item.context))
    places = {text: number for number, text in enumerate(passages)}
    rows = [item.to_dict() | {"context": places.get(item.context)} for item in items]
    return {"passages": passages, "items": rows}


def unpack_items(data: Mapping[str, Any]) -> list[Item]:
    """The inverse of `pack_items`."""
    passages = data["passages"]
    return [
        Item(
            row["dataset"], row["id"], row["question"], tuple(row["answers"]),
            "" if row["context"] is None else passages[row["context"]], row["is_unanswerable"],
            row["cluster"], row.get("meta") or {},
        )
        for row in data["items"]
    ]  # fmt: skip
