"""`peira simulate SCENARIO`: one scenario, played by models; a batch of one variation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira.families.scenarios.settings import Scenario
    from peira.study.study import Study


def command(
    scenario: Annotated[Path, typer.Argument(help="A scenario folder.")],
    how: flags.Playing,
    turns: Annotated[int | None, typer.Option(min=1, help="Last turn.")] = None,
    seed: Annotated[int, "Root of the seeds."] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Trials, each with its seed.")] = 1,
    model: Annotated[
        flags.Words, typer.Option(metavar="SEAT=MODEL", help="Seat a model; all=MODEL: all.")
    ] = None,
    world_model: Annotated[str | None, "= --model world=MODEL."] = None,
    human: Annotated[flags.Words, typer.Option(metavar="SEAT", help="Take a seat.")] = None,
    set_: Annotated[
        flags.Words,
        typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the scenario."),
    ] = None,
    check: Annotated[bool, "Validate, print every seat's prompt; no call."] = False,
) -> int:
    """Play a scenario. The same command again goes on where it stopped and buys nothing twice."""
    from peira import api

    models = [*(model or ()), *([f"world={world_model}"] if world_model else ())]
    question = api.ask(_study(scenario, _changes(models, human, set_, turns), seed, runs))
    settings = question.cells()[0].settings
    return _check(settings.scenario) if check else how.play(question)


def _changes(
    models: list[str], human: flags.Words, set_: flags.Words, turns: int | None
) -> dict[str, Any]:
    """`--set`, `--model`, `--human` and `--turns` as one map of paths into the scenario."""
    changes = flags.assignments(set_)
    for word in models:
        seat, equals, name = word.partition("=")
        if not equals or not name:
            from peira.errors import InputError

            raise InputError(f"--model {word}: no model\n  allowed: SEAT=MODEL, or all=MODEL")
        changes[f"seats.{seat}"] = name
    for seat in human or ():
        changes[f"actors.{seat}.control"] = "human"
    return changes | ({} if turns is None else {"turns": turns})


def _study(folder: Path, changes: dict[str, Any], seed: int, runs: int) -> Study:
    from peira.study.dialects_batch import file_hashes, scenario_folder, slug
    from peira.study.study import Study

    found = scenario_folder(str(folder), None)
    return Study(
        family="scenarios", name=found.name,
        fixed={"base_scenario": str(found), "files": file_hashes(found), "set": changes},
        seed=seed, replicates=runs, output_dir=f"experiments/{slug(found.resolve().name)}",
        limits={"max_parallel": 4},
    )  # fmt: skip


def _check(scenario: Scenario) -> int:
    from peira.cli.display import say
    from peira.families.scenarios.prompts import preview

    for title, text in preview(scenario):
        say(f"=== {title} ===\n{text}\n")
    say(f"{scenario.name}: no fault found; {len(scenario.models)} seats to be called")
    return 0
