"""report.html: one file, no network; figures inside, tables that sort, and it prints well.

Invariant: nothing from a study or a model becomes markup (jinja2 escapes, Markdown without HTML),
and the page's own policy allows no script but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peira.report.markdown import PLACE, SIMULATED, placed
from peira.report.tables import escape, file_stem, harmless, to_html

if TYPE_CHECKING:
    from jinja2 import Environment
    from markdown_it import MarkdownIt

    from peira.report.document import Picture, Report

TEMPLATES = Path(__file__).parent / "templates"


def render(report: Report) -> str:
    """The whole page."""
    taken = placed(report)
    page = _environment().get_template("report.html")
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return page.render(
        story=report.story,
        analysis=report.analysis,
        mark=SIMULATED,
        findings=report.findings,
        tables=[t for t in report.analysis.tables if ("table", t.name) not in taken],
        sections={
            title: _section(report, body) for title, body in report.analysis.sections.items()
        },
        pictures=[p for p in report.pictures if ("figure", p.name) not in taken],
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=script_hash(script),
    )


def script_hash(script: str) -> str:
    """The hash by which a content security policy names one inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: harmless(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["table"] = lambda table: Markup(to_html(table))
    environment.filters["picture"] = lambda picture: Markup(figure_html(picture))
    return environment


def figure_html(picture: Picture) -> str:
    """A figure as part of the page."""
    name = escape(picture.name)
    return (
        f'<figure class="picture" id="figure-{file_stem(picture.name)}"><img alt="Figure {name}"'
        f' src="{picture.data_uri}"></figure>'
    )


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


def markdown_html(text: str) -> str:
    """Markdown as HTML; raw HTML in it stays text, images and unsafe links are not made."""
    return str(_markdown().disable("image").render(text))


def _section(report: Report, body: str) -> Any:
    from markupsafe import Markup

    tables = {table.name: table for table in report.analysis.tables}
    pictures = {picture.name: picture for picture in report.pictures}
    parts, last = [], 0
    for match in PLACE.finditer(body):
        parts.append(markdown_html(body[last : match.start()]))
        last, name = match.end(), match[2].strip()
        if match[1] == "table" and name in tables:
            parts.append(to_html(tables[name]))
        elif match[1] == "figure" and name in pictures:
            parts.append(figure_html(pictures[name]))
    parts.append(markdown_html(body[last:]))
    return Markup("".join(parts))
