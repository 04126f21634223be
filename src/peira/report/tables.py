"""One table, told four ways: Markdown, CSV, HTML, terminal.

An Estimate reads `0.42 [0.31, 0.53] (n 40)`. What every cell would repeat is said once: an n that a
whole column shares stands in its heading, a reason that comes twice in the note. Invariant: what is
undefined reads `n/a` with its reason, never 0; every text is escaped for where it goes, since it may
have come from a model.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape as escape_html
from typing import TYPE_CHECKING, Any, Literal

from peira.report.analysis import Column, Table
from peira.stats.result import REASONS, Estimate

if TYPE_CHECKING:
    import rich.table
    from rich.console import RenderableType

# Brackets that can be no link: a pair without brackets inside, neither first nor after `!`, with
# no target, label or definition after it. No document of ours defines a label.
BRACKETS = re.compile(r"(?<=[^!\[\]])\[[^\[\]]*\](?![(\[:])")
# What GitHub makes links and formulas of: bare addresses, and dollars but those of amounts like $5.
GITHUB = r":(?=//) | (?<=\bwww)\.(?=\S) | \$(?!\d) | (?<=[^\s(])\$"
# What could be markup in one line of Markdown, whatever stands before and after the text.
MARKUP = re.compile(r"""
      [`|\[\]]                                     # code, cells, links
    | (?<!\ )[*~] | [*~](?!\ )                     # emphasis, strikethrough
    | (?<![^\W_])_ | _(?![^\W_])                    # emphasis, except inside a word
    | <(?=[A-Za-z/!?]|$)                            # HTML
    | &(?=\#?[A-Za-z0-9]*(?:;|$))                   # character references
    | \\(?=[!-/:-@\[-`{-~]|$)                       # escapes
    | ^> | ^[-+](?=\ |$) | ^-(?=[-\ ]*$) | ^=(?==*$) | ^\#(?=\#{0,5}(?:\ |$))  # blocks
    | (?<=\ )\#(?=\#*$)                             # the end of a heading
    | """ + GITHUB, re.VERBOSE)  # fmt: skip
REFERENCES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
# Control characters but tab and newline, and marks of writing direction.
UNSEEN = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x200E, 0x200F,
     *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}",
)  # fmt: skip
ESTIMATE_PARTS = ("", "_low", "_high", "_n", "_missing", "_p", "_method", "_reason")


def escape(value: str) -> str:
    """Text made inert in HTML."""
    return escape_html(harmless(value))


# -- cells ------------------------------------------------------------------------------------
def number(value: float, column: Column | None = None) -> str:
    """A number by its column's digits and kind; without digits, three significant ones."""
    kind = column.kind if column is not None else "number"
    digits = column.digits if column is not None else None
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if kind == "usd":
        return _signed(f"{value:,.{4 if digits is None else digits}f}", "$")
    if kind == "percent":
        return _signed(f"{100 * value:.{1 if digits is None else digits}f}") + " %"
    if digits is not None:
        return _signed(f"{value:,.{digits}f}")
    if float(value).is_integer() and abs(value) < 1e9:
        return _signed(f"{value:,.0f}")
    return _signed(f"{value:.3g}")


def _signed(text: str, prefix: str = "") -> str:
    """A true minus sign, and no minus before zero."""
    if not text.startswith("-"):
        return prefix + text
    magnitude = text[1:]
    return prefix + magnitude if not magnitude.strip("0.,") else f"−{prefix}{magnitude}"


def p_value(value: float) -> str:
    """A p value to three places; what is smaller says so."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def is_p(key: str) -> bool:
    """True if a column of this name holds p or q values."""
    return key in ("p", "q") or key.startswith(("p_", "q_")) or key.endswith(("_p", "_q"))


def reason(code: str | None) -> str:
    """A reason code in words."""
    return "" if code is None else REASONS.get(code, code.replace("_", " "))


Marks = Mapping[str, str]  # reason code -> the mark by which the note explains it
NO_MARKS: Marks = {}


def absent(code: str | None, marks: Marks = NO_MARKS) -> str:
    """How an undefined number reads."""
    if code is not None and code in marks:
        return f"n/a{marks[code]}"
    return f"n/a ({reason(code)})" if code else "n/a"


def interval(value: Estimate, column: Column | None = None, marks: Marks = NO_MARKS) -> str:
    """`[low, high]`, or why there is none."""
    if value.low is None and value.high is None:
        return f"[{absent(value.reason, marks)}]"
    low = "−∞" if value.low is None else number(value.low, column)
    high = "∞" if value.high is None else number(value.high, column)
    return f"[{low}, {high}]"


def aligned(value: Estimate, column: Column | None = None) -> Column:
    """A column by which an estimate and its limits have the same number of decimals."""
    column = column or Column("value", "value")
    if column.digits is not None or column.kind in ("usd", "percent"):
        return column
    parts = [abs(v) for v in (value.estimate, value.low, value.high) if v and math.isfinite(v)]
    scale = math.floor(math.log10(max(parts))) if parts else 0
    return dataclasses.replace(column, digits=min(12, max(0, 2 - scale)))


def estimate(value: Estimate, column: Column | None = None, marks: Marks = NO_MARKS) -> str:
    """`0.42 [0.31, 0.53]`, without n."""
    if value.estimate is None:
        return absent(value.reason, marks)
    column = aligned(value, column)
    return f"{number(value.estimate, column)} {interval(value, column, marks)}"


def count(value: Estimate) -> str:
    """`n 40`, and what is missing."""
    return f"n {value.n:,}" + (f", {value.missing:,} missing" if value.missing else "")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a table says once: `counts` by column key, `marks` by reason code."""

    counts: Mapping[str, str] = field(default_factory=dict)
    marks: Marks = field(default_factory=dict)


PLAIN = Reading()


def reading(table: Table) -> Reading:
    """Which counts and reasons a table need not repeat."""
    counts, codes = {}, Counter[str]()
    for column in table.columns:
        values = [row.get(column.key) for row in table.rows]
        known = [value for value in values if isinstance(value, Estimate)]
        shared = {count(value) for value in known}
        if len(known) > 1 and len(shared) == 1:
            counts[column.key] = shared.pop()
        codes.update(code for row, value in zip(table.rows, values, strict=True)
                     if (code := _why(row, column, value)))  # fmt: skip
    often = [code for code, times in codes.items() if times > 1]
    marks = {code: f" ({letter})" for code, letter in zip(often, "abcdefgh", strict=False)}
    return Reading(counts, marks if len(often) > 1 else dict.fromkeys(often, ""))


def _why(row: Mapping[str, Any], column: Column, value: Any) -> str | None:
    """The reason that a cell would have to give."""
    if isinstance(value, Estimate):
        return value.reason if value.estimate is None or value.low is value.high is None else None
    return row.get(f"{column.key}_reason") if value is None else None


def notes(table: Table, read: Reading) -> str:
    """A table's note, and what its marks mean."""
    meanings = (f"n/a{mark}: {reason(code)}." for code, mark in read.marks.items())
    return " ".join([*([table.note] if table.note else []), *meanings])


def text(row: Mapping[str, Any], column: Column, read: Reading = PLAIN) -> str:
    """One cell as plain text. A None may have its reason in the row, under `<key>_reason`."""
    value = row.get(column.key)
    if isinstance(value, Estimate):
        shown = estimate(value, column, read.marks)
        return shown if column.key in read.counts else f"{shown} ({count(value)})"
    if value is None:
        return absent(row.get(f"{column.key}_reason"), read.marks)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return p_value(value) if is_p(column.key) else number(value, column)
    return str(value)


def heading(column: Column, read: Reading = PLAIN) -> str:
    """A column's label with its unit, and the n that all its cells share."""
    extra = ", ".join(part for part in (column.unit, read.counts.get(column.key)) if part)
    return f"{column.label} ({extra})" if extra else column.label


def is_text(column: Column, table: Table) -> bool:
    """True if a column is set flush left."""
    return column.kind == "text" or any(isinstance(row.get(column.key), str) for row in table.rows)


def file_stem(name: str) -> str:
    """A name as a file's: outcome names may hold text a model chose, which is never a path."""
    return re.sub(r"[^A-Za-z0-9._@=-]+", "-", name).strip(".-")[:100] or "unnamed"


# -- Markdown ---------------------------------------------------------------------------------
def markdown_text(value: str) -> str:
    """Text made inert in Markdown, on one line, with no more escapes than that takes: reports are
    read in terminals, too."""
    words = " ".join(harmless(value).split())
    kept = {i for pair in BRACKETS.finditer(words) for i in (pair.start(), pair.end() - 1)}

    def inert(found: re.Match[str]) -> str:
        mark = found[0]
        return mark if found.start() in kept else REFERENCES.get(mark, f"\\{mark}")

    return re.sub(r"^(\d{1,9})([.)])(?= |$)", r"\1\\\2", MARKUP.sub(inert, words))


LIVELY = re.compile(r"(?<=\])[(:] | " + GITHUB, re.VERBOSE)  # links, their definitions
DIAGRAM = re.compile(r"((?:`{3,}|~{3,}) *)(?=math|mermaid|geojson|topojson|stl)")


def prose(value: str) -> str:
    """Model text in a Markdown file as it was written, but inert: no HTML, no link or
    link's definition, no formula or diagram, nothing that drives a terminal."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", harmless(value))
    return DIAGRAM.sub(r"\1text ", LIVELY.sub(r"\\\g<0>", text))


def to_markdown(table: Table, limit: int | None = None) -> str:
    """A pipe table with its title and note. `limit` rows at most; the note says what is left out."""
    read = reading(table)
    lines = [f"**{markdown_text(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(markdown_text(heading(c, read)) for c in table.columns) + " |")
    rule = (":---" if is_text(c, table) else "---:" for c in table.columns)
    lines.append("|" + "|".join(rule) + "|")
    for row in table.rows[:limit]:
        cells = (_markdown_cell(row, column, read) for column in table.columns)
        lines.append("| " + " | ".join(cells) + " |")
    below = [markdown_text(note)] if (note := notes(table, read)) else []
    if limit is not None and len(table.rows) > limit:
        below.append(f"The first {limit} of {len(table.rows)} rows; all are in "
                     f"`analysis/tables/{file_stem(table.name)}.csv`.")  # fmt: skip
    return "\n".join([*lines, *(f"\n{note}" for note in below)]) + "\n"


def _markdown_cell(row: Mapping[str, Any], column: Column, read: Reading) -> str:
    plain = text(row, column, read)
    return markdown_text(plain) if isinstance(row.get(column.key), str) else plain


# -- CSV --------------------------------------------------------------------------------------
def to_csv(table: Table) -> bytes:
    """RFC 4180; an estimate takes one column for each of its parts; None is an empty field."""
    wide = {c.key for c in table.columns for row in table.rows
            if isinstance(row.get(c.key), Estimate)}  # fmt: skip
    names = [name for c in table.columns for name in _csv_names(c.key, c.key in wide)]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in table.rows:
        writer.writerow(dict(_csv_row(row, table.columns, wide)))
    return out.getvalue().encode("utf-8", "replace")


def _csv_names(key: str, wide: bool) -> list[str]:
    return [f"{key}{part}" for part in ESTIMATE_PARTS] if wide else [key]


def _csv_row(
    row: Mapping[str, Any], columns: tuple[Column, ...], wide: set[str]
) -> Iterator[tuple[str, Any]]:
    for column in columns:
        value = row.get(column.key)
        if isinstance(value, Estimate):
            yield from zip(_csv_names(column.key, True), _parts(value), strict=True)
        else:
            yield column.key, value
            if column.key in wide and row.get(f"{column.key}_reason"):
                yield f"{column.key}_reason", row[f"{column.key}_reason"]


def _parts(value: Estimate) -> tuple[Any, ...]:
    return (value.estimate, value.low, value.high, value.n, value.missing, value.p, value.method,
            value.reason)  # fmt: skip


# -- HTML -------------------------------------------------------------------------------------
def to_html(table: Table, open_rows: int = 40) -> str:
    """A table element inside a figure; more than `open_rows` rows are folded away. Escaped."""
    read = reading(table)
    head = "".join(_html_head(column, table, read) for column in table.columns)
    body = "".join(_html_row(row, table, read) for row in table.rows)
    grid = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    if len(table.rows) > open_rows:
        grid = f"<details><summary>{len(table.rows)} rows</summary>{grid}</details>"
    below = notes(table, read)
    note = f'<p class="note">{escape(below)}</p>' if below else ""
    title = f"<figcaption>{escape(table.title)}</figcaption>" if table.title else ""
    return f'<figure class="table" id="table-{escape(file_stem(table.name))}">{title}{grid}{note}</figure>'


def _side(column: Column, table: Table) -> str:
    return "" if is_text(column, table) else ' class="number"'


def _html_head(column: Column, table: Table, read: Reading) -> str:
    extra = (("unit", column.unit), ("n", read.counts.get(column.key)))
    parts = "".join(f' <span class="{kind}">{escape(part)}</span>' for kind, part in extra if part)
    return f'<th scope="col"{_side(column, table)}>{escape(column.label)}{parts}</th>'


def _html_row(row: Mapping[str, Any], table: Table, read: Reading) -> str:
    cells = (f"<td{_side(c, table)}{_sort(row.get(c.key))}>{_html_cell(row, c, read)}</td>"
             for c in table.columns)  # fmt: skip
    return f"<tr>{''.join(cells)}</tr>"


def _sort(value: Any) -> str:
    """The value that a page may sort by."""
    raw = value.estimate if isinstance(value, Estimate) else value
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return ""
    return f' data-value="{float(raw)!r}"'


def _html_cell(row: Mapping[str, Any], column: Column, read: Reading) -> str:
    value = row.get(column.key)
    if isinstance(value, Estimate) and value.estimate is not None:
        column = aligned(value, column)
        limits = escape(interval(value, column, read.marks))
        n = "" if column.key in read.counts else f' <span class="n">{escape(count(value))}</span>'
        return f'{escape(number(value.estimate, column))} <span class="interval">{limits}</span>{n}'
    plain = escape(text(row, column, read))
    return f'<span class="absent">{plain}</span>' if value is None else plain


# -- terminal ---------------------------------------------------------------------------------
GAP = 3  # between two columns of a terminal's table
EDGES = 2  # before the first and after the last
PROSE = 24  # a text column may be folded to so many characters
NAME = 64  # characters of a word that is not broken: a model's, a trial's or a run's name


def to_rich(table: Table, width: int = 10_000) -> list[RenderableType]:
    """A table for a terminal of `width`: title, grid, note. Where a grid would break numbers, the
    rows stand side by side; where there are too many of them, several grids stand under each other
    and repeat the columns by which rows are told apart. Untrusted text is made harmless."""
    from rich.text import Text

    read = reading(table)
    title, below = harmless(table.title), harmless(notes(table, read))
    return [
        *([Text(title)] if title else []),
        *grids([_drawn(column, table, read) for column in table.columns], width),
        *([Text(below), Text()] if below else []),
    ]


def grids(columns: list[Drawn], width: int) -> list[rich.table.Table]:
    """Columns as one grid, turned, or several: whichever breaks no number in this width."""
    width -= EDGES
    if not columns or _fit(columns, width):
        return [_grid(columns, width)]
    turned = _turned(columns)
    if _fit(turned, width):
        return [_grid(turned, width)]
    return [_grid(part, width) for part in _parts_of(columns, width)]


def _fit(columns: list[Drawn], width: int) -> bool:
    return sum(column.least + GAP for column in columns) <= width + GAP


@dataclass(frozen=True, slots=True)
class Drawn:
    """A column as a terminal shows it. `least`: its narrowest width, which breaks no number and no
    name, but folds prose and headings between words."""

    head: str
    cells: tuple[str, ...]
    left: bool

    @property
    def most(self) -> int:
        """The width at which nothing is folded."""
        return max(map(len, (self.head, *self.cells)))

    @property
    def word(self) -> int:
        """The width at which no short word is broken."""
        words = [word for text in (self.head, *self.cells) for word in text.split()]
        return max([1, *(min(len(word), PROSE) for word in words)])

    @property
    def least(self) -> int:
        long = [c for c in self.cells if len(c) > PROSE and self.left]
        words = [word for text in (self.head, *long) for word in text.split()]
        whole = [min(len(c), PROSE) if self.left else len(c) for c in self.cells]
        return max([1, *whole, *(min(len(word), NAME) for word in words)])


def _drawn(column: Column, table: Table, read: Reading) -> Drawn:
    cells = tuple(harmless(text(row, column, read)) for row in table.rows)
    return Drawn(harmless(heading(column, read)), cells, is_text(column, table))


def _turned(columns: list[Drawn]) -> list[Drawn]:
    """Rows as columns."""
    first, *others = columns
    names = Drawn(first.head, tuple(column.head for column in others), True)
    rows = zip(*(column.cells for column in others), strict=True)
    return [names, *(Drawn(head, cells, True)
                     for head, cells in zip(first.cells, rows, strict=True))]  # fmt: skip


def _parts_of(columns: list[Drawn], width: int) -> list[list[Drawn]]:
    """Columns dealt to grids of at most `width`, if it can be; each begins with the keys."""
    keys = _keys(columns)
    room = width - sum(column.least + GAP for column in keys)
    parts: list[list[Drawn]] = []
    left = 0
    for column in columns[len(keys) :]:
        if not parts or column.least > left:
            parts.append([*keys])
            left = room
        parts[-1].append(column)
        left -= column.least + GAP
    return parts


def _keys(columns: list[Drawn]) -> list[Drawn]:
    """The first columns, as many as tell the rows apart, but three at most."""
    for n in range(1, min(3, len(columns))):
        rows = list(zip(*(column.cells for column in columns[:n]), strict=True))
        if len(set(rows)) == len(rows):
            return columns[:n]
    return columns[: min(3, len(columns) - 1)]


def _widths(columns: list[Drawn], width: int) -> list[int]:
    """Each column's own: what it needs at least, and more from the left on as far as there is room;
    beside a number too wide for them, texts are folded further."""
    texts = [column.least if _fit(columns, width) or not column.left else column.word
             for column in columns]  # fmt: skip
    spare = width + GAP - sum(least + GAP for least in texts)
    found = []
    for column, least in zip(columns, texts, strict=True):
        more = max(0, min(column.most - least, spare))
        spare -= more
        found.append(least + more)
    return found


def _grid(columns: list[Drawn], width: int) -> rich.table.Table:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, own in zip(columns, _widths(columns, width), strict=True):
        side: Literal["left", "right"] = "left" if column.left else "right"
        grid.add_column(Text(column.head), justify=side, overflow="fold", width=own)
    for cells in zip(*(column.cells for column in columns), strict=True):
        grid.add_row(*map(Text, cells))
    return grid


def harmless(value: str) -> str:
    """Text without the characters that could drive a terminal, turn the direction of the text
    around it, or not be drawn at all."""
    return value.translate(UNSEEN)
