"""`peira analyse RUN`: the family's tables and findings, on the terminal and in analysis/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from peira.cli import flags

if TYPE_CHECKING:
    from peira.report.analysis import Analysis, Table
    from peira.store.records import RunView


def command(
    run: flags.RunArgument,
    by: Annotated[
        list[str] | None, "Also: every numeric outcome by this factor; may be repeated."
    ] = None,
    remeasure: Annotated[bool, "First read metrics again, from the transcripts."] = False,
    report: Annotated[bool, "Write the report, and print it."] = False,
    json: flags.Json = False,
) -> int:
    """Tables and findings of a run, with intervals; written to analysis/ as well."""
    from peira.cli.display import as_json, say
    from peira.families import load_family
    from peira.report import rules
    from peira.report.document import findings_json, write_report
    from peira.report.stopping import analysis_of
    from peira.store.records import RunView
    from peira.store.rundir import find_run

    if remeasure:
        from peira.api.remeasure import remeasure as again
        from peira.cli.display import note

        note(f"  {again(find_run(run))} trials measured again")
    with RunView(find_run(run)) as view:
        family = load_family(view.family)
        analysis = _with_levels(view, analysis_of(view, family), _factors(view, family, by or []))
        kept = False
        if report:
            write_report(view, analysis, family.figures(view))
        else:
            rules.check(analysis)
            kept = not view.dir.sealed and _kept(view, analysis)
        if json:
            as_json(findings_json(view, analysis))
        elif report:
            say((view.path / "report.md").read_text(encoding="utf-8"))
        else:
            _print(view, analysis, kept)
    return 0


def _kept(view: RunView, analysis: Analysis) -> bool:
    """Write analysis/. A run that only its owner may write can still be analysed on the terminal."""
    from peira.cli.display import note
    from peira.errors import StoreError
    from peira.report.document import write_analysis

    try:
        write_analysis(view, analysis)
    except StoreError as error:
        note(f"  {str(error).splitlines()[0]}")
        return False
    return True


def _factors(view: RunView, family: object, names: list[str]) -> tuple[str, ...]:
    """Factor names; a family's own short names (`order`, `model`) stand for the study's factors."""
    short = getattr(family, "factor_aliases", {})
    known = {name for record in view.records() for name in record.cell} if short else set()
    found: list[str] = []
    for name in names:
        meant = [factor for factor in short.get(name, ()) if factor in known]
        found += meant if meant and name not in known else [name]
    return tuple(found)


def _with_levels(view: RunView, analysis: Analysis, by: tuple[str, ...]) -> Analysis:
    import dataclasses

    from peira.report.default_analysis import outcomes_by

    if not by:
        return analysis
    return dataclasses.replace(analysis, tables=(*analysis.tables, *outcomes_by(view, by)))


def _print(view: RunView, analysis: Analysis, kept: bool) -> None:
    from rich.text import Text

    from peira.cli.display import console, say
    from peira.report.story import finding_tables
    from peira.report.tables import harmless, to_rich

    out = console()
    if view.simulated:
        say("simulated subjects: these numbers say nothing about a real model")
    say(str(view.tally))
    say()
    out.print(Text(harmless(analysis.answer)), soft_wrap=not out.is_terminal)
    say()
    tables: list[Table] = [*finding_tables(analysis.findings), *analysis.tables]
    for table in tables:
        for part in to_rich(table, out.width):
            out.print(part)
    for note in analysis.notes:
        say(f"- {harmless(note)}")
    if kept:
        say(f"  written: {view.path}/analysis/")
