"""`peira negotiate`: negotiations between models in one line, with the guide's flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peira.cli import flags


def command(
    how: flags.Playing,
    models: Annotated[list[str], "Two or more model names."],
    competition_level: Annotated[
        list[float] | None, "0 (none) to 1 (full); several make a grid."
    ] = None,
    num_items: Annotated[int, "Items to be divided."] = 5,
    max_rounds: Annotated[int, "Rounds at most."] = 10,
    num_runs: Annotated[int, typer.Option(min=1, help="Games (seeds) per cell.")] = 1,
    batch: Annotated[bool, "Run all --num-runs games."] = False,
    both_orders: Annotated[bool, "Also with the seats swapped."] = False,
    random_seed: Annotated[int, "Root of the seeds."] = 42,
    set_: Annotated[flags.Words, "Any other setting, e.g. gamma_discount=0.8"] = None,
    executor: flags.Executor = "local",
) -> int:
    """Models divide items they value differently. Without --batch, one game is run."""
    from peira import api

    _check(models)
    fixed = {"num_items": num_items, "max_rounds": max_rounds, **flags.assignments(set_)}
    runs, levels = num_runs if batch else 1, competition_level or [0.5]
    study = _study(models, levels, runs, random_seed, both_orders, fixed)
    return how.play(api.ask(study), executor=executor)


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
