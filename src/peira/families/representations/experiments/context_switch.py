"""context_switch: how many words of graph 2 flip the geometry?

Two partitions of sixteen words, rows and columns of a square. A context walks graph 1 for n₁ words,
then graph 2; only segment 2 enters the means. Arms `fresh` (graph 2 alone) and `stay` (graph 1 on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from peira.families.representations import metrics, plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record, stacked
from peira.families.representations.graphs import crossed
from peira.families.representations.inference import crossing
from peira.families.representations.reducers import Moments
from peira.families.representations.summary import Summary, bootstrapped, curve
from peira.families.representations.trial import Spec, forward
from peira.families.representations.walks import walk_nodes
from peira.stats.columns import means, nanmean

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
                difference, masses = arm_values(spec, row, offset)
                record |= {f"switch/{arm}/difference": difference, f"switch/{arm}/mass": masses}
        return records

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        found = {arm: stacked(records, f"switch/{arm}/") for arm in ARMS}
        summary.curves["switch"] = {
            arm: {name: curve(means(values)) for name, values in of.items()}
            for arm, of in found.items()
        }
        add_crossover(spec, summary, *(found[arm]["difference"] for arm in ("switch", "fresh")))
        for arm, of in found.items():
            for name, axis in (("difference", "layer"), ("mass", "graph")):
                summary.arrays[f"switch.{arm}.{name}"] = (("context", axis, "length"), of[name])


experiment = ContextSwitch


def segments(spec: Spec, context: Context) -> list[Arm]:
    """The three arms; segment 1 is in no mean."""
    laws = [structure.steps() for structure in crossed()]
    second = spec.length
    head = walk_nodes(laws[0], FIRST, context.rng("head"))
    out = []
    for name, law, side in (("switch", laws[1], 1), ("stay", laws[0], 0)):
        tail = walk_nodes(law, second + 1, context.rng("tail"), head[-1])[1:]
        arm = context.arm(name, head + tail, graph_of=np.repeat([0, side], [FIRST, second]))
        inside = np.arange(arm.length) >= FIRST
        out.append(replace(arm, node_of=np.where(inside, arm.node_of, -1)))
    fresh = walk_nodes(laws[1], second, context.rng("tail"))
    return [*out, context.arm("fresh", fresh, graph_of=np.ones(second, dtype=int))]


def arm_values(spec: Spec, row: Mapping[str, Any], offset: int) -> tuple[Any, Any]:
    """F₂ − F₁ (L, n₂) and mass under each graph (2, n₂)."""
    graphs, nodes, mass = crossed(), row["nodes"], row["mass"].astype(float)
    difference = np.full((len(spec.names), len(spec.lengths)), np.nan)
    masses = np.full((2, len(spec.lengths)), np.nan)
    for j, n in enumerate(spec.lengths):
        seen = np.isin(np.arange(graphs[0].num_nodes), nodes[: n + offset])
        grams = [row["reduced"][name]["gram"][j] for name in spec.names]
        one, two = (_separation(metrics.geometry(grams, seen, graph)) for graph in graphs)
        difference[:, j] = two - one
        recent = slice(max(offset, n + offset - LAST), n + offset)
        at = np.where(nodes[recent] >= 0, nodes[recent], 0)
        masses[:, j] = [(mass[recent] * graph.adjacency[at]).sum(1).mean() for graph in graphs]
    return difference, masses


def _separation(g: metrics.Geometry) -> Any:
    """F by layer; NaN where the clusters are one, or each a node."""
    able = g.size >= metrics.MIN_NODES and 1 < len(np.unique(g.clusters)) < g.size
    return metrics.SEPARATION.formula(g) if able else np.nan


def add_crossover(spec: Spec, summary: Summary, switch: Any, fresh: Any) -> None:
    """Crossover of the mean with a bootstrap interval, and hysteresis against the fresh arm."""

    def at(values: Any, layer: int, rows: Any) -> float:
        return crossing(nanmean(values[rows, layer]), 0.0, spec.lengths)

    told = {
        arm: bootstrapped(
            spec, f"crossover|{{}}|{arm}", partial(at, values), len(values),
            reason=NOT_CROSSED, estimand=f"crossover, {arm}")
        for arm, values in (("switch", switch), ("fresh", fresh))
    }  # fmt: skip
    told["hysteresis"] = bootstrapped(
        spec, "hysteresis|{}", lambda i, rows: at(switch, i, rows) - at(fresh, i, rows),
        len(switch), estimand="crossover − fresh's")  # fmt: skip
    summary.put("crossover", (dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)))  # fmt: skip
    for i, key in enumerate(spec.keys):
        for arm in [arm for arm in ("switch", "fresh") if told[arm][i].estimate is None]:
            summary.lacks(key, f"crossover.{arm}", NOT_CROSSED)
    claims = {"crossover": ("switch", "words of graph 2 until its clusters separate as well as graph 1's"),
              "hysteresis": ("hysteresis", "crossover less that of a fresh context")}  # fmt: skip
    for name, (of, claim) in claims.items():
        summary.find(name, f"{spec.keys[-1]}: {claim}", told[of][-1])


@plots.figure(7.0, 3.0, 1, 2)
def crossover(outcome: Mapping[str, Any], axes: Any) -> str:
    """Separation by graph 2 less graph 1, and mass under each, over n₂."""
    found, lengths = outcome["curves"]["switch"], outcome["lengths"]
    plots.zero(axes[0])
    plots.bands(axes[0], lengths, {arm: plots.cut(found[arm]["difference"], -1) for arm in ARMS})
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
