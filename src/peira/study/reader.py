"""Study files: YAML or JSON to a Study, every fault at once, each with file, line and remedy.

Invariant: nothing is guessed. Unknown and duplicate keys, wrong types and missing files are faults.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from peira.errors import Fault, InputError, StudyError
from peira.study.study import Study

NODES_PER_CHARACTER = 20  # without aliases a file has at most one value a character


@dataclass(frozen=True, slots=True)
class Source:
    """Where each part of a file stands: path through the data -> (line, column), from 1. `names`:
    parts of a study that a dialect's file has under another path."""

    file: str
    lines: Mapping[tuple[Any, ...], tuple[int, int]] = field(default_factory=dict)
    names: Mapping[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)

    def own(self, path: Iterable[Any]) -> tuple[Any, ...]:
        """The path as the file has it."""
        parts = tuple(path)
        for length in range(len(parts), 0, -1):
            if parts[:length] in self.names:
                return (*self.names[parts[:length]], *parts[length:])
        return parts

    def where(self, path: Iterable[Any]) -> str:
        """`file:line:column` of the nearest known ancestor of `path`."""
        parts = self.own(path)
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
    lines: dict[tuple[Any, ...], tuple[int, int]] = {}
    try:
        tree = YAML(typ="rt", pure=True).load(text)
        _bounded(tree, str(path), NODES_PER_CHARACTER * len(text) + 1000)
        _locate(tree, (), lines)
        return _plain(tree), Source(str(path), lines)
    except RecursionError:
        raise InputError(f"{path}: nested too deeply\n  allowed: a few hundred levels") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
        problem = str(error.problem or error).splitlines()[0]
        raise InputError(f"{place}: not valid YAML: {problem}\n  remedy: mend this line") from error
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error


def _bounded(tree: Any, file: str, most: int) -> None:
    """Raises InputError if aliases blow a small file up (or contain themselves)."""
    waiting, seen = [tree], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > most:
            raise InputError(
                f"{file}: its aliases expand to more than {most:,} values\n"
                "  remedy: write the values out, or name fewer aliases of aliases"
            )
        waiting += (
            node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = suggestion(path.name, [p.name for p in path.parent.glob("*") if p.is_file()])
        remedy = near or "correct the path, or `peira new study NAME` writes a study file"
        raise InputError(f"{path}: no such file\n  remedy: {remedy}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory\n  remedy: name a study file") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text (byte {error.start})\n  remedy: save it as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{str(path)!r}: not a file name: {error}") from None


def _locate(
    node: Any, path: tuple[Any, ...], lines: dict[tuple[Any, ...], tuple[int, int]]
) -> None:
    place = getattr(node, "lc", None)
    if isinstance(node, dict):
        for key, value in node.items():
            if place is not None and place.data and key in place.data:
                line, column = place.data[key][:2]
                lines[(*path, _name(key))] = (line + 1, column + 1)
            _locate(value, (*path, _name(key)), lines)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            if place is not None and place.data and index in place.data:
                line, column = place.data[index][:2]
                lines[(*path, index)] = (line + 1, column + 1)
            _locate(value, (*path, index), lines)


def _name(key: Any) -> Any:
    """A mapping's key. `null:` is the name of a setting, though YAML reads it as nothing."""
    return "null" if key is None else _plain(key)


def _plain(node: Any) -> Any:
    """ruamel's decorated values as plain Python."""
    if isinstance(node, dict):
        return {_name(key): _plain(value) for key, value in node.items()}
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
        faults = settled(error, data)
        raise StudyError(
            [str(fault(model, loc, item, source, (*path, *loc))) for loc, item in faults.items()]
        ) from error


def misfit(path: tuple[Any, ...], value: Any, allowed: str) -> PydanticCustomError:
    """What a model's validator raises of a value inside it: the fault is told at that value."""
    about = {"path": path, "value": value, "allowed": allowed}
    return PydanticCustomError("misfit", "{allowed}", about)


def settled(error: ValidationError, data: Any) -> dict[tuple[Any, ...], Any]:
    """One fault a place, the deepest ones only: of a union's members the one that came furthest."""
    found: dict[tuple[Any, ...], Any] = {}
    for item in error.errors(include_url=False):
        loc = (*item["loc"], *item.get("ctx", {}).get("path", ()))
        found.setdefault(_untagged(loc, data, item["type"] in NEW_KEY), item)
    return {
        loc: item
        for loc, item in found.items()
        if not any(len(other) > len(loc) and other[: len(loc)] == loc for other in found)
    }


NEW_KEY = ("missing", "extra_forbidden")


def _untagged(loc: tuple[Any, ...], data: Any, new: bool) -> tuple[Any, ...]:
    """The path through the data: pydantic also names the member of a union that it tried."""
    path = []
    for number, part in enumerate(loc):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (new and number == len(loc) - 1):
                continue
        path.append(part)
    return tuple(path)


def fault(
    model: type[BaseModel], loc: tuple[Any, ...], item: Any, source: Source, path: tuple[Any, ...]
) -> Fault:
    """A validation error in words. `loc` leads through the model, `path` through the study."""
    own = source.own(path)
    where, dotted = source.where(path), ".".join(map(str, own)) or "the file"
    if item["type"] == "extra_forbidden":
        known = known_keys(model, loc[:-1])
        return Fault(
            where, dotted, "unknown key", ", ".join(known), suggestion(str(loc[-1]), known)
        )
    if item["type"] == "missing":
        inside = f" under {'.'.join(map(str, own[:-1]))}" if own[:-1] else ""
        return Fault(where, dotted, "missing", "required", f"add `{own[-1]}`{inside}")
    value = repr(item.get("ctx", {}).get("value", item.get("input")))
    return Fault(where, dotted, value if len(value) < 80 else value[:77] + "…", _words(item["msg"]))


def _words(message: str) -> str:
    plain = message.removeprefix("Value error, ").removeprefix("Input should be ")
    plain = re.sub(r", unable to .*| or instance of \w+", "", plain)
    return plain.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")


def known_keys(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Every key that the (possibly nested) model at `loc` takes, other spellings included."""
    current = model
    for part in loc:
        inner = current.model_fields.get(part)
        current = (inner and _model_in(inner.annotation)) or current
    names = ((name, info.validation_alias) for name, info in current.model_fields.items())
    spelt = ([*map(str, a.choices)] if isinstance(a, AliasChoices) else [n] for n, a in names)
    return [key for keys in spelt for key in keys]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds: itself, or a member of a union or a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a)) is not None), None)


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
