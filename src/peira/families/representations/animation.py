"""The population geometry over context length, moving: HTML (interactive) and GIF."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from peira.families.representations import plots

BETWEEN = 8  # frames from one length to the next


def html(data: Mapping[str, Any]) -> str:
    """A self-contained page with a slider over N."""
    import plotly.graph_objects as go

    frames = data["curves"]["evolution"]
    graph = data["curves"]["graph"]
    made = [go.Frame(data=_traces(at, graph), name=n) for n, at in frames.items()]
    first = next(iter(frames))
    figure = go.Figure(data=_traces(frames[first], graph), frames=made)
    steps = [{"label": n, "method": "animate",
              "args": [[n], {"mode": "immediate", "frame": {"duration": 0}}]} for n in frames]  # fmt: skip
    mark = "SIMULATED: " if data["label"] == "simulated" else ""
    figure.update_layout(
        title=f"{mark}population geometry of the last layer, {data['model']},"
              f" n = {data['n_contexts']} contexts",
        sliders=[{"steps": steps, "currentvalue": {"prefix": "N = "}}],
        xaxis={"visible": False}, yaxis={"visible": False, "scaleanchor": "x"},
        showlegend=False, template="plotly_white",
    )  # fmt: skip
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _traces(at: Any, graph: Mapping[str, Any]) -> list[Any]:
    import plotly.graph_objects as go

    where, adjacency = plots.numbers(at), plots.numbers(graph["adjacency"])
    x, y = [], []
    for i, j in np.argwhere(np.triu(adjacency) > 0):
        x += [where[i, 0], where[j, 0], None]
        y += [where[i, 1], where[j, 1], None]
    colours = [plots.PALETTE[int(k) % len(plots.PALETTE)] for k in graph["clusters"]]
    lines = go.Scatter(
        x=x, y=y, mode="lines", line={"color": "#bbbbbb", "width": 1}, hoverinfo="skip"
    )
    return [lines, go.Scatter(x=where[:, 0], y=where[:, 1], mode="markers",
                              marker={"color": colours, "size": 11},
                              text=[f"node {i}" for i in range(len(where))])]  # fmt: skip


def gif(data: Mapping[str, Any]) -> bytes:
    """The same as a GIF, with frames in between the lengths."""
    from PIL import Image

    frames = {n: plots.numbers(at) for n, at in data["curves"]["evolution"].items()}
    limits = float(np.nanmax(np.abs(np.stack(list(frames.values()))))) * 1.15
    names, images = list(frames), []
    for a, b in zip(names, [*names[1:], names[-1]], strict=True):
        for step in range(BETWEEN):
            part = step / BETWEEN
            at = (1 - part) * frames[a] + part * frames[b]
            images.append(Image.open(io.BytesIO(_still(data, at, a if part < 0.5 else b, limits))))
    out = io.BytesIO()
    images[0].save(out, "GIF", save_all=True, append_images=images[1:], duration=80, loop=0)
    return out.getvalue()


def _still(data: Mapping[str, Any], at: Any, length: str, limits: float) -> bytes:
    with plots.style():
        figure, ax = plots.canvas(3.4, 3.4)
        plots.draw_graph(ax, data["curves"]["graph"], at)
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlim(-limits, limits)
        ax.set_ylim(-limits, limits)
        mark = "SIMULATED, " if data["label"] == "simulated" else ""
        ax.set_title(f"{mark}N = {length}; n = {data['n_contexts']} contexts")
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=90, metadata={"Software": None})
    return out.getvalue()
