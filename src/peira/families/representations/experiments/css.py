"""css: at which positions does low loss go with good geometry?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peira.families.representations import plots
from peira.families.representations.experiments.base import Experiment, Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ContextSensitivity(Experiment):
    """The common summary is the experiment: L_t against Φ at the end, three Φ."""

    def figures(self, outcome: Mapping[str, Any]) -> Figures:
        return {
            "css_by_position": lambda: css_by_position(outcome),
            "geometry_by_layer": lambda: geometry_by_layer(outcome),
            "graph": lambda: graph(outcome),
        }


def experiment() -> Experiment:
    return ContextSensitivity()


def css_by_position(outcome: Mapping[str, Any]) -> Figure:
    """CSS of the last layer by position, one panel per Φ."""
    found = outcome["curves"]["css"]
    names = {"separation": "Φ = separation F", "structure": "Φ = 1 − R", "mass": "Φ = mass"}
    with plots.style():
        figure, axes = plots.canvas(7.2, 2.7, 1, 3, sharex=True)
        for ax, (kind, title), colour in zip(axes, names.items(), plots.PALETTE, strict=False):
            score, low, high, q = (
                plots.numbers(found[kind][k])[-1] for k in ("css", "low", "high", "q")
            )
            x = range(1, len(score) + 1)
            ax.axhline(0, color="#888888", linewidth=0.7)
            ax.plot(x, score, color=colour)
            ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            hit = [i for i in range(len(score)) if q[i] < 0.05]
            ax.plot([i + 1 for i in hit], score[hit], "o", color=colour, markersize=3.5)
            ax.set_title(title)
            ax.set_xlabel("position (words)")
        axes[0].set_ylabel("CSS = −Cov(loss, Φ)")
        key = plots.layer_text(list(outcome["results"])[-1])
        return plots.done(
            figure, outcome, f"Context sensitivity at N = {outcome['lengths'][-1]}, {key}; bands are"
            " 95 % jackknife t intervals over contexts, dots q < .05 (BH over layers × positions)."
            " Correlational.",
        )  # fmt: skip


def geometry_by_layer(outcome: Mapping[str, Any]) -> Figure:
    """R and F by layer with their nulls."""
    from peira.report.figures import PALETTE

    found = outcome["curves"]["geometry"]
    panels = (
        ("dirichlet_energy", "Dirichlet energy R"),
        ("cluster_separation", "cluster separation F"),
    )
    labels = [key.removeprefix("layer_") for key in outcome["results"]]
    with plots.style():
        figure, axes = plots.canvas(6.6, 2.8, 1, 2)
        for ax, (name, title) in zip(axes, panels, strict=True):
            ax.axhline(1, color="#888888", linestyle=":", linewidth=1)
            arms = [arm for arm in found[name] if arm != "null"]
            for k, arm in enumerate(arms):
                plots.band(ax, range(len(labels)), found[name][arm], (slice(None), -1),
                           color=PALETTE[k], label=arm, marker=plots.MARKERS[k])  # fmt: skip
            ax.set_xticks(range(len(labels)), labels)
            ax.set_xlabel("layer (after block k)")
            ax.set_ylabel(title)
        axes[0].legend()
        return plots.done(figure, outcome, f"Geometry at N = {outcome['lengths'][-1]}. {plots.BAND}"
                          " Dotted: structure-free value.")  # fmt: skip


def graph(outcome: Mapping[str, Any]) -> Figure:
    """The hidden graph, coloured by cluster."""
    with plots.style():
        figure, ax = plots.canvas(3.6, 3.4)
        plots.draw_graph(ax, outcome["curves"]["graph"])
        ax.set_title(f"hidden graph: {outcome['curves']['graph']['name']}")
        return plots.done(figure, outcome, "Nodes by cluster; positions are for the eye only.")
