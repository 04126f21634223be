"""Pydantic's complaints in Peira's words: path, value, what is allowed, remedy.

Invariant: an unknown key is answered with the nearest known one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from peira.families.scenarios.checks import nearest
from peira.families.scenarios.yaml_file import Path
from peira.study.reader import known_keys

TYPES = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text",
    "dict": "a map", "tuple": "a list", "list": "a list", "model": "a map",
}  # fmt: skip


def explain(
    detail: Mapping[str, Any], model: type[BaseModel], prefix: Path = ()
) -> tuple[Path, str, str, str]:
    """(path, value, allowed, remedy) of one pydantic error."""
    kind, context = detail["type"], detail.get("ctx", {})
    named = len(detail["loc"]) - 1 if kind in ("extra_forbidden", "missing") else -1
    location = tuple(
        part for place, part in enumerate(detail["loc"]) if place == named or not _union_tag(part)
    )
    path: Path = (*prefix, *location)
    if kind == "scenario":
        inner = tuple(context["path"].split(".")) if context["path"] else ()
        path = (*path, *inner)
        value = _within(detail["input"], inner)
        return path, show(value), context["allowed"], context["remedy"]
    if kind == "extra_forbidden":
        known = known_keys(model, location[:-1])
        return path, "unknown key", ", ".join(known), nearest(str(path[-1]), known)
    if kind == "missing":
        return path, "missing", "a value is needed", f"add {path[-1]}"
    return path, show(detail["input"]), _allowed(kind, detail, context), "correct it"


def _union_tag(part: str | int) -> bool:
    """Pydantic names union branches in locations; they are no part of the file."""
    return isinstance(part, str) and ("[" in part or part in ("str", "constrained-str"))


def _allowed(kind: str, detail: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return str(context["expected"])
    for name, words in TYPES.items():
        if kind.startswith(f"{name}_") and kind.endswith("type"):
            return words
    bounds = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    for name, sign in bounds.items():
        if name in context:
            return f"{sign} {context[name]}"
    return str(detail["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")


def _within(value: Any, path: Path) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, str(part), value)
    return value


def show(value: Any) -> str:
    """A value as the user would recognise it, on one line."""
    if value is None:
        return "null"
    if isinstance(value, BaseModel):
        return type(value).__name__.lower()
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
