"""The models Peira knows: `models.yaml`, a user's file of the same form over it.

Invariant: every score names its source and date; an entry of the user's file replaces the fields it
states and keeps the others.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peira.errors import InputError
from peira.subjects.prices import PriceOptions
from peira.subjects.wire.dialect import Quirk

SHIPPED = Path(__file__).with_name("models.yaml")
USER_FILE = Path("~/.config/peira/models.yaml")
ROUTER = "openrouter"
# Prefixes of OpenRouter's ids whose maker has a wire of its own.
MAKERS = {"openai": "openai", "anthropic": "anthropic", "google": "google", "x-ai": "xai",
          "mistralai": "mistral", "deepseek": "deepseek"}  # fmt: skip
SCALES = ("mmlu_pro", "arena_elo", "params_b")
SECTIONS = ("sources", "providers", "presets", "models")
WireName = Literal["openai", "responses", "anthropic", "google"]


class Part(BaseModel):
    """Base of the file's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(Part):
    """A capability score. `source`, `date` and `url` say who measured it, when, and where it stands;
    `checked` when that was last read: without it a shipped score is from memory."""

    value: float = Field(allow_inf_nan=False)
    source: str = "user"
    date: str = ""
    checked: str = ""
    url: str = ""

    @property
    def remembered(self) -> bool:
        """True for a number that nobody has compared with its source."""
        return not self.checked and self.source != "user"

    def __str__(self) -> str:
        mark = "~" if self.remembered else ""
        return f"{mark}{self.value:g}"


class ProviderEntry(Part):
    """A provider's interface. `local`: a server of one's own, free and allowed offline."""

    wire: WireName = "openai"
    base_url: str
    keys: tuple[str, ...] = ()
    prices: str | None = None
    prefix: str = ""
    lacks: frozenset[str] = frozenset()
    quirks: frozenset[Quirk] = frozenset()
    seeds: bool = False
    local: bool = False
    batch: Literal["openai", "anthropic", "fireworks"] | None = None


class ModelEntry(Part):
    """A model. `at` is provider/id, `router` its id at OpenRouter, used when only that key is set."""

    at: str
    router: str | None = None
    aliases: tuple[str, ...] = ()
    window: int | None = Field(None, ge=1)
    output: int | None = Field(None, ge=1)
    lacks: frozenset[str] = frozenset()
    fixed: dict[str, float] = Field(default_factory=dict)
    quirks: frozenset[Quirk] = frozenset()
    allowance: int = Field(0, ge=0, description="tokens added to max_tokens for reasoning")
    price: PriceOptions | None = None
    scores: dict[Literal["mmlu_pro", "arena_elo", "params_b"], Score] = Field(default_factory=dict)

    @property
    def provider(self) -> str:
        return self.at.partition("/")[0]

    @property
    def model(self) -> str:
        return self.at.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entries, found by name, alias, or their id at OpenRouter."""

    providers: Mapping[str, ProviderEntry]
    models: Mapping[str, ModelEntry]
    names: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> tuple[str, ModelEntry] | None:
        """(registry name, entry), or None."""
        known = self.names.get(name) or self.names.get(name.lower())
        return None if known is None else (known, self.models[known])

    def near(self, name: str) -> list[str]:
        """Known names like this one."""
        found = difflib.get_close_matches(name, self.names, n=6, cutoff=0.55)
        return list(dict.fromkeys(self.names[each] for each in found))[:3]


def catalogue() -> Catalogue:
    """The shipped models and the user's file over them. Raises InputError naming file and path."""
    stated = os.environ.get("PEIRA_MODELS")
    path = Path(stated).expanduser() if stated else USER_FILE.expanduser()
    if not path.is_file():
        if stated:
            raise InputError(
                f"PEIRA_MODELS: {stated}: no such file\n  remedy: unset it, or mend it"
            )
        return _load(None, 0.0)
    return _load(path, path.stat().st_mtime)


@lru_cache(maxsize=4)
def _load(user: Path | None, changed: float) -> Catalogue:
    data, where = _read(SHIPPED), user or SHIPPED
    for section, entries in (_read(user) if user is not None else {}).items():
        for name, entry in entries.items():
            data[section][name] = {**data[section].get(name, {}), **entry}
    flat = {name: _flatten(name, entry, data, where) for name, entry in data["models"].items()}
    models = _parts(ModelEntry, flat, where, "models")
    providers = _parts(ProviderEntry, data["providers"], where, "providers")
    return Catalogue(providers, models, _names(models))


def _read(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The file's sections, each of named mappings."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(path.read_text("utf-8"), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict) or not set(data) <= set(SECTIONS):
        odd = [data] if not isinstance(data, dict) else [key for key in data if key not in SECTIONS]
        found = ", ".join(map(repr, odd))
        raise InputError(f"{path}: {found}\n  allowed: {', '.join(SECTIONS)}")
    sections = {section: {} if entries is None else entries for section, entries in data.items()}
    for section, entries in sections.items():
        if not isinstance(entries, dict):
            raise InputError(f"{path}: {section}: {entries!r}\n  allowed: {{NAME: {{…}}, …}}")
        for name, entry in entries.items():
            if not isinstance(name, str) or not isinstance(entry, dict):
                raise InputError(f"{path}: {section}.{name}: {entry!r}\n  allowed: NAME: {{…}}")
    return sections


def _flatten(name: str, raw: Mapping[str, Any], data: dict[str, Any], where: Path) -> Any:
    """An entry with its preset filled in and its scores' sources spelt out."""
    entry = dict(raw)
    preset = entry.pop("preset", None)
    if preset is not None:
        if not isinstance(preset, str) or preset not in data["presets"]:
            known = ", ".join(data["presets"])
            raise InputError(f"{where}: models.{name}.preset: {preset!r}\n  allowed: {known}")
        entry = {**data["presets"][preset], **entry}
    scores = entry.get("scores")
    if isinstance(scores, dict):
        entry["scores"] = {scale: _score(each, data["sources"]) for scale, each in scores.items()}
    return entry


def _score(raw: Any, sources: Mapping[str, Mapping[str, Any]]) -> Any:
    """A number, `[number, source]`, or a mapping of a Score's fields."""
    if isinstance(raw, list) and len(raw) == 2 and isinstance(raw[1], str):
        source = sources.get(raw[1], {"text": raw[1]})
        stated = {key: str(source[key]) for key in ("date", "checked", "url") if key in source}
        return {"value": raw[0], "source": source.get("text", raw[1]), **stated}
    return {"value": raw} if isinstance(raw, int | float) else raw


P = TypeVar("P", bound=Part)


def _parts(kind: type[P], entries: Mapping[str, Any], where: Path, section: str) -> dict[str, P]:
    parts: dict[str, P] = {}
    for name, raw in entries.items():
        try:
            parts[name] = kind.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, (section, name, *first["loc"])))
            raise InputError(f"{where}: {path}: {first['msg']}") from error
    return parts


def _names(models: Mapping[str, ModelEntry]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, entry in models.items():
        routed = entry.at.removeprefix(f"{ROUTER}/")  # OpenRouter's id, as its users write it
        for alias in (name, *entry.aliases, entry.router, entry.at, routed):
            if alias:
                names.setdefault(alias, name)
                names.setdefault(alias.lower(), name)
    return names
