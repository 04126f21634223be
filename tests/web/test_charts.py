"""Charts are well-formed, escaped, gapped where data is missing, and inside their frame."""

import xml.etree.ElementTree as Tree

from hypothesis import given
from hypothesis import strategies as st

from peira.web.charts import HEIGHT, WIDTH, Chart, Line, draw, progress, ticks
from tests.web.talkers import PROBE

numbers = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(st.tuples(numbers, numbers | st.none()), min_size=1, max_size=20))
def test_every_point_is_drawn_once_and_inside(points):
    xs, ys = [x for x, _ in points], [y for _, y in points]
    known = sum(y is not None for y in ys)
    svg = draw(Chart("t", [Line("a", xs, ys)]))
    if not known:
        assert svg == ""
        return
    tree = Tree.fromstring(svg)
    dots = tree.findall(".//circle")
    assert len(dots) == known
    assert all(0 <= float(d.get("cx")) <= WIDTH and 0 <= float(d.get("cy")) <= HEIGHT for d in dots)


def test_a_missing_value_breaks_the_line():
    svg = draw(Chart("t", [Line("a", [0, 1, 2, 3, 4], [1, 2, None, 3, 4])]))
    assert len(Tree.fromstring(svg).findall(".//path")) == 2


def test_hostile_names_are_escaped():
    svg = draw(
        Chart(PROBE.replace("\x1b", ""), [Line(PROBE.replace("\x1b", ""), [0, 1], [1, 2])] * 2)
    )
    assert "xss-probe" not in [e.tag for e in Tree.fromstring(svg).iter()]


@given(numbers, st.floats(1e-6, 1e9))
def test_ticks_lie_within(low, width):
    high = low + width
    if high > low:
        assert all(
            low - 1e-6 * abs(low) - 1e-9 <= t <= high + 1e-6 * abs(high) + 1e-9
            for t in ticks(low, high)
        )


@given(
    st.fixed_dictionaries(
        {s: st.integers(0, 10**6) for s in ("done", "failed", "halted", "pending")}
    )
)
def test_a_progress_bar_is_as_wide_as_its_trials(counts):
    tree = Tree.fromstring(progress(counts))
    widths = [float(r.get("width")) for r in tree.findall("rect")]
    assert sum(widths) == 0 if not any(counts.values()) else abs(sum(widths) - 1000) < 0.1
