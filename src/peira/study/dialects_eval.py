"""eval_config.yaml → Study: models, prompt sets and decoding settings to be crossed.

Keys are renamed and moved, strictly; what a value means is the prompts family's to check. Invariant:
every value keeps the line it stands on, and an unknown key names the nearest known one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from peira.errors import Fault, InputError, StudyError
from peira.study.reader import Source, suggestion, validated
from peira.study.study import Limits, Study

DECODING = ("top_p", "top_k", "max_new_tokens")
PASSED_ON = (
    "prompt_sets", "model_aliases", "temps", "samples_per_item", *DECODING, "stop", "sizes", "data",
    "task_instructions", "abstain_phrase", "paths", "max_concurrent_requests", "simulated",
    "limit_items", "condition", "tokenizer",
)  # fmt: skip
ANALYSIS = ("stats", "unsupported", "optional", "scoring", "pricing")
LOCAL = ("local_base_url", "local_model", "local_api_key_env")
Names = str | list[str]
Mapped = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Decoding(_Part):
    """Settings that may be swept, or set by a trial."""

    top_p: Any = None
    top_k: Any = None
    max_new_tokens: Any = None


class Sweep(Decoding):
    """Lists that are crossed."""

    models: Names | None = None
    prompt_sets: Names | None = None
    temps: list[float] | None = None


class Listed(_Part):
    """One of `trials`."""

    id: str | None = None
    model: str | None = None
    model_id: str | None = None
    prompt_set: str | None = None
    temps: list[float] | None = None
    samples_per_item: Any = None
    decoding: Decoding | None = None


class Provider(_Part):
    """How the models are reached; the wire checks what the values mean."""

    name: str | None = None
    allow_drop: Any = None
    base_url: str | None = None
    api_key_env: str | None = None
    requests_per_minute: Any = None
    tokens_per_minute: Any = None
    max_concurrency: Any = None
    timeout: Any = None
    batch: bool | Mapped | None = None
    reasoning_effort: Any = None
    extra_body: Mapped | None = None


class Prices(_Part):
    """Dollars per million tokens; the family checks the numbers."""

    input_per_million: float | None = None
    output_per_million: float | None = None
    batch_discount: float | None = None
    providers: dict[str, dict[str, Mapped]] | None = None


class Config(_Part):
    """The file's own form. What is `Any` here is the family's to check."""

    name: str | None = None
    description: str | None = None
    model_id: str | None = None
    models: Names | None = None
    model_aliases: dict[str, str] | None = None
    prompt_sets: dict[str, dict[str, str | None]]
    default_prompt_set: str | None = None
    temps: Any = None
    samples_per_item: Any = None
    top_p: Any = None
    top_k: Any = None
    max_new_tokens: Any = None
    stop: Any = None
    seed: int | None = None
    seeds: list[int] | None = None
    sizes: Any = None
    data: Mapped | None = None
    limit_items: Any = None
    condition: str | None = None
    task_instructions: dict[str, str | None] | None = None
    abstain_phrase: Any = None
    paths: Mapped | None = None
    sweep: Sweep | None = None
    trials: list[Listed] | None = None
    use_batch_api: bool | None = None
    backend: Literal["fireworks", "openai", "anthropic", "local", "alt"] | None = None
    provider: str | Provider | None = None
    local_base_url: str | None = None
    local_model: str | None = None
    local_api_key_env: str | None = None
    max_concurrent_requests: Any = None
    tokenizer: str | None = None
    limits: Limits | None = None
    subjects: dict[str, Mapped] | None = None
    simulated: Any = None
    stats: Any = None
    unsupported: Any = None
    optional: Any = None
    scoring: Any = None
    pricing: Prices | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a command line changes of a file: lists replace sweep axes and filter `trials`."""

    models: tuple[str, ...] = ()
    prompt_sets: tuple[str, ...] = ()
    temps: tuple[float, ...] = ()
    no_sweep: bool = False
    mode: str | None = None
    condition: str | None = None
    limit_items: int | None = None
    batch: tuple[tuple[str, Any], ...] = ()


# Faults of these places are told by their flag, where the command line set them.
FLAGS = {
    "condition": ("condition", "--condition"),
    "sweep.prompt_sets": ("prompt_sets", "--prompt-sets"),
}


def eval_config(
    data: dict[str, Any], path: Path, source: Source, changes: Changes | None = None
) -> tuple[Study, Source]:
    """The Study an eval_config.yaml means, under a command line's changes. Raises StudyError with
    every fault and its line."""
    validated(Config, data, source)
    if changes is None:
        return Translation(data, path, source).result()
    flags = {place: flag for place, (name, flag) in FLAGS.items() if getattr(changes, name)}
    return Translation(changed(data, changes), path, source, flags).result()


def changed(data: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The file's data under a command line's changes."""
    new = dict(data) | _asked(data, changes)
    sweep = dict(new.get("sweep") or {})
    for name in ("models", "prompt_sets", "temps"):
        if values := list(getattr(changes, name)):
            sweep[name] = values
    if changes.temps:
        new["temps"] = list(changes.temps)
    if changes.no_sweep:
        new = {k: v for k, v in new.items() if k not in ("sweep", "trials", "models")}
        sweep = {k: v for k, v in sweep.items() if getattr(changes, k, ())}
    if new.get("trials"):
        new["trials"] = [t for t in new["trials"] if _kept(t, data, changes)]
        sweep = {}
    return new | ({"sweep": sweep} if sweep else {})


def _asked(data: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Mode, selection and batch options of a command line."""
    if changes.mode not in (None, "live", "batch"):
        raise InputError(f"--mode {changes.mode}\n  allowed: live, batch")
    batch = bool(data.get("use_batch_api")) if changes.mode is None else changes.mode == "batch"
    new: dict[str, Any] = {"use_batch_api": batch}
    if changes.condition is not None:
        new["condition"] = changes.condition
    if changes.limit_items is not None:
        new["limit_items"] = changes.limit_items
    if batch and changes.batch:
        provider = data.get("provider")
        named = provider if isinstance(provider, Mapping) else {"name": provider}
        known = named.get("batch")
        options: dict[str, Any] = dict(known) if isinstance(known, Mapping) else {}
        options.update(changes.batch)
        new["provider"] = {k: v for k, v in named.items() if v} | {"batch": options}
    return new


def _kept(trial: Any, data: Mapping[str, Any], changes: Changes) -> bool:
    if not isinstance(trial, Mapping):
        return True
    model = trial.get("model") or trial.get("model_id") or data.get("model_id")
    chosen = trial.get("prompt_set") or default_prompt_set(data)
    temps = trial.get("temps") or data.get("temps") or [0.0]
    return (
        (not changes.models or model in changes.models)
        and (not changes.prompt_sets or chosen in changes.prompt_sets)
        and (not changes.temps or bool({*map(float, temps)} & {*changes.temps}))
    )


def default_prompt_set(data: Mapping[str, Any]) -> str | None:
    """The set used when nothing sweeps sets: the one named, else `default`, else the first."""
    sets = data.get("prompt_sets")
    names = list(sets) if isinstance(sets, Mapping) else []
    if data.get("default_prompt_set") is not None:
        return str(data["default_prompt_set"])
    return "default" if "default" in names else next(iter(names), None)


def find_input(text: str, path: Path) -> Path | None:
    """An input path: against the working directory, then the file's folder and its ancestors.
    What is found in the working directory stays as written."""
    given = Path(text)
    if given.exists():
        return given
    folder = path.resolve().parent
    found = (base / given for base in (folder, *folder.parents) if (base / given).exists())
    return next(found, None)


class Translation:
    """One file on its way to a Study; faults are gathered and raised together."""

    def __init__(
        self, data: dict[str, Any], path: Path, source: Source,
        flags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.data = data
        self.path = path
        self.source = source
        self.flags = flags  # what the command line set, by its place in the file
        self.faults: list[str] = []

    def result(self) -> tuple[Study, Source]:
        self._check_sets()
        if self.faults:
            raise StudyError(self.faults)
        fixed = self._fixed()
        factors, cells = self._factors(), self._cells()
        seeds = self._seeds()
        if len(seeds) > 1:
            fixed["several_seeds"] = True
        models = [*factors.get("model", ()), *(cell["model"] for cell in cells)]
        self._check_condition(
            [*factors.get("prompt_set", ()), *(cell["prompt_set"] for cell in cells)]
        )
        if self.faults:
            raise StudyError(self.faults)
        study = Study(
            family="prompts",
            name=str(self.data.get("name") or self.path.stem),
            description=str(self.data.get("description") or ""),
            fixed=fixed,
            factors=factors,
            cells=cells,
            seeds=seeds,
            limits=Limits.model_validate(self.data.get("limits") or {}),
            subjects=self._subjects(models),
        )
        return study, replace(self.source, names=self._names())

    def _fault(self, path: tuple[Any, ...], value: Any, allowed: str, remedy: str = "") -> None:
        dotted = ".".join(map(str, path))
        where = self.source.where(path)
        if dotted in self.flags:
            where, dotted = "command line", self.flags[dotted]
        self.faults.append(str(Fault(where, dotted, repr(value)[:80], allowed, remedy)))

    # -- prompt sets --------------------------------------------------------------------------
    def _check_sets(self) -> None:
        sets = self.data["prompt_sets"]
        for name, arms in sets.items():
            for arm, text in arms.items():
                if text is not None and find_input(text, self.path) is None:
                    self._fault(
                        ("prompt_sets", name, arm), text, "an existing file, or null",
                        "paths start at the working directory or above the config file",
                    )  # fmt: skip
        if (wanted := default_prompt_set(self.data)) not in sets:
            self._fault(
                ("default_prompt_set",), wanted, ", ".join(sets), suggestion(str(wanted), sets)
            )

    def _check_condition(self, sets: Sequence[str]) -> None:
        """The selected arm is one of a prompt set that is used."""
        known = self.data["prompt_sets"]
        arms = list(dict.fromkeys(arm for name in sets for arm in known.get(name, ())))
        chosen = self.data.get("condition") or "both"
        if chosen not in ("both", "all", *arms):
            self._fault(
                ("condition",), chosen, ", ".join(("both", *arms)), suggestion(chosen, arms)
            )

    # -- fixed --------------------------------------------------------------------------------
    def _fixed(self) -> dict[str, Any]:
        fixed = {name: self.data[name] for name in PASSED_ON if name in self.data}
        fixed["prompt_sets"] = {
            name: {arm: self._input(text) for arm, text in arms.items()}
            for name, arms in self.data["prompt_sets"].items()
        }
        for name, value in (fixed.get("task_instructions") or {}).items():
            fixed["task_instructions"] = {
                **fixed["task_instructions"], name: self._input(value),
            }  # fmt: skip
        if isinstance(per_temp := fixed.get("samples_per_item"), Mapping):
            fixed["samples_per_item"] = {str(temp): n for temp, n in per_temp.items()}
        fixed |= self._data()
        if "tokenizer" in fixed:
            fixed["tokenizer"] = self._input(fixed["tokenizer"])
        if self.data.get("use_batch_api"):
            fixed["mode"] = "batch"
        fixed["analysis"] = {n: self.data[n] for n in ANALYSIS if self.data.get(n) is not None}
        sweep_temps = (self.data.get("sweep") or {}).get("temps")
        return fixed | ({"temps": sweep_temps} if sweep_temps else {})

    def _data(self) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        data = self.data.get("data")
        if isinstance(data, Mapping) and isinstance(data.get("files"), list):
            files = [
                {**file, "path": self._input(file["path"])}
                if isinstance(file, Mapping) and "path" in file
                else file
                for file in data["files"]
            ]
            changes["data"] = {**data, "files": files}
        paths = self.data.get("paths")
        if isinstance(paths, Mapping):
            inputs = {k: self._input(paths[k]) for k in ("raw_dir", "prepared_dir") if k in paths}
            changes["paths"] = {**paths, **inputs}
        return changes

    def _input(self, text: Any) -> Any:
        """Where an input path leads; one that leads nowhere stays as written."""
        found = find_input(text, self.path) if isinstance(text, str) else None
        return text if found is None else str(found)

    # -- the grid -----------------------------------------------------------------------------
    def _factors(self) -> dict[str, list[Any]]:
        if self.data.get("trials"):
            return {}
        sweep = self.data.get("sweep") or {}
        factors = {"model": self._models(sweep), "prompt_set": self._sets(sweep)}
        for name in DECODING:
            if sweep.get(name) is not None:
                factors[name] = list(_crossed(sweep[name]))
        return factors

    def _models(self, sweep: Mapping[str, Any]) -> list[str]:
        named = sweep.get("models") or self.data.get("models") or self.data.get("model_id")
        models = [named] if isinstance(named, str) else list(named or ())
        if not models:
            self._fault(("model_id",), None, "a model", "add model_id: NAME")
        aliases = self.data.get("model_aliases") or {}
        unique: dict[str, str] = {}
        for model in models:
            unique.setdefault(aliases.get(model, model), model)
        return list(unique.values())

    def _sets(self, sweep: Mapping[str, Any]) -> list[str]:
        names = sweep.get("prompt_sets")
        chosen = list(self.data["prompt_sets"]) if names == "all" else names
        chosen = [chosen] if isinstance(chosen, str) else list(chosen or ())
        chosen = chosen or [default_prompt_set(self.data)]
        for name in chosen:
            if name not in self.data["prompt_sets"]:
                known = list(self.data["prompt_sets"])
                self._fault(
                    ("sweep", "prompt_sets"), name, ", ".join(known), suggestion(str(name), known)
                )
        return list(dict.fromkeys(chosen))

    def _cells(self) -> list[dict[str, Any]]:
        return [self._cell(trial) for trial in self.data.get("trials") or ()]

    def _cell(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        cell: dict[str, Any] = {
            "model": trial.get("model") or trial.get("model_id") or self._models({})[0],
            "prompt_set": trial.get("prompt_set") or default_prompt_set(self.data),
        }
        cell |= {name: trial[name] for name in ("id", "temps") if trial.get(name) is not None}
        samples = trial.get("samples_per_item")
        if samples is not None:
            cell["samples_per_item"] = (
                {str(t): n for t, n in samples.items()} if isinstance(samples, Mapping) else samples
            )
        return cell | dict(trial.get("decoding") or {})

    def _seeds(self) -> list[int]:
        seeds = self.data.get("seeds")
        return list(seeds) if seeds else [self.data.get("seed", 0)]

    # -- subjects -----------------------------------------------------------------------------
    def _subjects(self, models: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Per model: provider settings, prices, batch mode; the file's `subjects` win."""
        aliases = self.data.get("model_aliases") or {}
        given = dict(self.data.get("subjects") or {})
        found: dict[str, dict[str, Any]] = {}
        for alias in dict.fromkeys(models):
            name = aliases.get(alias, alias)
            options = self._provider() | self._price(alias, name)
            if self.data.get("use_batch_api"):
                options.setdefault("batch", True)
            else:
                options.pop("batch", None)
            options |= given.pop(alias, {}) | given.pop(name, {})
            if options:
                found[name] = options
        return found | given

    def _provider(self) -> dict[str, Any]:
        part = self.data.get("provider")
        options = dict(part) if isinstance(part, Mapping) else {"name": part} if part else {}
        backend = self.data.get("backend")
        name = options.pop("name", None) or (None if backend in (None, "alt") else backend)
        effort = options.pop("reasoning_effort", None)
        if effort is not None:
            options["sampling"] = {"reasoning_effort": effort}
        for key in LOCAL:
            if self.data.get(key) is not None:
                options[key.removeprefix("local_")] = self.data[key]
        if name and name != "local":
            options["provider"] = name
        return options

    def _price(self, alias: str, model: str) -> dict[str, Any]:
        pricing = self.data.get("pricing") or {}
        names = {alias, model, model.rpartition("/")[2]}
        rates = next(
            (
                dict(rates)
                for models in (pricing.get("providers") or {}).values()
                for name, rates in models.items()
                if name in names
            ),
            {k: pricing[k] for k in ("input_per_million", "output_per_million") if k in pricing},
        )
        if len(rates) < 2:
            return {}
        discount = pricing.get("batch_discount")
        return {"price": rates | ({} if discount is None else {"batch_discount": discount})}

    def _names(self) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Where the file has what the Study has under other paths."""
        swept = self.data.get("sweep") or {}
        one = "models" if "models" in self.data else "model_id"
        return {
            ("fixed",): (), ("fixed", "analysis"): (), ("cells",): ("trials",),
            ("factors",): ("sweep",), ("factors", "prompt_set"): ("sweep", "prompt_sets"),
            ("factors", "model"): ("sweep", "models") if "models" in swept else (one,),
            **({("fixed", "temps"): ("sweep", "temps")} if "temps" in swept else {}),
        }  # fmt: skip


def _crossed(values: Any) -> Iterator[Any]:
    """The values of an axis; `{closed_book: [..], open_book: [..]}` is crossed."""
    if isinstance(values, Mapping):
        lists = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
        for row in itertools.product(*lists.values()):
            yield dict(zip(lists, row, strict=True))
    else:
        yield from values if isinstance(values, list) else [values]
