"""The report of a run: complete, self-contained, marked, escaped, and the same in both forms."""

import json
import re

import pytest

from peira import api
from peira.cli.finish import finish
from peira.cli.main import run as command
from peira.errors import ReportRefused
from peira.report.analysis import Analysis, Column, Finding, Table
from peira.report.default_analysis import gather, numeric_outcomes, outcomes_by
from peira.report.document import write_report
from peira.report.figures import canvas, style
from peira.report.figures import finish as finished
from peira.report.page import script_hash
from peira.stats.intervals import mean_interval, wilson
from peira.stats.result import Estimate
from peira.store.records import RunView
from tests.web.conftest import talk
from tests.web.talkers import PROBE
from tests.web.visitor import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run"
    api.run(talk(), api.Options(run_dir=path))
    finish(path, quiet=True)
    return path


@pytest.fixture(scope="module")
def view(folder):
    with RunView(folder) as run:
        yield run


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_a_report_tells_everything_in_order(folder, name):
    text = (folder / name).read_text()
    heads = re.findall(r"^## (.+)$|<h2>(.+?)</h2>", text, re.MULTILINE)
    assert [a or b for a, b in heads] == [
        "What was run", "Completeness", "Findings", "Figures", "Tables", "Failures", "Cost",
        "Limits of this evidence", "Reproduce",
    ]  # fmt: skip
    assert re.search(r"planned 36 = done \d+ \+ failed \d+ \+ halted 0 \+ pending 0", text)
    for words in (
        "unreadable",
        "sim:talker",
        "Study hash",
        "peira replay",
        "SIMULATED",
        "exploratory",
    ):
        assert words in text, words


def test_the_page_needs_nothing_else_and_runs_only_its_own_script(folder):
    page = (folder / "report.html").read_text()
    markup = read(page)
    assert markup.handlers == [] and "xss-probe" not in markup.tags
    assert all(link.startswith(("#", "data:image/")) for link in markup.links)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script_hash(script) in page
    assert "xss-probe" in "".join(markup.words)


def test_hostile_text_is_inert_in_markdown(folder):
    from markdown_it import MarkdownIt

    text = (folder / "report.md").read_text()
    tags = read(MarkdownIt("commonmark", {"html": True}).enable("table").render(text)).tags
    assert not {"script", "xss-probe", "a"} & set(tags)
    assert "xss-probe" in text


def test_files_are_strict_json_and_marked(folder):
    data = json.loads((folder / "analysis/findings.json").read_text(), parse_constant=pytest.fail)
    assert data["simulated"] is True and data["label"] == "simulated subjects"
    counts = data["counts"]
    assert counts["planned"] == sum(counts[s] for s in ("done", "failed", "halted", "pending"))
    assert (folder / "analysis/tables/score.csv").is_file()
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".png", ".svg", ".html"}
    inside = {p.resolve().is_relative_to(folder.resolve()) for p in folder.rglob("*")}
    assert inside == {True}


def test_default_means_are_those_of_the_trials(view):
    cells = gather(view)
    for key, factors in cells.labels.items():
        trials = [r for r in view.records() if r.cell == factors]
        scores = [r.outcome["score"] for r in trials if r.done]
        assert cells.estimate("score", key).low == pytest.approx(mean_interval(scores).low)
        assert cells.estimate("score", key).missing == len(trials) - len(scores)
        wins = [r.outcome["won"] for r in trials if r.done]
        assert cells.estimate("won", key).low == pytest.approx(wilson(sum(wins), len(wins)).low)


def test_outcomes_may_be_pooled_by_a_factor(view):
    tables = {table.name: table for table in outcomes_by(view, ["partner"])}
    assert len(tables["score_by_partner"].rows) == 2
    assert (
        sum(row["value"].n + row["value"].missing for row in tables["score_by_partner"].rows) == 36
    )
    assert numeric_outcomes(view).answer.startswith("Mean score ranges from")


def picture():
    with style():
        figure, axes = canvas(2, 2)
        axes.plot([1, 2])
        return finished(figure, n="n = 2", simulated=False)


def test_a_section_places_its_tables_and_figures(view, tmp_path):
    table = Table("mine", "My table", (Column("a", "a"),), ({"a": 1},))
    body = f"Before **bold** {PROBE}\n\n[table: mine]\n\n[figure: mine]\n\nAfter [x](javascript:alert(1))"
    analysis = Analysis("An answer.", (table,), sections={"Trajectories": body})
    with RunView(view.dir) as run:
        write_report(run, analysis, {"mine": picture})
    page = (view.path / "report.html").read_text()
    assert page.count("My table") == 1 and page.count('id="figure-mine"') == 1
    assert (
        page.index("Before")
        < page.index("My table")
        < page.index("figure-mine")
        < page.index("After")
    )
    markup = read(page)
    assert not any("javascript" in link for link in markup.links) and "xss-probe" not in markup.tags
    text = (view.path / "report.md").read_text()
    assert text.index("Before") < text.index("My table") < text.index("figures/mine.png")


def test_nothing_is_written_when_the_analysis_is_refused(view):
    before = (view.path / "report.md").read_bytes()
    bad = Analysis(
        "It is significant.",
        findings=(Finding("f", "c", Estimate(1.0, n=1, reason="single_unit")),),
    )
    with pytest.raises(ReportRefused):
        write_report(view, bad, {})
    assert (view.path / "report.md").read_bytes() == before


def test_names_from_outcomes_never_leave_the_run(view, tmp_path):
    table = Table("../../../escape", "T", (Column("a", "a"),), ({"a": 1},))
    write_report(
        view,
        Analysis("a", (table,), files={"../../out.json": {"x": float("nan")}}),
        {"../up": picture},
    )
    assert not list(view.path.parent.glob("escape*")) and not list(view.path.parent.glob("out*"))
    assert json.loads((view.path / "analysis/out.json").read_text()) == {"x": None}


@pytest.mark.parametrize(("words", "code", "told"), [
    (["analyse", "{run}"], 0, "mean score"), (["analyse", "{run}", "--by", "partner"], 0, "by partner"),
    (["analyse", "{run}", "--by", "nope"], 2, "allowed: temperature, partner"),
    (["report", "{run}"], 0, "report.html"), (["report", "{run}", "--summary"], 0, "exploratory"),
    (["plot", "{run}", "score"], 0, "score.png"), (["plot", "{run}", "nope"], 2, "allowed: score"),
    (["plot", "{run}", "--output", "x.pdf"], 2, "allowed: .png"), (["plot", "{run}", "--list"], 0, "won"),
    (["plot", "nowhere"], 2, "no run here"), (["report", "nowhere"], 2, "no run here"),
])  # fmt: skip
def test_the_commands(folder, capsys, words, code, told):
    assert command([word.format(run=folder) for word in words]) == code
    out = capsys.readouterr()
    assert told in out.out + out.err
    assert "\x1b" not in out.out


def test_analyse_as_json_is_what_the_file_holds(folder, capsys):
    assert command(["analyse", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        (folder / "analysis/findings.json").read_text()
    )


def test_one_figure_goes_to_one_file(folder, tmp_path):
    assert command(["plot", str(folder), "won", "--output", str(tmp_path / "w.svg")]) == 0
    assert b"<svg" in (tmp_path / "w.svg").read_bytes()
