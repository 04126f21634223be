"""`peira run STUDY`: run a study, or go on with it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira import api


def command(
    study: Annotated[Path, typer.Argument(help="A study file (YAML or JSON).")],
    parallel: flags.Parallel = None,
    budget: flags.BudgetFlag = None,
    executor: flags.ExecutorFlag = "local",
    executor_option: flags.ExecutorOptions = None,
    only: flags.Only = None,
    output_dir: flags.OutputDir = None,
    subjects: flags.Subjects = None,
    simulate: flags.Simulate = False,
    network: flags.Network = True,
    resume: flags.Resume = False,
    retry_failed: flags.RetryFailed = False,
    fresh: flags.Fresh = False,
    dry_run: flags.DryRun = False,
    view: flags.ViewFlag = False,
    json: flags.Json = False,
) -> int:
    """Run a study file, or go on with it. Finished trials are never run again and no reply is ever
    bought twice; a killed or halted run is continued by the same command."""
    from peira import api
    from peira.cli.display import note, watcher

    if not network:
        os.environ["HF_HUB_OFFLINE"] = "1"  # so that hf:NAME is looked for on this disk only
    question = api.ask(study)
    for line in question.unasked():
        note(line)
    options = api.Options(
        run_dir=output_dir,
        parallel=parallel,
        budget_usd=budget,
        executor=executor,
        executor_options=flags.executor_options(executor_option),
        only=tuple(only or ()),
        retry_failed=retry_failed,
        fresh=fresh,
        must_exist=resume,
        simulated=flags.simulated(subjects, simulate),
        offline=not network,
        on_start=watcher(json),
    )
    if dry_run:
        from peira.cli.plan import show

        return show(question, options, json)
    return execute(question, options, json, view)


def execute(question: api.Question, options: api.Options, json: bool, view: bool = False) -> int:
    """Run, then analyse and say how it ended. Shared by the one-line forms."""
    from peira import api
    from peira.cli.display import as_json, ending, note, remedy, report_dict, say
    from peira.cli.finish import finish

    if not options.simulated:
        question.family.check_start(question.settings(), view=view)
    with _viewing(question, options, view):
        report = api.run(question, options)
    if json:
        as_json(report_dict(report))
    else:
        ending(report)
    interrupted = report.exit_code == 130  # who presses Ctrl+C wants out, not an analysis
    if question.study.aggregate_metrics and report.tally.done and not interrupted:
        finish(report.path, quiet=json)
    if report.exit_code:
        note(remedy(report, _next_step(report, options)))
    elif not json:
        say(f"  look: {report.path}/report.html, or peira view {report.path}")
    return report.exit_code


def _next_step(report: api.RunReport, options: api.Options) -> str:
    if options.only and report.exit_code == 3 and not report.tally.failed:
        return "run again without --only for the rest"
    if report.tally.failed and not report.tally.halted and not report.tally.pending:
        return f"peira status {report.path} --failed, then run with --retry-failed"
    first = "correct the study, then " if report.exit_code == 2 else ""
    return f"{first}run the same command again to go on; nothing is lost"


def _viewing(
    question: api.Question, options: api.Options, view: bool
) -> contextlib.AbstractContextManager[object]:
    if not view:
        return contextlib.nullcontext()
    from peira.web.serve import alongside

    target = options.run_dir or question.run_dir(options.simulated).path
    return alongside(target)
