"""A figure as one can zoom into and point at: a drawn matplotlib figure told as plotly JSON.

One maker draws one figure; paper, page and browser show the same marks. Panels, lines, points, bars,
bands, heat maps, notes and legends are carried over; values are the data's own, so that pointing at a
mark tells them. Invariant: nothing is drawn here that the printed figure does not show, and every text
is escaped.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.report.tables import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

GAP = 0.1  # between panels, as a share of the width or height
SIGNS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond",
         "d": "diamond-tall", "P": "cross", "X": "x", "*": "star", "+": "cross-thin",
         "x": "x-thin", "|": "line-ns", ".": "circle"}  # fmt: skip
DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
STEPS = {"steps-post": "hv", "steps-pre": "vh", "steps": "vh", "steps-mid": "hvh"}
CLEAR = "rgba(0,0,0,0)"
ANCHORS = {"center": "middle", "center_baseline": "middle", "baseline": "bottom"}
POINT = 96 / 72  # pixels


@dataclass
class Drawing:
    """What is gathered while a figure is told. `named`: legend entries already given."""

    data: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=lambda: {"annotations": [], "shapes": []})
    legend: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def add(self, panel: Panel, name: str, **trace: Any) -> None:
        """A trace in a panel; it stands in the legend where the figure's own legend names it."""
        name = words(name) if not name.startswith("_") else ""
        shown = name in self.legend and name not in self.named
        self.named.add(name)
        self.data.append(
            {"xaxis": panel.x, "yaxis": panel.y, "name": name, "legendgroup": name,
             "showlegend": shown} | trace
        )  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One pair of axes: plotly's names for them, and the words at fixed ticks."""

    axes: Axes
    number: int
    x_words: dict[float, str]
    y_words: dict[float, str]

    @property
    def x(self) -> str:
        return f"x{self.number or ''}"

    @property
    def y(self) -> str:
        return f"y{self.number or ''}"

    def told(self, x: Any, y: Any) -> str:
        """A place in words: `x: 0.5, y: grok-4`, by the axes' own labels."""
        parts = []
        for value, names, axis in (
            (x, self.x_words, self.axes.xaxis),
            (y, self.y_words, self.axes.yaxis),
        ):
            known = names.get(round(float(value))) if _near(value, names) else None
            label = words(axis.get_label_text())
            parts.append(known or (f"{label}: {value:.4g}" if label else f"{value:.4g}"))
        return "<br>".join(parts)


def told(figure: Figure) -> dict[str, Any]:
    """The figure as `{"data", "layout", "caption", "width", "height"}` for plotly. Sizes are the
    printed figure's, in pixels."""
    figure.draw_without_rendering()
    drawing = Drawing(legend={words(text.get_text()) for text in _legend_texts(figure)})
    panels = [axes for axes in figure.axes if not hasattr(axes, "_colorbar")]
    for place, axes in enumerate(panels):
        panel = _panel(drawing, axes, 0 if place == 0 else place + 1)
        _marks(drawing, panel)
    _legend(drawing, figure)
    width, height = (float(size) * 96 for size in figure.get_size_inches())
    caption = " ".join(" ".join(text.get_text().split()) for text in figure.texts)
    return {"data": drawing.data, "layout": drawing.layout, "caption": bare(caption),
            "width": round(width), "height": round(height)}  # fmt: skip


def words(text: str) -> str:
    """A label as plotly reads it: markup escaped, lines broken, matplotlib's own escapes undone."""
    return html.escape(bare(text), quote=False).replace("\n", "<br>")


def bare(text: str) -> str:
    """Text without matplotlib's escapes."""
    return harmless(text).replace(r"\$", "$")


# -- axes ------------------------------------------------------------------------------------
def _panel(drawing: Drawing, axes: Axes, number: int) -> Panel:
    panel = Panel(axes, number, _fixed(axes.xaxis), _fixed(axes.yaxis))
    spot = axes.get_subplotspec()
    rows, columns, first, last = spot.get_geometry() if spot is not None else (1, 1, 0, 0)
    across = _domain(first % columns, last % columns, columns)
    down = _domain(rows - 1 - last // columns, rows - 1 - first // columns, rows)
    kinds = (("x", across, axes.get_xlim(), axes.xaxis), ("y", down, axes.get_ylim(), axes.yaxis))
    for kind, domain, limits, axis in kinds:
        drawing.layout[f"{kind}axis{number or ''}"] = _axis(axis, domain, limits) | {
            "anchor": panel.y if kind == "x" else panel.x
        }
    title = axes.get_title(loc="left") or axes.get_title()
    if title:
        drawing.layout["annotations"].append({
            "text": f"<b>{words(title)}</b>", "x": across[0], "y": down[1], "xref": "paper",
            "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False,
            "align": "left", "yshift": 4, "font": {"size": 13},
        })  # fmt: skip
    return panel


def _domain(first: int, last: int, count: int) -> list[float]:
    each = (1 - GAP * (count - 1)) / count
    return [first * (each + GAP), min(1.0, last * (each + GAP) + each)]


def _axis(axis: Any, domain: Sequence[float], limits: Sequence[float]) -> dict[str, Any]:
    log = axis.get_scale() == "log"
    ends = [float(np.log10(v)) if log else float(v) for v in limits]
    ticks = _fixed(axis)
    lines = axis.get_gridlines()
    grid = bool(lines) and lines[0].get_visible()
    labelled = bool(
        axis.get_tick_params().get("labelleft", axis.get_tick_params().get("labelbottom", True))
    )
    return {
        "domain": list(domain), "range": ends, "type": "log" if log else "linear",
        "title": {"text": words(axis.get_label_text()), "standoff": 8}, "showgrid": grid, "zeroline": False,
        "automargin": True, "showline": not grid, "showticklabels": labelled,
    } | ({"tickvals": list(ticks), "ticktext": list(ticks.values())} if ticks else {})  # fmt: skip


def _fixed(axis: Any) -> dict[float, str]:
    """Words at ticks that the figure's maker named; empty for an ordinary scale."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

    formatter = axis.get_major_formatter()
    named = isinstance(formatter, FixedFormatter | FuncFormatter)
    if not (named and isinstance(axis.get_major_locator(), FixedLocator)):
        return {}
    places = [float(place) for place in axis.get_major_locator()()]
    return dict(zip(places, map(words, formatter.format_ticks(places)), strict=True))


def _near(value: Any, names: dict[float, str]) -> bool:
    return bool(names) and np.isfinite(value) and abs(float(value) - round(float(value))) < 0.45


# -- marks -----------------------------------------------------------------------------------
def _marks(drawing: Drawing, panel: Panel) -> None:
    axes = panel.axes
    for image in axes.images:
        _heat(drawing, panel, image)
    bars = {id(patch) for box in axes.containers for patch in box if hasattr(patch, "get_width")}
    for box in axes.containers:
        _bars(drawing, panel, box)
    for patch in axes.patches:
        if id(patch) not in bars:
            _shape(drawing, panel, patch)
    for collection in axes.collections:
        _collection(drawing, panel, collection)
    for line in axes.lines:
        _line(drawing, panel, line)
    for text in axes.texts:
        _note(drawing, panel, text)


def _line(drawing: Drawing, panel: Panel, line: Line2D) -> None:
    axes, (x, y) = panel.axes, (np.asarray(v, dtype=float) for v in line.get_data(orig=False))
    stroke = {"color": _colour(line.get_color()), "width": line.get_linewidth() * POINT,
              "dash": DASHES.get(str(line.get_linestyle()), "solid")}  # fmt: skip
    across = line.get_transform() == axes.get_yaxis_transform()
    if across or line.get_transform() == axes.get_xaxis_transform():
        drawing.layout["shapes"].append({
            "type": "line", "x0": _value(x[0]), "x1": _value(x[-1]), "y0": _value(y[0]),
            "y1": _value(y[-1]), "xref": panel.x + " domain" * across,
            "yref": panel.y + " domain" * (not across), "line": stroke, "layer": "below",
        })  # fmt: skip
        return
    sign = SIGNS.get(str(line.get_marker()))
    drawn = str(line.get_linestyle()) not in ("None", " ", "")
    trace: dict[str, Any] = {
        "type": "scatter", "x": _values(x), "y": _values(y), "opacity": line.get_alpha() or 1.0,
        "mode": "+".join(["lines"] * drawn + ["markers"] * bool(sign)) or "none",
        "line": stroke | {"shape": STEPS.get(line.get_drawstyle(), "linear")},
    }  # fmt: skip
    if sign:
        face = _colour(line.get_markerfacecolor())
        trace["marker"] = {"symbol": sign, "size": line.get_markersize() * POINT * 1.1,
                           "color": face, "line": {"color": _colour(line.get_markeredgecolor()), "width": 1}}  # fmt: skip
    hover = _hover(panel, x, y) if len(x) < 5000 and (sign or len(x) > 2) else {"hoverinfo": "skip"}
    drawing.add(panel, str(line.get_label()), **trace, **hover)


def _hover(panel: Panel, x: Any, y: Any) -> dict[str, Any]:
    said = [panel.told(a, b) for a, b in zip(x, y, strict=True)]
    return {"text": said, "hovertemplate": "%{text}<extra>%{fullData.name}</extra>"}


def _collection(drawing: Drawing, panel: Panel, drawn: Collection) -> None:
    from matplotlib.collections import LineCollection, PathCollection

    label = str(drawn.get_label())
    faces = [_colour(c) for c in np.atleast_2d(drawn.get_facecolor())]
    edges = [_colour(c) for c in np.atleast_2d(drawn.get_edgecolor())]
    if isinstance(drawn, PathCollection):
        x, y = np.ma.filled(np.ma.asarray(drawn.get_offsets(), dtype=float), np.nan).T
        sizes = np.sqrt(drawn.get_sizes()) * POINT
        marker = {"color": faces if len(faces) > 1 else [*faces, *edges, CLEAR][0],
                  "size": sizes.tolist() if len(sizes) == len(x) else float(sizes[0])}  # fmt: skip
        drawing.add(panel, label, type="scatter", mode="markers", x=_values(x), y=_values(y),
                    marker=marker, **_hover(panel, x, y))  # fmt: skip
    elif isinstance(drawn, LineCollection):
        x, y = _joined([np.asarray(part, dtype=float) for part in drawn.get_segments()])
        width = float(np.atleast_1d(drawn.get_linewidth())[0]) * POINT
        drawing.add(panel, label, type="scatter", mode="lines", x=x, y=y, hoverinfo="skip",
                    line={"color": (edges or ["#000"])[0], "width": width})  # fmt: skip
    else:
        x, y = _joined([np.asarray(path.vertices) for path in drawn.get_paths()])
        drawing.add(panel, label, type="scatter", mode="none", x=x, y=y, fill="toself",
                    fillcolor=(faces or [CLEAR])[0], hoverinfo="skip", **_hatched(drawn))  # fmt: skip


def _joined(parts: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Several paths as one, with gaps."""
    gap = np.full((1, 2), np.nan)
    whole = np.concatenate([piece for part in parts for piece in (part, gap)] or [gap])
    return _values(whole[:, 0]), _values(whole[:, 1])


def _bars(drawing: Drawing, panel: Panel, box: Any) -> None:
    """Bars of one container, lying or standing."""
    if not hasattr(box, "orientation"):
        return
    flat = box.orientation == "horizontal"
    at = [p.get_y() + p.get_height() / 2 if flat else p.get_x() + p.get_width() / 2 for p in box]
    size = [p.get_width() if flat else p.get_height() for p in box]
    base = [p.get_x() if flat else p.get_y() for p in box]
    thick = [p.get_height() if flat else p.get_width() for p in box]
    said = [panel.told(s, a) if flat else panel.told(a, s) for s, a in zip(size, at, strict=True)]
    along = (
        {"x": _values(size), "y": _values(at)} if flat else {"x": _values(at), "y": _values(size)}
    )
    drawing.add(
        panel, str(box.get_label()), type="bar", orientation="h" if flat else "v", base=_values(base),
        width=_values(thick), marker={"color": [_colour(p.get_facecolor()) for p in box]}, text=said,
        textposition="none", hovertemplate="%{text}<extra>%{fullData.name}</extra>", **along,
    )  # fmt: skip
    drawing.layout["barmode"] = "overlay"


def _shape(drawing: Drawing, panel: Panel, patch: Patch) -> None:
    """Any other patch, as a closed path in data units."""
    path = patch.get_patch_transform().transform_path(patch.get_path()).interpolated(1)
    x, y = (_values(column) for column in np.asarray(path.vertices, dtype=float).T)
    fill = _colour(patch.get_facecolor()) if patch.get_fill() else CLEAR
    line = {"color": _colour(patch.get_edgecolor()), "width": patch.get_linewidth() * POINT}
    drawing.add(panel, str(patch.get_label()), type="scatter", mode="lines", x=x, y=y, fill="toself",
                fillcolor=fill, line=line, hoverinfo="skip", **_hatched(patch))  # fmt: skip


def _hatched(drawn: Any) -> dict[str, Any]:
    if not drawn.get_hatch():
        return {}
    ink = _colour(drawn.get_edgecolor())
    return {"fillpattern": {"shape": "/", "fgcolor": ink, "bgcolor": CLEAR, "size": 7}}


def _heat(drawing: Drawing, panel: Panel, image: AxesImage) -> None:
    values: Any = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
    if values.ndim != 2:
        return
    left, right, bottom, top = image.get_extent()
    x, y = _centres(left, right, values.shape[1]), _centres(top, bottom, values.shape[0])
    if image.origin == "lower":
        y = y[::-1]
    said = [[f"{panel.told(a, b)}<br><b>{v:.4g}</b>" for a, v in zip(x, row, strict=True)]
            for b, row in zip(y, values, strict=True)]  # fmt: skip
    stops = np.linspace(0, 1, 17)
    low, high = image.get_clim()
    bar = getattr(image, "colorbar", None)
    label = words(bar.ax.get_ylabel()) if bar is not None else ""
    drawing.add(
        panel, "_heat", type="heatmap", x=_values(x), y=_values(y), zmin=low, zmax=high,
        z=[_values(row) for row in values], text=said, hovertemplate="%{text}<extra></extra>",
        colorscale=[[float(s), _colour(image.get_cmap()(s), True)] for s in stops], hoverongaps=False,
        showscale=bar is not None, xgap=1, ygap=1,
        colorbar={"title": {"text": label, "side": "right"}, "thickness": 12, "outlinewidth": 0},
    )  # fmt: skip


def _centres(first: float, last: float, count: int) -> Any:
    half = (last - first) / count / 2
    return np.linspace(first + half, last - half, count)


def _note(drawing: Drawing, panel: Panel, text: Any) -> None:
    axes, said = panel.axes, words(text.get_text())
    if not said:
        return
    (x, y), shift = getattr(text, "xy", text.get_position()), (0.0, 0.0)
    frame = getattr(text, "xycoords", "data")
    if hasattr(text, "anncoords") and text.anncoords == "offset points":
        shift = text.xyann
    frames = frame if isinstance(frame, tuple) else (frame, frame)
    inside = text.get_transform() == axes.transAxes
    at_axes = [bool(inside or str(f).startswith("axes")) for f in frames]
    on_heat = bool(axes.images)
    drawing.layout["annotations"].append({
        "text": said, "x": _value(x), "y": _value(y), "xref": panel.x + " domain" * at_axes[0],
        "yref": panel.y + " domain" * at_axes[1], "showarrow": False,
        "xanchor": text.get_ha(), "yanchor": ANCHORS.get(text.get_va(), text.get_va()),
        "xshift": shift[0] * POINT, "yshift": shift[1] * POINT,
        "font": {"size": max(10.0, text.get_fontsize() * POINT), "color": _colour(text.get_color(), on_heat)},
    })  # fmt: skip


# -- the legend ------------------------------------------------------------------------------
def _legends(figure: Figure) -> Iterator[Any]:
    yield from figure.legends
    yield from (axes.get_legend() for axes in figure.axes if axes.get_legend() is not None)


def _legend_texts(figure: Figure) -> list[Text]:
    return [text for legend in _legends(figure) for text in legend.get_texts()]


def _legend(drawing: Drawing, figure: Figure) -> None:
    """Entries of the figure's legend that no mark has given: a swatch without data."""
    pairs = [
        (handle, words(text.get_text()))
        for legend in _legends(figure)
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
    ]
    for handle, name in pairs:
        if name not in drawing.named:
            maker = getattr(handle, "get_color", getattr(handle, "get_facecolor", None))
            colour = _colour(maker()) if maker is not None else "#444444"
            drawing.named.add(name)
            drawing.data.append({"type": "scatter", "x": [None], "y": [None], "mode": "lines",
                                 "name": name, "showlegend": True, "line": {"color": colour, "width": 3}})  # fmt: skip
    drawing.layout["showlegend"] = bool(pairs)


# -- values ----------------------------------------------------------------------------------
def _colour(colour: Any, literal: bool = False) -> str:
    """A colour for CSS; `literal` ones are not changed with the page's theme."""
    from matplotlib.colors import to_hex, to_rgba

    if isinstance(colour, str) and colour == "none":
        return CLEAR
    if not isinstance(colour, str):
        colour = np.atleast_2d(colour)[0] if len(colour) else (0, 0, 0, 0)
    red, green, blue, alpha = to_rgba(colour)
    if alpha < 1:
        return f"rgba({red * 255:.0f},{green * 255:.0f},{blue * 255:.0f},{alpha:.3g})"
    if literal:
        return f"rgb({red * 255:.0f},{green * 255:.0f},{blue * 255:.0f})"
    return to_hex((red, green, blue))


def _value(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _values(values: Any) -> list[float | None]:
    return [_value(value) for value in values]


# -- as a page -------------------------------------------------------------------------------
@cache
def script() -> Path:
    """plotly's own script, as its Python package carries it."""
    from importlib.resources import files

    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))


@cache
def style_ids() -> tuple[str, ...]:
    """Ids of the style elements that the script would add to a page: it leaves those alone that are
    there already, and a page with a strict policy has its own."""
    found = re.findall(rb'getElementById\("([0-9a-f]{64})"\)', script().read_bytes())
    return ("plotly.js-style-global", *dict.fromkeys(name.decode() for name in found))


def page(figure: Figure, title: str) -> bytes:
    """One HTML file that holds the figure and plotly's script: opens anywhere, without a network."""
    drawn = told(figure)
    caption = drawn.pop("caption")
    data = json.dumps(drawn, default=float).replace("<", "\\u003c")
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(harmless(title))}</title><style>body{{font:14px system-ui,sans-serif;margin:2rem auto;"
        "max-width:64rem;padding:0 1rem;color:#222222}}p{{color:#6b6b6b}}</style>"
        f'<div id="figure"></div><p>{html.escape(caption)}</p><script>{script().read_text("utf-8")}</script>'
        f"<script>const drawn={data};Plotly.newPlot('figure',drawn.data,Object.assign(drawn.layout,"
        "{height:Math.max(320,drawn.height*1.25),margin:{l:40,r:20,t:50,b:40},"
        "paper_bgcolor:'#fff',plot_bgcolor:'#fff'}),"
        "{responsive:true,displaylogo:false});</script></html>"
    )
    return body.encode()
