"""block_permutation: is it order or content?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import plots
from peira.families.representations.contexts import Arm, Context, shuffled
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record, Values
from peira.families.representations.summary import Summary, curve, layer_curves, plain
from peira.families.representations.walks import valid_share
from peira.stats.columns import means, q_values

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

CHUNKS = (2, 4, 8, 16)
ARMS = ("natural", "reversed", "block", *(f"chunk-{k}" for k in CHUNKS), "shuffled")
COLOURS = (*plots.PALETTE[:3], "#b3b3b3", "#8c8c8c", "#666666", "#404040", plots.PALETTE[5])
FIELDS = ("dirichlet_energy", "cluster_separation")
MASSES = ("neighbour_mass", "loss")


class BlockPermutation(Experiment):
    """The same tokens, with more or less of their order kept."""

    def draw(self, spec: Spec, index: int) -> Context:
        context = spec.draw(index)
        return context.with_arms(
            reordered(context, "reversed", np.arange(context.natural.length)[::-1]),
            reordered(context, "block", block_order(context)),
            *(reordered(context, f"chunk-{k}", chunk_order(context, k)) for k in CHUNKS),
            shuffled(context),
        )

    def more(self, spec: Spec, context: Context, record: Record) -> dict[str, Any]:
        near = context.graphs[0]
        return {"valid": np.array([valid_share(context.arms[a].node_of, near) for a in ARMS])}

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        found = {arm: summary.arms[arm] for arm in ARMS}
        valid = np.stack([record["valid"] for record in records])
        summary.curves |= {
            "valid": dict(zip(ARMS, plain(valid.mean(0)), strict=True)),
            "arms": {n: {a: curve(means(v.geometry[n])) for a, v in found.items()} for n in FIELDS},
            "arm_masses": {
                n: {a: curve(means(v.predictions[n])) for a, v in found.items()} for n in MASSES
            },
        }
        summary.put("differences", ({arm: {} for arm in ARMS[1:]} for _ in spec.keys))
        for arm in ARMS[1:]:
            add_differences(spec, summary, arm, found[arm], found["natural"])
        add_slopes(spec, summary, found, valid)


experiment = BlockPermutation


def reordered(context: Context, name: str, order: Any) -> Arm:
    """The natural tokens in another order."""
    return Arm(name, context.natural.ids[order], context.natural.node_of[order])


def block_order(context: Context) -> Any:
    """Runs of one cluster, shuffled as wholes."""
    labels = context.structure.clusters[context.nodes]
    runs = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(labels)) + 1)
    order = context.rng("block").permutation(len(runs))
    return np.concatenate([runs[i] for i in order])


def chunk_order(context: Context, size: int) -> Any:
    """Chunks of `size` tokens, shuffled as wholes."""
    count = context.natural.length
    chunks = [np.arange(a, min(a + size, count)) for a in range(0, count, size)]
    order = context.rng(f"chunk-{size}").permutation(len(chunks))
    return np.concatenate([chunks[i] for i in order])


def add_differences(spec: Spec, summary: Summary, arm: str, found: Values, natural: Values) -> None:
    """Arm − natural, paired, in every field; the last layer's go into the findings."""
    told = [cell["differences"][arm] for cell in summary.results.values()]
    for name in FIELDS:
        gap = means(found.geometry[name] - natural.geometry[name])
        q = q_values(gap.p)
        for cell, end, own in zip(told, layer_curves(gap[:, -1]), q[:, -1], strict=True):
            cell[name] = end | {"q": plain(own)}
        if name == "dirichlet_energy" and arm in ("reversed", "shuffled"):
            summary.find(
                f"{arm}_minus_natural", f"{spec.keys[-1]}: energy at N {spec.length},"
                f" {arm} − natural" + (" (order alone)" if arm == "reversed" else ""),
                gap.estimate((-1, -1), estimand=f"R, {arm} − natural"), q=q[-1, -1])  # fmt: skip
    for name in MASSES:
        gap = means(found.predictions[name] - natural.predictions[name])
        for cell in told:
            cell[name] = curve(gap[-1])


def add_slopes(spec: Spec, summary: Summary, found: Mapping[str, Values], valid: Any) -> None:
    """Change of energy per unit of valid-step share, within contexts (reversed left out: its v is 1)."""
    used = [i for i, arm in enumerate(ARMS) if arm != "reversed"]
    x = valid[:, used] - valid[:, used].mean(1, keepdims=True)
    y = np.stack([found[ARMS[i]].at_end("dirichlet_energy") for i in used], 1)
    slope = (x[:, :, None] * (y - y.mean(1, keepdims=True))).sum(1) / (x**2).sum(1)[:, None]
    told = means(slope)
    summary.put("slope_on_valid_steps", layer_curves(told))
    summary.curves["slope"] = curve(told)
    summary.find(
        "slope_on_valid_steps",
        f"{spec.keys[-1]}: energy per unit share of valid steps, within contexts",
        told.estimate(-1, estimand="slope of R on v"))  # fmt: skip


@plots.figure(7.0, 3.0, 1, 2)
def arms(outcome: Mapping[str, Any], axes: Any) -> str:
    """Energy and mass over N, one line per arm."""
    lengths, curves = outcome["lengths"], outcome["curves"]
    for k, arm in enumerate(ARMS):
        look = {"color": COLOURS[k], "marker": plots.MARKERS[k % 7], "label": arm}
        plots.band(axes[0], lengths, curves["arms"]["dirichlet_energy"][arm], -1, **look)
        plots.band(axes[1], lengths, curves["arm_masses"]["neighbour_mass"][arm], **look)
    plots.structure_free(axes[0])
    axes[0].set_ylabel(f"Dirichlet energy R, {plots.last_layer(outcome)}")
    axes[1].set_ylabel("probability on true neighbours")
    for ax in axes:
        plots.log_lengths(ax, lengths)
    plots.legend_beside(axes[0])
    return f"{plots.BAND} All arms hold the same words."


@plots.figure(4.6, 3.1)
def dose_response(outcome: Mapping[str, Any], ax: Any) -> str:
    """Energy against the share of valid steps."""
    curves = outcome["curves"]
    for k, arm in enumerate(ARMS):
        mean, low, high = (plots.numbers(curves["arms"]["dirichlet_energy"][arm][x])[-1, -1]
                           for x in ("mean", "low", "high"))  # fmt: skip
        ax.errorbar(curves["valid"][arm], mean, yerr=[[mean - low], [high - mean]], label=arm,
                    marker=plots.MARKERS[k % 7], color=COLOURS[k])  # fmt: skip
    ax.set_xlabel("share v of steps along an edge")
    ax.set_ylabel("Dirichlet energy R")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return (
        f"N = {outcome['lengths'][-1]}, {plots.last_layer(outcome)}. Bars are 95 % t"
        " intervals over contexts."
    )  # fmt: skip
