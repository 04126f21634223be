"""Whether a metric's definition makes sense, said before the first call.

Invariant: a metric that passes here can be measured without raising. A fault names a path relative to
where it was raised; `load` turns it into file and line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from peira.families.scenarios.conditions import Comparison, parse_comparison

if TYPE_CHECKING:
    from peira.families.scenarios.settings import Metric

FUNCTION = re.compile(r"(?P<file>[\w.-]+\.py):(?P<name>[A-Za-z_]\w*)")


def fault(allowed: str, remedy: str = "", path: str = "") -> PydanticCustomError:
    """An error for a validator to raise; `path` (dotted) points inside the part being checked."""
    context = {"allowed": allowed, "remedy": remedy, "path": path}
    return PydanticCustomError("scenario", "{allowed}", context)


def check_metric(metric: Metric) -> None:
    """Raise the first fault of a metric's definition."""
    _method(metric)
    _kind(metric)
    if metric.actor is not None and not metric.actor_specific:
        raise fault("`actor` only with actor_specific: true", "add actor_specific: true", "actor")
    if metric.range and metric.range[0] > metric.range[1]:
        raise fault("[low, high] with low <= high", "swap them", "range")
    if metric.range and not metric.numeric:
        raise fault("a range only for int and float", "remove it", "range")
    _initial(metric)
    for level in ("warning", "critical"):
        text = getattr(metric.thresholds, level)
        if text is not None:
            check_comparison(metric, text, f"thresholds.{level}")


def _method(metric: Metric) -> None:
    needed = {"regex": "pattern", "keyword": "keywords", "python": "function"}
    method = metric.extraction_method
    for other, key in needed.items():
        given = getattr(metric, key) is not None
        if other == method and not given:
            raise fault(f"`{key}`, which {method} needs", "add it", key)
        if given and other != method:
            raise fault(f"`{key}` only with extraction_method: {other}", "remove it", key)
    if metric.pattern is not None:
        _pattern(metric, metric.pattern)
    if metric.function is not None and not FUNCTION.fullmatch(metric.function):
        raise fault("file.py:name, a file of the scenario folder", "write it so", "function")
    if metric.prompt is not None and method != "llm":
        raise fault("`prompt` only with extraction_method: llm", "remove it", "prompt")


def _pattern(metric: Metric, pattern: str) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise fault(f"a regular expression ({error})", "correct it", "pattern") from None
    for name in template_fields(metric.template):
        known = name in compiled.groupindex or (name.isdigit() and int(name) <= compiled.groups)
        if not known:
            raise fault("groups of the pattern", f"add group {name} to the pattern", "template")


def template_fields(template: str | None) -> list[str]:
    """The group names or numbers a template asks for: '{1}e{2}' -> ['1', '2']."""
    return re.findall(r"\{(\w+)\}", template or "")


def _kind(metric: Metric) -> None:
    if metric.kind == "categorical" and not metric.levels:
        raise fault("categories: [two or more]", "list them", "categories")
    if metric.kind != "categorical" and metric.categories:
        raise fault("categories only with type: categorical", "remove them", "categories")
    mapped = isinstance(metric.keywords, dict)
    if mapped != (metric.kind == "categorical" and metric.keywords is not None):
        raise fault("a map for categorical, a list otherwise", "change its form", "keywords")
    if mapped and metric.categories and set(metric.categories) != set(metric.levels):
        raise fault("the same names as categories", "make them agree", "keywords")
    if metric.keywords is not None and metric.kind == "str":
        raise fault("int, float, bool or categorical for keywords", "change the type", "type")
    if metric.goal is not None and metric.kind in ("str", "categorical"):
        raise fault("a goal only for int, float and bool", "remove it", "goal")
    if metric.aggregate in ("mean", "sum", "change") and not metric.numeric:
        raise fault("last, first (min and max too for numbers)", "change it", "aggregate")
    if metric.aggregate in ("min", "max") and metric.kind in ("str", "categorical"):
        raise fault("last or first", "change it", "aggregate")


def _initial(metric: Metric) -> None:
    value: Any = metric.initial
    if value is None:
        return
    if not _fits(metric, value):
        raise fault(f"a value of type {metric.type}", "correct it", "initial")
    if metric.range and not metric.range[0] <= float(value) <= metric.range[1]:
        raise fault(f"a value in {list(metric.range)}", "correct it", "initial")


def _fits(metric: Metric, value: Any) -> bool:
    if metric.kind == "bool":
        return isinstance(value, bool)
    if metric.numeric:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool | str) and (metric.kind == "float" or whole)
    return isinstance(value, str) and (not metric.levels or value in metric.levels)


def check_comparison(metric: Metric | None, text: str, path: str) -> Comparison:
    """Read a comparison and hold it against the metric's type, or raise its fault."""
    comparison = parse_comparison(text)
    if comparison is None:
        raise fault("'<op> value' with one of >= <= > < == !=, like '>= 6'", "write it so", path)
    if metric is None:
        return comparison
    if metric.numeric:
        if isinstance(comparison.value, bool | str):
            raise fault(f"a number, as the metric is {metric.type}", "correct it", path)
    elif comparison.op not in ("==", "!="):
        raise fault(f"== or !=, as the metric is {metric.type}", "correct it", path)
    elif metric.kind == "bool" and not isinstance(comparison.value, bool):
        raise fault("true or false", "correct it", path)
    elif metric.levels and comparison.value not in metric.levels:
        raise fault(f"one of {', '.join(metric.levels)}", "correct it", path)
    return comparison
