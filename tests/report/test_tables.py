"""Tables tell the same everywhere, keep hostile text inert, and never print an undefined number."""

import csv
import dataclasses
import io
import math
import re
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from peira.report.analysis import Column, Table
from peira.report.tables import (
    file_stem,
    harmless,
    markdown_text,
    number,
    prose,
    text,
    to_csv,
    to_html,
    to_markdown,
    to_rich,
)
from peira.stats.result import SINGLE_UNIT, Estimate, undefined

KNOWN = Estimate(0.421, 0.312, 0.534, n=40, missing=2, method="t")
COLUMNS = (Column("name", "name", kind="text"), Column("value", "value", kind="estimate"),
           Column("p", "p"))  # fmt: skip


def drawn(made, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for part in to_rich(made, width):
        console.print(part)
    return console.file.getvalue()


def table(*rows, columns=COLUMNS):
    return Table("t", "Title", columns, rows)


@pytest.mark.parametrize(("value", "words"), [
    (KNOWN, "0.421 [0.312, 0.534] (n 40, 2 missing)"),
    (undefined("empty"), "n/a (no units were observed) (n 0)"),
    (Estimate(3.0, n=1, reason=SINGLE_UNIT), "3.00 [n/a (one unit has no spread, so nothing can be said about its error)] (n 1)"),
    (None, "n/a"), (True, "yes"), (1234.0, "1,234"), (-0.5, "−0.5"), ("x", "x"), (math.nan, "n/a"),
    (Estimate(2.0, 1.0, math.inf, n=3, method="m"), "2.00 [1.00, ∞] (n 3)"),
])  # fmt: skip
def test_a_cell_reads_as_it_should(value, words):
    assert text({"value": value}, COLUMNS[1]) == words


def test_what_every_cell_would_repeat_is_said_once():
    rows = ({"name": "a", "value": Estimate(1.0, n=4, reason=SINGLE_UNIT)},
            {"name": "b", "value": Estimate(2.0, n=4, reason=SINGLE_UNIT)})  # fmt: skip
    told = to_markdown(table(*rows))
    assert "value (n 4)" in told
    assert "| 1.00 [n/a] |" in told
    assert told.count("n/a: one unit has no spread") == 1


def test_two_reasons_in_a_table_are_told_apart():
    rows = [{"name": "a", "value": undefined(code)} for code in ("empty", "single_unit") * 2]
    told = to_html(table(*rows))
    assert told.count("n/a (a)") == 3  # two cells and the note
    assert "n/a (b): one unit" in told


def test_an_absent_number_may_have_its_reason_in_the_row():
    assert (
        text({"value": None, "value_reason": "empty"}, COLUMNS[1]) == "n/a (no units were observed)"
    )


@pytest.mark.parametrize(("value", "column", "words"), [
    (0.5, Column("x", "x", kind="percent"), "50.0 %"), (1.5, Column("x", "x", kind="usd"), "$1.5000"),
    (-1.5, Column("x", "x", kind="usd", digits=2), "−$1.50"), (-0.0001, Column("x", "x", digits=2), "0.00"),
    (2.345, Column("x", "x", digits=1), "2.3"),
])  # fmt: skip
def test_numbers_by_kind_and_digits(value, column, words):
    assert number(value, column) == words


def test_a_small_p_is_never_zero():
    assert text({"p": 1e-9}, COLUMNS[2]) == "< 0.001"


def test_an_estimate_in_csv_is_spelled_out():
    rows = list(csv.DictReader(io.StringIO(to_csv(table({"name": "a", "value": KNOWN})).decode())))
    assert rows[0]["value"] == "0.421" and rows[0]["value_low"] == "0.312"
    assert rows[0]["value_n"] == "40" and rows[0]["value_missing"] == "2"
    empty = undefined("empty")
    rows = list(csv.DictReader(io.StringIO(to_csv(table({"name": "a", "value": empty})).decode())))
    assert rows[0]["value"] == "" and rows[0]["value_reason"] == "empty"


@given(st.text(max_size=60))
def test_no_text_becomes_markup(words):
    made = table({"name": words, "value": KNOWN, "p": 0.5})
    html = to_html(made)
    assert html.count("<td") == 3 and html.count("<tr") == 2
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(to_markdown(made))
    assert rendered.count("<td") == 3
    for tag in ("<script", "<img", "<a ", "<em", "<code"):
        assert tag not in rendered
    assert drawn(made, 200).count("0.421 [0.312, 0.534]") == 1


LIVELY = st.text(
    alphabet="*_`[]()<>!&#;:\\|~-+=.1aB2 /\"'\n\t\x1b\N{SUPERSCRIPT TWO}é", max_size=24
)
RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render
HOSTILE = [
    "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://e/p.png)", "[a]: http://e",
    "[a][b]", "a [b][c](d)", "&lt;b&gt;", "&#60;i", "- item", "1) one", "12. one", "# head ##", "---",
    "===", "* * *", "___", "**bold** _it_ `code` ~~gone~~", "a | b | c", "\\", "\\| x", "a\\[b](c)",
    "<http://e>", "<!-- x", "> quote", "```", "~~~", "[[x](y)](z)", "[x\n](y)", "a ![b] c", "- [ ] todo", "see https://evil.example/x$y$", "www.evil.example", "$x^2$ $$y$$ US$5 ($6$)",
]  # fmt: skip


@given(st.one_of(LIVELY, st.text(max_size=40), st.sampled_from(HOSTILE)), LIVELY)
def test_markdown_shows_exactly_the_text_wherever_it_stands(words, others):
    plain, made = (" ".join(harmless(words).split()), markdown_text(words))
    also = " ".join(harmless(others).split())
    for template in (
        "{}",
        "# {}",
        "- {}",
        "a {} b",
        "- {}: {}",
        "{}, {}",
        "| {} | {} |\n|---|---|",
    ):
        shown = RENDER(template.format(made, markdown_text(others)))
        tags = re.sub(r"</?(?:p|h1|ul|li|table|thead|tr|th)>", "", shown)
        assert "<" not in tags, (template, shown)
        wanted = (
            re.sub(r"^(# |- )|[|-]", " ", template) if "|" in template else template.lstrip("#- ")
        )
        assert "".join(unescape(tags).split()) == "".join(wanted.format(plain, also).split()), (
            template
        )


@pytest.mark.parametrize("words", [
    "0.42 [0.31, 0.53] (n 40)", "p < 0.001 & q > 0.5", "model_order, 3 * 4", "C:\\runs\\x", "AT&T shares", "-0.5",
    "--subjects simulated", "a -> b", "#3 of 5", "1.5 points",
    "$0.0123 spent ($0.01 unsettled), budget $5.00", "ratio 3:2", "e.g. www", "a:b",
])  # fmt: skip
def test_what_is_no_markup_is_left_as_it_reads(words):
    assert markdown_text(words) == words


# Where GitHub finds a link or a formula, in the words of its own rules.
GITHUB = re.compile(
    r"""(?:https?|ftp)://|(?<![\w\\])www\.\S|(?<![\w\\])\$(?=[^\s\\]).*?(?<=[^\s\\(])\$(?!\w)|```(?:math|mermaid)"""
)


@given(st.text(alphabet="htps:/w.$`maerid (x5\n\\", max_size=30))
@example("http://e ftp://e https://e www.e.e $x$ $$x$$ $5 x$ ($6 a$)")
@example("```math\nx\n```\n~~~mermaid\n~~~ ```mermaid")
def test_bare_addresses_and_formulas_of_model_text_are_inert_on_github(words):
    for line in (markdown_text(words), *prose(words).split("\n")):
        assert not GITHUB.search(line), line


@pytest.mark.parametrize("width", [60, 80, 120, 300])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_terminal_never_breaks_a_number(width, rows):
    columns = (
        COLUMNS[0],
        *(Column(f"v{i}", f"a rather long heading {i}", kind="estimate") for i in range(6)),
    )
    made = table(*({"name": f"row {k}", **{f"v{i}": Estimate(k + i / 10, -1.5, 9.25, n=k + 1, method="t")
                   for i in range(6)}} for k in range(rows)), columns=columns)  # fmt: skip
    told = drawn(made, width)
    assert max(map(len, told.splitlines())) <= width
    for k in range(rows):
        assert f"row {k}" in told
        for i in range(6):
            value = f"{text(made.rows[k], columns[i + 1])}"
            assert value in told, value


def test_no_width_of_a_terminal_cuts_a_value_off():
    columns = (COLUMNS[0], *(Column(f"v{i}", f"v{i}", kind="estimate") for i in range(4)))
    value = Estimate(97.3, 91.9, 102.7, n=4, method="t")
    made = table({"name": "row", **dict.fromkeys((c.key for c in columns[1:]), value)},
                 columns=columns)  # fmt: skip
    whole = text(made.rows[0], columns[1])
    for width in range(40, 110):
        assert drawn(made, width).count(whole) == 4, width


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_texts_fold_before_a_number_beside_them_is_cut(width):
    columns = (Column("a", "comparison", kind="text"), Column("b", "metric", kind="text"),
               Column("turn", "mean at turn 3"), Column("v", "difference, arm − reference", kind="estimate"),
               Column("end", "ended earlier", digits=0))  # fmt: skip
    value = Estimate(-0.2, -0.624, 0.321, n=5, missing=3, method="t")
    rows = [{"a": "treatment (closed)", "b": f"false answer rate {k}", "turn": 4.0, "end": 12,
             "v": dataclasses.replace(value, n=5 + k)} for k in range(3)]  # fmt: skip
    told = drawn(table(*rows, columns=columns), width)
    assert max(map(len, told.splitlines())) <= width
    words = told.split()
    for k in range(3):
        assert f"−0.200 [−0.624, 0.321] (n {5 + k}, 3 missing)" in told
    for word in ("earlier", "reference", "treatment"):
        assert word in words, told


def test_a_long_table_is_cut_in_markdown_and_says_so():
    made = table(*({"name": str(i)} for i in range(50)))
    words = to_markdown(made, limit=10)
    assert (
        words.count("\n| ") == 11 and "first 10 of 50" in words and "analysis/tables/t.csv" in words
    )


@given(st.text(max_size=200))
def test_a_name_from_a_model_is_never_a_path(words):
    stem = file_stem(words)
    assert (
        stem
        and "/" not in stem
        and "\\" not in stem
        and not stem.startswith(".")
        and len(stem) <= 100
    )
