"""`peira probe EXPERIMENT`: experiments on an open model's insides, with the guide's flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peira.cli import flags

Words = list[str] | None


def command(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(help="A name, the guide's script, or FILE.py.")],
    model: Annotated[str | None, typer.Option("--model", help="Hub id or folder.")] = None,
    n_contexts: Annotated[int | None, typer.Option("--n-contexts", help="Random contexts.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="0,5,11; -1; emb; all.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 bfloat16 float16.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0)] = None,
    device: Annotated[str | None, typer.Option("--device", help="cuda cuda:N mps cpu map.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Contexts a block.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens")] = None,
    token_budget: Annotated[int | None, typer.Option("--token-budget")] = None,
    lengths: Annotated[str | None, typer.Option("--lengths", help="10,20,50 ascending.")] = None,
    window: Annotated[
        str | None, typer.Option("--window", help="Words in the means, or all.")
    ] = None,
    graph: Annotated[
        str | None, typer.Option("--graph", help="sbm ring:10 grid:4x4 FILE.csv")
    ] = None,
    graphs: Annotated[str | None, typer.Option("--graphs", help="one, per_context.")] = None,
    branching: Annotated[str | None, typer.Option("--branching", help="2,2,4 (deep).")] = None,
    walk: Annotated[
        str | None, typer.Option("--walk", help="uniform weighted pairs lazy:p")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option("--vocabulary", help="words, random, FILE.")
    ] = None,
    assignment: Annotated[str | None, typer.Option("--assignment")] = None,
    bos: Annotated[str | None, typer.Option("--bos", help="auto, none.")] = None,
    null: Annotated[str | None, typer.Option("--null", help="shuffled,untrained or none.")] = None,
    condition: Annotated[
        Words, typer.Option("--condition", help="One or more; default all.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="delete mask swap; replace insert.")
    ] = None,
    steer: Annotated[bool, typer.Option("--steer", help="park: move activations.")] = False,
    checkpoints: Annotated[Words, typer.Option("--checkpoints", help="lee: model folders.")] = None,
    save_activations: Annotated[
        bool, typer.Option("--save-activations", help="[means|tokens] into raw_data/.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="[checkpoint file or directory]")
    ] = False,
    wandb: Annotated[str | None, typer.Option("--wandb", help="Project to log to.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="DEBUG of loggers peira.*.")] = False,
    output_dir: flags.OutputDir = None,
    subjects: flags.Subjects = None,
    simulate: flags.Simulate = False,
    fresh: flags.Fresh = False,
    dry_run: flags.DryRun = False,
    json: flags.Json = False,
) -> int:
    """Trace a hidden graph inside an open model. The same command goes on with a run that was
    stopped; more --n-contexts only runs the new ones."""
    from peira.cli import probing

    given = {k: v for k, v in context.params.items() if _from_line(context, k)}
    if probing.is_script(experiment):
        return probing.run_script(Path(experiment), probing.as_words(given, context.args))
    asked = probing.Asked.of(experiment, given, context.args)
    return probing.probe(asked)


def _from_line(context: typer.Context, name: str) -> bool:
    source: Any = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


command.variadic = frozenset({"--condition", "--checkpoints"})  # type: ignore[attr-defined]
command.context_settings = {"allow_extra_args": True, "ignore_unknown_options": True}  # type: ignore[attr-defined]
