"""hierarchical: do clusters come before nodes? is it monotonic? which tokens anchor?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, plots
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import RECENT, structures_of
from peira.families.representations.summary import (
    Summary,
    add_half_lengths,
    curve,
    losses_of,
    plain,
    potentials,
    spec_values,
)
from peira.stats.result import Estimate

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

CLASSES = ("first_visit", "bridge_arrival", "return")


class Hierarchical(Experiment):
    """Emergence of clusters against nodes, in geometry and in predictions."""

    def extend(self, spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary) -> None:
        found = spec_values(spec, records, "natural")
        masses = cluster_masses(spec, records)
        summary.curves["split"] = {
            k: curve(inference.means(v)) for k, v in masses.items() if k != "null"
        }
        summary.curves["split_null"] = plain(masses["null"])
        add_emergence(spec, summary, found, masses)
        add_drop(spec, summary, found)
        add_classes(spec, records, summary, found)
        summary.curves["css_map"] = css_rows(spec, records, found)


experiment = Hierarchical


def cluster_masses(spec: Spec, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """(C, N) shares near N: of the graph mass that is in the token's cluster, and of that what is on
    neighbours; `null` their structure-free values."""
    out: dict[str, Any] = {"cluster_share": [], "neighbour_share": []}
    nulls = []
    for record, s in zip(records, structures_of(records, spec.structure), strict=True):
        same = (s.clusters[:, None] == s.clusters[None, :]).astype(float)
        near = same * s.adjacency
        nulls.append([same.sum(1).mean() / s.num_nodes, (near.sum(1) / same.sum(1)).mean()])
        nodes, mass = record["natural/nodes"], record["natural/mass"].astype(float)
        at = np.where(nodes >= 0, nodes, 0)
        blank = np.where(nodes >= 0, 1.0, np.nan)
        inside = (mass * same[at]).sum(1)
        series = {"cluster_share": inside / np.maximum(mass.sum(1), 1e-12) * blank,
                  "neighbour_share": (mass * near[at]).sum(1) / np.maximum(inside, 1e-12) * blank}  # fmt: skip
        for name, values in series.items():
            out[name].append([np.nanmean(values[max(0, n - RECENT) : n]) for n in spec.lengths])
    null = dict(zip(out, np.mean(nulls, 0).tolist(), strict=True))
    return {name: np.array(rows) for name, rows in out.items()} | {"null": null}


def add_emergence(spec: Spec, summary: Summary, found: Any, masses: Mapping[str, Any]) -> None:
    """N½ of clusters and of nodes, by layer, and of the two shares; their order."""
    names = {n: n for n in ("cluster_separation", "within_energy")}
    add_half_lengths(spec, summary, found, names)
    last = len(spec.keys) - 1
    pairs = (
        ("geometry", found.geometry["cluster_separation"][:, last],
         found.geometry["within_energy"][:, last], (1.0, 1.0)),
        ("predictions", masses["cluster_share"], masses["neighbour_share"],
         (masses["null"]["cluster_share"], masses["null"]["neighbour_share"])),
    )  # fmt: skip
    for name, coarse, fine, nulls in pairs:
        estimate = inference.order_of(coarse, fine, nulls, spec.lengths, spec.rng(f"order|{name}"),
                                      "log ratio of N½, clusters / nodes")  # fmt: skip
        summary.find(
            f"order_in_{name}",
            f"log(N½ of clusters / N½ of nodes) in {name}; negative: clusters first",
            estimate)  # fmt: skip


def add_drop(spec: Spec, summary: Summary, found: Any) -> None:
    """Largest drop of mean separation from its running maximum; claimed if its lower limit > 0."""
    for i, key in enumerate(spec.keys):
        values = found.geometry["cluster_separation"][:, i]
        # A resampled maximum is biased upwards, so the drop is taken between the lengths that the
        # whole sample points to.
        mean = inference.nanmean(values)
        trough, peak = _drop_at(mean)

        def statistic(rows: Any, values: Any = values, ends: Any = (peak, trough)) -> float:
            again = inference.nanmean(values[rows])
            return float(again[ends[0]] - again[ends[1]])

        estimate = Estimate(0.0, n=len(values), reason="zero_variance", estimand="largest drop")
        if peak != trough:
            estimate = inference.estimate_by_bootstrap(
                statistic, len(values), spec.rng(f"drop|{key}"), estimand="largest drop of mean F"
            )
        summary.results[key]["largest_drop"] = plain(estimate.to_dict())
        summary.results[key]["non_monotonic"] = bool(estimate.low is not None and estimate.low > 0)
    summary.find(
        "non_monotonicity", f"{spec.keys[-1]}: largest drop of separation from its running maximum",
        estimate)  # fmt: skip


def _drop_at(mean: Any) -> tuple[int, int]:
    """(trough, peak): where a curve falls most from its running maximum."""
    filled = np.where(np.isfinite(mean), mean, -np.inf)
    fall = np.where(np.isfinite(mean), np.maximum.accumulate(filled) - filled, 0.0)
    trough = int(np.argmax(fall))
    return trough, int(np.argmax(filled[: trough + 1]))


def token_classes(nodes: Any, clusters: Any) -> dict[str, Any]:
    """Masks (T,): a node's first visit; an arrival from another cluster; any other return."""
    first = np.zeros(len(nodes), dtype=bool)
    first[np.unique(nodes, return_index=True)[1]] = True
    bridge = np.concatenate([[False], clusters[nodes[1:]] != clusters[nodes[:-1]]])
    return {"first_visit": first, "bridge_arrival": bridge & ~first, "return": ~first & ~bridge}


def class_losses(spec: Spec, records: Sequence[Mapping[str, Any]]) -> Any:
    """(C, 3): mean loss over each walk's own first visits, bridge arrivals, returns."""
    out = []
    for record, s in zip(records, structures_of(records, spec.structure), strict=True):
        nodes, losses = record["natural/nodes"].copy(), record["natural/losses"]
        nodes[nodes < 0] = nodes[1] if len(nodes) > 1 else 0
        masks = token_classes(nodes, s.clusters)
        out.append([np.nanmean(losses[m]) if np.isfinite(losses[m]).any() else np.nan
                    for m in (masks[name] for name in CLASSES)])  # fmt: skip
    return np.array(out)


def add_classes(
    spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary, found: Any
) -> None:
    """CSS pooled over token classes."""
    score = inference.sensitivity(class_losses(spec, records), potentials(found)["separation"])
    for i, key in enumerate(spec.keys):
        summary.results[key]["css_by_class"] = {
            name: {"css": plain(score.css[i, k]), "ci": plain([score.low[i, k], score.high[i, k]]),
                   "r": plain(score.r[i, k]), "n": int(score.n[i, k])}
            for k, name in enumerate(CLASSES)
        }  # fmt: skip


def css_rows(spec: Spec, records: Sequence[Mapping[str, Any]], found: Any) -> Any:
    """CSS of the last layer (N, T): loss at each position against separation at each N."""
    losses = losses_of(records, "natural", spec.length)
    rows = []
    for j, length in enumerate(spec.lengths):
        phi = potentials(found, j)["separation"][:, -1:]
        score = inference.sensitivity(losses[:, :length], phi)
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
