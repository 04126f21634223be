"""A scenario folder, read and checked whole: every fault found is shown, then exit 2.

Reading and building are apart, so that a variation is applied to the files as written and the
result is checked as if the user had written it so. Invariant: `build` returns a scenario in which
no name dangles, or raises StudyError with all faults.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peira.errors import Fault, InputError, StudyError
from peira.families.scenarios import checks
from peira.families.scenarios.checks import EVENTS, METRICS, RULES, SCENARIO
from peira.families.scenarios.messages import explain
from peira.families.scenarios.settings import (
    Actor,
    Background,
    Event,
    Metric,
    QualityRules,
    Scenario,
    ScenarioFile,
)  # fmt: skip
from peira.families.scenarios.yaml_file import Path as Keys
from peira.families.scenarios.yaml_file import YamlFile, dotted, read_yaml

M = TypeVar("M", bound=BaseModel)
STAND_INS = {
    "name": "?", "initial_world_state": "?", "turn_duration": "1 day", "world_state_model": "?",
}  # fmt: skip
FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Change:
    """One value of a variation put in place of what a file says; `where` names its line."""

    file: str
    path: Keys
    value: Any
    where: str = ""


@dataclass(slots=True)
class Base:
    """The files of a scenario folder as written."""

    folder: Path
    files: dict[str, YamlFile] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> Path:
        """The folder as a user at work beside it would write it."""
        here = Path.cwd()
        return self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder

    @property
    def actor_files(self) -> list[str]:
        """The actors' files, sorted."""
        return sorted(name for name in self.files if name.startswith("actors/"))


def load_scenario(folder: Path) -> Scenario:
    """Read, check and return the scenario. Raises StudyError with every fault found."""
    return build(read_base(folder))


def read_base(folder: Path) -> Base:
    """Read all files of a scenario folder; faults of syntax stay with their files."""
    if not (folder / SCENARIO).is_file():
        raise InputError(
            f"{folder}: no {SCENARIO} here\n  allowed: a scenario folder\n"
            "  remedy: give the folder's path, or make one with `peira new scenario NAME`"
        )
    base = Base(folder)
    names = [SCENARIO, EVENTS, RULES, METRICS]
    names += [f"actors/{p.name}" for p in sorted((folder / "actors").glob("*.y*ml"))]
    for name in names:
        if (folder / name).is_file():
            base.files[name] = read_yaml(_text(base, name), str(base.shown / name))
    for path in sorted((folder / "background").glob("*.md")):
        base.texts[f"background/{path.name}"] = _text(base, f"background/{path.name}")
    for path in sorted(folder.glob("*.py")):
        base.functions[path.name] = _text(base, path.name)
    return base


def _text(base: Base, name: str) -> str:
    data = (base.folder / name).read_bytes()
    base.hashes[name] = hashlib.sha256(data).hexdigest()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{base.shown / name}: not UTF-8 (byte {error.start})\n  remedy: save it as UTF-8"
        ) from None


def build(base: Base, changes: Sequence[Change] = (), faults: Sequence[str] = ()) -> Scenario:
    """The scenario after these changes. Raises StudyError with every fault found, the given ones
    (of changes that could not be made) first."""
    builder = _Builder(base, changes)
    scenario = builder.scenario()
    if faults or builder.faults or scenario is None:
        raise StudyError([*faults, *map(str, builder.faults)])
    return scenario


class _Builder:
    """Collects validated parts and every fault on the way."""

    def __init__(self, base: Base, changes: Sequence[Change]) -> None:
        self.base, self.changes = base, changes
        self.faults: list[Fault] = [f for file in base.files.values() for f in file.faults]
        self.broken: list[str] = []  # metrics that are there but wrong
        self.docs = {name: file.data for name, file in base.files.items()}
        for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        if not change.path:
            self.docs[change.file] = change.value
            return
        self.docs[change.file] = target = deepcopy(self.docs.get(change.file) or {})
        *parents, last = change.path
        for part in parents:
            if isinstance(target, list):
                target = target[int(part)]
                continue
            if not isinstance(target.get(part), dict | list):
                target[part] = {}
            target = target[part]
        target[last] = change.value

    def where(self, file: str, path: Keys) -> str:
        """`file:line`, of the variation if the path was set by one."""
        for change in self.changes:
            if change.file == file and change.where and path[: len(change.path)] == change.path:
                return change.where
        known = self.base.files.get(file)
        return known.where(path) if known else f"{self.base.shown / file}:1"

    def part(self, model: type[M], file: str, data: Any, path: Keys = ()) -> M | None:
        """Validate one part; its faults are collected with file and line."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self.add(file, *explain(detail, model, path))
        return None

    def add(self, file: str, path: Keys, value: str, allowed: str, remedy: str) -> None:
        """Collect one fault."""
        self.faults.append(Fault(self.where(file, path), dotted(path), value, allowed, remedy))

    def scenario(self) -> Scenario | None:
        """All parts together, or None when one is missing or wrong."""
        if any(file.faults and file.data is None for file in self.base.files.values()):
            return None
        header = self._header()
        actors = self._actors(header)
        parts: dict[str, Any] = {
            "actors": actors, "background": self._background(header), "events": self._events(),
            "quality": self._rules(), "functions": dict(self.base.functions),
        }  # fmt: skip
        parts["metrics_heading"], parts["metrics"] = self._metrics()
        for found in checks.cross_check(header, parts, self._stems(), self.broken):
            self.add(*found)
        if self.faults or header is None:
            return None
        return Scenario.model_validate({**header.header(), **parts})

    def _header(self) -> ScenarioFile | None:
        """scenario.yaml; when some of its keys are wrong, the others, so that they are checked."""
        sound, before = self.docs.get(SCENARIO), len(self.faults)
        header = self.part(ScenarioFile, SCENARIO, sound)
        while header is None and isinstance(sound, Mapping):
            wrong = [fault.path for fault in self.faults[before:]]
            kept = {k: v for k, v in sound.items() if not any(_within(path, k) for path in wrong)}
            if len(kept) == len(sound):  # what is wrong is no key of it
                break
            sound = kept
            turns = {} if "scenario_length" in kept else {"turns": 1}
            header = self.part(ScenarioFile, SCENARIO, STAND_INS | turns | kept)
        return header

    def _actors(self, header: ScenarioFile | None) -> tuple[Actor, ...]:
        found: dict[str, Actor] = {}
        for file in self.base.actor_files:
            stem, _, ending = file.removeprefix("actors/").rpartition(".")
            data = self.docs[file]
            if ending != "yaml":
                self.add(file, (), ending, "actors/<short>.yaml", "rename the file")
                continue
            if isinstance(data, Mapping):
                data = {"short_name": stem, **data}
            actor = self.part(Actor, file, data)
            if actor is None:
                continue
            found[stem] = actor
            if actor.short_name != stem:
                remedy = f"rename the file to {actor.short_name}.yaml, or the actor"
                self.add(
                    file, ("short_name",), actor.short_name, f"{stem}, the file's name", remedy
                )
        if not self.base.actor_files:
            self.add("actors", (), "no actor files", "actors/<short>.yaml", "write one per actor")
        order = self._order(header)
        return tuple(found[stem] for stem in order if stem in found)

    def _stems(self) -> list[str]:
        return [file.removeprefix("actors/").rpartition(".")[0] for file in self.base.actor_files]

    def _order(self, header: ScenarioFile | None) -> list[str]:
        stems = self._stems()
        if header is None or header.actors is None:
            return stems
        given = list(header.actors)
        if sorted(given) != sorted(stems):
            self.add(
                SCENARIO, ("actors",), ", ".join(given), f"exactly {', '.join(stems)}",
                "make the list match the files in actors/",
            )  # fmt: skip
        return given

    def _background(self, header: ScenarioFile | None) -> tuple[Background, ...]:
        texts = [self._front_matter(file, text) for file, text in self.base.texts.items()]
        if header is not None and header.background_information:
            general = Background(name="background", text=header.background_information)
            texts.insert(0, general)
        return tuple(text for text in texts if text is not None)

    def _front_matter(self, file: str, text: str) -> Background | None:
        name = file.removeprefix("background/").removesuffix(".md")
        found = FRONT.match(text)
        if not found:
            return Background(name=name, text=text)
        front = read_yaml("\n" + found[1], str(self.base.shown / file))
        self.faults += front.faults
        self.base.files[file] = front
        readers = front.data.get("for", "all") if isinstance(front.data, Mapping) else front.data
        unknown = [key for key in front.data or {} if key != "for"]
        for key in unknown:
            self.add(file, (key,), "unknown key", "for", "remove it")
        data = {"name": name, "text": text[found.end() :], "readers": readers}
        return self.part(Background, file, data)

    def _events(self) -> tuple[Event, ...]:
        listed = self._only(EVENTS, "exogenous_events", list)
        events = [
            self.part(Event, EVENTS, item, ("exogenous_events", i))
            for i, item in enumerate(listed or [])
        ]
        return tuple(event for event in events if event is not None)

    def _rules(self) -> QualityRules | None:
        data = self.docs.get(RULES)
        return None if data is None else self.part(QualityRules, RULES, data)

    def _metrics(self) -> tuple[str, dict[str, Metric]]:
        listed = self._only(METRICS, "metrics", dict, also=("scenario_name",))
        heading = (self.docs.get(METRICS) or {}).get("scenario_name", "") if listed else ""
        metrics = {}
        for name, item in (listed or {}).items():
            metric = self.part(Metric, METRICS, item, ("metrics", name))
            if metric is None:
                self.broken.append(name)
            else:
                metrics[name] = metric
        return heading, metrics

    def _only(self, file: str, key: str, form: type, also: tuple[str, ...] = ()) -> Any:
        """The value of a file's one key; other keys and forms are faults."""
        data = self.docs.get(file)
        if data is None:
            return None
        if not isinstance(data, Mapping):
            self.add(file, (), type(data).__name__, f"a map with the key {key}", "write it so")
            return None
        for name in data:
            if name not in (key, *also):
                near = checks.nearest(str(name), (key, *also))
                self.add(file, (name,), "unknown key", ", ".join((key, *also)), near)
        value = data.get(key)
        if value is not None and not isinstance(value, form):
            self.add(file, (key,), type(value).__name__, f"a {form.__name__}", "correct it")
            return None
        return value


def _within(path: str, key: Any) -> bool:
    """Whether a fault's path lies under this key of the file."""
    return re.match(re.escape(dotted((key,))) + r"(?:[.\[]|$)", path) is not None
