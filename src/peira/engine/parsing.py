"""The fixed, recorded ladder by which unreadable model output is repaired (DESIGN §6).

strict JSON → fenced JSON → `json-repair` → a family's own labelled form. The re-ask is the family's,
since it knows the wording. A rung succeeds only with every required field; text inside `<think>` is
never read as the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from peira.subjects.subject import whole

Rung = Literal["strict", "fenced", "repaired", "labelled", "none"]

THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n?(.*?)```", re.DOTALL)
MAX_REPAIR = 200_000  # characters; beyond it a reply is noise and repair would be quadratic
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the ladder found: the value, the rung that found it, the fault when none did."""

    value: dict[str, Any] | None
    rung: Rung
    fault: str = ""

    @property
    def repaired(self) -> bool:
        """True if a rung below strict and fenced JSON was needed."""
        return self.rung in ("repaired", "labelled")


def read_json(
    text: str,
    *,
    required: Sequence[str],
    labelled: Callable[[str], dict[str, Any] | None] | None = None,
) -> Parsed:
    """Climb the ladder until a rung gives an object with every `required` field."""
    body = without_thinking(text).strip()
    if value := _accept(_strict(body), required, body):
        return Parsed(value, "strict")
    for block in FENCE.findall(body):
        if value := _accept(_strict(block.strip()), required):
            return Parsed(value, "fenced")
    if value := _accept(_repaired(body), required):
        return Parsed(value, "repaired")
    if labelled is not None and (value := _accept(labelled(body), required)):
        return Parsed(value, "labelled")
    return Parsed(None, "none", _fault(body, required))


def without_thinking(text: str) -> str:
    """The text without `<think>…</think>`; an unclosed one runs to the end."""
    return THINKING.sub("", text) if "<" in text and "<think" in text.lower() else text


def _strict(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if "\\u" not in text:
            return None
    try:  # only the standard library reads an escaped half of a surrogate pair
        return _carried(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _accept(value: Any, required: Sequence[str], text: str | None = None) -> dict[str, Any] | None:
    """The value, if it is an object with every required field that does not nest too deep. Of strict
    JSON (`text`) with few brackets that is sure without a walk."""
    if not isinstance(value, dict) or not all(map(value.__contains__, required)):
        return None
    few = text is not None and text.count("{") + text.count("[") <= MAX_DEPTH
    return value if few or _shallow(value) else None


def _shallow(value: Any) -> bool:
    """True if the value nests no deeper than MAX_DEPTH: what walks it may recurse."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for values in inside for v in values if isinstance(v, (dict, list))]
        if not level:
            return True
    return False


def _repaired(text: str) -> Any:
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or len(text) > MAX_REPAIR or text.count("{") + text.count("[") > 20_000:
        return None
    if end > start and (value := _strict(text[start : end + 1])) is not None:
        return value
    if _depth(text) > MAX_DEPTH:
        return None
    from json_repair import repair_json

    try:
        value = repair_json(text[start:], return_objects=True, skip_json_loads=True)
    except (RecursionError, ValueError, IndexError):
        return None
    return _carried(value[0] if isinstance(value, list) and value else value)


def _carried(value: Any) -> Any:
    """The value as files can carry it: U+FFFD for each half of a surrogate pair; None if it holds
    NaN or what is no JSON."""
    try:
        return orjson.loads(whole(json.dumps(value, ensure_ascii=False)))
    except (TypeError, ValueError, RecursionError):
        return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        if char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest


def _fault(body: str, required: Sequence[str]) -> str:
    if not body:
        return "the reply is empty"
    if "{" not in body:
        return "the reply holds no JSON object"
    return f"no JSON object with the fields {', '.join(required)}"
