"""What no part of a scenario can see alone: names that must meet, sizes that must fit.

Invariant: every name that one file uses is defined in another, or a fault says where and which
names exist.
"""

from __future__ import annotations

import ast
import difflib
import string
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import PydanticCustomError

from peira.families.scenarios.metric_checks import FUNCTION, check_comparison
from peira.families.scenarios.yaml_file import Path

if TYPE_CHECKING:
    from peira.families.scenarios.settings import Metric, ScenarioFile

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


class Collector(Protocol):
    """Where faults go."""

    def add(
        self, file: str, path: Path, value: str, allowed: str, remedy: str = "", shown: str = ""
    ) -> None: ...


def nearest(name: str, known: Collection[str]) -> str:
    """'did you mean …?', or a plain remedy when nothing is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else "remove it, or use a known name"


def estimated_tokens(text: str) -> int:
    """About four characters to a token, as providers count English prose."""
    return -(-len(text) // 4)


def cross_check(
    out: Collector, header: ScenarioFile | None, parts: Mapping[str, Any], shorts: list[str],
    broken: Collection[str],
) -> None:  # fmt: skip
    """Collect every fault that lies between files. `shorts`: all actors, `broken`: metrics that are
    there but wrong, so that one fault is not told again by all who name what it broke."""
    _unique(out, "actors", [a.name for a in parts["actors"]], "display names of actors")
    _unique(out, EVENTS, [e.name for e in parts["events"]], "names of events")
    for i, event in enumerate(parts["events"]):
        if isinstance(event.visible_to, tuple):
            _known(out, EVENTS, ("exogenous_events", i, "visible_to"), event.visible_to, shorts)
    for text in parts["background"]:
        if isinstance(text.readers, tuple):
            _known(out, f"background/{text.name}.md", ("for",), text.readers, shorts)
    _metrics(out, parts, shorts)
    named = {f"{name}@{short}" for name in broken for short in shorts} | set(broken)
    _conditions(_Except(out, named), header, parts, shorts)
    _templates(out, parts["quality"])
    if header is not None:
        _unique(out, SCENARIO, [e.name for e in header.end_conditions], "names of end conditions")
        _sizes(out, header.background_tokens, parts, shorts)


@dataclass(frozen=True, slots=True)
class _Except:
    """Passes faults on, except those about these values."""

    out: Collector
    values: Collection[str]

    def add(
        self, file: str, path: Path, value: str, allowed: str, remedy: str = "", shown: str = ""
    ) -> None:
        if value not in self.values:
            self.out.add(file, path, value, allowed, remedy, shown)


def _unique(out: Collector, file: str, names: list[str], what: str) -> None:
    for name in sorted({name for name in names if names.count(name) > 1}):
        out.add(file, (), name, f"{what} that differ", "rename one of them")


def _known(
    out: Collector, file: str, path: Path, names: Iterable[str], known: Collection[str]
) -> None:
    for name in names:
        if name not in known:
            out.add(file, path, name, ", ".join(known) or "nothing", nearest(name, known))


def _metrics(out: Collector, parts: Mapping[str, Any], shorts: list[str]) -> None:
    people = [*shorts, *(actor.name for actor in parts["actors"])]
    for name, metric in parts["metrics"].items():
        path: Path = ("metrics", name)
        if "@" in name or not name.strip():
            out.add(METRICS, path, name, "a name without @", "rename it")
        if metric.actor is not None:
            _known(out, METRICS, (*path, "actor"), [metric.actor], people)
        if metric.function is not None:
            _function(out, (*path, "function"), metric.function, parts["functions"])


def _function(out: Collector, path: Path, reference: str, functions: Mapping[str, str]) -> None:
    found = FUNCTION.fullmatch(reference)
    file, name = (found["file"], found["name"]) if found else ("", "")
    if file not in functions:
        files = ", ".join(functions) or "no .py file is there"
        out.add(METRICS, path, reference, f"a file of the scenario folder ({files})", "add it")
        return
    try:
        tree = ast.parse(functions[file])
    except SyntaxError as error:
        out.add(METRICS, path, reference, f"a Python file ({error})", f"correct {file}")
        return
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if name not in defined:
        out.add(METRICS, path, name, ", ".join(defined), nearest(name, defined))


def _conditions(
    out: Collector, header: ScenarioFile | None, parts: Mapping[str, Any], shorts: list[str]
) -> None:
    metrics = parts["metrics"]
    for i, event in enumerate(parts["events"]):
        path: Path = ("exogenous_events", i, "conditions")
        _condition(out, EVENTS, path, event.conditions or {}, metrics, shorts, steers=True)
    if header is None:
        return
    if header.scenario_length is not None:
        when = header.scenario_length.condition or {}
        path = ("scenario_length", "condition")
        _condition(out, SCENARIO, path, when, metrics, shorts, steers=True)
    for i, end in enumerate(header.end_conditions):
        path = ("end_conditions", i, "when")
        _condition(out, SCENARIO, path, end.when, metrics, shorts, steers=True)
    for name, condition in header.success_criteria.items():
        path = ("success_criteria", name)
        _condition(out, SCENARIO, path, condition, metrics, shorts, steers=False)


def _condition(
    out: Collector, file: str, path: Path, condition: Mapping[str, str],
    metrics: Mapping[str, Metric], shorts: list[str], steers: bool,
) -> None:  # fmt: skip
    for name, text in condition.items():
        metric = resolve_metric(name, metrics, shorts)
        if metric is None:
            names = series_names(metrics, shorts)
            out.add(file, (*path, name), name, ", ".join(names) or "no metric is defined",
                    nearest(name, names))  # fmt: skip
        elif steers and metric.extraction_method == "manual":
            out.add(file, (*path, name), name, "a metric that is measured while the trial runs",
                    "manual values come later: use another metric")  # fmt: skip
        try:
            check_comparison(metric, text, "")
        except PydanticCustomError as error:
            context = error.context or {}
            out.add(file, (*path, name), text, context["allowed"], context["remedy"])


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


def _templates(out: Collector, rules: Any) -> None:
    for name, check in (rules.checks if rules else {}).items():
        path: Path = ("checks", name, "prompt_template")
        try:
            fields = {
                f for _, f, _, _ in string.Formatter().parse(check.prompt_template or "") if f
            }
        except ValueError as error:
            out.add(RULES, path, str(error), "{placeholders}, other braces doubled", "correct it")
            continue
        for unknown in sorted(fields - PLACEHOLDERS[name]):
            known = sorted(PLACEHOLDERS[name])
            out.add(RULES, path, f"{{{unknown}}}", ", ".join(known), nearest(unknown, known))


def _sizes(out: Collector, cap: int, parts: Mapping[str, Any], shorts: list[str]) -> None:
    for reader in [*shorts, "world"]:
        sizes = {
            text.name: estimated_tokens(text.text)
            for text in parts["background"]
            if text.reaches(reader)
        }
        if sum(sizes.values()) > cap:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            out.add(
                SCENARIO, ("background_tokens",), f"{sum(sizes.values())} tokens reach {reader}",
                f"at most {cap} ({listed})", "shorten them, narrow `for`, or raise the cap",
            )  # fmt: skip
