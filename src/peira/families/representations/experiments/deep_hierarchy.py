"""deep_hierarchy: does coarse or fine structure come first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, metrics, plots
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.summary import (
    Summary,
    add_half_lengths,
    losses_of,
    plain,
    spec_values,
    whole_grams,
)

if TYPE_CHECKING:
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


experiment = DeepHierarchy


def add_emergence(spec: Spec, summary: Summary, found: Any, levels: list[int]) -> None:
    """N½ per level and layer; in the last layer the order of neighbouring levels."""
    names = {f"level_separation_{level}": f"level {level}" for level in levels}
    add_half_lengths(spec, summary, found, names)
    for coarse, fine in pairwise(levels):
        one, two = (found.geometry[f"level_separation_{k}"][:, -1] for k in (coarse, fine))
        estimate = inference.order_of(one, two, (1.0, 1.0), spec.lengths,
                                      spec.rng(f"order|{coarse}|{fine}"), "log ratio of N½")  # fmt: skip
        summary.find(
            f"order_{coarse}_{fine}",
            f"log(N½ of level {coarse} / N½ of level {fine}); negative: the coarser comes first",
            estimate)  # fmt: skip


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


@plots.figure(6.8, 2.9, 1, 2, sharey=True)
def phi_evolution(outcome: Mapping[str, Any], axes: Any) -> str:
    """A line per level over N, last layer and best layer side by side."""
    found, lengths = outcome["curves"]["geometry"], outcome["lengths"]
    keys = list(outcome["results"])
    for ax, layer in zip(axes, (len(keys) // 2, len(keys) - 1), strict=True):
        plots.structure_free(ax)
        for k, level in enumerate(outcome["curves"]["levels"]):
            name = f"level_separation_{level}"
            plots.band(ax, lengths, found[name]["natural"], layer, color=plots.PALETTE[k],
                       marker=plots.MARKERS[k], label=f"level {level}")  # fmt: skip
            for null, line in (("shuffled", "--"), ("untrained", ":")):
                if null in found[name]:
                    plots.thin_line(ax, lengths, found[name][null], layer, color=plots.PALETTE[k],
                                    linestyle=line)  # fmt: skip
        ax.set_title(keys[layer].replace("_", " "))
        plots.log_lengths(ax, lengths)
    axes[0].set_ylabel("separation net of coarser levels")
    axes[0].legend()
    return (
        f"{plots.BAND} Level 1 is the coarsest. Dashed: shuffled"
        " contexts; dotted in colour: untrained twin, in grey: structure-free value."
    )  # fmt: skip


@plots.figure(7.0, 2.2, 1, lambda o: max(len(o["curves"]["evolution"]), 1), squeeze=False)
def representation_evolution(outcome: Mapping[str, Any], axes: Any) -> str:
    """The population plane at each N."""
    frames = outcome["curves"]["evolution"]
    for ax, (length, at) in zip(axes[0], frames.items(), strict=False):
        plots.draw_graph(ax, outcome["curves"]["graph"], plots.numbers(at))
        ax.set_title(f"N = {length}")
    if not frames:
        axes[0, 0].text(0.5, 0.5, "fewer than 8 fully covered contexts", ha="center")
    return (
        "Principal plane of the mean geometry over fully covered"
        " contexts, last layer, aligned to the longest N; colours are the coarsest"
        " clusters. Lengths that fewer than 8 contexts cover are left out."
    )  # fmt: skip
