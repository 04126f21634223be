"""A drawn figure told to plotly: its own values, panels, legend, words; nothing becomes markup."""

import json

import pytest

from peira.report.figures import canvas, finish, style
from peira.report.interactive import page, script, style_ids, told, words


@pytest.fixture
def figure():
    with style():
        figure, (left, right) = canvas(6, 3, 1, 2)
        left.plot([1, 2, 3], [0.1, float("nan"), 0.3], "o-", label="<b>a</b>")
        left.fill_between([1, 2], [0, 0], [1, 2])
        left.axvline(2.5)
        left.set_xscale("log")
        left.barh([0, 1], [3, 4], left=[1, 0], label="bars")
        drawn = right.imshow([[1.0, 2.0], [3.0, float("nan")]])
        right.set_yticks([0, 1], ["first", "second"])
        right.text(0, 1, "cost \\$5", ha="center", va="center")
        figure.colorbar(drawn, ax=right, label="points")
        left.legend()
        return finish(figure, n="n = 3 trials.", simulated=True, caption="Band: 95 % intervals.")


def of(drawn, kind):
    return next(trace for trace in drawn["data"] if trace["type"] == kind)


def test_values_are_the_figures_own_and_what_is_undefined_is_null(figure):
    drawn = told(figure)
    json.dumps(drawn, allow_nan=False, default=float)
    line = next(trace for trace in drawn["data"] if trace["name"] == words("<b>a</b>"))
    assert line["x"] == [1, 2, 3] and line["y"] == [0.1, None, 0.3]
    assert of(drawn, "heatmap")["z"] == [[1, 2], [3, None]]
    bars = of(drawn, "bar")
    assert (bars["x"], bars["base"], bars["orientation"]) == ([3, 4], [1, 0], "h")


def test_panels_scales_ticks_and_rules_are_kept(figure):
    layout = told(figure)["layout"]
    assert layout["xaxis"]["type"] == "log" and layout["xaxis2"]["type"] == "linear"
    assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]
    assert layout["yaxis2"]["ticktext"] == ["first", "second"]
    assert layout["yaxis2"]["range"] == [1.5, -0.5]
    assert [shape["yref"] for shape in layout["shapes"]] == ["y domain"]
    assert "xaxis3" not in layout  # the colour bar is the heat map's own


def test_pointing_at_a_cell_says_its_row_and_its_value(figure):
    assert of(told(figure), "heatmap")["text"][1][0].endswith("second<br><b>3</b>")


def test_words_are_escaped_and_the_caption_says_n_and_simulated(figure):
    drawn = told(figure)
    assert words("<b>a</b>") == "&lt;b&gt;a&lt;/b&gt;"
    assert [note["text"] for note in drawn["layout"]["annotations"]] == ["cost $5"]
    assert "n = 3 trials." in drawn["caption"] and "SIMULATED" in drawn["caption"]


def test_the_legend_names_what_the_figures_own_does_once(figure):
    named = [trace["name"] for trace in told(figure)["data"] if trace["showlegend"]]
    assert sorted(named) == sorted([words("<b>a</b>"), "bars"])


def test_a_page_stands_alone_and_carries_the_script(figure):
    text = page(figure, "</title><script>").decode()
    assert "<title>&lt;/title&gt;" in text and " src=" not in text.split("<script>")[0]
    assert len(text) > script().stat().st_size and "plotly.js-style-global" in style_ids()
