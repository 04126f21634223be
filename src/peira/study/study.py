"""The question: a family, fixed settings, factors, seeds, limits.

A `Study` is plain data; `grid` turns it into cells, `plan` (in api) into trials. Invariant: a
trial's identity depends on its own settings and seed alone, so adding values or seeds to a study
adds trials and never reruns the old ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from peira.study.seeds import replicate_seeds

MOST_USD = 1e9  # an amount fits into micro-dollars of 64 bits


class Limits(BaseModel):
    """What a run may use. None means no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_parallel: int = Field(16, ge=1, le=10_000, description="trials in flight")
    budget_usd: float | None = Field(
        None, ge=0, le=MOST_USD, description="the whole run, US dollars"
    )
    trial_usd: float | None = Field(None, ge=0, le=MOST_USD, description="one trial, US dollars")
    trial_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="one attempt of one trial"
    )
    retries: int = Field(5, ge=0, le=100, description="further tries of a call after a fault")


class StopRule(BaseModel):
    """When to start no new trials, declared before the first (statistics §7).

    What is monitored has one value a replicate: the mean of the outcome over its cells or, with
    `factor`, the difference of two levels of that factor (treatment - control)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: str = Field(description="numeric outcome that is monitored")
    rule: str = Field(
        "confidence_sequence", pattern="^(confidence_sequence|group_sequential|e_process)$"
    )
    factor: str | None = Field(None, description="compare two levels of this factor")
    levels: tuple[Any, Any] | None = Field(None, description="[control, treatment]")
    alpha: float = Field(0.05, gt=0, lt=1)
    half_width: float | None = Field(
        None, gt=0, description="stop once the interval is this narrow"
    )
    null: float | None = Field(None, description="stop once the interval excludes this value")
    range: tuple[float, float] = Field((0.0, 1.0), description="bounds of the outcome")
    margin: float | None = Field(
        None, gt=0, description="stop once the interval lies within this distance of the null"
    )
    futility: float | None = Field(
        None, gt=0, lt=1, description="stop once power under the trend is below this"
    )
    spending: str = Field("obrien-fleming", pattern="^(obrien-fleming|pocock)$")
    looks: int = Field(5, ge=1, le=100)
    minimum: int = Field(20, ge=2, description="trials before the first look")


class Study(BaseModel):
    """A study as read from YAML or built in Python. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    family: str
    name: str = ""
    description: str = ""
    fixed: dict[str, Any] = Field(default_factory=dict)
    factors: dict[str, list[Any]] = Field(default_factory=dict)
    zip: dict[str, list[Any]] = Field(default_factory=dict)
    cells: list[dict[str, Any]] = Field(default_factory=list)
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    seeds: list[int] = Field(default_factory=list)
    replicates: int | None = Field(None, ge=1)
    seed: int = 0
    limits: Limits = Field(default_factory=Limits)
    subjects: dict[str, dict[str, Any]] = Field(default_factory=dict)
    analysis: dict[str, Any] = Field(default_factory=dict)
    stop: StopRule | None = None
    output_dir: str | None = None
    save_individual_runs: bool = True
    aggregate_metrics: bool = True

    @model_validator(mode="after")
    def _seeds_one_way(self) -> Study:
        if self.seeds and self.replicates:
            raise ValueError("give `seeds` or `replicates`, not both")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("`seeds` must differ from one another")
        return self

    @property
    def trial_seeds(self) -> list[int]:
        """The seed of each replicate, in order."""
        return list(self.seeds) or replicate_seeds(self.seed, self.replicates or 1)

    def canonical(self) -> bytes:
        """RFC 8785 form of everything that defines the question (not limits, not output)."""
        return canonical(
            self.model_dump(
                mode="json",
                exclude={"limits", "output_dir", "save_individual_runs", "aggregate_metrics"},
            )
        )

    @property
    def hash(self) -> str:
        """SHA-256 of `canonical`, hex."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """One trial as planned. `index` counts from 0 in grid order, `replicate` from 1; `cell_number`
    is the cell's number in its run, kept for ever however the study is edited (0 before)."""

    id: str
    seed: int
    replicate: int
    index: int
    cell_index: int
    cell: Mapping[str, Any] = field(default_factory=dict)
    cell_number: int = 0


def canonical(data: Any) -> bytes:
    """RFC 8785 canonical JSON."""
    import rfc8785

    return rfc8785.dumps(data)


@lru_cache(maxsize=4096)
def _prefix(family: str, version: int, settings: bytes) -> hashlib._Hash:
    return hashlib.sha256(
        b'{"family":' + canonical(family) + b',"schema":' + str(version).encode()
        + b',"settings":' + settings + b',"seed":'
    )  # fmt: skip


def trial_id(family: str, version: int, settings: bytes, seed: int) -> str:
    """Identity of a trial: 32 hex of SHA-256 over (family, schema version, settings, seed).

    `settings` is their RFC 8785 form, shared by all seeds of a cell.
    """
    digest = _prefix(family, version, settings).copy()
    digest.update(str(seed).encode() + b"}")
    return digest.hexdigest()[:32]
