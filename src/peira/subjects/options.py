"""What a study's `subjects: {name: …}` may say of one subject.

Invariant: no key ever stands in a study; it names the environment variable that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from peira.errors import Fault, InputError, StudyError
from peira.subjects.catalogue import WireName
from peira.subjects.keys import scrub
from peira.subjects.pace import PaceOptions
from peira.subjects.prices import PriceOptions
from peira.subjects.subject import Sampling
from peira.subjects.wire.dialect import SETTINGS, Quirk

SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OURS = (  # what a body says by Peira alone: its budget and the reading of replies rest on it
    "model", "messages", "input", "contents", "system", "stream", "n", "max_tokens",
    "max_completion_tokens", "max_output_tokens",
)  # fmt: skip
SAMPLING = TypeAdapter(Sampling)


class BatchOptions(BaseModel):
    """How outstanding calls are put into a provider's batch jobs (prompts §4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["openai", "anthropic", "fireworks"] | None = None
    parts: int = Field(1, ge=1, description="jobs a group is cut into")
    lines_per_part: int | None = Field(None, ge=1, description="wins over parts")
    max_concurrent_jobs: int = Field(4, ge=1)
    gather_seconds: float = Field(2.0, ge=0, description="quiet time before a group is closed")
    poll_seconds: float = Field(20.0, gt=0)
    by_system: bool = Field(True, description="one group for each system prompt")
    requeues: int = Field(2, ge=0, description="further jobs for rows a job did not deliver")
    detach: bool = Field(False, description="submit, then stop the run until it is resumed")
    account: str | None = Field(None, description="Fireworks account id")


class SubjectOptions(PaceOptions):
    """What a study's `subjects: {name: …}` may say."""

    base_url: str | None = None
    wire: WireName | None = None
    model: str | None = None
    provider: str | None = None
    api_key_env: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    price: PriceOptions | Literal["free"] | None = None
    context_window: int | None = Field(None, ge=1)
    max_output: int | None = Field(None, ge=1)
    sampling: dict[str, Any] = Field(default_factory=dict)
    allow_drop: tuple[str, ...] = ()
    lacks: tuple[str, ...] | None = None
    quirks: tuple[Quirk, ...] | None = None
    seeds: bool | None = None
    timeout: float = Field(600.0, gt=0)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    reasoning_allowance: int | None = Field(None, ge=0)
    scores: dict[Literal["mmlu_pro", "arena_elo", "params_b"], float] = Field(default_factory=dict)
    batch: BatchOptions | bool = False
    local: dict[str, Any] = Field(default_factory=dict, description="options of hf: models")

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("http://HOST/… or https://HOST/…")
        if parts.password or parts.username:
            raise ValueError("an address without user and password (use api_key_env)")
        if parts.query or parts.fragment:
            raise ValueError("an address without ? and #, to which paths can be added")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not name.isidentifier():
            raise ValueError("the name of an environment variable, never a key")
        return name

    @field_validator("headers")
    @classmethod
    def _no_secrets(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not HEADER.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise ValueError(f"{name!r}: names and values of printable ASCII, on one line")
            if name.lower() in SECRET_HEADERS and not value.startswith("env:"):
                raise ValueError(f"{name}: keys come from the environment: write env:VARIABLE")
        return headers

    @field_validator("allow_drop", "lacks")
    @classmethod
    def _are_settings(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in SETTINGS:
                raise ValueError(f"{', '.join(SETTINGS)} (not {name!r})")
        return names

    @field_validator("sampling")
    @classmethod
    def _is_sampling(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        cls._are_settings(tuple(sampling))
        stop = sampling.get("stop")
        given = {**sampling, "stop": (stop,)} if isinstance(stop, str) else sampling
        try:
            read = SAMPLING.validate_python(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{first['loc'][0]}: {_words(first['msg'])}") from error
        return {name: getattr(read, name) for name in sampling}

    @field_validator("extra_body")
    @classmethod
    def _is_extra(cls, body: dict[str, Any]) -> dict[str, Any]:
        for name in body:
            if name in OURS:
                raise ValueError(f"what Peira itself does not say (not {name!r})")
        return body


def read_options(name: str, overrides: Mapping[str, Any]) -> SubjectOptions:
    """A study's options for one subject. Raises StudyError with every fault."""
    if "api_key" in overrides:
        raise InputError(
            f"subjects.{name}.api_key: keys never stand in a study, which is copied into results\n"
            "  remedy: api_key_env: NAME_OF_THE_VARIABLE"
        )
    try:
        return SubjectOptions.model_validate(dict(overrides))
    except ValidationError as error:
        raise StudyError([_fault(name, each) for each in _told(error.errors())]) from error


VARIANTS: dict[str, tuple[type[BaseModel], str]] = {
    "price": (PriceOptions, "free, or {input_per_million: …, output_per_million: …}"),
    "batch": (BatchOptions, "true, false, or {kind: …, parts: …}"),
}


def _told(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Of an option that is a word or a mapping, only the faults of what was meant."""
    told = []
    for error in errors:
        head, *rest = error["loc"]
        if head not in VARIANTS:
            told.append(error)
        elif rest and rest[0] == VARIANTS[head][0].__name__:
            wrong = {"msg": VARIANTS[head][1]} if error["type"] == "model_type" else {}
            told.append({**error, **wrong, "loc": (head, *rest[1:])})
    return told


def _fault(name: str, error: Any) -> str:
    path = ".".join(map(str, ("subjects", name, *error["loc"])))
    if error["type"] == "extra_forbidden":
        inner = VARIANTS.get(error["loc"][0]) if error["loc"][1:] else None
        own = [each for each in SubjectOptions.model_fields if each not in PaceOptions.model_fields]
        fields = inner[0].model_fields if inner else [*own, *PaceOptions.model_fields]
        return str(Fault("study", path, "unknown key", ", ".join(fields)))
    secret = error["loc"][0] == "api_key_env"
    value = "not shown" if secret else scrub(repr(error.get("input"))[:80])
    return str(Fault("study", path, value, _words(error["msg"])))


def _words(message: str) -> str:
    return (
        message.removeprefix("Value error, ")
        .removeprefix("Input should be ")
        .replace("tuple", "list")
    )
