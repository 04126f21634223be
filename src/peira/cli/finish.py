"""After a run: analysis, figures, report, written and told."""

from __future__ import annotations

import sys
from pathlib import Path

from peira.cli.display import note, say
from peira.families import load_family
from peira.report.document import write_report
from peira.report.stopping import analysis_of
from peira.report.tables import harmless
from peira.store.records import RunView


def finish(path: Path, *, quiet: bool, figures: bool = True) -> None:
    """Write analysis/, figures/ and the report of a run; print its answer."""
    if not quiet and sys.stderr.isatty():
        note("  analysing…")
    with RunView(path) as run:
        family = load_family(run.family)
        analysis = analysis_of(run, family)
        drawn = family.figures(run) if figures else {}
        write_report(run, analysis, drawn)
    if not quiet:
        say(f"  {harmless(analysis.answer)}")
    elif not analysis.answer:
        note("  the analysis gave no answer")
