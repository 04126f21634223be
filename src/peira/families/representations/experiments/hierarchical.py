"""hierarchical: do clusters come before nodes? is it monotonic? which tokens anchor?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, plots
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record, Values, recent_means, with_structures
from peira.families.representations.summary import (
    Summary,
    add_half_lengths,
    curve,
    losses_of,
    plain,
    potentials,
)
from peira.stats.columns import means, nanmean, sensitivity
from peira.stats.result import ZERO_VARIANCE, Estimate

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

CLASSES = ("first_visit", "bridge_arrival", "return")


class Hierarchical(Experiment):
    """Emergence of clusters against nodes, in geometry and in predictions."""

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        found = summary.natural
        masses, nulls = cluster_masses(spec, records)
        summary.curves["split"] = {name: curve(means(v)) for name, v in masses.items()}
        summary.curves["split_null"] = nulls
        names = ("cluster_separation", "within_energy")
        add_half_lengths(spec, summary, {n: n for n in names})
        last = {name: found.geometry[name][:, -1] for name in names}
        add_order(spec, summary, "geometry", last, dict.fromkeys(names, 1.0))
        add_order(spec, summary, "predictions", masses, nulls)
        add_drop(spec, summary)
        add_classes(spec, records, summary)
        summary.curves["css_map"] = css_rows(spec, records, found)


experiment = Hierarchical


def cluster_masses(
    spec: Spec, records: Sequence[Record]
) -> tuple[dict[str, Any], dict[str, float]]:
    """(C, N) shares near N: of the graph mass that is in the token's cluster, and of that what is on
    neighbours; and their structure-free values."""
    rows, nulls = [], []
    for record, s in with_structures(records, spec.structure):
        same = (s.clusters[:, None] == s.clusters[None, :]).astype(float)
        near = same * s.adjacency
        nulls.append([same.sum(1).mean() / s.num_nodes, (near.sum(1) / same.sum(1)).mean()])
        nodes, mass = record["natural/nodes"], record["natural/mass"].astype(float)
        at, blank = np.where(nodes >= 0, nodes, 0), np.where(nodes >= 0, 1.0, np.nan)
        inside = (mass * same[at]).sum(1)
        shares = (inside / np.maximum(mass.sum(1), 1e-12),
                  (mass * near[at]).sum(1) / np.maximum(inside, 1e-12))  # fmt: skip
        rows.append([recent_means(share * blank, spec.lengths) for share in shares])
    names = ("cluster_share", "neighbour_share")
    null = dict(zip(names, plain(np.mean(nulls, 0)), strict=True))
    return dict(zip(names, np.moveaxis(np.array(rows), 1, 0), strict=True)), null


def add_order(
    spec: Spec, summary: Summary, where: str, values: Mapping[str, Any], nulls: Mapping[str, float]
) -> None:
    """Do clusters come before nodes? `values` (C, N) of either, in that order."""
    coarse, fine = values
    summary.find(
        f"order_in_{where}",
        f"log(N½ of clusters / N½ of nodes) in {where}; negative: clusters first",
        inference.order_of(values[coarse], values[fine], (nulls[coarse], nulls[fine]), spec.lengths,
                           spec.rng(f"order|{where}"), "log ratio of N½, clusters / nodes"))  # fmt: skip


def add_drop(spec: Spec, summary: Summary) -> None:
    """Largest drop of mean separation from its running maximum; claimed if its lower limit > 0."""
    separation = summary.natural.geometry["cluster_separation"]
    told = [_drop(separation[:, i], spec.rng(f"drop|{key}")) for i, key in enumerate(spec.keys)]
    summary.put("largest_drop", told)
    summary.put("non_monotonic", (drop.low is not None and drop.low > 0 for drop in told))
    summary.find(
        "non_monotonicity", f"{spec.keys[-1]}: largest drop of separation from its running maximum",
        told[-1])  # fmt: skip


def _drop(values: Any, rng: np.random.Generator) -> Estimate:
    """Largest drop of the mean of (C, N) from its running maximum.

    A resampled maximum is biased upwards, so the drop is taken between the lengths that the whole
    sample points to.
    """
    mean = nanmean(values)
    filled = np.where(np.isfinite(mean), mean, -np.inf)
    fall = np.where(np.isfinite(mean), np.maximum.accumulate(filled) - filled, 0.0)
    trough = int(np.argmax(fall))
    peak = int(np.argmax(filled[: trough + 1]))
    if peak == trough:
        return Estimate(0.0, n=len(values), reason=ZERO_VARIANCE, estimand="largest drop")

    def statistic(rows: Any) -> float:
        again = nanmean(values[rows])
        return float(again[peak] - again[trough])

    return inference.by_bootstrap(statistic, len(values), rng, estimand="largest drop of mean F")


def token_classes(nodes: Any, clusters: Any) -> list[Any]:
    """Masks (T,) of the `CLASSES`: a node's first visit; an arrival from another cluster; any other
    return."""
    first = np.zeros(len(nodes), dtype=bool)
    first[np.unique(nodes, return_index=True)[1]] = True
    bridge = np.concatenate([[False], clusters[nodes[1:]] != clusters[nodes[:-1]]])
    return [first, bridge & ~first, ~first & ~bridge]


def class_losses(spec: Spec, records: Sequence[Record]) -> Any:
    """(C, 3): mean loss over each walk's own first visits, bridge arrivals, returns."""
    out = []
    for index, record in enumerate(records):
        context = spec.draw(index)  # the record leaves out where a walk without BOS began
        masks = token_classes(context.nodes, context.structure.clusters)
        out.append([nanmean(record["natural/losses"][mask]) for mask in masks])
    return np.array(out)


def add_classes(spec: Spec, records: Sequence[Record], summary: Summary) -> None:
    """CSS pooled over token classes."""
    phi = potentials(summary.natural)["separation"]
    score = sensitivity(class_losses(spec, records), phi)
    summary.put("css_by_class", (
        {name: {"css": of.css, "ci": [of.low, of.high], "r": of.r, "n": of.n}
         for name, of in ((name, score[i, k]) for k, name in enumerate(CLASSES))}
        for i in range(len(spec.keys))
    ))  # fmt: skip


def css_rows(spec: Spec, records: Sequence[Record], found: Values) -> Any:
    """CSS of the last layer (N, T): loss at each position against separation at each N."""
    losses = losses_of(records, spec.length)
    rows = []
    for j, length in enumerate(spec.lengths):
        phi = potentials(found, j)["separation"][:, -1:]
        score = sensitivity(losses[:, :length], phi)
        rows.append([*plain(score.r[0]), *([None] * (spec.length - length))])
    return rows


# -- figures --------------------------------------------------------------------------------------


@plots.figure(6.8, 5.0, 2, 2)
def emergence(outcome: Mapping[str, Any], axes: Any) -> str:
    """Four panels over N: separation, energy within clusters, and the two shares of mass."""
    geometry, split = outcome["curves"]["geometry"], outcome["curves"]["split"]
    lengths = outcome["lengths"]
    for ax, (name, title) in zip(axes[0], (("cluster_separation", "cluster separation F"),
                                           ("within_energy", "energy within clusters")), strict=True):  # fmt: skip
        plots.structure_free(ax)
        plots.by_layer(ax, outcome, geometry[name]["natural"], geometry[name].get("shuffled"))
        ax.set_ylabel(title)
    for ax, (name, title) in zip(axes[1], (("cluster_share", "mass in the own cluster"),
                                           ("neighbour_share", "of that, on neighbours")), strict=True):  # fmt: skip
        plots.structure_free(ax, outcome["curves"]["split_null"][name])
        plots.band(ax, lengths, split[name], color=plots.PALETTE[1])
        ax.set_ylabel(f"{title} (share)")
    for ax in axes.ravel():
        plots.log_lengths(ax, lengths)
    plots.legend_beside(axes[0, 0])
    return (
        f"{plots.BAND} Dashed: shuffled contexts. Dotted: structure-free values. Shares are"
        " means over the last 20 words before N."
    )  # fmt: skip


@plots.figure(5.6, 3.2)
def css_map(outcome: Mapping[str, Any], ax: Any) -> str:
    """Correlation of −loss with separation, N × position."""
    rows = outcome["curves"]["css_map"]
    image = plots.heat(ax, rows, [str(n) for n in outcome["lengths"]],
                       range(1, len(rows[0]) + 1), peak=1.0)  # fmt: skip
    ax.set_xlabel("position of the word")
    ax.set_ylabel("N at which Φ is taken")
    plots.bar(image, ax, "correlation of −loss with F")
    return f"Context sensitivity, {plots.last_layer(outcome)}; grey: beyond N or undefined."
