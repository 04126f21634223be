"""`peira evaluate`: system prompts compared on the same items, by the guide's flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags

Config = Annotated[Path, typer.Option("--config", help="The evaluation's config file.")]
RunId = Annotated[str | None, typer.Option("--run-id", help="Name of the run, new or to go on.")]
Archive = Annotated[bool, typer.Option("--archive", help="Seal a copy after the last step.")]
Condition = Annotated[
    str | None, typer.Option("--condition", help="Ask for one arm's rows only; `both` is all arms.")
]
Words = Annotated[
    list[str] | None, typer.Option(metavar="A B …", help="Replaces the sweep's list.")
]
Numbers = Annotated[
    list[str] | None, typer.Option(metavar="T …", help="Replaces the temperatures.")
]
Limit = Annotated[
    int | None, typer.Option("--limit-items", min=1, help="So many items of each type.")
]
Only = Annotated[
    str | None,
    typer.Option(
        "--only-step", metavar="STEP",
        help="prepare, build, submit, poll, parse, score, stats, costs or report.",
    ),
]  # fmt: skip
From = Annotated[str | None, typer.Option("--from-step", metavar="STEP", help="The first step.")]
To = Annotated[str | None, typer.Option("--to-step", metavar="STEP", help="The last step.")]
SkipPrepare = Annotated[
    bool, typer.Option("--skip-prepare", help="Run no loader: the prepared data must be valid.")
]
SkipBuild = Annotated[bool, typer.Option("--skip-build", help="Write no batch input files.")]
SkipBatch = Annotated[bool, typer.Option("--skip-batch", help="Ask nothing: stop after build.")]
SkipScore = Annotated[bool, typer.Option("--skip-score", help="Write no scores.")]
SkipStats = Annotated[bool, typer.Option("--skip-stats", help="Write no significance.json.")]
SkipCosts = Annotated[bool, typer.Option("--skip-costs", help="Write no costs.json.")]
SkipReport = Annotated[bool, typer.Option("--skip-report", help="Write no reports and figures.")]
Parts = Annotated[int | None, typer.Option("--parts-per-dataset", min=1, help="Jobs per group.")]
Lines = Annotated[int | None, typer.Option("--lines-per-part", min=1, help="Rows per job.")]
Jobs = Annotated[
    int | None, typer.Option("--max-concurrent-jobs", min=1, help="Batch jobs open at once.")
]
Mode = Annotated[str | None, typer.Option("--mode", help="live, or batch jobs at the provider.")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit batch jobs and leave.")]
Plan = Annotated[bool, typer.Option("--plan-only", "--dry-run", help="Say what would be done.")]
NoSweep = Annotated[bool, typer.Option("--no-sweep", help="The base settings alone.")]
Account = Annotated[str | None, typer.Option("--account-id", help="The provider's account.")]
Directory = Annotated[Path | None, typer.Option("--experiments-dir", help="Where runs are kept.")]
GoOn = Annotated[
    bool, typer.Option("--resume", help="Go on with --run-id, or the newest run of these trials.")
]


def command(
    config: Config = Path("config/eval_config.yaml"),
    run_id: RunId = None,
    archive: Archive = False,
    resume: GoOn = False,
    condition: Condition = None,
    models: Words = None,
    prompt_sets: Words = None,
    temps: Numbers = None,
    no_sweep: NoSweep = False,
    limit_items: Limit = None,
    only_step: Only = None,
    from_step: From = None,
    to_step: To = None,
    skip_prepare: SkipPrepare = False,
    skip_build: SkipBuild = False,
    skip_batch: SkipBatch = False,
    skip_score: SkipScore = False,
    skip_stats: SkipStats = False,
    skip_costs: SkipCosts = False,
    skip_report: SkipReport = False,
    plan_only: Plan = False,
    mode: Mode = None,
    parts_per_dataset: Parts = None,
    lines_per_part: Lines = None,
    max_concurrent_jobs: Jobs = None,
    detach: Detach = False,
    account_id: Account = None,
    budget: flags.BudgetFlag = None,
    parallel: flags.Parallel = None,
    executor: flags.ExecutorFlag = "local",
    experiments_dir: Directory = None,
    subjects: flags.Subjects = None,
    simulate: flags.Simulate = False,
    json: flags.Json = False,
) -> int:
    """Compare system prompts: every arm is asked the same items, once, and the answer carries its
    error bars. `--offline` tries it out with simulated respondents, without keys."""
    from peira.cli.evaluating import Evaluation, Request
    from peira.families.prompts.phases import Choice
    from peira.study.dialects_eval import Changes

    skips = {
        "prepare": skip_prepare, "build": skip_build, "submit": skip_batch, "poll": skip_batch,
        "score": skip_score, "stats": skip_stats, "costs": skip_costs, "report": skip_report,
    }  # fmt: skip
    if skip_batch:
        to_step = to_step or "build"
    batch = {
        "parts": parts_per_dataset, "lines_per_part": lines_per_part,
        "max_concurrent_jobs": max_concurrent_jobs, "detach": detach or None,
        "account": account_id,
    }  # fmt: skip
    request = Request(
        config=config,
        changes=Changes(
            _list(models), _list(prompt_sets), _temperatures(_list(temps)), no_sweep, mode,
            condition, limit_items, tuple((k, v) for k, v in batch.items() if v is not None),
        ),
        choice=Choice(
            only_step, from_step, to_step, frozenset(name for name, on in skips.items() if on)
        ),
        run_id=run_id, resume=resume, archive=archive, experiments=experiments_dir,
        simulated=flags.simulated(subjects, simulate), budget=budget, parallel=parallel,
        executor=executor, json=json,
    )  # fmt: skip
    evaluation = Evaluation(request)
    return evaluation.plan() if plan_only else evaluation.run()


command.variadic = frozenset({"--models", "--prompt-sets", "--temps"})  # type: ignore[attr-defined]


def _list(words: list[str] | None) -> tuple[str, ...]:
    """`--models a,b --models c` and `--models a b c` alike."""
    return tuple(part for word in words or () for part in word.split(",") if part)


def _temperatures(words: tuple[str, ...]) -> tuple[float, ...]:
    from peira.errors import InputError

    try:
        return tuple(float(word) for word in words)
    except ValueError:
        raise InputError(f"--temps {' '.join(words)}\n  allowed: numbers from 0 to 2") from None
