"""css: at which positions does low loss go with good geometry?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peira.families.representations import plots
from peira.families.representations.experiments.base import Experiment

experiment = Experiment  # the common summary is the experiment: L_t against Φ at the end, three Φ


@plots.figure(7.2, 2.7, 1, 3, sharex=True)
def css_by_position(outcome: Mapping[str, Any], axes: Any) -> str:
    """CSS of the last layer by position, one panel per Φ."""
    found = outcome["curves"]["css"]
    names = {"separation": "Φ = separation F", "structure": "Φ = 1 − R", "mass": "Φ = mass"}
    for ax, (kind, title), colour in zip(axes, names.items(), plots.PALETTE, strict=False):
        score, low, high, q = (
            plots.numbers(found[kind][k])[-1] for k in ("css", "low", "high", "q")
        )
        plots.zero(ax)
        whole = {"mean": score, "low": low, "high": high}
        plots.band(ax, range(1, len(score) + 1), whole, color=colour, marker="")
        hit = [i for i in range(len(score)) if q[i] < 0.05]
        ax.plot([i + 1 for i in hit], score[hit], "o", color=colour, markersize=3.5)
        ax.set_title(title)
        ax.set_xlabel("position (words)")
    axes[0].set_ylabel("CSS = −Cov(loss, Φ)")
    return (
        f"Context sensitivity at N = {outcome['lengths'][-1]}, {plots.last_layer(outcome)}; bands are"
        " 95 % jackknife t intervals over contexts, dots q < .05 (BH over layers × positions)."
        " Correlational; mass is read from the predictions behind the last 20 losses."
    )  # fmt: skip


@plots.figure(6.6, 2.8, 1, 2)
def geometry_by_layer(outcome: Mapping[str, Any], axes: Any) -> str:
    """R and F by layer with their nulls."""
    found = outcome["curves"]["geometry"]
    panels = (
        ("dirichlet_energy", "Dirichlet energy R"),
        ("cluster_separation", "cluster separation F"),
    )
    for ax, (name, title) in zip(axes, panels, strict=True):
        plots.structure_free(ax)
        arms = {arm: curve for arm, curve in found[name].items() if arm != "null"}
        ends = {arm: plots.cut(curve, (slice(None), -1)) for arm, curve in arms.items()}
        plots.bands(ax, plots.over_layers(ax, outcome), ends)
        ax.set_ylabel(title)
    axes[0].legend()
    return f"Geometry at N = {outcome['lengths'][-1]}. {plots.BAND} Dotted: structure-free value."


@plots.figure(3.6, 3.4)
def graph(outcome: Mapping[str, Any], ax: Any) -> str:
    """The hidden graph, coloured by cluster."""
    plots.draw_graph(ax, outcome["curves"]["graph"])
    ax.set_title(f"hidden graph: {outcome['curves']['graph']['name']}")
    return "Nodes by cluster; positions are for the eye only."
