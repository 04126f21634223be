"""Study files: YAML or JSON to a Study, every fault at once, each with file, line and remedy.

Invariant: nothing is guessed. Unknown and duplicate keys, wrong types and missing files are faults.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from peira.errors import Fault, InputError, StudyError
from peira.study.study import Study


@dataclass(frozen=True, slots=True)
class Source:
    """Where each part of a file stands: path through the data -> (line, column), from 1."""

    file: str
    lines: Mapping[tuple[Any, ...], tuple[int, int]] = field(default_factory=dict)

    def where(self, path: Iterable[Any]) -> str:
        """`file:line:column` of the nearest known ancestor of `path`."""
        parts = tuple(path)
        while parts and parts not in self.lines:
            parts = parts[:-1]
        if parts in self.lines:
            line, column = self.lines[parts]
            return f"{self.file}:{line}:{column}"
        return self.file


def load_yaml(path: Path) -> tuple[Any, Source]:
    """Plain data of a YAML (or JSON) file and where each part stands. Raises InputError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    text = _read(path)
    yaml = YAML(typ="rt", pure=True)
    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
        problem = str(error.problem or error).splitlines()[0]
        raise InputError(f"{place}: not valid YAML: {problem}\n  remedy: mend this line") from error
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    lines: dict[tuple[Any, ...], tuple[int, int]] = {}
    _locate(tree, (), lines)
    return _plain(tree), Source(str(path), lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = suggestion(path.name, [p.name for p in path.parent.glob("*")])
        raise InputError(f"{path}: no such file{near and chr(10) + '  remedy: ' + near}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory\n  remedy: name a study file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _locate(
    node: Any, path: tuple[Any, ...], lines: dict[tuple[Any, ...], tuple[int, int]]
) -> None:
    place = getattr(node, "lc", None)
    if isinstance(node, dict):
        for key, value in node.items():
            if place is not None and place.data and key in place.data:
                line, column = place.data[key][:2]
                lines[(*path, key)] = (line + 1, column + 1)
            _locate(value, (*path, key), lines)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            if place is not None and place.data and index in place.data:
                line, column = place.data[index][:2]
                lines[(*path, index)] = (line + 1, column + 1)
            _locate(value, (*path, index), lines)


def _plain(node: Any) -> Any:
    """ruamel's decorated values as plain Python."""
    if isinstance(node, dict):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return bool(node) if type(node).__name__ == "ScalarBoolean" else str(node)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def validated(model: type[BaseModel], data: Any, source: Source, path: tuple[Any, ...] = ()) -> Any:
    """`model` from `data`, or StudyError with every fault and its line."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise StudyError([_fault(model, item, source, path) for item in error.errors()]) from error


def _fault(model: type[BaseModel], item: Any, source: Source, prefix: tuple[Any, ...]) -> str:
    path = (*prefix, *item["loc"])
    dotted = ".".join(map(str, path)) or "the file"
    if item["type"] == "extra_forbidden":
        known = known_keys(model, item["loc"][:-1])
        fault = Fault(source.where(path), dotted, "unknown key", ", ".join(known),
                      suggestion(str(path[-1]), known))  # fmt: skip
    elif item["type"] == "missing":
        fault = Fault(source.where(path), dotted, "missing", "required", f"add `{path[-1]}`")
    else:
        message = item["msg"].removeprefix("Value error, ")
        fault = Fault(source.where(path), dotted, repr(item.get("input"))[:80], message)
    return str(fault)


def known_keys(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Field names of the (possibly nested) model at `loc`."""
    current: Any = model
    for part in loc:
        field_info = current.model_fields.get(part) if hasattr(current, "model_fields") else None
        inner = getattr(field_info, "annotation", None)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            current = inner
    return list(current.model_fields)


def read_study(path: Path) -> tuple[Study, Source]:
    """A study file, or any form the dialects know. Raises InputError or StudyError."""
    from peira.study.dialects import translate

    data, source = load_yaml(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a study\n  allowed: a mapping with `family`, `factors`, …")
    translated = translate(data, path, source)
    if translated is not None:
        return translated
    return validated(Study, data, source), source
