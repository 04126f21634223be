"""Small pictures drawn as SVG by the server: they follow the page's theme and need no script.

For what is live or light (progress, trajectories, spend). Figures for papers are matplotlib's
(`peira.report.figures`). Invariant: every text is escaped; colours are classes of the style sheet,
so that the content security policy holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from peira.report.tables import escape

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 34
COLOURS = 7


@dataclass(frozen=True, slots=True)
class Line:
    """One series. A y of None is a gap. `low` and `high` make a band."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dots: bool = True
    step: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart. `rules` are vertical lines with a name."""

    title: str
    lines: Sequence[Line]
    x_label: str = ""
    y_label: str = ""
    rules: Sequence[tuple[float, str]] = ()
    zero: bool = False
    numbers: dict[str, str] = field(default_factory=dict)


def draw(chart: Chart) -> Markup:
    """The chart as an SVG element; empty when there is nothing to draw."""
    xs = [x for line in chart.lines for x in line.x]
    ys = [y for line in chart.lines for y in (*line.y, *line.low, *line.high) if y is not None]
    if not xs or not ys:
        return Markup("")
    scale = Scale(*_bounds(xs), *_bounds([*ys, 0.0] if chart.zero else ys, pad=True))
    marks = [
        *_axes(chart, scale), *(_rule(scale, at, name) for at, name in chart.rules),
        *(part for i, line in enumerate(chart.lines) for part in _line(scale, line, i % COLOURS)),
    ]  # fmt: skip
    body = "".join(marks)
    return Markup(
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(chart.title)}">{body}</svg>{_legend(chart)}</figure>'
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """From data to picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.y_high - value) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)


def _bounds(values: Sequence[float], pad: bool = False) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - 0.5, high + 0.5
    room = 0.06 * (high - low) if pad else 0.0
    return (low if low == 0 else low - room), high + room


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """Round numbers that divide a range into about `count` parts; `whole`: whole numbers only."""
    raw = max((high - low) / count, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def _axes(chart: Chart, scale: Scale) -> list[str]:
    marks = []
    whole = all(float(x).is_integer() for line in chart.lines for x in line.x)
    for value in ticks(scale.y_low, scale.y_high):
        y = scale.y(value)
        marks.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        marks.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{value:g}</text>')
    for value in ticks(scale.x_low, scale.x_high, 6, whole):
        marks.append(f'<text class="tick middle" x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}">'
                     f"{value:g}</text>")  # fmt: skip
    marks.append(
        f'<text class="label end" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}">{escape(chart.x_label)}</text>'
    )
    marks.append(f'<text class="label" x="2" y="10">{escape(chart.y_label)}</text>')
    return marks


def _rule(scale: Scale, at: float, name: str) -> str:
    x = scale.x(at)
    return (f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">'
            f"<title>{escape(name)}</title></line>")  # fmt: skip


def _line(scale: Scale, line: Line, colour: int) -> list[str]:
    marks = []
    if line.low and line.high:
        marks += [_band(scale, part, colour) for part in _bands(line)]
    for run in _runs(line):
        places = [(scale.x(x), scale.y(y)) for x, y in run]
        marks.append(f'<path class="line c{colour}" d="{_path(places, line.step)}"/>')
        if line.dots or len(run) == 1:
            marks += [
                f'<circle class="dot c{colour}" cx="{px:.1f}" cy="{py:.1f}" r="3">'
                f"<title>{escape(line.name)}: {x:g}, {y:.4g}</title></circle>"
                for (px, py), (x, y) in zip(places, run, strict=True)
            ]
    return marks


def _path(places: Sequence[tuple[float, float]], step: bool) -> str:
    words = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"]
    for x, y in places[1:]:
        words.append(f"H{x:.1f}V{y:.1f}" if step else f"L{x:.1f} {y:.1f}")
    return "".join(words)


def _runs(line: Line) -> list[list[tuple[float, float]]]:
    """The unbroken parts of a series."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _bands(line: Line) -> list[list[tuple[float, float, float]]]:
    runs: list[list[tuple[float, float, float]]] = [[]]
    for x, low, high in zip(line.x, line.low, line.high, strict=True):
        if low is None or high is None:
            runs.append([])
        else:
            runs[-1].append((x, low, high))
    return [run for run in runs if len(run) > 1]


def _band(scale: Scale, run: Sequence[tuple[float, float, float]], colour: int) -> str:
    upper = [f"{scale.x(x):.1f} {scale.y(high):.1f}" for x, _, high in run]
    lower = [f"{scale.x(x):.1f} {scale.y(low):.1f}" for x, low, _ in reversed(run)]
    return f'<path class="band c{colour}" d="M{"L".join([*upper, *lower])}Z"/>'


def _legend(chart: Chart) -> str:
    items = "".join(
        f'<li><span class="swatch c{i % COLOURS}"></span>{escape(line.name)}</li>'
        for i, line in enumerate(chart.lines)
        if line.name
    )
    title = f"<figcaption>{escape(chart.title)}</figcaption>" if chart.title else ""
    return title + (f'<ul class="legend">{items}</ul>' if len(chart.lines) > 1 else "")


STATES = ("done", "failed", "halted", "running", "pending")


def progress(counts: dict[str, int], label: str = "") -> Markup:
    """A bar of trials by state; `counts` may leave states out."""
    total = sum(counts.get(state, 0) for state in STATES) or 1
    parts, at = [], 0.0
    for state in STATES:
        width = 1000 * counts.get(state, 0) / total
        if width:
            parts.append(
                f'<rect class="s-{state}" x="{at:.2f}" width="{width:.2f}" height="10">'
                f"<title>{counts[state]:,} {state}</title></rect>"
            )
        at += width
    words = ", ".join(f"{counts.get(s, 0):,} {s}" for s in STATES if counts.get(s))
    return Markup(
        f'<svg class="progress" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(f"{label} {words}".strip())}">{"".join(parts)}</svg>'
    )
