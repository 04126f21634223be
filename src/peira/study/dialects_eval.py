"""eval_config.yaml → Study: models, prompt sets and decoding settings to be crossed.

Keys are renamed and moved, strictly; what a value means is the prompts family's to check. Invariant:
every value keeps the line it stands on, and an unknown key names the nearest known one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peira.errors import Fault, InputError, StudyError
from peira.study.reader import Source, suggestion
from peira.study.study import Limits, Study

AXES = ("model", "prompt_set", "top_p", "top_k", "max_new_tokens")
DECODING = ("top_p", "top_k", "max_new_tokens")
PASSED_ON = (
    "prompt_sets", "model_aliases", "temps", "samples_per_item", *DECODING, "stop", "sizes", "data",
    "task_instructions", "abstain_phrase", "paths", "max_concurrent_requests", "simulated",
    "limit_items", "condition", "tokenizer",
)  # fmt: skip
ANALYSIS = ("stats", "unsupported", "optional", "scoring", "pricing")
SWEEP = ("models", "prompt_sets", *DECODING, "temps")
TRIAL = ("id", "model", "model_id", "prompt_set", "temps", "samples_per_item", "decoding")
PROVIDER = (
    "name", "allow_drop", "base_url", "api_key_env", "requests_per_minute", "tokens_per_minute",
    "max_concurrency", "timeout", "batch", "reasoning_effort", "extra_body",
)  # fmt: skip
LOCAL = ("local_base_url", "local_model", "local_api_key_env")
BACKENDS = ("fireworks", "openai", "anthropic", "local", "alt")
PRICING = ("input_per_million", "output_per_million", "batch_discount", "providers")
KNOWN = (
    "name", "description", "model_id", "models", "default_prompt_set", "seed", "seeds", "sweep",
    "trials", "use_batch_api", "backend", "provider", "limits", "subjects", *PASSED_ON, *ANALYSIS,
    *LOCAL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """What a command line changes of a file: lists replace sweep axes and filter `trials`."""

    models: tuple[str, ...] = ()
    prompt_sets: tuple[str, ...] = ()
    temps: tuple[float, ...] = ()
    no_sweep: bool = False
    mode: str | None = None
    condition: str = "both"
    limit_items: int | None = None
    batch: tuple[tuple[str, Any], ...] = ()


def eval_config(data: dict[str, Any], path: Path, source: Source) -> tuple[Study, Source]:
    """The Study an eval_config.yaml means. Raises StudyError with every fault and its line."""
    return Translation(data, path, source).result()


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
    new: dict[str, Any] = {"use_batch_api": batch, "condition": changes.condition}
    arms = {arm for arms in (data.get("prompt_sets") or {}).values() for arm in arms or ()}
    if changes.condition not in {"both", "all", *arms}:
        raise InputError(
            f"--condition {changes.condition}: no such arm\n  allowed: both, {', '.join(arms)}"
        )
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

    def __init__(self, data: dict[str, Any], path: Path, source: Source) -> None:
        self.data = data
        self.path = path
        self.source = source
        self.faults: list[str] = []

    def result(self) -> tuple[Study, Source]:
        self._check_keys()
        self._check_sets()
        if self.faults:
            raise StudyError(self.faults)
        fixed = self._fixed()
        factors, cells = self._factors(), self._cells()
        seeds = self._seeds()
        fixed["several_seeds"] = len(seeds) > 1
        models = [*factors.get("model", ()), *(cell["model"] for cell in cells)]
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
        return study, Source(self.source.file, dict(self._lines()))

    # -- keys -------------------------------------------------------------------------------
    def _check_keys(self) -> None:
        self._known((), self.data, KNOWN)
        for name, known in (("sweep", SWEEP), ("provider", PROVIDER), ("pricing", PRICING)):
            part = self.data.get(name)
            if name == "provider" and isinstance(part, str):
                continue
            if part is not None:
                self._known((name,), part, known)
        trials = self.data.get("trials") or []
        if not isinstance(trials, list):
            self._fault(("trials",), trials, "a list of trials")
            return
        for number, trial in enumerate(trials):
            self._known(("trials", number), trial, TRIAL)
            if isinstance(trial, Mapping) and trial.get("decoding") is not None:
                self._known(("trials", number, "decoding"), trial["decoding"], DECODING)

    def _known(self, path: tuple[Any, ...], part: Any, known: Iterable[str]) -> None:
        if not isinstance(part, Mapping):
            self._fault(path, part, "a mapping")
            return
        for key in part:
            if key not in known:
                self._fault((*path, key), "unknown key", ", ".join(known), suggestion(key, known))

    def _fault(self, path: tuple[Any, ...], value: Any, allowed: str, remedy: str = "") -> None:
        dotted = ".".join(map(str, path)) or "the file"
        told = value if value == "unknown key" else repr(value)[:80]
        self.faults.append(str(Fault(self.source.where(path), dotted, told, allowed, remedy)))

    # -- prompt sets --------------------------------------------------------------------------
    def _check_sets(self) -> None:
        sets = self.data.get("prompt_sets")
        if not isinstance(sets, Mapping) or not sets:
            self._fault(("prompt_sets",), sets, "{name: {control: path, arm: path or null}}")
            return
        for name, arms in sets.items():
            if not isinstance(arms, Mapping):
                self._fault(("prompt_sets", name), arms, "{control: path, arm: path or null}")
                continue
            for arm, text in arms.items():
                if text is not None and find_input(str(text), self.path) is None:
                    self._fault(
                        ("prompt_sets", name, arm), text, "an existing file, or null",
                        "paths start at the working directory or above the config file",
                    )  # fmt: skip
        if (wanted := default_prompt_set(self.data)) not in sets:
            self._fault(
                ("default_prompt_set",), wanted, ", ".join(sets), suggestion(str(wanted), sets)
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
        fixed["mode"] = "batch" if self.data.get("use_batch_api") else "live"
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
            self._fault(("model_id",), "missing", "a model", "add model_id: NAME")
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

    # -- lines --------------------------------------------------------------------------------
    def _lines(self) -> Iterator[tuple[tuple[Any, ...], tuple[int, int]]]:
        """Places of the Study's parts in the original file."""
        renamed = {"models": "model", "prompt_sets": "prompt_set"}
        for parts, place in self.source.lines.items():
            yield parts, place
            head, rest = parts[0], parts[1:]
            if head in ANALYSIS:
                yield ("fixed", "analysis", *parts), place
            elif head == "sweep" and rest:
                yield ("factors", renamed.get(rest[0], rest[0]), *rest[1:]), place
            elif head == "trials" and rest:
                inner = [part for part in rest if part != "decoding"]
                yield ("cells", *inner), place
            elif head in PASSED_ON:
                yield ("fixed", *parts), place
            elif head == "model_id":
                yield ("factors", "model"), place


def _crossed(values: Any) -> Iterator[Any]:
    """The values of an axis; `{closed_book: [..], open_book: [..]}` is crossed."""
    if isinstance(values, Mapping):
        lists = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
        for row in itertools.product(*lists.values()):
            yield dict(zip(lists, row, strict=True))
    else:
        yield from values if isinstance(values, list) else [values]
