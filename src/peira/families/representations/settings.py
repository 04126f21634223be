"""What one trial may be asked: experiment × model × condition × seed, and how to look.

Invariant: `identity` holds what changes a number; how fast or on what it runs, and how many contexts
are drawn, do not, so more contexts extend a trial and never redo it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from peira.families.family import Settings
from peira.families.representations import catalogue
from peira.families.representations.walks import Walk

FREE = frozenset(  # settings that change no number (beyond float rounding)
    {"n_contexts", "device", "batch_size", "batch_tokens", "token_budget", "save_activations"}
)
Layer = int | Literal["emb"]


class RepresentationSettings(Settings):
    """Settings of one trial. None means the experiment's own default."""

    experiment: str = Field(description="which experiment")
    model: str = Field("", description="hub id, folder or sim:mixer; empty: the default model")
    condition: str = Field("", description="one of the experiment's conditions")
    n_contexts: int = Field(100, ge=2, le=100_000)
    layers: tuple[Layer, ...] | None = Field(None, description="k = after block k; emb; None: all")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    batch_size: int | None = Field(None, ge=1, description="contexts per forward")
    batch_tokens: int | None = Field(None, ge=64, description="padded tokens in flight")
    token_budget: int | None = Field(None, ge=1, description="tokens the run may forward")
    lengths: tuple[int, ...] | None = Field(None, description="context lengths N, ascending")
    window: int | None = Field(None, ge=0, description="means over the last W tokens; 0: all")
    graph: str | None = None
    graphs: Literal["one", "per_context"] = "one"
    branching: tuple[int, ...] = (2, 2, 4)
    walk: str | None = None
    vocabulary: str = "words"
    assignment: Literal["random", "sorted", "semantic"] = "random"
    bos: Literal["auto", "none"] = "auto"
    null: tuple[Literal["shuffled", "untrained", "none"], ...] | None = None
    save_activations: Literal["means", "tokens"] | None = None
    mode: str | None = Field(
        None, description="loo: delete, mask, swap; injection: replace, insert"
    )
    steer: bool = False
    checkpoints: tuple[str, ...] = ()

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        return parse_layers(value) if isinstance(value, str) else value

    @field_validator("lengths", "branching", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not all(part.strip().isdigit() for part in value.split(",")):
            raise ValueError("a comma list of whole numbers")
        return tuple(int(part) for part in value.split(","))

    @field_validator("lengths")
    @classmethod
    def _ascending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 2 or list(value) != sorted(set(value))):
            raise ValueError("lengths must be ascending, each at least 2")
        return value

    @field_validator("walk")
    @classmethod
    def _walk(cls, value: str | None) -> str | None:
        if value is not None:
            Walk.parse(value)
        return value

    @model_validator(mode="after")
    def _known(self) -> RepresentationSettings:
        entry = catalogue.find(self.experiment)
        for name, value, allowed in (
            ("condition", self.condition, entry.conditions),
            ("mode", self.mode, entry.modes),
        ):
            open_condition = name == "condition" and entry.open_conditions
            if value and value not in allowed and not open_condition:
                told = ", ".join(allowed) or f"none: {entry.name} has no {name}"
                raise ValueError(f"--{name}: {value}\n  allowed: {told}")
        if (own := self._own_graph()) and self.graph not in (None, own):
            raise ValueError(
                f"--graph: {self.graph}\n  allowed: {own}, which the experiment is about"
            )
        if self.graphs == "per_context" and entry.graph == "crossed":
            raise ValueError(
                f"--graphs: per_context\n  allowed: one, {entry.name} has no random graph"
            )
        if self.steer and entry.name != "park":
            raise ValueError("--steer: belongs to park\n  remedy: peira probe park --steer")
        if self.checkpoints and entry.name != "lee":
            raise ValueError("--checkpoints: belong to lee\n  remedy: peira probe lee")
        return self

    def _own_graph(self) -> str | None:
        """The only graph that the experiment, or its condition, can be asked about."""
        if self.condition == "days":
            return "ring:7"
        return self.entry.graph if self.entry.only else None

    @property
    def entry(self) -> catalogue.Entry:
        return catalogue.find(self.experiment)

    def identity(self) -> dict[str, Any]:
        """What makes the trial what it is."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(FREE))


def parse_layers(text: str) -> tuple[Layer, ...] | None:
    """From `--layers`: `all`, or a comma list of numbers and `emb`."""
    if text.strip().lower() in ("all", ""):
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    bad = [word for word in words if word != "emb" and not word.lstrip("-").isdigit()]
    if bad:
        raise ValueError(f"layer {bad[0]!r}: allowed are numbers, negative from the end, and emb")
    return tuple("emb" if word == "emb" else int(word) for word in words)


def model_slug(name: str) -> str:
    """A model's name as part of a path."""
    text = Path(name).name if Path(name).is_absolute() else name.replace("/", "--")
    return (
        "".join(c if c.isalnum() or c in "._-" else "-" for c in text).strip("-.")[:80] or "model"
    )
