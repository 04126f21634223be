"""Other file forms → Study: each guide's own file is read as it stands.

A dialect recognises a file by its keys and renames fields; the family checks their meaning. The
translated Source keeps pointing at the lines of the original file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from peira.errors import Fault, StudyError
from peira.study.reader import Source, suggestion, validated
from peira.study.study import Study

Translator = Callable[[dict[str, Any], Path, Source], tuple[Study, Source]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One foreign form: recognised when `any_of` keys occur and `family` does not."""

    name: str
    any_of: frozenset[str]
    module: str
    function: str


DIALECTS = (
    Dialect("config_N.json", frozenset({"weak_model", "strong_model", "experiment_id"}),
            "peira.study.dialects", "negotiation_config"),
    Dialect("batch-config.yaml", frozenset({"base_scenario", "experiment_name"}),
            "peira.study.dialects_batch", "batch_config"),
    Dialect("eval_config.yaml", frozenset({"prompt_sets", "default_prompt_set"}),
            "peira.study.dialects_eval", "eval_config"),
)  # fmt: skip


def translate(data: dict[str, Any], path: Path, source: Source) -> tuple[Study, Source] | None:
    """The Study a foreign file means, or None if it is not a known foreign form."""
    if "family" in data:
        return None
    for dialect in DIALECTS:
        if dialect.any_of & set(data):
            translator: Translator = getattr(import_module(dialect.module), dialect.function)
            return translator(data, path, source)
    return None


CONFIG_FIELDS = {
    "experiment_id", "weak_model", "strong_model", "models", "model_order", "competition_level",
    "run_number", "num_items", "max_rounds", "random_seed", "output_dir", "gamma_discount",
    "num_agents", "discussion_turns",
}  # fmt: skip
PASSED_ON = (
    "weak_model", "strong_model", "models", "model_order", "competition_level", "num_items",
    "max_rounds", "gamma_discount", "num_agents", "discussion_turns", "run_number",
)  # fmt: skip


def negotiation_config(data: dict[str, Any], path: Path, source: Source) -> tuple[Study, Source]:
    """The scaling guide's `config_N.json`: one game, run in its own `output_dir`."""
    unknown = sorted(set(data) - CONFIG_FIELDS)
    if unknown:
        known = ", ".join(sorted(CONFIG_FIELDS))
        raise StudyError(
            [str(Fault(source.where((k,)), k, "unknown key", known, suggestion(k, CONFIG_FIELDS)))
             for k in unknown]
        )  # fmt: skip
    number = data.get("experiment_id", path.stem.removeprefix("config_"))
    study = validated(
        Study,
        {
            "family": "negotiation",
            "name": f"config_{number}",
            "fixed": {name: data[name] for name in PASSED_ON if name in data},
            "seeds": [data["random_seed"]] if data.get("random_seed") is not None else [],
            "output_dir": data.get("output_dir"),
        },
        source,
    )
    lines = {("fixed", *parts): place for parts, place in source.lines.items()}
    return study, Source(source.file, {**lines, **source.lines})
