"""`peira simulate SCENARIO`: one scenario, played by models; a batch of one variation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira.families.scenarios.settings import Scenario
    from peira.study.study import Study

Words = list[str] | None


def command(
    scenario: Annotated[Path, typer.Argument(help="A scenario folder.")],
    turns: Annotated[int | None, typer.Option("--turns", min=1, help="Last turn.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Root of the seeds.")] = 0,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Trials, each with its seed.")] = 1,
    model: Annotated[
        Words, typer.Option("--model", metavar="SEAT=MODEL", help="Seat a model; all=MODEL: all.")
    ] = None,
    world_model: Annotated[
        str | None, typer.Option("--world-model", help="= --model world=MODEL.")
    ] = None,
    human: Annotated[Words, typer.Option("--human", metavar="SEAT", help="Take a seat.")] = None,
    set_: Annotated[
        Words, typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the scenario.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Validate, print every seat's prompt; no call.")
    ] = False,
    parallel: flags.Parallel = None,
    budget: flags.BudgetFlag = None,
    output_dir: flags.OutputDir = None,
    subjects: flags.Subjects = None,
    simulate: flags.Simulate = False,
    retry_failed: flags.RetryFailed = False,
    fresh: flags.Fresh = False,
    dry_run: flags.DryRun = False,
    view: flags.ViewFlag = False,
    json: flags.Json = False,
) -> int:
    """Play a scenario. The same command again goes on where it stopped and buys nothing twice."""
    from peira import api
    from peira.cli.display import watcher
    from peira.cli.plan import show
    from peira.cli.run import execute

    models = [*(model or ()), *([f"world={world_model}"] if world_model else ())]
    changes = _changes(scenario, models, human, set_, turns)
    question = api.ask(_study(scenario, changes, seed, runs))
    settings = question.cells()[0].settings
    if check:
        return _check(settings.scenario)
    options = api.Options(
        run_dir=output_dir, parallel=parallel, budget_usd=budget, retry_failed=retry_failed,
        fresh=fresh, simulated=flags.simulated(subjects, simulate), on_start=watcher(json),
    )  # fmt: skip
    if dry_run:
        return show(question, options, json)
    return execute(question, options, json, view)


def _changes(
    folder: Path, models: list[str], human: Words, set_: Words, turns: int | None
) -> dict[str, Any]:
    """`--set`, `--model`, `--human` and `--turns` as one map of paths into the scenario."""
    from peira.cli.negotiate import assignments

    changes = assignments(set_)
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
    from peira.families.scenarios.preview import preview

    for title, text in preview(scenario):
        say(f"=== {title} ===\n{text}\n")
    say(f"{scenario.name}: no fault found; {len(scenario.models)} seats to be called")
    return 0
