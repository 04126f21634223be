"""`peira run STUDY`: run a study, or go on with it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira import api


def command(
    study: flags.StudyArgument,
    how: flags.Playing,
    executor: flags.Executor = "local",
    executor_option: Annotated[
        flags.Words,
        typer.Option(
            metavar="NAME=VALUE", rich_help_panel=flags.WORK, help="May be repeated: partition=gpu."
        ),
    ] = None,
    only: Annotated[
        flags.Words, "Trials to run: position, name or pattern; may be repeated.", flags.WORK
    ] = None,
    network: Annotated[
        bool,
        typer.Option(
            "--network/--no-network",
            rich_help_panel=flags.FREE,
            help="Without: only models on this machine, else refused before the first call.",
        ),
    ] = True,
    resume: Annotated[bool, "Insist that there is a run to go on with.", flags.WORK] = False,
) -> int:
    """Run a study file, or go on with it. Finished trials are never run again and no reply is ever
    bought twice; a killed or halted run is continued by the same command."""
    from peira import api

    if not network:
        os.environ["HF_HUB_OFFLINE"] = "1"  # so that hf:NAME is looked for on this disk only
    return how.play(
        api.ask(study), executor=executor, executor_options=_options(executor_option),
        only=tuple(only or ()), must_exist=resume, offline=not network,
    )  # fmt: skip


def _options(words: flags.Words) -> dict[str, str]:
    """`--executor-option name=value` pairs. Raises InputError for a word without `=`."""
    from peira.errors import InputError

    found = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--executor-option {word}: no value\n  allowed: name=value")
        found[name.replace("-", "_")] = value
    return found


def execute(question: api.Question, options: api.Options, json: bool, view: bool = False) -> int:
    """Run, then analyse and say how it ended. Shared by the one-line forms."""
    from peira import api
    from peira.cli.display import as_json, ending, note, remedy, report_dict, say
    from peira.cli.finish import finish

    for line in question.unasked():
        note(line)
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
