"""deep_hierarchy: does coarse or fine structure come first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, metrics, plots
from peira.families.representations.experiments.base import Experiment, Figures
from peira.families.representations.summary import (
    UNIT,
    Summary,
    losses_of,
    plain,
    spec_values,
    whole_grams,
)
from peira.report.analysis import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.families.representations.trial import Spec


class DeepHierarchy(Experiment):
    """Separation by level, each net of the coarser ones."""

    def extend(self, spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary) -> None:
        found = spec_values(spec, records, "natural")
        levels = range(1, len(spec.structure.levels) + 1)
        defined = [k for k in levels
                   if np.isfinite(found.geometry[f"level_separation_{k}"]).any()]  # fmt: skip
        for level in levels:
            if level not in defined:
                for key in spec.keys:
                    name = f"results.{key}.level_separation_{level}"
                    summary.reasons[name] = metrics.SINGLETON_CLUSTERS
        add_emergence(spec, summary, found, defined)
        losses = losses_of(records, "natural", spec.length)
        for level in defined:
            score = inference.sensitivity(
                losses, found.geometry[f"level_separation_{level}"][:, :, -1]
            )
            for i, key in enumerate(spec.keys):
                summary.results[key][f"css_level_{level}"] = plain(score.css[i])
        summary.curves["levels"] = defined
        summary.curves["evolution"] = evolution(spec, records)

    def figures(self, outcome: Mapping[str, Any]) -> Figures:
        return {
            "phi_evolution": lambda: phi_evolution(outcome),
            "representation_evolution": lambda: representation_evolution(outcome),
        }


def experiment() -> Experiment:
    return DeepHierarchy()


def add_emergence(spec: Spec, summary: Summary, found: Any, levels: list[int]) -> None:
    """N½ per level and layer; in the last layer the order of neighbouring levels."""
    for i, key in enumerate(spec.keys):
        for level in levels:
            name = f"level_separation_{level}"
            estimate = inference.emergence(
                found.geometry[name][:, i], 1.0, spec.lengths, spec.rng(f"emergence|{key}|{name}"),
                f"N½ of {name}",
            )  # fmt: skip
            summary.results[key][f"emergence_{name}"] = plain(estimate.to_dict())
            if i == len(spec.keys) - 1:
                summary.findings.append(Finding(
                    f"emergence_{name}", f"{key}: context length at which level {level} is halfway",
                    estimate, unit=UNIT,
                ))  # fmt: skip
    for coarse, fine in pairwise(levels):
        one, two = (found.geometry[f"level_separation_{k}"][:, -1] for k in (coarse, fine))
        estimate = inference.order_of(one, two, (1.0, 1.0), spec.lengths,
                                      spec.rng(f"order|{coarse}|{fine}"), "log ratio of N½")  # fmt: skip
        summary.findings.append(Finding(
            f"order_{coarse}_{fine}",
            f"log(N½ of level {coarse} / N½ of level {fine}); negative: the coarser comes first",
            estimate, unit=UNIT,
        ))  # fmt: skip


def evolution(spec: Spec, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Planes of the population geometry of the last layer over N, Procrustes-aligned to the last."""
    frames: dict[str, Any] = {}
    for j in range(len(spec.lengths) - 1, -1, -1):
        mean = metrics.population(list(whole_grams(records, "natural", len(spec.keys) - 1, j)))
        if mean is None:
            continue
        at = plots.plane(mean)
        if frames:
            at = aligned(at, np.array(next(iter(frames.values()))))
        frames[str(spec.lengths[j])] = plain(at)
    return dict(reversed(frames.items()))


def aligned(points: Any, target: Any) -> Any:
    """Points (n, 2) rotated or mirrored onto the target (orthogonal Procrustes, no scaling)."""
    u, _, v = np.linalg.svd(points.T @ target)
    return points @ (u @ v)


def phi_evolution(outcome: Mapping[str, Any]) -> Figure:
    """A line per level over N, last layer and best layer side by side."""
    found, lengths = outcome["curves"]["geometry"], outcome["lengths"]
    keys = list(outcome["results"])
    with plots.style():
        figure, axes = plots.canvas(6.8, 2.9, 1, 2, sharey=True)
        for ax, layer in zip(axes, (len(keys) // 2, len(keys) - 1), strict=True):
            ax.axhline(1, color="#888888", linestyle=":", linewidth=1)
            for k, level in enumerate(outcome["curves"]["levels"]):
                name = f"level_separation_{level}"
                plots.band(ax, lengths, found[name]["natural"], layer, color=plots.PALETTE[k],
                           marker=plots.MARKERS[k], label=f"level {level}")  # fmt: skip
                plots.band(ax, lengths, found[name]["shuffled"], layer, color=plots.PALETTE[k],
                           linestyle="--", linewidth=0.8, marker="") if "shuffled" in found[name] else None  # fmt: skip
            ax.set_title(plots.layer_text(keys[layer]))
            plots.log_lengths(ax, lengths)
        axes[0].set_ylabel("separation net of coarser levels")
        axes[0].legend()
        return plots.done(figure, outcome, f"{plots.BAND} Level 1 is the coarsest. Dashed: shuffled"
                          " contexts. Dotted: structure-free value.")  # fmt: skip


def representation_evolution(outcome: Mapping[str, Any]) -> Figure:
    """The population plane at each N."""
    frames = outcome["curves"]["evolution"]
    with plots.style():
        figure, axes = plots.canvas(7.0, 2.2, 1, max(len(frames), 1), squeeze=False)
        for ax, (length, at) in zip(axes[0], frames.items(), strict=False):
            plots.draw_graph(ax, outcome["curves"]["graph"], plots.numbers(at))
            ax.set_title(f"N = {length}")
        if not frames:
            axes[0, 0].text(0.5, 0.5, "fewer than 8 fully covered contexts", ha="center")
        return plots.done(figure, outcome, "Principal plane of the mean geometry over fully covered"
                          " contexts, last layer, aligned to the longest N; colours are the coarsest"
                          " clusters. Lengths that fewer than 8 contexts cover are left out.")  # fmt: skip
