"""`peira negotiate`: negotiations between models in one line, with the guide's flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peira.cli import flags


def command(
    models: Annotated[list[str], typer.Option("--models", help="Two or more model names.")],
    competition_level: Annotated[
        list[float] | None,
        typer.Option("--competition-level", help="0 (none) to 1 (full); several make a grid."),
    ] = None,
    num_items: Annotated[int, typer.Option("--num-items", help="Items to be divided.")] = 5,
    max_rounds: Annotated[int, typer.Option("--max-rounds", help="Rounds at most.")] = 10,
    num_runs: Annotated[int, typer.Option("--num-runs", min=1, help="Games (seeds) per cell.")] = 1,
    batch: Annotated[bool, typer.Option("--batch", help="Run all --num-runs games.")] = False,
    both_orders: Annotated[
        bool, typer.Option("--both-orders", help="Also with the seats swapped.")
    ] = False,
    random_seed: Annotated[int, typer.Option("--random-seed", help="Root of the seeds.")] = 42,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, e.g. gamma_discount=0.8")
    ] = None,
    output_dir: flags.OutputDir = None,
    parallel: flags.Parallel = None,
    budget: flags.BudgetFlag = None,
    executor: flags.ExecutorFlag = "local",
    subjects: flags.Subjects = None,
    simulate: flags.Simulate = False,
    retry_failed: flags.RetryFailed = False,
    fresh: flags.Fresh = False,
    dry_run: flags.DryRun = False,
    view: flags.ViewFlag = False,
    json: flags.Json = False,
) -> int:
    """Models divide items they value differently. Without --batch, one game is run."""
    from peira import api
    from peira.cli.display import watcher
    from peira.cli.plan import show
    from peira.cli.run import execute

    levels = competition_level or [0.5]
    _check(models)
    question = api.ask(
        _study(
            models, levels, num_runs if batch else 1, random_seed, both_orders,
            {"num_items": num_items, "max_rounds": max_rounds, **assignments(set_)},
        )
    )  # fmt: skip
    options = api.Options(
        run_dir=output_dir, parallel=parallel, budget_usd=budget, executor=executor,
        retry_failed=retry_failed, fresh=fresh,
        simulated=flags.simulated(subjects, simulate), on_start=watcher(json),
    )  # fmt: skip
    return show(question, options, json) if dry_run else execute(question, options, json, view)


command.variadic = frozenset({"--models", "--competition-level"})  # type: ignore[attr-defined]


def _check(models: list[str]) -> None:
    from peira.errors import InputError

    if not 2 <= len(models) <= 10:
        raise InputError(
            f"--models {' '.join(models)}: {len(models)} name{'s' if len(models) > 1 else ''}\n"
            "  allowed: 2 to 10 names, one for each seat; a name may come twice\n"
            f"  remedy: --models {models[0]} {models[1] if len(models) > 1 else 'ANOTHER'}"
        )


def _study(
    models: list[str], levels: list[float], runs: int, seed: int, both: bool, fixed: dict[str, Any]
) -> Any:
    from peira.study.study import Study

    orders = [models, models[::-1]] if both else [models]
    name = "_vs_".join(Path(m).name for m in models) + f"_runs{runs}_comp{levels[0]:g}"
    return Study(
        family="negotiation", name=name, fixed=fixed,
        factors={"models": orders, "competition_level": levels}, replicates=runs, seed=seed,
    )  # fmt: skip


def assignments(words: list[str] | None) -> dict[str, Any]:
    """`--set path=value` pairs; values are read as YAML. Raises InputError for a bad pair."""
    import yaml

    from peira.errors import InputError

    found: dict[str, Any] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"--set {word}: no value\n  allowed: name=value")
        found[name] = yaml.safe_load(text)
    return found
