"""YAML with the line of every value, duplicate keys refused, nothing coerced.

YAML 1.2 rules: `on`, `off`, `yes` and `no` are text. Invariant: `lines` has an entry for every
path in `data`, so a fault found later can always name its line.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from peira.errors import Fault

Path = tuple[str | int, ...]


@dataclass(slots=True)
class YamlFile:
    """A parsed file: its name as shown to the user, plain data, and path -> line (from 1)."""

    shown: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def where(self, path: Path) -> str:
        """`file:line` of a path, or of its nearest parent that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.shown}:{self.lines.get(path, 1)}"


def read_yaml(text: str, shown: str) -> YamlFile:
    """Parse one document. Syntax errors and duplicate keys are collected in `faults`."""
    parsed = YamlFile(shown)
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(io.StringIO(text))
        parsed.data = None if node is None else _plain(yaml, node, (), parsed)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        message = error.problem or "not YAML"
        remedy = "correct the line, or quote the text"
        parsed.faults.append(Fault(f"{shown}:{line}", "", message, "well-formed YAML", remedy))
    return parsed


def _plain(yaml: YAML, node: Node, path: Path, parsed: YamlFile) -> Any:
    parsed.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        return _mapping(yaml, node, path, parsed)
    if isinstance(node, SequenceNode):
        return [_plain(yaml, item, (*path, i), parsed) for i, item in enumerate(node.value)]
    return yaml.constructor.construct_object(node, deep=True)


def _mapping(yaml: YAML, node: MappingNode, path: Path, parsed: YamlFile) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = yaml.constructor.construct_object(key_node, deep=True)
        name = key if isinstance(key, str) else _text_key(key_node)
        here = (*path, name)
        line = key_node.start_mark.line + 1
        if name in result:
            first = parsed.lines[here]
            parsed.faults.append(
                Fault(f"{parsed.shown}:{line}", dotted(here), f"given twice (first on line {first})",
                      "each key once", "remove one of them")
            )  # fmt: skip
            continue
        parsed.lines[here] = line
        result[name] = _plain(yaml, value_node, here, parsed)
    return result


def _text_key(node: Node) -> str:
    return str(node.value) if isinstance(node, ScalarNode) else "?"


def dotted(path: Path) -> str:
    """A path as people write it: `variations[0].values`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
