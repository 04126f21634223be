"""`peira probe EXPERIMENT`: experiments on an open model's insides, with the guide's flags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from peira.cli import flags


@dataclass(frozen=True, kw_only=True)
class Probe(flags.Free):
    """The guide's flags."""

    model: Annotated[str | None, "Hub id or folder."] = None
    n_contexts: Annotated[int | None, "Random contexts."] = None
    layers: Annotated[str | None, "0,5,11; -1; emb; all."] = None
    dtype: Annotated[str | None, "float32 bfloat16 float16."] = None
    seed: Annotated[int | None, typer.Option(min=0)] = None
    device: Annotated[str | None, "cuda cuda:N mps cpu map."] = None
    batch_size: Annotated[int | None, "Contexts a block."] = None
    batch_tokens: int | None = None
    token_budget: int | None = None
    lengths: Annotated[str | None, "10,20,50 ascending."] = None
    window: Annotated[str | None, "Words in the means, or all."] = None
    graph: Annotated[str | None, "sbm ring:10 grid:4x4 FILE.csv"] = None
    graphs: Annotated[str | None, "one, per_context."] = None
    branching: Annotated[str | None, "2,2,4 (deep)."] = None
    walk: Annotated[str | None, "uniform weighted pairs lazy:p"] = None
    vocabulary: Annotated[str | None, "words, random, FILE."] = None
    assignment: str | None = None
    bos: Annotated[str | None, "auto, none."] = None
    null: Annotated[str | None, "shuffled,untrained or none."] = None
    condition: Annotated[flags.Words, "One or more; default all."] = None
    mode: Annotated[str | None, "delete mask swap; replace insert."] = None
    steer: Annotated[bool, "park: move activations."] = False
    checkpoints: Annotated[flags.Words, "lee: model folders."] = None
    save_activations: Annotated[bool, "[means|tokens] into raw_data/."] = False
    resume: Annotated[bool, "[checkpoint file or directory]"] = False
    wandb: Annotated[str | None, "Project to log to."] = None
    verbose: Annotated[bool, "DEBUG of loggers peira.*."] = False
    output_dir: flags.OutputDir = None
    fresh: Annotated[bool, "Set an existing run aside and start anew.", flags.WORK] = False
    dry_run: Annotated[bool, "Plan only: no call, nothing written.", flags.SHOW] = False
    json: flags.Json = False

    @property
    def given(self) -> dict[str, Any]:
        """The flags of the command line, by name."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {k: v for k, v in found.items() if v is not None and v is not False and v != []}


def command(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(help="A name, the guide's script, or FILE.py.")],
    told: Probe,
) -> int:
    """Trace a hidden graph inside an open model. The same command goes on with a run that was
    stopped; more --n-contexts only runs the new ones."""
    from peira.cli import probing

    if probing.is_script(experiment):
        return probing.run_script(Path(experiment), probing.as_words(told.given, context.args))
    return probing.probe(probing.Asked.of(experiment, told, context.args))


command.variadic = frozenset({"--condition", "--checkpoints"})  # type: ignore[attr-defined]
command.context_settings = {"allow_extra_args": True, "ignore_unknown_options": True}  # type: ignore[attr-defined]
