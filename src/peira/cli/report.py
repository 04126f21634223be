"""`peira report RUN`: report.md and report.html, written afresh from run.db."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags


def command(
    run: flags.RunArgument,
    summary: Annotated[
        bool, "Print the main points; for representations also write their summary page."
    ] = False,
    wandb: Annotated[
        str | None,
        typer.Option("--wandb", metavar="PROJECT", help="Representations: log the run to W&B."),
    ] = None,
    json: flags.Json = False,
) -> int:
    """Write the report of a run, with its analysis and figures."""
    if wandb is not None:
        return _log(run, wandb)
    from peira.cli.display import as_json, say
    from peira.families import load_family
    from peira.report import rules
    from peira.report.document import findings_json, write_report
    from peira.report.stopping import analysis_of
    from peira.report.story import tell
    from peira.report.tables import harmless
    from peira.store.records import RunView
    from peira.store.rundir import find_run

    with RunView(find_run(run)) as view:
        family = load_family(view.family)
        analysis = analysis_of(view, family)
        if summary:
            rules.check(analysis)
        else:
            write_report(view, analysis, family.figures(view))
        story = tell(view, analysis)
        if json:
            as_json(findings_json(view, analysis))
            return 0
        mark = "  [simulated subjects]" if story.simulated else ""
        say(f"{harmless(story.title)}{mark}: {story.completeness}")
        say(f"  {harmless(analysis.answer)}")
        for line in (story.cost_line, *story.limits) if summary else ():
            say(f"  {harmless(line)}")
        if summary and view.study.family == "representations":
            _summary_page(view.path)
        if not summary:
            say(f"  written: {view.path}/report.html, report.md, analysis/, figures/")
    return 0


def _log(run: str, project: str) -> int:
    """To W&B, or to wandb-local/ beside the run where it cannot be reached."""
    from peira.cli.display import note
    from peira.families.representations.tracking import log_run
    from peira.store.rundir import find_run

    note(log_run(find_run(run).path, project))
    return 0


def _summary_page(path: Path) -> None:
    from peira.cli.display import say
    from peira.cli.guide import summary_file

    say(f"  wrote {summary_file(path, Path('experiments'))}")
