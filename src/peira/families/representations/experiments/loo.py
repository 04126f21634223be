"""loo and loo_multilayer: which items, removed, change the geometry?

One set of variants, at the longest N, serves all lengths: attention is causal, so a variant's first
tokens are the variant at a shorter N. Means run over all tokens of N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.inference import means
from peira.families.representations.influence import (
    Pairs,
    distances,
    matched_difference,
    shape,
    without_own,
)
from peira.families.representations.reducers import Moments, Vectors
from peira.families.representations.summary import Summary, curve, plain
from peira.families.representations.variants import Variant, run_variants

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

    def measure(self, spec: Spec, drawn: list[Context]) -> list[dict[str, Any]]:
        records = super().measure(spec, drawn)
        for record, context in zip(records, drawn, strict=True):
            record |= influences(spec, context)
        return records

    def extend(self, spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary) -> None:
        stacked = {key: np.stack([r[f"loo/{key}"] for r in records]) for key in KEYS}
        bridge = np.stack([r["loo/bridge"] for r in records])
        for key, values in stacked.items():
            add_key(spec, summary, key, values, bridge)
            summary.arrays[f"loo.{key}"] = (("context", "layer", "length", "position"), values)
        summary.arrays["loo.bridge"] = (("context", "position"), bridge)
        summary.diagnostics["swaps_without_neighbour"] = int(
            sum(int(r["loo/impossible"]) for r in records)
        )


experiment = LeaveOneOut


# -- one context ----------------------------------------------------------------------------------


def variants(spec: Spec, context: Context) -> dict[int, Variant]:
    """The variant of each position p ≥ 1, by mode; a swap without a common neighbour is left out."""
    made: dict[int, Variant] = {}
    natural = context.natural
    for p in range(1, natural.length):
        arm = changed(spec, context, p)
        if arm is not None:
            made[p] = Variant(arm, p)
    return made


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
    from peira.families.representations.trial import forward

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
    by_type = {  # (C, L, N)
        kind: inference.nanmean(np.where(mask[:, None, None], values, np.nan), -1)
        for kind, mask in kinds.items()
    }
    gap = np.stack([matched_difference(v, b) for v, b in zip(values, bridge, strict=True)])
    told = {kind: means(found) for kind, found in by_type.items()} | {
        "bridge_minus_anchor": means(gap)
    }
    q = inference.q_values(told["bridge_minus_anchor"].p)
    for i, name in enumerate(spec.keys):
        cell_ = summary.results[name]
        cell_[key] = plain(told["all"].mean[i, -1])
        cell_[f"{key}_ci"] = plain([told["all"].low[i, -1], told["all"].high[i, -1]])
        cell_[f"{key}_n"] = int(told["all"].n[i, -1])
        cell_[f"{key}_bridge_minus_anchor"] = curve(told["bridge_minus_anchor"], (i, -1)) | {
            "q": plain(q[i, -1])
        }
        for j, n in enumerate(spec.lengths):
            cell_["by_length"][str(n)][key] = plain(told["all"].mean[i, j])
    curves = summary.curves.setdefault("loo", {}).setdefault(key, {})
    curves |= {kind: curve(found) for kind, found in told.items()}
    curves["by_position"] = curve(means(values[:, :, -1]))
    at = [p for p in TEMPORAL if p < spec.length]
    curves["temporal"] = {str(p): curve(means(values[:, -1, :, p])) for p in at}
    if key in ("ratio_influence", "energy_influence", "loss_influence"):
        summary.find(
            f"{key}_bridge_minus_anchor",
            f"{spec.keys[-1]}: {key}, bridge − anchor items matched in position, N {spec.length}",
            told["bridge_minus_anchor"].estimate((-1, -1), estimand=f"{key}, bridge − anchor",
                                                 reason="not_identified"), q=plain(q[-1, -1]))  # fmt: skip


# -- figures --------------------------------------------------------------------------------------


@plots.figure(7.0, lambda o: 1.6 + 0.24 * max(len(o["results"]), 4), 2, 2, sharex=True, sharey=True)
def loo_heatmap(outcome: Mapping[str, Any], axes: Any) -> str:
    """Layer × N: mean influence of bridges and anchors, with half-widths below."""
    key = "ratio_influence"
    found = outcome["curves"]["loo"][key]
    layers = plots.layers(outcome)
    peak = float(np.nanmax(np.abs([plots.numbers(found[t]["mean"]) for t in ("bridge", "anchor")])))
    for column, kind in enumerate(("bridge", "anchor")):
        mean = plots.numbers(found[kind]["mean"])
        half = (plots.numbers(found[kind]["high"]) - plots.numbers(found[kind]["low"])) / 2
        top = plots.heat(axes[0, column], mean, layers, outcome["lengths"], peak=peak, ticks=9)
        low = plots.heat(
            axes[1, column], half, layers, outcome["lengths"], sequential=True, ticks=9
        )
        axes[0, column].set_title(f"{kind} items")
        axes[1, column].set_xlabel("context length N (words)")
    for row, label in enumerate(("mean", "half-width")):
        axes[row, 0].set_ylabel(f"layer ({label})")
    plots.bar(top, list(axes[0]), "influence")
    plots.bar(low, list(axes[1]), "95 % half-width")
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
    axes[0, 0].set_ylabel("bridge − anchor")
    axes[1, 0].set_ylabel("bridge − anchor")
    return (
        f"{plots.BAND} Items matched in position (at most 3 apart),"
        f" {plots.last_layer(outcome)}, condition"
        f" {outcome['condition']}."
    )  # fmt: skip


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
