"""Drawing primitives of this family: curves with bands, heat maps, graphs and planes.

Each takes plain data from an outcome and draws into an axis; nothing here computes a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.report.figures import DIVERGING, MARKERS, PALETTE, SEQUENTIAL, canvas, finish, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = "Bands are 95 % t intervals over contexts."

Outcome = Mapping[str, Any]
Maker = Callable[[Outcome], "Figure"]

__all__ = ["BAND", "DIVERGING", "MARKERS", "PALETTE", "SEQUENTIAL", "canvas", "style"]


def figure(
    width: float | Callable[[Outcome], float], height: float | Callable[[Outcome], float],
    rows: int = 1, columns: int | Callable[[Outcome], int] = 1, n: str = "", **options: Any,
) -> Callable[[Callable[[Outcome, Any], str]], Maker]:  # fmt: skip
    """A figure maker out of a function that draws a trial's outcome into axes and returns the caption.

    A size that depends on the outcome is a function of it. n, model and marks are added here; `n`
    stands in for them in a figure that shows no model.
    """

    def made(drawing: Callable[[Outcome, Any], str]) -> Maker:
        @wraps(drawing)
        def maker(outcome: Outcome) -> Figure:
            w, h, c = (x(outcome) if callable(x) else x for x in (width, height, columns))
            with style():
                figure, axes = canvas(w, h, rows, int(c), **options)
                return done(figure, outcome, drawing(outcome, axes), n)

        return maker

    return made


def layers(outcome: Outcome) -> list[str]:
    """Layers as tick labels."""
    return [key.removeprefix("layer_") for key in outcome["results"]]


def last_layer(outcome: Outcome) -> str:
    """The uppermost layer, for captions."""
    return f"layer {layers(outcome)[-1]}"


def by_layer(
    axes: Any, outcome: Outcome, curve: Mapping[str, Any], null: Mapping[str, Any] | None = None
) -> None:
    """A line with its interval per layer, dark to light, over the context lengths; the null dashed."""
    keys = list(outcome["results"])
    for i, (key, colour) in enumerate(zip(keys, layer_colours(len(keys)), strict=True)):
        named = i % -(-len(keys) // 8) == 0 or i == len(keys) - 1  # a legend of at most nine
        label = key.replace("_", " ") if named else None
        band(axes, outcome["lengths"], curve, i, color=colour, label=label)
        if null:
            thin_line(axes, outcome["lengths"], null, i, color=colour)


def thin_line(axes: Any, x: Sequence[float], curve: Mapping[str, Any], index: Any, **look: Any) -> None:  # fmt: skip
    """A null beside a band: the mean alone, thin and dashed."""
    axes.plot(x, numbers(curve["mean"])[index], linewidth=0.8, **{"linestyle": "--", **look})


def legend_beside(axes: Any) -> None:
    """The legend of some axes to the right of the whole figure, where it covers no data."""
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")


def structure_free(axes: Any, value: float = 1.0) -> None:
    """A dotted line at the structure-free value."""
    axes.axhline(value, color="#888888", linestyle=":", linewidth=1)


def zero(axes: Any) -> None:
    """A thin line at zero."""
    axes.axhline(0, color="#888888", linewidth=0.7)


def numbers(values: Any) -> Any:
    """A float array, None as NaN."""
    return np.array(values, dtype=float)


def band(
    axes: Any, x: Sequence[float], curve: Mapping[str, Any], index: Any = (), **style: Any
) -> None:
    """A line with its interval."""
    y, low, high = (numbers(curve[k])[index] for k in ("mean", "low", "high"))
    shown = {"marker": "o", "markersize": 3.2, **style}
    (line,) = axes.plot(x, y, **shown)
    axes.fill_between(x, low, high, alpha=0.18, color=line.get_color(), linewidth=0)


def cut(curve: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """A part of some means."""
    return {name: numbers(curve[name])[index] for name in ("mean", "low", "high")}


def bands(
    axes: Any, x: Sequence[float], named: Mapping[str, Mapping[str, Any]], **look: Any
) -> None:
    """A line with its interval for each name, in the palette's order."""
    for (name, curve), colour, mark in zip(named.items(), PALETTE, MARKERS, strict=False):
        band(axes, x, curve, **{"color": colour, "marker": mark, "label": name, **look})


def over_layers(axes: Any, outcome: Outcome) -> Any:
    """An axis of the layers; their places on it."""
    labels = layers(outcome)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("layer (after block k)")
    return range(len(labels))


def layer_colours(count: int) -> list[Any]:
    """One colour per layer, dark to light."""
    import matplotlib

    return [matplotlib.colormaps[SEQUENTIAL](v) for v in np.linspace(0.05, 0.9, max(count, 1))]


def log_lengths(axes: Any, lengths: Sequence[int]) -> None:
    """A log axis with the lengths as ticks, thinned so that they do not touch."""
    axes.set_xscale("log")
    keep: list[int] = []
    for n in reversed(lengths):  # the longest is always named
        if not keep or np.log(keep[-1] / n) > 0.33 * np.log(max(lengths) / min(lengths)) / 2.6:
            keep.append(n)
    axes.set_xticks(keep, [str(n) for n in keep])
    axes.minorticks_off()
    axes.set_xlabel("context length N (words)")


def heat(axes: Any, matrix: Any, rows: Sequence[str], columns: Sequence[Any], **about: Any) -> Any:
    """A heat map; diverging about zero unless `sequential`. Undefined cells stay grey."""
    import matplotlib

    data = np.atleast_2d(numbers(matrix))
    name = SEQUENTIAL if about.get("sequential") else DIVERGING
    colours = matplotlib.colormaps[name].with_extremes(bad="#dddddd")
    peak = about.get("peak") or float(np.nanmax(np.abs(data))) if np.isfinite(data).any() else 1.0
    limits = {} if about.get("sequential") else {"vmin": -(peak or 1.0), "vmax": peak or 1.0}
    image = axes.imshow(np.ma.masked_invalid(data), aspect="auto", cmap=colours, origin="lower",
                        interpolation="nearest", **limits)  # fmt: skip
    axes.set_yticks(*_thinned(rows, 10))
    axes.set_xticks(*_thinned(columns, about.get("ticks", 8)))
    axes.grid(False)
    return image


def _thinned(labels: Sequence[Any], most: int) -> tuple[list[int], list[str]]:
    step = max(1, -(-len(labels) // most))
    at = list(range(0, len(labels), step))
    return at, [str(labels[i]) for i in at]


def bar(image: Any, axes: Any, label: str) -> None:
    """A colour bar."""
    image.figure.colorbar(image, ax=axes, label=label, shrink=0.9)


def layout_of(graph: Mapping[str, Any]) -> Any:
    """Node positions (n, 2): the graph's own, or spectral ones with clusters apart."""
    if graph["layout"] is not None:
        return numbers(graph["layout"])
    adjacency, clusters = numbers(graph["adjacency"]), np.array(graph["clusters"])
    kinds = np.unique(clusters)
    angle = 2 * np.pi * np.searchsorted(kinds, clusters) / len(kinds)
    centre = np.stack([np.cos(angle), np.sin(angle)], 1) * (1.6 if len(kinds) > 1 else 0)
    out = centre.copy()
    for kind in kinds:
        members = np.flatnonzero(clusters == kind)
        inner = adjacency[np.ix_(members, members)]
        order = np.argsort(
            np.linalg.eigh(np.diag(inner.sum(1)) - inner)[1][:, min(1, len(inner) - 1)]
        )
        turn = 2 * np.pi * np.argsort(order) / len(members)
        out[members] += 0.75 * np.stack([np.cos(turn), np.sin(turn)], 1)
    return out


def draw_graph(axes: Any, graph: Mapping[str, Any], at: Any = None) -> None:
    """The graph at given positions, nodes coloured by cluster."""
    where, adjacency = layout_of(graph) if at is None else at, numbers(graph["adjacency"])
    for i, j in np.argwhere(np.triu(adjacency) > 0):
        axes.plot(*where[[i, j]].T, color="#999999", linewidth=0.7, zorder=1)
    kinds = np.array(graph["clusters"])
    colours = [PALETTE[int(k) % len(PALETTE)] for k in kinds]
    axes.scatter(*where.T, c=colours, s=26, zorder=2, edgecolor="white", linewidth=0.6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(False)


def plane(gram: Any) -> Any:
    """Coordinates (n, 2) of a population geometry in its principal plane."""
    value, vector = np.linalg.eigh(numbers(gram))
    return vector[:, ::-1][:, :2] * np.sqrt(np.clip(value[::-1][:2], 0, None))


def done(figure: Figure, outcome: Outcome, caption: str, n: str = "") -> Figure:
    """Finish a figure: n, model, what kind of model it is; or `n` as given."""
    if n:
        return finish(figure, n=n, simulated=False, caption=caption)
    told = f"n = {outcome['n_contexts']} contexts; model {outcome['model']}"
    if outcome["label"] == "tiny":
        told += " (tiny trained model: evidence on methods, not on language models)"
    return finish(figure, n=f"{told}.", simulated=outcome["label"] == "simulated", caption=caption)
