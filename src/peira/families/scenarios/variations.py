"""From what a study says of a cell to the scenario of that cell.

A variation puts a value in place of what a scenario file says; the result is checked whole, as if
the user had written it so. Invariant: a target is set by one variation only, and a value that
changes nothing it names is an error, not a silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from peira.errors import Fault, InputError, StudyError
from peira.families.scenarios.checks import EVENTS, METRICS, RULES, SCENARIO, nearest
from peira.families.scenarios.load import Base, Change, build, read_base
from peira.families.scenarios.settings import BASE, ScenarioSettings
from peira.families.scenarios.yaml_file import Path as Keys
from peira.study.dialects_batch import KEYS
from peira.study.study import Study

OFFICES = {
    "world": (SCENARIO, "world_state_model"), "summary": (SCENARIO, "summary_model"),
    "metrics": (SCENARIO, "metrics_model"), "quality": (RULES, "validation_model"),
}  # fmt: skip
OWN = ("base_scenario", "files", "variations", "set", "success_criteria", "fork")


def resolve(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved form of raw settings. Raises StudyError with every fault found."""
    specs = {str(spec.get("name")): spec for spec in raw.get("variations") or []}
    unknown = [key for key in raw if key not in (*OWN, *specs)]
    if unknown:
        known = [*OWN, *specs]
        raise StudyError(
            [str(Fault("study", f"fixed.{key}", "unknown key", ", ".join(known),
                       nearest(key, known))) for key in unknown]
        )  # fmt: skip
    if "base_scenario" not in raw:
        _refuse("study", "fixed.base_scenario", "missing", "a scenario folder", "add it")
    if not Path(raw["base_scenario"]).is_dir():
        _refuse("study", "fixed.base_scenario", str(raw["base_scenario"]), "a scenario folder that"
                " exists", "correct the path")  # fmt: skip
    base = cached_base(str(raw["base_scenario"]), _stamp(Path(raw["base_scenario"])))
    chosen = {name: raw[name] for name in specs if name in raw}
    changes: list[Change] = []
    faults: list[str] = []
    for found in _all_changes(base, raw, specs, chosen):
        try:
            changes += found()
        except StudyError as error:
            faults += error.faults
    _once_each(changes)
    scenario = build(base, changes, faults)
    settings: dict[str, Any] = {
        "scenario": scenario,
        "description": describe(specs, chosen),
        "modifications": {target(specs[name]): value for name, value in chosen.items()},
        "fork": raw.get("fork"),
    }
    seeds = [value for name, value in chosen.items() if specs[name]["type"] == "seed"]
    return settings | ({"seed": seeds[0]} if seeds else {})


@lru_cache(maxsize=16)
def cached_base(folder: str, stamp: tuple[Any, ...]) -> Base:
    """The files of a scenario folder, read once while they do not change."""
    return read_base(Path(folder))


def _stamp(folder: Path) -> tuple[Any, ...]:
    found = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in found)


def _all_changes(
    base: Base, raw: Mapping[str, Any], specs: Mapping[str, Any], chosen: Mapping[str, Any]
) -> Iterator[Callable[[], list[Change]]]:
    for name, value in chosen.items():
        yield partial(changes_of, base, specs[name], value, _where(specs[name], value))
    for path, value in (raw.get("set") or {}).items():
        seat = path.removeprefix("seats.")
        if seat != path:
            yield partial(_models, base, seat, value, f"--model {seat}")
        else:
            yield partial(_set, base, path, value)
    criteria = raw.get("success_criteria")
    if criteria is not None:
        change = Change(SCENARIO, ("success_criteria",), criteria, "success_criteria")
        yield lambda: [change]


def _where(spec: Mapping[str, Any], value: Any) -> str:
    lines = spec.get("lines") or []
    values = spec.get("values") or []
    if value in values and values.index(value) < len(lines):
        return str(lines[values.index(value)])
    return f"variation {spec['name']}"


# -- the types -------------------------------------------------------------------------
def changes_of(base: Base, spec: Mapping[str, Any], value: Any, where: str) -> list[Change]:
    """What one value of a variation changes in the scenario's files."""
    kind, actor = spec["type"], spec.get("actor")
    if actor is not None and actor not in (*OFFICES, "all"):
        _actor_file(base, actor, spec.get("line", where), also=(*OFFICES, "all"))
    if kind == "seed":
        return []
    if kind == "actor_model":
        return _models(base, spec["actor"], value, where)
    if kind == "actor_field":
        path: Keys = tuple(str(spec["field"]).split("."))
        return [Change(_actor_file(base, spec["actor"], where), path, value, where)]
    if kind == "scenario_parameter":
        return [Change(SCENARIO, tuple(str(spec["parameter"]).split(".")), value, where)]
    if kind == "initial_world_state":
        return [Change(SCENARIO, ("initial_world_state",), _state(base, value, where), where)]
    if kind == "events":
        return _switches(base, spec["event"], value, where)
    if kind == "temperature":
        everyone = spec["actor"] == "all"
        file = SCENARIO if everyone else _actor_file(base, spec["actor"], where, also=("all",))
        return [Change(file, ("sampling", "temperature"), value, where)]
    return [_turns(base, value, where)]


def _models(base: Base, seat: str, value: Any, where: str) -> list[Change]:
    if seat == "all":
        seats = [*_shorts(base), *(s for s, (file, _) in OFFICES.items() if file in base.files)]
        return [change for one in seats for change in _models(base, one, value, where)]
    if seat in OFFICES:
        file, key = OFFICES[seat]
        if file not in base.files:
            _refuse(where, "actor", seat, "a seat of this scenario", f"write {file}, or remove it")
        return [Change(file, (key,), value, where)]
    file = _actor_file(base, seat, where, also=(*OFFICES, "all"))
    data = base.files[file].data
    known = data if isinstance(data, Mapping) else {}
    key = "model" if "model" in known else "llm_model"
    changes = [Change(file, (key,), value, where)]
    if known.get("control") == "human":
        changes.append(Change(file, ("control",), "ai", where))
    return changes


def _shorts(base: Base) -> list[str]:
    return [file.removeprefix("actors/").removesuffix(".yaml") for file in base.actor_files]


def _actor_file(base: Base, short: str, where: str, also: tuple[str, ...] = ()) -> str:
    file = f"actors/{short}.yaml"
    if file not in base.files:
        known = [*_shorts(base), *also]
        _refuse(where, "actor", short, ", ".join(known), nearest(str(short), known))
    return file


def _state(base: Base, value: Any, where: str) -> Any:
    """Text as it is, `{file}` read from the scenario's folder, `{append}` added to the base."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"append"}:
        data = base.files[SCENARIO].data or {}
        return f"{data.get('initial_world_state', '')}\n\n{value['append']}"
    if set(value) != {"file"}:
        _refuse(where, "initial_world_state", str(value), "text, {file: …} or {append: …}", "")
    path = base.folder / str(value["file"])
    for candidate in (path, Path(str(value["file"]))):
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8")
    _refuse(where, "initial_world_state.file", str(value["file"]), "a file that exists", "")
    return None


def _switches(base: Base, event: str, value: Any, where: str) -> list[Change]:
    on = {"on": True, "off": False, True: True, False: False}.get(value)
    if on is None:
        _refuse(where, "events", str(value), "on or off", "write one of them")
    file = base.files.get(EVENTS)
    listed = (file.data or {}).get("exogenous_events") or [] if file else []
    names = [item.get("name") for item in listed if isinstance(item, Mapping)]
    if event != "all" and event not in names:
        known = [*map(str, names), "all"]
        _refuse(where, "event", str(event), ", ".join(known), nearest(str(event), known))
    return [
        Change(EVENTS, ("exogenous_events", i, "enabled"), on, where)
        for i, name in enumerate(names)
        if event in ("all", name)
    ]


def _turns(base: Base, value: Any, where: str) -> Change:
    data = base.files[SCENARIO].data
    longer = isinstance(data, Mapping) and "scenario_length" in data
    return Change(SCENARIO, ("scenario_length", "turns") if longer else ("turns",), value, where)


ROOTS = {"metrics": METRICS, "quality": RULES}


def _set(base: Base, path: str, value: Any) -> list[Change]:
    """`--set PATH=VALUE`: into scenario.yaml, `actors.SHORT.…`, `metrics.…` or `quality.…`."""
    first, *rest = path.split(".")
    person = rest[1:] == ["control"] and value == "human"
    where = f"--human {rest[0]}" if person else f"--set {path}"
    if first == "actors" and rest:
        return [Change(_actor_file(base, rest[0], where), tuple(rest[1:]), value, where)]
    if first == "turns" and not rest:
        return [_turns(base, value, where)]
    if first == "events" and len(rest) == 2:
        switch = _switches(base, rest[0], True, where)
        return [Change(EVENTS, (*switch[0].path[:-1], rest[1]), value, where)]
    if first in ROOTS:
        keys = tuple(rest) if first == "quality" else ("metrics", *rest)
        return [Change(ROOTS[first], keys, value, where)]
    return [Change(SCENARIO, (first, *rest), value, where)]


def _once_each(changes: list[Change]) -> None:
    seen: dict[tuple[str, Keys], str] = {}
    for change in changes:
        key = (change.file, change.path)
        if key in seen:
            path = ".".join(map(str, change.path))
            _refuse(change.where, f"{change.file}: {path}", f"also set by {seen[key]}",
                    "each target set once", "remove one of the two")  # fmt: skip
        seen[key] = change.where


def _refuse(where: str, path: str, value: str, allowed: str, remedy: str) -> None:
    raise StudyError([str(Fault(where, path, value, allowed, remedy))])


# -- words -----------------------------------------------------------------------------
def target(spec: Mapping[str, Any]) -> str:
    """What a variation sets, as one dotted name."""
    parts = [spec["type"], *(str(spec[key]) for key in KEYS[spec["type"]] if key in spec)]
    return ".".join(parts)


def describe(specs: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """`regulator=gpt-4o-mini, tech-company=claude-3-haiku`."""
    parts = [f"{name}={label(specs[name], value)}" for name, value in chosen.items()]
    return ", ".join(parts) or BASE


def label(spec: Mapping[str, Any], value: Any) -> str:
    """The words for one value: its label, or the value in short (whole, where two would read
    alike: values that differ are never one level)."""
    labels, values = spec.get("labels"), spec.get("values") or []
    if isinstance(labels, Mapping) and str(value) in labels:
        return str(labels[str(value)])
    if isinstance(labels, list) and value in values:
        return str(labels[values.index(value)])
    text = _short(value)
    alike = sum(_short(other) == text for other in values) > 1
    return " ".join(str(value).split()) if alike else text


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, text in value.items())[:40]
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if not text.startswith("sim:") and "/" in text and " " not in text:
        text = text.rsplit("/", 1)[1]
    return " ".join(text.split())[:60]


def identity(settings: ScenarioSettings) -> dict[str, Any]:
    """What makes a trial what it is: the scenario without words for people, criteria, and metrics
    that steer nothing (those are read again from transcripts)."""
    scenario = settings.scenario
    data = scenario.model_dump(mode="json", exclude_defaults=True)
    for name in ("author", "tags", "created_date", "description", "success_criteria",
                 "metrics_heading"):  # fmt: skip
        data.pop(name, None)
    steering = scenario.steering()
    data["metrics"] = {
        name: _measured(metric) for name, metric in data.get("metrics", {}).items()
        if name in steering
    }  # fmt: skip
    used = {str(m.get("function", "")).partition(":")[0] for m in data["metrics"].values()}
    data["functions"] = {file: code for file, code in scenario.functions.items() if file in used}
    return {"scenario": data, "seed": settings.seed, "fork": settings.fork}


def _measured(metric: Mapping[str, Any]) -> dict[str, Any]:
    told = ("goal", "primary", "thresholds", "aggregate")
    return {key: value for key, value in metric.items() if key not in told}


# -- going on with a batch ---
def refuse_changed_base(before: Study, now: Study) -> None:
    """Raise InputError when scenario files changed in a way that changes trials: any file but
    metrics.yaml, and there any metric that steers."""
    old, new = before.fixed.get("files") or {}, now.fixed.get("files") or {}
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if not changed or before.fixed.get("base_scenario") is None:
        return
    folder = Path(now.fixed["base_scenario"])
    steering = build(cached_base(str(folder), _stamp(folder))).steering()
    metric = f"{METRICS}:"
    serious = [n for n in changed if not n.startswith(metric) or n.removeprefix(metric) in steering]
    if serious:
        raise InputError(
            f"the base scenario changed since this batch was begun: {', '.join(serious)}\n"
            "  allowed: the files as they were\n"
            "  remedy: restore them, take a new output_dir, or --fresh (sets the old batch aside)"
        )
