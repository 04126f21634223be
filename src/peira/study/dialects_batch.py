"""batch-config.yaml → Study: a batch of scenario variations, as the batch guide writes it.

Fields are renamed, strict and complete; what a variation means is the scenarios family's to check
against the scenario. Invariant: every value keeps the line it stands on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from peira.errors import Fault, InputError, StudyError
from peira.study.reader import Source, load_yaml, validated
from peira.study.study import Study

KEYS: Mapping[str, tuple[str, ...]] = {
    "actor_model": ("actor",), "actor_field": ("actor", "field"),
    "scenario_parameter": ("parameter",), "initial_world_state": (), "events": ("event",),
    "temperature": ("actor",), "turns": (), "seed": (),
}  # fmt: skip
SETTINGS = (
    "base_scenario", "files", "variations", "set", "success_criteria", "fork", "scenario",
    "description", "modifications",
)  # fmt: skip


class Variation(BaseModel):
    """One dimension of the batch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal[
        "actor_model", "actor_field", "scenario_parameter", "initial_world_state", "events",
        "temperature", "turns", "seed",
    ]  # fmt: skip
    values: list[Any]
    name: str | None = Field(None, min_length=1)
    labels: list[str] | dict[str, str] | None = None
    actor: str | None = None
    field: str | None = None
    parameter: str | None = None
    event: str | None = None

    @property
    def target(self) -> str:
        """What is set, as one dotted name; two variations must not share it."""
        return ".".join([self.type, *(str(getattr(self, key)) for key in KEYS[self.type])])

    @property
    def factor(self) -> str:
        """The factor's name: the one given, else one made of the target."""
        if self.name:
            return self.name
        words = {
            "actor_model": self.actor, "actor_field": f"{self.actor} {self.field}",
            "scenario_parameter": self.parameter, "events": self.event,
            "temperature": f"{self.actor} temperature",
        }  # fmt: skip
        return str(words.get(self.type) or self.type).replace(".", " ").replace("_", " ")


class BatchConfig(BaseModel):
    """The fields of batch-config.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    experiment_name: str = Field(min_length=1)
    description: str = ""
    base_scenario: str = Field(min_length=1)
    runs_per_variation: int = Field(1, ge=1)
    max_parallel: int = Field(1, ge=1, le=10_000)
    timeout_per_run: float = Field(1800, gt=0)
    budget_limit: float | None = Field(None, ge=0)
    cost_per_run_limit: float | None = Field(None, ge=0)
    variations: list[Any] = []
    output_dir: str | None = None
    save_individual_runs: bool = True
    aggregate_metrics: bool = True
    seed: int = 0
    retries: int = Field(5, ge=0, le=100)
    exclude: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    subjects: dict[str, dict[str, Any]] = {}
    success_criteria: dict[str, dict[str, str]] | None = None


def batch_config(data: dict[str, Any], path: Path, source: Source) -> tuple[Study, Source]:
    """The Study a batch-config.yaml means. Raises StudyError with every fault and its line."""
    faults: list[str] = []
    config = _gathered(faults, BatchConfig, data, source, ())
    listed = data.get("variations")
    variations = _variations(listed if isinstance(listed, list) else [], source, faults)
    if faults or config is None:
        raise StudyError(faults, _draft(faults, data.get("base_scenario"), path, variations))
    folder = scenario_folder(config.base_scenario, path)
    study = Study(
        family="scenarios",
        name=config.experiment_name,
        description=config.description,
        fixed={
            "base_scenario": str(folder),
            "files": file_hashes(folder),
            "variations": variations,
            "success_criteria": config.success_criteria,
        },
        factors={spec["name"]: spec["values"] for spec in variations},
        exclude=config.exclude,
        cells=config.cells,
        replicates=config.runs_per_variation,
        seed=config.seed,
        limits=_limits(config),
        subjects=config.subjects,
        analysis={"config": path.read_text(encoding="utf-8")},
        output_dir=config.output_dir or f"experiments/{slug(config.experiment_name)}",
        save_individual_runs=config.save_individual_runs,
        aggregate_metrics=config.aggregate_metrics,
    )
    return study, Source(source.file, dict(_lines(source, variations)))


def _draft(
    faults: list[str], base: Any, path: Path, variations: list[dict[str, Any]]
) -> Study | None:
    """The scenario and the sound variations, when other parts of the file are wrong."""
    if not isinstance(base, str) or not base:
        return None
    try:
        fixed = {"base_scenario": str(scenario_folder(base, path)), "variations": variations}
    except InputError as error:
        faults.append(str(error))
        return None
    factors = {spec["name"]: spec["values"] for spec in variations}
    return Study(family="scenarios", fixed=fixed, factors=factors)


def _limits(config: BatchConfig) -> Any:
    return {
        "max_parallel": config.max_parallel, "trial_seconds": config.timeout_per_run,
        "budget_usd": config.budget_limit, "trial_usd": config.cost_per_run_limit,
        "retries": config.retries,
    }  # fmt: skip


def _gathered(
    faults: list[str], model: type[BaseModel], data: Any, source: Source, path: tuple[Any, ...]
) -> Any:
    try:
        return validated(model, data, source, path)
    except StudyError as error:
        faults += error.faults
        return None


def _variations(listed: list[Any], source: Source, faults: list[str]) -> list[dict[str, Any]]:
    specs: list[dict[str, Any]] = []
    targets: set[str] = set()
    for i, item in enumerate(listed):
        here = ("variations", i)
        variation = _gathered(faults, Variation, item, source, here)
        if variation is None:
            continue
        found = list(_faults(variation, targets, {s["name"] for s in specs}))
        faults += [str(Fault(source.where((*here, *p)), _dotted((*here, *p)), v, allowed, remedy))
                   for p, v, allowed, remedy in found]  # fmt: skip
        targets.add(variation.target)
        if found:
            continue
        lines = [
            source.where((*here, "values", j)).removesuffix(":")
            for j in range(len(variation.values))
        ]
        spec = variation.model_dump(mode="json", exclude_none=True)
        specs.append(
            {
                **spec,
                "name": variation.factor,
                "line": source.where(here).removesuffix(":"),
                "lines": lines,
            }
        )
    return specs


Found = tuple[tuple[Any, ...], str, str, str]


def _faults(variation: Variation, targets: set[str], names: set[str]) -> Iterator[Found]:
    needed = KEYS[variation.type]
    for key in ("actor", "field", "parameter", "event"):
        given = getattr(variation, key) is not None
        if given and key not in needed:
            allowed = ", ".join((*needed, "values", "name", "labels"))
            yield (key,), f"unknown for type {variation.type}", allowed, "remove it"
        elif key in needed and not given:
            yield (key,), "missing", f"`{key}`, which type {variation.type} needs", "add it"
    if not variation.values:
        yield ("values",), "[]", "at least one value", "give values or remove the variation"
    texts = [json.dumps(value, sort_keys=True, default=str) for value in variation.values]
    for text in sorted({text for text in texts if texts.count(text) > 1}):
        yield ("values",), text, "values that differ", "remove the repeated one"
    if any(value in (None, "", [], {}) for value in variation.values):
        yield ("values",), "an empty value", "values with a content", "remove it"
    if isinstance(variation.labels, list) and len(variation.labels) != len(variation.values):
        yield (
            ("labels",),
            f"{len(variation.labels)} labels",
            "one label per value",
            "make them agree",
        )
    labels = variation.labels
    shown = list(labels.values()) if isinstance(labels, dict) else labels or []
    for label in sorted({label for label in shown if shown.count(label) > 1}):
        yield ("labels",), label, "labels that differ", "rename one of them"
    if variation.target in targets:
        yield (), variation.target, "each target varied once", "join the two lists of values"
    elif variation.factor in names or variation.factor in SETTINGS or "." in variation.factor:
        yield ("name",), variation.factor, "a name of its own, without dots", "give another `name`"


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def scenario_folder(text: str, config: Path | None) -> Path:
    """The base scenario's folder, whole, so that the study can be run from anywhere: from the
    working directory, then from the config's own. Raises InputError for none, or two."""
    candidates = [Path(text)]
    if config is not None and not Path(text).is_absolute():
        candidates += [parent / text for parent in config.resolve().parents[:1]]
    found = dict.fromkeys(p.resolve() for p in candidates if _holds_scenario(p))
    if len(found) > 1:
        both = " and ".join(str(p) for p in found)
        raise InputError(
            f"base_scenario {text!r}: two different folders: {both}\n"
            "  allowed: one\n  remedy: give an absolute path"
        )
    if not found:
        tried = ", ".join(str(p) for p in candidates)
        raise InputError(
            f"base_scenario {text!r}: no scenario.yaml in {tried}\n  allowed: a scenario folder\n"
            "  remedy: correct the path, or `peira new scenario NAME` writes one"
        )
    return next(iter(found))


def _holds_scenario(folder: Path) -> bool:
    try:
        return (folder / "scenario.yaml").is_file()
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL
        return False


def file_hashes(folder: Path) -> dict[str, str]:
    """File -> hash, over all that a scenario is read from; metrics have one each, since those
    that steer nothing may change while a batch goes on."""
    names = ("*.yaml", "*.py", "actors/*.yaml", "background/*.md")
    files = sorted({path for name in names for path in folder.glob(name)})
    found: dict[str, str] = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        found |= (
            _metric_hashes(path) if name == "metrics.yaml" else {name: _hash(path.read_bytes())}
        )
    return found


def _metric_hashes(path: Path) -> dict[str, str]:
    try:
        data, _ = load_yaml(path)
    except InputError:  # the family will say what is wrong with it
        return {path.name: _hash(path.read_bytes())}
    metrics = data.get("metrics") if isinstance(data, dict) else None
    listed = metrics if isinstance(metrics, dict) else {}
    return {
        f"{path.name}:{name}": _hash(json.dumps(metric, sort_keys=True, default=str).encode())
        for name, metric in listed.items()
    }


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def slug(name: str) -> str:
    """`Model Comparison Study` -> `model-comparison-study`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "batch"


def _lines(
    source: Source, variations: list[dict[str, Any]]
) -> Iterator[tuple[tuple[Any, ...], tuple[int, int]]]:
    yield from source.lines.items()
    renamed = {
        "base_scenario": ("fixed", "base_scenario"), "experiment_name": ("name",),
        "max_parallel": ("limits", "max_parallel"), "budget_limit": ("limits", "budget_usd"),
        "runs_per_variation": ("replicates",),
    }  # fmt: skip
    for path, place in source.lines.items():
        if path and path[0] in renamed:
            yield (*renamed[path[0]], *path[1:]), place
        listed = len(path) >= 3 and path[0] == "variations" and path[2] == "values"
        if listed and path[1] < len(variations):
            yield ("factors", variations[path[1]]["name"], *path[3:]), place
