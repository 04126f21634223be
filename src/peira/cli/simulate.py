"""`peira simulate SCENARIO`: one scenario, played by models; a batch of one variation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags
from peira.errors import InputError

if TYPE_CHECKING:
    from peira.families.scenarios.settings import Scenario
    from peira.study.study import Study


@dataclass(frozen=True, kw_only=True)
class Cast:
    """How often the scenario is played, by whom, and with what changed."""

    turns: Annotated[int | None, typer.Option(min=1, help="Last turn.")] = None
    seed: Annotated[int, "Root of the seeds."] = 0
    runs: Annotated[int, typer.Option(min=1, help="Trials, each with its seed.")] = 1
    model: Annotated[
        flags.Words, typer.Option(metavar="SEAT=MODEL", help="Seat a model; all=MODEL: all.")
    ] = None
    world_model: Annotated[str | None, "= --model world=MODEL."] = None
    human: Annotated[flags.Words, typer.Option(metavar="SEAT", help="Take a seat.")] = None
    set_: Annotated[
        flags.Words,
        typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the scenario."),
    ] = None

    @property
    def changes(self) -> dict[str, Any]:
        """`--set`, `--model`, `--human` and `--turns` as one map of paths into the scenario."""
        changes = flags.assignments(self.set_)
        for word in [*(self.model or ()), *filter(None, [self._world])]:
            seat, equals, name = word.partition("=")
            if not equals or not name:
                raise InputError(f"--model {word}: no model\n  allowed: SEAT=MODEL, or all=MODEL")
            changes[f"seats.{seat}"] = name
        changes |= {f"actors.{seat}.control": "human" for seat in self.human or ()}
        return changes | ({} if self.turns is None else {"turns": self.turns})

    @property
    def _world(self) -> str:
        return f"world={self.world_model}" if self.world_model else ""


def command(
    scenario: Annotated[Path, typer.Argument(help="A scenario folder.")],
    cast: Cast,
    how: flags.Playing,
    check: Annotated[bool, "Validate, print every seat's prompt; no call."] = False,
) -> int:
    """Play a scenario. The same command again goes on where it stopped and buys nothing twice."""
    from peira import api

    question = api.ask(_study(scenario, cast))
    settings = question.cells()[0].settings
    return _check(settings.scenario) if check else how.play(question)


def _study(folder: Path, cast: Cast) -> Study:
    from peira.study.dialects_batch import file_hashes, scenario_folder, slug
    from peira.study.study import Study

    changes, found = cast.changes, scenario_folder(str(folder), None)
    return Study(
        family="scenarios", name=found.name,
        fixed={"base_scenario": str(found), "files": file_hashes(found), "set": changes},
        seed=cast.seed, replicates=cast.runs,
        output_dir=f"experiments/{slug(found.resolve().name)}", limits={"max_parallel": 4},
    )  # fmt: skip


def _check(scenario: Scenario) -> int:
    from peira.cli.display import say
    from peira.families.scenarios.prompts import preview

    for title, text in preview(scenario):
        say(f"=== {title} ===\n{text}\n")
    say(f"{scenario.name}: no fault found; {len(scenario.models)} seats to be called")
    return 0
