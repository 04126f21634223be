"""loo and loo_multilayer: which items, removed, change the geometry?

One set of variants, at the longest N, serves all lengths: attention is causal, so a variant's first
tokens are the variant at a shorter N. Means run over all tokens of N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record, stacked
from peira.families.representations.influence import (
    Pairs,
    distances,
    matched_difference,
    shape,
    without_own,
)
from peira.families.representations.reducers import Moments, Vectors
from peira.families.representations.summary import Summary, curve, layer_curves, plain
from peira.families.representations.trial import forward
from peira.families.representations.variants import Variant, run_variants
from peira.stats.columns import means, nanmean, q_values
from peira.stats.result import NOT_IDENTIFIED

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

KEYS = ("ratio_influence", "energy_influence", "cross_dist_influence", "within_dist_influence",
        "loss_influence", "ratio_averaging", "ratio_total")  # fmt: skip
TEMPORAL = (5, 10, 20, 30, 50)
TITLES = {"ratio_influence": "Φ = ln(across/within)", "energy_influence": "energy R",
          "cross_dist_influence": "distance across", "within_dist_influence": "distance within",
          "loss_influence": "later loss"}  # fmt: skip


class LeaveOneOut(Experiment):
    """Influence = Φ(full) − Φ(without p), p's own activation in neither mean."""

    def more(self, spec: Spec, context: Context, record: Record) -> dict[str, Any]:
        return influences(spec, context)

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        found = stacked(records, "loo/")
        for key in KEYS:
            add_key(spec, summary, key, found[key], found["bridge"])
            axes = ("context", "layer", "length", "position")
            summary.arrays[f"loo.{key}"] = (axes, found[key])
        summary.arrays["loo.bridge"] = (("context", "position"), found["bridge"])
        summary.diagnostics["swaps_without_neighbour"] = int(found["impossible"].sum())


experiment = LeaveOneOut


# -- one context ----------------------------------------------------------------------------------


def variants(spec: Spec, context: Context) -> dict[int, Variant]:
    """The variant of each position p ≥ 1, by mode; a swap without a common neighbour is left out."""
    arms = {p: changed(spec, context, p) for p in range(1, context.natural.length)}
    return {p: Variant(arm, p) for p, arm in arms.items() if arm is not None}


def changed(spec: Spec, context: Context, p: int) -> Arm | None:
    """The arm without token p, by `--mode`."""
    ids, nodes = context.natural.ids, context.natural.node_of
    name = f"without-{p}"
    if spec.mode == "delete":
        return Arm(name, np.delete(ids, p), np.delete(nodes, p))
    labels = nodes.copy()
    labels[p] = -1
    if spec.mode == "mask":
        return Arm(name, ids, labels, barred=p)
    other = common_neighbour(context, p)
    if other is None:
        return None
    swapped = ids.copy()
    swapped[p] = context.node_ids[other]
    return Arm(name, swapped, labels)


def common_neighbour(context: Context, p: int, gap: int = 1) -> int | None:
    """Another node adjacent to the tokens on both sides of p, drawn at random, or None."""
    near, nodes = context.graphs[0], context.nodes
    able = near[nodes[p - 1]] > 0
    if p + gap < len(nodes):
        able = able & (near[nodes[p + gap]] > 0)
    able[nodes[p]] = False
    options = np.flatnonzero(able)
    return int(context.rng(f"neighbour|{p}").choice(options)) if len(options) else None


def influences(spec: Spec, context: Context) -> dict[str, Any]:
    """Per key an array (L, N, T): NaN beyond N, at p = 0 and where undefined."""
    length, deletes = spec.length, spec.mode == "delete"
    reducer = Moments(tuple(n - 1 if deletes else n for n in spec.lengths))
    made = variants(spec, context)
    full = forward(spec, [(context, context.natural)], Vectors())[0]
    rows = dict(zip(made, run_variants(spec, context, list(made.values()), reducer), strict=True))
    pairs = Pairs.of(context.structure)
    blank = np.full((len(spec.layers), len(spec.lengths), length), np.nan)
    out = {f"loo/{key}": blank.copy() for key in KEYS}
    nodes = full["nodes"]
    for j, n in enumerate(spec.lengths):
        here = [p for p in made if p < n]
        losses = later_losses(full["losses"], rows, here, n, deletes)
        for i, name in enumerate(spec.names):
            h = full["reduced"][name][:n].astype(float)
            found = cell(
                h, nodes[:n], {p: rows[p]["reduced"][name]["gram"][j] for p in here}, pairs
            )
            for key, values in (found | {"loss_influence": losses}).items():
                out[f"loo/{key}"][i, j, :n] = values
    cluster = context.structure.clusters[context.nodes]
    bridge = np.concatenate([[False], cluster[1:] != cluster[:-1]])
    return out | {"loo/bridge": bridge, "loo/impossible": np.array(length - 1 - len(made))}


def cell(h: Any, nodes: Any, grams: Mapping[int, Any], pairs: Pairs) -> dict[str, Any]:
    """Influences (N,) of one layer at one length; `grams` the variants' by position."""
    size, count = pairs.edges.shape[0], len(nodes)
    full, own_out, seen_full, seen_out = without_own(h, nodes, size)
    whole, own = shape(full, seen_full, pairs), shape(own_out, seen_out, pairs)
    at = np.array(sorted(grams), dtype=int)
    blank = np.full(count, np.nan)
    if not len(at):
        return {key: blank for key in KEYS if key != "loss_influence"}
    variant = shape(distances(np.stack([grams[p] for p in at]).astype(float)), seen_out[at], pairs)
    found = {
        "ratio_influence": own["ratio"][at] - variant["ratio"],
        "energy_influence": variant["energy"] - own["energy"][at],
        "cross_dist_influence": (own["cross"][at] - variant["cross"]) / whole["rms"],
        "within_dist_influence": (own["within"][at] - variant["within"]) / whole["rms"],
        "ratio_averaging": whole["ratio"] - own["ratio"][at],
        "ratio_total": whole["ratio"] - variant["ratio"],
    }
    out = {}
    for key, values in found.items():
        out[key] = blank.copy()
        out[key][at] = values
    return out


def later_losses(
    losses: Any, rows: Mapping[int, Any], at: Sequence[int], length: int, deletes: bool
) -> Any:
    """Mean loss after p, without − full (length,); NaN where nothing follows."""
    out = np.full(length, np.nan)
    for p in at:
        if p + 1 >= length:
            continue
        start = p if deletes else p + 1
        without = rows[p]["losses"][start : start + length - p - 1]
        out[p] = float(np.nanmean(without) - np.nanmean(losses[p + 1 : length]))
    return out


# -- over contexts --------------------------------------------------------------------------------


def add_key(spec: Spec, summary: Summary, key: str, values: Any, bridge: Any) -> None:
    """Means by type and length, bridge − anchor, curves by position, for one kind of influence."""
    later = np.arange(bridge.shape[1]) > 0
    kinds = {"bridge": bridge, "anchor": ~bridge & later, "all": bridge | later}
    told = {  # (L, N)
        kind: means(nanmean(np.where(mask[:, None, None], values, np.nan), -1))
        for kind, mask in kinds.items()
    }
    gap = means(np.stack([matched_difference(v, b) for v, b in zip(values, bridge, strict=True)]))
    q = q_values(gap.p)
    ends = zip(layer_curves(gap[:, -1]), q[:, -1], strict=True)
    summary.put_means(key, told["all"][:, -1])
    summary.put(f"{key}_bridge_minus_anchor", (end | {"q": own} for end, own in ends))
    for cell_, row in zip(summary.results.values(), plain(told["all"].mean), strict=True):
        for by_length, value in zip(cell_["by_length"].values(), row, strict=True):
            by_length[key] = value
    at = [p for p in TEMPORAL if p < spec.length]
    summary.curves.setdefault("loo", {})[key] = {
        **{kind: curve(found) for kind, found in told.items()}, "bridge_minus_anchor": curve(gap),
        "by_position": curve(means(values[:, :, -1])),
        "temporal": {str(p): curve(means(values[:, -1, :, p])) for p in at},
    }  # fmt: skip
    if key in ("ratio_influence", "energy_influence", "loss_influence"):
        summary.find(
            f"{key}_bridge_minus_anchor",
            f"{spec.keys[-1]}: {key}, bridge − anchor items matched in position, N {spec.length}",
            gap.estimate((-1, -1), estimand=f"{key}, bridge − anchor", reason=NOT_IDENTIFIED),
            q=q[-1, -1])  # fmt: skip


# -- figures --------------------------------------------------------------------------------------


@plots.figure(7.0, lambda o: 1.6 + 0.24 * max(len(o["results"]), 4), 2, 2, sharex=True, sharey=True)
def loo_heatmap(outcome: Mapping[str, Any], axes: Any) -> str:
    """Layer × N: mean influence of bridges and anchors, with half-widths below."""
    key = "ratio_influence"
    found = outcome["curves"]["loo"][key]
    layers = plots.layers(outcome)
    peak = float(np.nanmax(np.abs([plots.numbers(found[t]["mean"]) for t in ("bridge", "anchor")])))
    for kind, (above, below) in zip(("bridge", "anchor"), axes.T, strict=True):
        mean, low, high = (plots.numbers(found[kind][k]) for k in ("mean", "low", "high"))
        look = {"rows": layers, "columns": outcome["lengths"], "ticks": 9}
        top = plots.heat(above, mean, peak=peak, **look)
        half = plots.heat(below, (high - low) / 2, sequential=True, **look)
        above.set_title(f"{kind} items")
        below.set_xlabel("context length N (words)")
    for row, label in enumerate(("mean", "half-width")):
        axes[row, 0].set_ylabel(f"layer ({label})")
    plots.bar(top, list(axes[0]), "influence")
    plots.bar(half, list(axes[1]), "95 % half-width")
    return (
        f"Leave-one-out influence on {TITLES[key]}, condition"
        f" {outcome['condition']}; half-widths of 95 % t intervals over contexts. Positive: the"
        " item helped. Grey: undefined."
    )  # fmt: skip


@plots.figure(6.4, lambda o: 1.5 + 0.42 * max(len(o["results"]), 3), 3, 1, sharex=True)
def loo_by_position(outcome: Mapping[str, Any], axes: Any) -> str:
    """Layer × position at the longest N, for three kinds of influence."""
    layers = plots.layers(outcome)
    keys = ("ratio_influence", "energy_influence", "loss_influence")
    for ax, key in zip(axes, keys, strict=True):
        data = plots.numbers(outcome["curves"]["loo"][key]["by_position"]["mean"])[:, 1:]
        robust = float(np.nanquantile(np.abs(data), 0.98)) if np.isfinite(data).any() else 1.0
        image = plots.heat(ax, data, layers, range(1, data.shape[1] + 1), peak=robust, ticks=10)
        ax.set_ylabel("layer")
        ax.set_title(TITLES[key])
        plots.bar(image, ax, "influence")
    axes[-1].set_xlabel("position p of the item")
    return (
        f"Influence by position at N = {outcome['lengths'][-1]},"
        f" condition {outcome['condition']}. Positive: the item helped. Colours end"
        " at the 98th percentile of absolute values."
    )  # fmt: skip


@plots.figure(7.4, 3.9, 2, 3)
def bridge_and_anchor(outcome: Mapping[str, Any], axes: Any) -> str:
    """Bridge − anchor over N for each kind of influence, last layer."""
    keys = tuple(TITLES)
    for ax, key, colour in zip(axes.ravel(), keys, plots.PALETTE, strict=False):
        plots.zero(ax)
        found = outcome["curves"]["loo"][key]["bridge_minus_anchor"]
        plots.band(ax, outcome["lengths"], found, -1, color=colour)
        ax.set_title(TITLES[key])
        plots.log_lengths(ax, outcome["lengths"])
    axes[-1, -1].axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("bridge − anchor")
    return (
        f"{plots.BAND} Items matched in position (at most 3 apart), {plots.last_layer(outcome)},"
        f" condition {outcome['condition']}."
    )


@plots.figure(4.8, 3.0)
def temporal(outcome: Mapping[str, Any], ax: Any) -> str:
    """How the influence of an early item fades as the context grows."""
    found = outcome["curves"]["loo"]["ratio_influence"]["temporal"]
    plots.zero(ax)
    colours = plots.layer_colours(len(found))
    for (p, data), colour, mark in zip(found.items(), colours, plots.MARKERS, strict=False):
        plots.band(ax, outcome["lengths"], data, color=colour, marker=mark, label=f"p = {p}")
    plots.log_lengths(ax, outcome["lengths"])
    ax.set_ylabel("influence on Φ")
    ax.legend(title="item at")
    return f"{plots.BAND} Last layer, condition {outcome['condition']}."
