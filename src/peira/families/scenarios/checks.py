"""What no part of a scenario can see alone: names that must meet, sizes that must fit.

Invariant: every name that one file uses is defined in another, or a fault says where and which
names exist.
"""

from __future__ import annotations

import ast
import difflib
import string
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from peira.families.scenarios.metric_checks import check_comparison
from peira.families.scenarios.yaml_file import Path

if TYPE_CHECKING:
    from peira.families.scenarios.settings import (
        Background,
        Event,
        Metric,
        QualityRules,
        ScenarioFile,
    )

SCENARIO, EVENTS = "scenario.yaml", "exogenous-events.yaml"
RULES, METRICS = "validation-rules.yaml", "metrics.yaml"
PLACEHOLDERS = {
    "actor_decision_consistency": {
        "actor_profile", "world_state", "actor_reasoning", "actor_action",
    },
    "world_state_coherence": {"previous_world_state", "actor_actions", "new_world_state"},
    "information_access_consistency": {
        "actor_name", "public_world_state", "private_communications", "restricted_information",
        "actor_reasoning",
    },
}  # fmt: skip


Found = tuple[str, Path, str, str, str]  # file, path, value, allowed, remedy


def nearest(name: str, known: Collection[str]) -> str:
    """'did you mean …?', or a plain remedy when nothing is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else "remove it, or use a known name"


def estimated_tokens(text: str) -> int:
    """About four characters to a token, as providers count English prose."""
    return -(-len(text) // 4)


def cross_check(
    header: ScenarioFile | None, parts: Mapping[str, Any], shorts: list[str],
    broken: Collection[str],
) -> Iterator[Found]:  # fmt: skip
    """Every fault that lies between files. `shorts`: all actors, `broken`: metrics that are there
    but wrong, so that one fault is not told again by all who name what it broke."""
    yield from _unique("actors", [a.name for a in parts["actors"]], "display names of actors")
    yield from _unique(EVENTS, [e.name for e in parts["events"]], "names of events")
    for i, event in enumerate(parts["events"]):
        if isinstance(event.visible_to, tuple):
            path: Path = ("exogenous_events", i, "visible_to")
            yield from _known(EVENTS, path, event.visible_to, shorts)
    for text in parts["background"]:
        if isinstance(text.readers, tuple):
            yield from _known(f"background/{text.name}.md", ("for",), text.readers, shorts)
    yield from _metrics(parts, shorts)
    named = {f"{name}@{short}" for name in broken for short in shorts} | set(broken)
    for file, path, condition, steers in _conditions(header, parts["events"]):
        found = _condition(file, path, condition, (parts["metrics"], shorts), steers)
        yield from (fault for fault in found if fault[2] not in named)
    yield from _templates(parts["quality"])
    if header is not None:
        ends = [end.name for end in header.end_conditions]
        yield from _unique(SCENARIO, ends, "names of end conditions")
        yield from _sizes(header.background_tokens, parts["background"], shorts)


def _unique(file: str, names: list[str], what: str) -> Iterator[Found]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield file, (), name, f"{what} that differ", "rename one of them"


def _known(file: str, path: Path, names: Iterable[str], known: Collection[str]) -> Iterator[Found]:
    for name in names:
        if name not in known:
            yield file, path, name, ", ".join(known) or "nothing", nearest(name, known)


def _metrics(parts: Mapping[str, Any], shorts: list[str]) -> Iterator[Found]:
    people = [*shorts, *(actor.name for actor in parts["actors"])]
    for name, metric in parts["metrics"].items():
        path: Path = ("metrics", name)
        if "@" in name or not name.strip():
            yield METRICS, path, name, "a name without @", "rename it"
        if metric.actor is not None:
            yield from _known(METRICS, (*path, "actor"), [metric.actor], people)
        if metric.function is not None:
            yield from _function((*path, "function"), metric.function, parts["functions"])


def _function(path: Path, reference: str, functions: Mapping[str, str]) -> Iterator[Found]:
    file, _, name = reference.partition(":")
    if file not in functions:
        files = ", ".join(functions) or "no .py file is there"
        yield METRICS, path, reference, f"a file of the scenario folder ({files})", "add it"
        return
    try:
        tree = ast.parse(functions[file])
    except SyntaxError as error:
        yield METRICS, path, reference, f"a Python file ({error})", f"correct {file}"
        return
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    yield from _known(METRICS, path, [name], defined)


Where = tuple[str, Path, Mapping[str, str], bool]  # file, path, condition, whether it steers


def _conditions(header: ScenarioFile | None, events: Sequence[Event]) -> Iterator[Where]:
    for i, event in enumerate(events):
        yield EVENTS, ("exogenous_events", i, "conditions"), event.conditions or {}, True
    if header is None:
        return
    if header.scenario_length is not None:
        when = header.scenario_length.condition or {}
        yield SCENARIO, ("scenario_length", "condition"), when, True
    for i, end in enumerate(header.end_conditions):
        yield SCENARIO, ("end_conditions", i, "when"), end.when, True
    for name, condition in header.success_criteria.items():
        yield SCENARIO, ("success_criteria", name), condition, False


def _condition(
    file: str, path: Path, condition: Mapping[str, str],
    measured: tuple[Mapping[str, Metric], list[str]], steers: bool,
) -> Iterator[Found]:  # fmt: skip
    for name, text in condition.items():
        here, metric = (*path, name), resolve_metric(name, *measured)
        if metric is None:
            names = series_names(*measured)
            allowed = ", ".join(names) or "no metric is defined"
            yield file, here, name, allowed, nearest(name, names)
        elif steers and metric.extraction_method == "manual":
            yield (file, here, name, "a metric that is measured while the trial runs",
                   "manual values come later: use another metric")  # fmt: skip
        try:
            check_comparison(metric, text, "")
        except PydanticCustomError as error:
            context = error.context or {}
            yield file, here, text, context["allowed"], context["remedy"]


def series_names(metrics: Mapping[str, Metric], shorts: Collection[str]) -> list[str]:
    """The names of all measured series: a metric per actor has one each, `metric@short`."""
    names: list[str] = []
    for name, metric in metrics.items():
        each = metric.actor_specific and metric.actor is None
        names += [f"{name}@{short}" for short in shorts] if each else [name]
    return names


def resolve_metric(
    name: str, metrics: Mapping[str, Metric], shorts: Collection[str]
) -> Metric | None:
    """The metric a series name belongs to, or None."""
    return metrics[name.partition("@")[0]] if name in series_names(metrics, shorts) else None


def _templates(rules: QualityRules | None) -> Iterator[Found]:
    for name, check in (rules.checks if rules else {}).items():
        path: Path = ("checks", name, "prompt_template")
        try:
            parsed = string.Formatter().parse(check.prompt_template or "")
            fields = {field for _, field, _, _ in parsed if field}
        except ValueError as error:
            yield RULES, path, str(error), "{placeholders}, other braces doubled", "correct it"
            continue
        known = sorted(PLACEHOLDERS[name])
        for unknown in sorted(fields - PLACEHOLDERS[name]):
            yield RULES, path, f"{{{unknown}}}", ", ".join(known), nearest(unknown, known)


def _sizes(cap: int, texts: Sequence[Background], shorts: list[str]) -> Iterator[Found]:
    for reader in [*shorts, "world"]:
        sizes = {t.name: estimated_tokens(t.text) for t in texts if t.reaches(reader)}
        total = sum(sizes.values())
        if total > cap:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            yield (SCENARIO, ("background_tokens",), f"{total} tokens reach {reader}",
                   f"at most {cap} ({listed})", "shorten them, narrow `for`, or raise the cap")  # fmt: skip
