"""What a study's `subjects: {name: …}` may say of one subject.

Invariant: no key ever stands in a study; it names the environment variable that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from peira.errors import Fault, InputError, StudyError
from peira.subjects.catalogue import WireName
from peira.subjects.keys import scrub
from peira.subjects.pace import PaceOptions
from peira.subjects.prices import PriceOptions
from peira.subjects.wire.dialect import SETTINGS

SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "proxy-authorization")


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
    quirks: tuple[str, ...] | None = None
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
        return url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _no_secrets(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
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
        for name in sampling:
            if name not in SETTINGS:
                raise ValueError(f"{', '.join(SETTINGS)} (not {name!r})")
        if "stop" in sampling:
            sampling = {**sampling, "stop": tuple(sampling["stop"])}
        return sampling


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
        raise StudyError([_fault(name, each) for each in error.errors()]) from error


def _fault(name: str, error: Any) -> str:
    path = ".".join(map(str, ("subjects", name, *error["loc"])))
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(SubjectOptions.model_fields)
        return str(Fault("study", path, "unknown key", allowed))
    value = scrub(repr(error.get("input"))[:80])
    return str(Fault("study", path, value, _words(error["msg"])))


def _words(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")
