"""`peira negotiate`: negotiations between models in one line, with the guide's flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peira.cli import flags
from peira.errors import InputError

if TYPE_CHECKING:
    from peira.study.study import Study


@dataclass(frozen=True, kw_only=True)
class Games:
    """Which games are played."""

    models: Annotated[list[str], "Two or more model names."]
    competition_level: Annotated[
        list[float] | None, "0 (none) to 1 (full); several make a grid."
    ] = None
    num_items: Annotated[int, "Items to be divided."] = 5
    max_rounds: Annotated[int, "Rounds at most."] = 10
    num_runs: Annotated[int, typer.Option(min=1, help="Games (seeds) per cell.")] = 1
    batch: Annotated[bool, "Run all --num-runs games."] = False
    both_orders: Annotated[bool, "Also with the seats swapped."] = False
    random_seed: Annotated[int, "Root of the seeds."] = 42
    set_: Annotated[flags.Words, "Any other setting, e.g. gamma_discount=0.8"] = None

    @property
    def study(self) -> Study:
        """The study that plays them. Raises InputError for too few models, or too many."""
        from peira.study.study import Study

        models, runs = self.models, self.num_runs if self.batch else 1
        if not 2 <= len(models) <= 10:
            raise InputError(
                f"--models {' '.join(models)}: {len(models)} name{'s' if len(models) > 1 else ''}\n"
                "  allowed: 2 to 10 names, one for each seat; a name may come twice\n"
                f"  remedy: --models {models[0]} {models[1] if len(models) > 1 else 'ANOTHER'}"
            )
        orders = [models, models[::-1]] if self.both_orders else [models]
        levels = self.competition_level or [0.5]
        name = "_vs_".join(Path(m).name for m in models) + f"_runs{runs}_comp{levels[0]:g}"
        fixed = {"num_items": self.num_items, "max_rounds": self.max_rounds}
        return Study(
            family="negotiation", name=name, fixed=fixed | flags.assignments(self.set_),
            factors={"models": orders, "competition_level": levels}, replicates=runs,
            seed=self.random_seed,
        )  # fmt: skip


def command(games: Games, how: flags.Playing, executor: flags.Executor = "local") -> int:
    """Models divide items they value differently. Without --batch, one game is run."""
    from peira import api

    return how.play(api.ask(games.study), executor=executor)


command.variadic = frozenset({"--models", "--competition-level"})  # type: ignore[attr-defined]
