"""report.md: the report as text that reads well unrendered.

A family's section may place a table or figure with a line `[table: name]` or `[figure: name]`;
what no section places follows in its usual place. Invariant: text from outside is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from peira.report.tables import file_stem, markdown_text, to_markdown

if TYPE_CHECKING:
    from peira.report.analysis import Table
    from peira.report.document import Report

ROWS = 40  # of a table in report.md; the CSV has all
PLACE = re.compile(r"^\[(table|figure): ([^\]\n]+)\]\s*$", re.MULTILINE)
SIMULATED = "SIMULATED SUBJECTS: these results test the pipeline; no real model was asked."


def placed(report: Report) -> set[tuple[str, str]]:
    """What the family's sections place themselves, as (kind, name)."""
    return {
        (match[1], match[2].strip())
        for body in report.analysis.sections.values()
        for match in PLACE.finditer(body)
    }


def render(report: Report) -> str:
    """The whole document."""
    return "\n".join(_blocks(report)).rstrip() + "\n"


def _blocks(report: Report) -> Iterator[str]:
    story, analysis, taken = report.story, report.analysis, placed(report)
    yield f"# {markdown_text(story.title)}\n"
    if story.simulated:
        yield f"> **{SIMULATED}**\n"
    yield f"**{markdown_text(analysis.answer)}**\n"
    if story.description:
        yield markdown_text(story.description) + "\n"
    yield "## What was run\n"
    yield from _pairs(story.facts)
    yield f"\n## Completeness\n\n{story.completeness}\n"
    yield from _tables([story.completeness_table] if story.completeness_table.rows else [])
    yield "## Findings\n"
    yield from _tables(report.findings)
    if not report.findings:
        yield "No finding was named; the tables below are all there is.\n"
    for title, body in analysis.sections.items():
        yield f"## {markdown_text(title)}\n\n{_filled(report, body)}\n"
    yield from _figures(report, taken)
    if rest := [table for table in analysis.tables if ("table", table.name) not in taken]:
        yield "## Tables\n"
        yield from _tables(rest)
    yield "## Failures\n"
    yield from _tables(story.failures)
    if not story.failures:
        yield "No trial failed or halted.\n"
    yield f"## Cost\n\n{story.cost_line}\n\n{to_markdown(story.costs, ROWS)}"
    yield "## Limits of this evidence\n"
    yield "\n".join(f"- {markdown_text(line)}" for line in story.limits) + "\n"
    yield "## Reproduce\n\n```text\n" + "\n".join(story.commands) + "\n```\n"
    yield from _pairs(story.versions)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from (f"- {markdown_text(name)}: {markdown_text(value)}" for name, value in pairs)


def _tables(tables: Iterable[Table]) -> Iterator[str]:
    yield from (to_markdown(table, ROWS) for table in tables)


def _figures(report: Report, taken: set[tuple[str, str]]) -> Iterator[str]:
    names = [p.name for p in report.pictures if ("figure", p.name) not in taken]
    if names:
        yield "## Figures\n"
    yield from (_figure(name) + "\n" for name in names)


def _figure(name: str) -> str:
    return f"![{markdown_text(name)}](figures/{file_stem(name)}.png)"


def _filled(report: Report, body: str) -> str:
    tables = {table.name: table for table in report.analysis.tables}
    pictures = {picture.name for picture in report.pictures}

    def fill(match: re.Match[str]) -> str:
        name = match[2].strip()
        if match[1] == "table" and name in tables:
            return to_markdown(tables[name], ROWS)
        return _figure(name) if name in pictures else ""

    return PLACE.sub(fill, body.strip())
