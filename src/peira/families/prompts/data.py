"""Items: one question each, with or without a passage, answerable or not.

Invariant: an item's key (dataset, id) names one content; a higher cap only adds items, whatever
order the files had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

from peira.errors import InputError

ItemType = Literal["closed", "open"]
TYPES: tuple[ItemType, ...] = ("closed", "open")
FIELDS = {"dataset", "id", "context", "question", "answers", "is_unanswerable", "cluster", "meta"}


@dataclass(frozen=True)
class Item:
    """One question. `answers` are the accepted ones (golds); `context` is empty when closed."""

    dataset: str
    id: str
    question: str
    answers: tuple[str, ...] = ()
    context: str = ""
    is_unanswerable: bool = False
    cluster: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def type(self) -> ItemType:
        return "open" if self.context else "closed"

    @cached_property
    def key(self) -> str:
        """Dataset and id in one string: what files call `item_key`."""
        return f"{self.dataset}/{self.id}"

    @property
    def answerable(self) -> bool:
        return not self.is_unanswerable

    def to_dict(self) -> dict[str, Any]:
        """The canonical JSONL form."""
        row: dict[str, Any] = {"dataset": self.dataset, "id": self.id}
        if self.context:
            row["context"] = self.context
        row |= {
            "question": self.question,
            "answers": list(self.answers),
            "is_unanswerable": self.is_unanswerable,
            "cluster": self.cluster,
        }
        return row | ({"meta": dict(self.meta)} if self.meta else {})

    @property
    def line(self) -> bytes:
        return orjson.dumps(self.to_dict(), option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Items of one or more sources, and how many equal duplicates were merged."""

    items: tuple[Item, ...]
    merged: int = 0


@dataclass(frozen=True, slots=True)
class Caps:
    """How many items at most: per dataset, then per type; None means all, 0 none. `limit` is the
    command line's: so many of each type, keeping the share of unanswerable ones."""

    datasets: Mapping[str, int | None] = field(default_factory=dict)
    types: Mapping[str, int | None] = field(default_factory=dict)
    limit: int | None = None


def make_item(row: Mapping[str, Any], where: str) -> Item:
    """An item from a canonical row. Raises InputError naming `where` (file:line)."""
    if unknown := set(row) - FIELDS:
        raise _refused(where, f"unknown field {sorted(unknown)[0]!r}", ", ".join(sorted(FIELDS)))
    context = _text(row.get("context"))
    if "context" in row and row["context"] is not None and not context.strip():
        raise _refused(where, "blank context", "a passage, or no `context` field (closed)")
    question, answers = _text(row.get("question")).strip(), _answers(row.get("answers"))
    if not question:
        raise _refused(where, "no question", "a non-empty `question`")
    unanswerable = bool(row.get("is_unanswerable", False))
    if not unanswerable and not answers:
        raise _refused(where, "answerable without answers", "`answers`, or is_unanswerable: true")
    dataset, name = _text(row.get("dataset")), _text(row.get("id"))
    if not dataset or not name:
        raise _refused(where, "no dataset or id", "both, as non-empty text")
    cluster = _text(row.get("cluster")) or default_cluster(dataset, name, context)
    return Item(
        dataset, name, question, answers, context, unanswerable, cluster, row.get("meta") or {}
    )


def default_cluster(dataset: str, name: str, context: str) -> str:
    """Items that share a passage form a cluster; an item without one stands alone."""
    if not context:
        return f"{dataset}/{name}"
    return "passage-" + hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def merge(items: Iterable[tuple[Item, str]]) -> Loaded:
    """One item per key. Equal duplicates are counted; differing contents are refused."""
    seen: dict[tuple[str, str], Item] = {}
    merged = 0
    for item, where in items:
        known = seen.setdefault((item.dataset, item.id), item)
        if known is item:
            continue
        if known != item:
            raise _refused(
                where, f"key ({item.dataset}, {item.id}) again with other contents",
                "one content per (dataset, id)",
            )  # fmt: skip
        merged += 1
    return Loaded(tuple(seen.values()), merged)


def read_jsonl(path: Path) -> list[tuple[dict[str, Any], str]]:
    """Rows of a JSONL file with their places. Raises InputError with the line number."""
    rows = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _refused(where, f"not JSON ({error})", "one JSON object per line") from None
        if not isinstance(row, dict):
            raise _refused(where, "not an object", "one JSON object per line")
        rows.append((row, where))
    return rows


def read_items(path: Path) -> Loaded:
    """Items of a canonical JSONL file."""
    return merge((make_item(row, where), where) for row, where in read_jsonl(path))


def read_bytes(path: Path) -> bytes:
    """A file's bytes, or InputError naming it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}\n  allowed: a readable file") from None


def order_key(seed: int, name: str) -> bytes:
    """Place of an item in the seeded order: it depends on (seed, id) alone."""
    return hashlib.sha256(f"{seed}|{name}".encode("utf-8", "surrogatepass")).digest()


def select(items: Sequence[Item], seed: int, caps: Caps) -> tuple[Item, ...]:
    """The chosen items in seeded order: dataset caps, then type caps, then the limit."""
    ranked = sorted(items, key=lambda item: (order_key(seed, item.id), item.dataset))
    ranked = _capped(ranked, caps.datasets, lambda item: item.dataset)
    ranked = _capped(ranked, caps.types, lambda item: item.type)
    if caps.limit is not None:
        kept = {
            id(i) for t in TYPES for i in _share([j for j in ranked if j.type == t], caps.limit)
        }
        ranked = [item for item in ranked if id(item) in kept]
    return tuple(ranked)


def items_digest(items: Iterable[Item]) -> str:
    """SHA-256 over the items' canonical lines, in key order."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: (item.dataset, item.id)):
        digest.update(item.line + b"\n")
    return digest.hexdigest()


def user_message(item: Item, instruction: str) -> str:
    """What a respondent is asked; the same for every arm."""
    passage = f"CONTEXT:\n{item.context}\n\n" if item.context else ""
    return f"{instruction}\n\n{passage}QUESTION:\n{item.question}"


def _capped(items: list[Item], caps: Mapping[str, int | None], group: Any) -> list[Item]:
    taken: dict[str, int] = {}
    kept = []
    for item in items:
        name = group(item)
        cap = caps.get(name)
        taken[name] = taken.get(name, 0) + 1
        if cap is None or taken[name] <= cap:
            kept.append(item)
    return kept


def _share(items: list[Item], limit: int) -> list[Item]:
    """`limit` items with the unanswerable share of all of them."""
    unanswerable = [item for item in items if item.is_unanswerable]
    answerable = [item for item in items if item.answerable]
    if len(items) <= limit:
        return items
    wanted = round(limit * len(unanswerable) / len(items))
    return unanswerable[:wanted] + answerable[: limit - wanted]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _answers(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else list(value or ())
    return tuple(dict.fromkeys(str(answer).strip() for answer in listed if str(answer).strip()))


def _refused(where: str, fault: str, allowed: str) -> InputError:
    return InputError(f"{where}: {fault}\n  allowed: {allowed}")
