"""context_switch: how many words of graph 2 flip the geometry?

Two partitions of sixteen words, rows and columns of a square. A context walks graph 1 for n₁ words,
then graph 2; only segment 2 enters the means. Arms `fresh` (graph 2 alone) and `stay` (graph 1 on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from peira.families.representations import inference, metrics, plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.graphs import crossed
from peira.families.representations.inference import means
from peira.families.representations.reducers import Moments
from peira.families.representations.summary import Summary, curve, plain
from peira.families.representations.trial import Spec, forward
from peira.families.representations.walks import Walk, step_law, walk_nodes
from peira.stats.result import undefined

FIRST = 200  # words of graph 1
ARMS = ("switch", "fresh", "stay")
NOT_CROSSED = "not_crossed"
LAST = 10  # words behind n₂ that the masses are averaged over


class ContextSwitch(Experiment):
    """Separation by graph 2's clusters less that by graph 1's, on the second segment."""

    def draw(self, spec: Spec, index: int) -> Context:
        context = super().draw(spec, index)
        return context.with_arms(*segments(spec, context))

    def arms(self, context: Context) -> Mapping[str, Arm]:
        return {n: a for n, a in context.arms.items() if n not in ARMS}

    def measure(self, spec: Spec, drawn: list[Context]) -> list[dict[str, Any]]:
        records = super().measure(spec, drawn)
        for arm in ARMS:
            offset = 0 if arm == "fresh" else FIRST
            reducer = Moments(tuple(n + offset for n in spec.lengths))
            rows = forward(spec, [(c, c.arms[arm]) for c in drawn], reducer)
            for record, row in zip(records, rows, strict=True):
                record |= arm_values(spec, arm, row, offset)
        return records

    def extend(self, spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary) -> None:
        values = {arm: np.stack([r[f"switch/{arm}/difference"] for r in records]) for arm in ARMS}
        masses = {arm: np.stack([r[f"switch/{arm}/mass"] for r in records]) for arm in ARMS}
        summary.curves["switch"] = {
            arm: {"difference": curve(means(values[arm])), "mass": curve(means(masses[arm]))}
            for arm in ARMS
        }
        add_crossover(spec, summary, values)
        for arm in ARMS:
            summary.arrays[f"switch.{arm}.difference"] = (
                ("context", "layer", "length"),
                values[arm],
            )
            summary.arrays[f"switch.{arm}.mass"] = (("context", "graph", "length"), masses[arm])


experiment = ContextSwitch


def segments(spec: Spec, context: Context) -> list[Arm]:
    """The three arms; segment 1 is in no mean."""
    laws = [step_law(s.adjacency, s.weights, Walk()) for s in crossed()]
    second = spec.length
    head = walk_nodes(laws[0], FIRST, context.rng("head"))
    out = []
    for name, law, side in (("switch", laws[1], 1), ("stay", laws[0], 0)):
        tail = walk_nodes(law, second + 1, context.rng("tail"), head[-1])[1:]
        arm = context.arm(name, head + tail)
        labels = arm.node_of.copy()
        labels[:FIRST] = -1
        graph_of = np.where(np.arange(FIRST + second) < FIRST, 0, side)
        out.append(Arm(name, arm.ids, labels, graph_of=graph_of))
    fresh = walk_nodes(laws[1], second, context.rng("tail"))
    out.append(context.arm("fresh", fresh, graph_of=np.ones(second, dtype=int)))
    return out


def arm_values(spec: Spec, arm: str, row: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """F₂ − F₁ (L, n₂) and mass under each graph (2, n₂)."""
    one, two = crossed()
    nodes, mass = row["nodes"], row["mass"].astype(float)
    difference = np.full((len(spec.names), len(spec.lengths)), np.nan)
    masses = np.full((2, len(spec.lengths)), np.nan)
    for j, n in enumerate(spec.lengths):
        labels = nodes[: n + offset]
        seen = np.unique(labels[labels >= 0])
        if len(seen) >= metrics.MIN_NODES:
            grams = np.stack([row["reduced"][k]["gram"][j] for k in spec.names]).astype(float)
            part = metrics.centred(grams[:, seen[:, None], seen])
            sides = [metrics.separation_ratio(part, s.clusters[seen])
                     if 1 < len(np.unique(s.clusters[seen])) < len(seen) else np.nan for s in (two, one)]  # fmt: skip
            difference[:, j] = sides[0] - sides[1]
        recent = slice(max(offset, n + offset - LAST), n + offset)
        at = np.where(nodes[recent] >= 0, nodes[recent], 0)
        for g, structure in enumerate((one, two)):
            masses[g, j] = (mass[recent] * structure.adjacency[at]).sum(1).mean()
    return {f"switch/{arm}/difference": difference, f"switch/{arm}/mass": masses}


def crossing(curve_: Any, lengths: Sequence[int]) -> float:
    """First n₂ where the curve is no longer negative (linear in log n₂); NaN if it never is."""
    y = np.asarray(curve_, float)
    keep = np.isfinite(y)
    y, at = y[keep], np.log(np.asarray(lengths, float)[keep])
    hit = np.flatnonzero(y >= 0)
    if not len(hit):
        return float("nan")
    k = int(hit[0])
    if k == 0:
        return float(np.exp(at[0]))
    part = -y[k - 1] / (y[k] - y[k - 1])
    return float(np.exp(at[k - 1] + part * (at[k] - at[k - 1])))


def _crossing_of(values: Any, lengths: Sequence[int], rows: Any) -> float:
    return crossing(inference.nanmean(values[rows]), lengths)


def add_crossover(spec: Spec, summary: Summary, values: Mapping[str, Any]) -> None:
    """Crossover of the mean with a bootstrap interval, and hysteresis against the fresh arm."""
    for i, key in enumerate(spec.keys):
        told = {}
        for arm in ("switch", "fresh"):
            told[arm] = inference.estimate_by_bootstrap(
                partial(_crossing_of, values[arm][:, i], spec.lengths),
                len(values[arm]), spec.rng(f"crossover|{key}|{arm}"), estimand=f"crossover, {arm}",
            )  # fmt: skip
            if told[arm].estimate is None:
                told[arm] = undefined(NOT_CROSSED, n=told[arm].n, estimand=f"crossover, {arm}")
                summary.reasons[f"results.{key}.crossover.{arm}"] = NOT_CROSSED

        def lag(rows: Any, i: int = i) -> float:
            pair = [
                crossing(inference.nanmean(values[a][rows, i]), spec.lengths)
                for a in ("switch", "fresh")
            ]
            return pair[0] - pair[1]

        told["hysteresis"] = inference.estimate_by_bootstrap(
            lag,
            len(values["switch"]),
            spec.rng(f"hysteresis|{key}"),
            estimand="crossover − fresh's",
        )
        summary.results[key]["crossover"] = {n: plain(e.to_dict()) for n, e in told.items()}
    for name in ("switch", "hysteresis"):
        summary.find(
            "crossover" if name == "switch" else name,
            f"{spec.keys[-1]}: " + ("words of graph 2 until its clusters separate as well as graph 1's"
                                    if name == "switch" else "crossover less that of a fresh context"),
            told[name])  # fmt: skip


@plots.figure(7.0, 3.0, 1, 2)
def crossover(outcome: Mapping[str, Any], axes: Any) -> str:
    """Separation by graph 2 less graph 1, and mass under each, over n₂."""
    found, lengths = outcome["curves"]["switch"], outcome["lengths"]
    plots.zero(axes[0])
    for k, arm in enumerate(ARMS):
        plots.band(axes[0], lengths, found[arm]["difference"], -1, color=plots.PALETTE[k],
                   marker=plots.MARKERS[k], label=arm)  # fmt: skip
    for k, (arm, look) in enumerate((("switch", "-"), ("fresh", "--"))):
        for g in range(2):
            plots.band(axes[1], lengths, found[arm]["mass"], g, color=plots.PALETTE[4 - 3 * g],
                       linestyle=look, marker=plots.MARKERS[k],
                       label=f"graph {g + 1}, {arm}")  # fmt: skip
    for ax in axes:
        plots.log_lengths(ax, lengths)
        ax.set_xlabel("words n₂ of graph 2")
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes[0].set_ylabel("F by graph 2 − F by graph 1")
    axes[1].set_ylabel("probability on cluster mates")
    return (
        f"Second segment only, {FIRST} words of graph 1 before it,"
        f" {plots.last_layer(outcome)}. {plots.BAND}"
    )  # fmt: skip
