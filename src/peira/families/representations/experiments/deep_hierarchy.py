"""deep_hierarchy: does coarse or fine structure come first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, metrics, plots
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record
from peira.families.representations.summary import (
    LEAST,
    Summary,
    add_half_lengths,
    losses_of,
    plain,
    whole_grams,
)
from peira.stats.columns import sensitivity

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec


class DeepHierarchy(Experiment):
    """Separation by level, each net of the coarser ones."""

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        found = summary.natural
        names = {k: f"level_separation_{k}" for k in range(1, len(spec.structure.levels) + 1)}
        defined = [k for k, name in names.items() if np.isfinite(found.geometry[name]).any()]
        for key in spec.keys:
            for level in set(names) - set(defined):
                summary.lacks(key, names[level], metrics.SINGLETON_CLUSTERS)
        add_half_lengths(spec, summary, {names[k]: f"level {k}" for k in defined})
        for coarse, fine in pairwise(defined):
            add_order(spec, summary, coarse, fine)
        losses = losses_of(records, spec.length)
        for k in defined:
            summary.put(f"css_level_{k}", sensitivity(losses, found.at_end(names[k])).css)
        summary.curves["levels"] = defined
        summary.curves["evolution"] = evolution(spec, records)


experiment = DeepHierarchy


def add_order(spec: Spec, summary: Summary, coarse: int, fine: int) -> None:
    """Which of two neighbouring levels comes first, in the last layer."""
    one, two = (summary.natural.geometry[f"level_separation_{k}"][:, -1] for k in (coarse, fine))
    summary.find(
        f"order_{coarse}_{fine}",
        f"log(N½ of level {coarse} / N½ of level {fine}); negative: the coarser comes first",
        inference.order_of(one, two, (1.0, 1.0), spec.lengths, spec.rng(f"order|{coarse}|{fine}"),
                           "log ratio of N½"))  # fmt: skip


def evolution(spec: Spec, records: Sequence[Record]) -> dict[str, Any]:
    """Planes of the population geometry of the last layer over N, Procrustes-aligned to the last."""
    from scipy.linalg import orthogonal_procrustes

    frames: dict[str, Any] = {}
    for j in range(len(spec.lengths) - 1, -1, -1):
        grams = whole_grams(records, "natural", len(spec.keys) - 1, j)
        if len(grams) < LEAST:
            continue
        at = plots.plane(grams.mean(0))
        if frames:
            at = at @ orthogonal_procrustes(at, np.array(next(iter(frames.values()))))[0]
        frames[str(spec.lengths[j])] = plain(at)
    return dict(reversed(frames.items()))


@plots.figure(6.8, 2.9, 1, 2, sharey=True)
def phi_evolution(outcome: Mapping[str, Any], axes: Any) -> str:
    """A line per level over N, last layer and best layer side by side."""
    found, lengths = outcome["curves"]["geometry"], outcome["lengths"]
    keys = list(outcome["results"])
    for ax, layer in zip(axes, (len(keys) // 2, len(keys) - 1), strict=True):
        plots.structure_free(ax)
        for level, colour, mark in zip(outcome["curves"]["levels"], plots.PALETTE, plots.MARKERS, strict=False):  # fmt: skip
            curves = found[f"level_separation_{level}"]
            plots.band(ax, lengths, curves["natural"], layer, color=colour, marker=mark,
                       label=f"level {level}")  # fmt: skip
            for null, line in (("shuffled", "--"), ("untrained", ":")):
                if null in curves:
                    plots.thin_line(ax, lengths, curves[null], layer, color=colour, linestyle=line)
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
