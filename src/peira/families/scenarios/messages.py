"""Pydantic's complaints in Peira's words: path, value, what is allowed, remedy.

Invariant: an unknown key is answered with the nearest known one.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel

from peira.families.scenarios.checks import nearest
from peira.families.scenarios.yaml_file import Path, dotted

TYPES = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text",
    "dict": "a map", "tuple": "a list", "list": "a list", "model": "a map",
}  # fmt: skip


def explain(
    detail: Mapping[str, Any], model: type[BaseModel], prefix: Path = ()
) -> tuple[Path, str, str, str, str]:
    """(path for the line, path shown, value, allowed, remedy) of one pydantic error."""
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
        return path, dotted(path), show(value), context["allowed"], context["remedy"]
    if kind == "extra_forbidden":
        known = known_keys(model_at(model, location[:-1]))
        return path, dotted(path), "unknown key", ", ".join(known), nearest(str(path[-1]), known)
    if kind == "missing":
        known = known_keys(model_at(model, location[:-1]))
        return path, dotted(path), "missing", "a value is needed", f"add {path[-1]}"
    return path, dotted(path), show(detail["input"]), _allowed(kind, detail, context), "correct it"


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


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The pydantic model found by following a path of fields."""
    current: Any = model
    for part in path:
        if isinstance(part, str) and _is_model(current):
            info = current.model_fields.get(_field_name(current, part))
            current = info.annotation if info else None
        current = _inner_model(current)
    return current if _is_model(current) else None


def _field_name(model: type[BaseModel], key: str) -> str:
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices) and key in alias.choices:
            return name
    return key


def _inner_model(annotation: Any) -> Any:
    if _is_model(annotation):
        return annotation
    for argument in typing.get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def known_keys(model: type[BaseModel] | None) -> list[str]:
    """Every key a part accepts, other spellings included."""
    if model is None:
        return []
    keys: list[str] = []
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        keys += [str(c) for c in alias.choices] if isinstance(alias, AliasChoices) else [name]
    return keys
