"""report.md, report.html, analysis/ and figures/ of a run, written from its analysis.

Invariant: `rules.check` has passed before the first byte is written; both reports say the same, in
the same order; report.html needs no other file and no network.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from peira.report import markdown, page, rules
from peira.report.analysis import Analysis, Table
from peira.report.story import Story, finding_tables, tell
from peira.report.tables import file_stem, to_csv
from peira.stats.result import Estimate, json_number
from peira.store.records import RunView
from peira.store.rundir import dumps, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_INLINE_SVG = 1_500_000  # bytes; a larger figure goes into the page as PNG


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as drawn: its name and both forms."""

    name: str
    png: bytes
    svg: bytes

    @property
    def data_uri(self) -> str:
        """The figure as an image that is part of the page; isolated, so that ids cannot clash."""
        small = len(self.svg) <= MAX_INLINE_SVG
        kind, data = ("svg+xml", self.svg) if small else ("png", self.png)
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    @property
    def page(self) -> str:
        """The figure as a page of its own, for sharing; it needs no other file."""
        title = escape(self.name)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<img src="{self.data_uri}" alt="{title}" style="max-width:100%"></html>\n'
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All that the two documents are rendered from."""

    story: Story
    analysis: Analysis
    pictures: tuple[Picture, ...]

    @property
    def findings(self) -> list[Table]:
        return finding_tables(self.analysis.findings)


def write_report(
    run: RunView, analysis: Analysis, figures: Mapping[str, Callable[[], Figure]]
) -> None:
    """Write analysis/, figures/, report.md and report.html of a run. Raises ReportRefused when the
    analysis says more than its evidence (`peira.report.rules`), and StoreError on a full disk."""
    run.dir.refuse_sealed()
    rules.check(analysis)
    pictures = tuple(drawn(figures))
    write_analysis(run, analysis)
    for picture in pictures:
        stem = run.path / "figures" / file_stem(picture.name)
        forms: dict[str, bytes | str] = {
            "png": picture.png, "svg": picture.svg, "html": picture.page,
        }  # fmt: skip
        for ending, data in forms.items():
            write_file(stem.with_name(f"{stem.name}.{ending}"), data)
    report = Report(tell(run, analysis), analysis, pictures)
    write_file(run.path / "report.md", markdown.render(report))
    write_file(run.path / "report.html", page.render(report))


def drawn(figures: Mapping[str, Callable[[], Figure]]) -> Iterator[Picture]:
    """Draw each figure once, in both forms."""
    from peira.report.figures import draw

    for name, make in figures.items():
        figure = make()
        yield Picture(name, draw(figure, "png"), draw(figure, "svg"))


def write_analysis(run: RunView, analysis: Analysis) -> None:
    """analysis/findings.json, the family's own JSON (and .md) files, and one CSV a table."""
    folder = run.path / "analysis"
    for name, data in {"findings.json": findings_json(run, analysis), **analysis.files}.items():
        text = name.endswith(".md")  # a report of the family's own
        stem = file_stem(name.removesuffix(".md" if text else ".json"))
        write_file(
            folder / f"{stem}{'.md' if text else '.json'}", data if text else dumps(plain(data))
        )
    for table in analysis.tables:
        write_file(folder / "tables" / f"{file_stem(table.name)}.csv", to_csv(table))


def findings_json(run: RunView, analysis: Analysis) -> dict[str, Any]:
    """The analysis as one JSON object: answer, findings, tables, notes."""
    tally = run.tally
    return {
        "run": run.path.name, "family": run.study.family, "simulated": run.simulated,
        "label": "simulated subjects" if run.simulated else None,
        "counts": {"planned": tally.planned, **dataclasses.asdict(tally)},
        "answer": analysis.answer, "notes": list(analysis.notes),
        "findings": [finding.to_dict() for finding in analysis.findings],
        "tables": [table_json(table) for table in analysis.tables],
    }  # fmt: skip


def table_json(table: Table) -> dict[str, Any]:
    """A table as plain data."""
    columns = [{"key": c.key, "label": c.label, "unit": c.unit} for c in table.columns]
    rows = [plain(dict(row)) for row in table.rows]
    return {"name": table.name, "title": table.title, "columns": columns, "rows": rows,
            "note": table.note}  # fmt: skip


def plain(data: Any) -> Any:
    """Strict-JSON form: estimates spelled out, NaN null, infinities as text, dataclasses opened."""
    if isinstance(data, Estimate):
        return data.to_dict()
    if isinstance(data, float):
        return json_number(data)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {f.name: plain(getattr(data, f.name)) for f in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [plain(value) for value in data]
    return data
