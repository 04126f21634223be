"""park: do accuracy and graph geometry appear together as context grows?

After Park et al. 2024 (arXiv:2501.00070): means over the last 50 words, grid, ring, hex, and days of
the week on a permuted ring, where a known order competes with the context's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, metrics, plots
from peira.families.representations.contexts import Context, batch_of
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record, stacked
from peira.families.representations.graphs import ring
from peira.families.representations.reducers import Vectors
from peira.families.representations.summary import Summary, curve, layer_curves, plain
from peira.families.representations.trial import forward
from peira.families.representations.words import groups
from peira.stats.columns import means, nanmean, q_values
from peira.stats.result import TOO_FEW_UNITS, Estimate, undefined

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

STEERED = 4  # targets per context under --steer
NO_BREAK = "no_break"


class Park(Experiment):
    """All of §4 over N, the transition of accuracy, prior against context, steering."""

    def more(self, spec: Spec, context: Context, record: Record) -> dict[str, Any]:
        days = prior_overlaps(context, record) if spec.condition == "days" else {}
        return days | (steered(spec, context) if spec.settings.steer else {})

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        add_transition(spec, summary)
        if days := stacked(records, "days/"):
            add_prior(spec, days, summary)
        if gains := stacked(records, "steer/"):
            add_steering(spec, gains, summary)


experiment = Park


# -- transition -----------------------------------------------------------------------------------


def broken_line(y: Any, x: Any) -> tuple[float, float, float]:
    """(break, BIC with one break, BIC of a straight line) of a continuous broken line in x.

    The break is searched over a grid between the second and the last-but-one x.
    """
    n = len(y)
    straight = _residual(np.stack([np.ones(n), x], 1), y)
    best = (np.inf, np.nan)
    for knot in np.linspace(x[1], x[-2], 60):
        rest = _residual(np.stack([np.ones(n), x, np.maximum(x - knot, 0)], 1), y)
        best = min(best, (rest, knot))
    return best[1], _bic(best[0], n, 5), _bic(straight, n, 3)


def _residual(design: Any, y: Any) -> float:
    fit, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(((y - design @ fit) ** 2).sum())


def _bic(residual: float, n: int, parameters: int) -> float:
    return float(n * np.log(max(residual, 1e-12) / n) + parameters * np.log(n))


def add_transition(spec: Spec, summary: Summary) -> None:
    """Context length at which accuracy breaks, if one break fits better than none (BIC)."""
    mass = summary.natural.predictions["neighbour_mass"]
    estimate, bic = _transition(mass, np.log(spec.lengths), spec.rng("transition"))
    summary.diagnostics["transition"] = plain(estimate.to_dict() | bic)
    summary.find(
        "transition", "context length at which accuracy breaks from one slope to another",
        estimate)  # fmt: skip


def _transition(mass: Any, x: Any, rng: np.random.Generator) -> tuple[Estimate, dict[str, float]]:
    """The break of the mean of mass (C, N) in x = log N, and both fits' BIC."""
    mean = nanmean(mass)
    keep = np.isfinite(mean)
    about = {"n": len(mass), "estimand": "break of accuracy in log N"}
    if keep.sum() < 5:
        return undefined(TOO_FEW_UNITS, **about), {}
    _, with_break, without = broken_line(mean[keep], x[keep])
    bic = {"bic_break": with_break, "bic_none": without}
    if with_break >= without:
        return undefined(NO_BREAK, **about), bic

    def statistic(rows: Any) -> float:
        return float(np.exp(broken_line(nanmean(mass[rows])[keep], x[keep])[0]))

    return inference.by_bootstrap(statistic, len(mass), rng, estimand=about["estimand"]), bic


# -- prior against context ------------------------------------------------------------------------


def prior_overlaps(context: Context, record: Record) -> dict[str, Any]:
    """Overlap of components 1-2 and 3-4 with the context's ring and with the calendar's (2, L, N)."""
    order = [groups()["days"].index(word) for word in context.words]
    calendar = ring(7).adjacency[np.ix_(order, order)]
    whole = (record["natural/visits"] > 0).all(1)
    vectors = np.linalg.eigh(record["natural/gram"].astype(float))[1][..., ::-1]
    out = {}
    for name, graph in (("context", context.graphs[0]), ("prior", calendar)):
        target = np.linalg.eigh(metrics.laplacian(graph))[1][:, 1:3]
        pair = [((np.swapaxes(vectors[..., a : a + 2], -1, -2) @ target) ** 2).sum((-2, -1)) / 2
                for a in (0, 2)]  # fmt: skip
        out[f"days/{name}"] = np.where(whole, np.stack(pair), np.nan)
    return out


def add_prior(spec: Spec, values: Mapping[str, Any], summary: Summary) -> None:
    """Which ring the first and the next plane show, by layer; paired difference at the end."""
    summary.curves["days"] = {name: curve(means(v)) for name, v in values.items()}
    gap = means((values["context"] - values["prior"])[..., -1])
    pairs = zip(layer_curves(gap[0]), layer_curves(gap[1]), strict=True)
    summary.put("context_minus_prior_overlap",
                ({"components_1_2": a, "components_3_4": b} for a, b in pairs))  # fmt: skip
    summary.find(
        "context_minus_prior", f"{spec.keys[-1]}: overlap of the first plane with the context's ring −"
        " with the calendar's", gap.estimate((0, -1), estimand="overlap, context − prior"))  # fmt: skip


# -- steering -------------------------------------------------------------------------------------


def steered(spec: Spec, context: Context) -> dict[str, Any]:
    """Change of mass on a target's neighbours when the last word's activation is moved to the
    target's place in the node plane, or equally far at random (L, targets)."""
    full = forward(spec, [(context, context.natural)], Vectors())[0]
    rng, nodes, near = context.rng("steer"), full["nodes"], context.graphs[0]
    own = int(nodes[-1])
    able = [n for n in np.unique(nodes) if n not in (own, -1)]
    targets = [int(n) for n in rng.permutation(able)[:STEERED]]
    out = {k: np.full((len(spec.names), STEERED), np.nan) for k in ("steer/plane", "steer/random")}
    for i, (name, layer) in enumerate(zip(spec.names, spec.layers, strict=True)):
        if layer == "emb" or not targets:
            continue
        for kind, moved in _shifts(full["reduced"][name], nodes, own, targets, rng).items():
            mass = _mass_after(spec, context, name, moved)
            gain = ((mass - full["mass"][-1]) * near[targets]).sum(1)
            out[f"steer/{kind}"][i, : len(targets)] = gain
    return out


def _shifts(h: Any, nodes: Any, own: int, targets: Sequence[int], rng: Any) -> dict[str, Any]:
    """Moves (targets, d): towards each target within the plane of the node means, and at random."""
    seen = np.unique(nodes[nodes >= 0])
    node_means = {int(n): h[nodes == n].mean(0) for n in seen}
    table = np.stack(list(node_means.values()))
    plane = np.linalg.svd(table - table.mean(0), full_matrices=False)[2][:2]
    moves = np.stack([(node_means[t] - node_means[own]) @ plane.T @ plane for t in targets])
    noise = rng.standard_normal(moves.shape)
    size = np.linalg.norm(moves, axis=1, keepdims=True)
    return {"plane": moves, "random": noise / np.linalg.norm(noise, axis=1, keepdims=True) * size}


def _mass_after(spec: Spec, context: Context, name: str, moves: Any) -> Any:
    """Node probabilities (targets, n) of the last prediction after each move."""
    import torch

    shift = torch.as_tensor(
        moves, dtype=next(spec.model.model.parameters()).dtype, device=spec.model.device
    )

    def move(h: Any) -> Any:
        h = h.clone()
        h[:, -1] += shift
        return h

    batch = batch_of([(context, context.natural)] * len(moves))
    with spec.model.hooks({name: move}):
        return spec.model.run(batch, [], Vectors()).node_probabilities[:, -1]


def add_steering(spec: Spec, gains: Mapping[str, Any], summary: Summary) -> None:
    """Gain of mass by steering in the plane, at random, and their paired difference."""
    values = {kind: nanmean(gain, -1) for kind, gain in gains.items()}
    gap = means(values["plane"] - values["random"])
    told = {kind: layer_curves(means(v)) for kind, v in values.items()}
    told["plane_minus_random"] = layer_curves(gap)
    summary.put("steering", (dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)))  # fmt: skip
    best = int(np.nanargmax(gap.mean)) if np.isfinite(gap.mean).any() else 0
    summary.find(
        "steering", f"{spec.keys[best]} (largest): gain of mass on a target's neighbours, moving in the"
        " node plane − equally far at random",
        gap.estimate(best, estimand="gain, plane − random"), q=q_values(gap.p)[best])  # fmt: skip


# -- figures --------------------------------------------------------------------------------------


@plots.figure(5.2, 3.1)
def accuracy(outcome: Mapping[str, Any], ax: Any) -> str:
    """Mass on true neighbours over N, with what share of it is neighbours and what goes back."""
    found, lengths = outcome["curves"]["predictions"], outcome["lengths"]
    names = {"neighbour_mass": "on neighbours", "node_mass": "on graph words",
             "back_mass": "on the word before"}  # fmt: skip
    plots.bands(ax, lengths, {label: found[name]["natural"] for name, label in names.items()})
    told = outcome["diagnostics"]["transition"]
    if told.get("estimate"):
        ax.axvline(told["estimate"], color="#444444", linestyle="--", linewidth=0.8)
    plots.log_lengths(ax, lengths)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("probability")
    ax.legend()
    return (
        f"{outcome['condition']}; means over the last 20 words."
        f" Dashed: break of accuracy, where one fits (BIC). {plots.BAND}"
    )  # fmt: skip


def _arms(outcome: Mapping[str, Any]) -> list[str]:
    return [a for a in outcome["curves"]["geometry"]["dirichlet_energy"] if a != "null"]


@plots.figure(
    lambda o: 2.4 * len(_arms(o)), 2.9, 1, lambda o: len(_arms(o)), sharey=True, squeeze=False
)
def energy(outcome: Mapping[str, Any], axes: Any) -> str:
    """Energy over N for each layer, with shuffled contexts and the untrained twin."""
    found, lengths = outcome["curves"]["geometry"]["dirichlet_energy"], outcome["lengths"]
    for ax, arm in zip(axes[0], _arms(outcome), strict=True):
        plots.structure_free(ax)
        plots.by_layer(ax, outcome, found[arm])
        ax.axhline(
            outcome["curves"]["mixing"]["same"], color="#D55E00", linestyle="--", linewidth=0.8
        )
        ax.set_title(arm)
        plots.log_lengths(ax, lengths)
    axes[0, 0].set_ylabel("Dirichlet energy R")
    plots.legend_beside(axes[0, 0])
    return (
        f"{outcome['condition']}. {plots.BAND} Dotted: structure-free"
        " value. Dashed: what one round of previous-word mixing gives."
    )  # fmt: skip


def _panels(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Population geometries of the last layer by panel; a relabelled one after the natural."""
    found = outcome["curves"]["population"].get(list(outcome["results"])[-1], {})
    grams = {arm: plots.numbers(gram) for arm, gram in found.items()}
    if "natural" not in grams:
        return {"none": None}
    order = np.random.default_rng(0).permutation(len(grams["natural"]))
    return {
        "natural": grams.pop("natural"),
        "relabelled": plots.numbers(found["natural"])[np.ix_(order, order)],
        **grams,
    }


@plots.figure(lambda o: 2.1 * len(_panels(o)), 2.4, 1, lambda o: len(_panels(o)), squeeze=False)
def planes(outcome: Mapping[str, Any], axes: Any) -> str:
    """Population planes of the last layer: the context's, a relabelled one, the nulls'."""
    for ax, (name, gram) in zip(axes[0], _panels(outcome).items(), strict=True):
        ax.set_title(name)
        if gram is None:
            ax.text(0.5, 0.5, "fewer than 8 fully covered contexts", ha="center")
            continue
        plots.draw_graph(ax, outcome["curves"]["graph"], plots.plane(gram))
    return (
        f"Principal plane of the mean of S/tr S over fully covered"
        f" contexts, {plots.last_layer(outcome)}, {outcome['condition']}. The relabelled"
        " panel shows what equal data give by chance."
    )  # fmt: skip


@plots.figure(6.8, 2.9, 1, 2, sharey=True, width_ratios=(1.5, 1))
def overlap(outcome: Mapping[str, Any], axes: Any) -> str:
    """Overlap of the first plane with the graph's, per context over N and for the population."""
    found, lengths = outcome["curves"]["geometry"]["overlap_2"], outcome["lengths"]
    n = len(outcome["curves"]["graph"]["clusters"])
    plots.by_layer(axes[0], outcome, found["natural"], found.get("shuffled"))
    plots.log_lengths(axes[0], lengths)
    for i, cell in enumerate(outcome["results"].values()):
        value, limits = cell.get("population_overlap_2"), cell.get("population_overlap_2_ci")
        if value is not None and limits:
            axes[1].errorbar(i, value, yerr=[[max(value - limits[0], 0)], [max(limits[1] - value, 0)]],
                             marker="o", color=plots.PALETTE[0])  # fmt: skip
    plots.over_layers(axes[1], outcome)
    axes[1].set_title("population")
    for ax in axes:
        plots.structure_free(ax, 2 / (n - 1))
        ax.set_ylim(0, 1.03)
    axes[0].set_ylabel("overlap with z₂, z₃")
    plots.legend_beside(axes[0])
    return (
        f"{outcome['condition']}. Left: {plots.BAND.lower()} Dashed: shuffled contexts. Right: bars are"
        " 95 % bootstrap intervals over contexts. Dotted: structure-free value."
    )


@plots.figure(6.6, 5.0, 2, 2, sharey=True)
def rings(outcome: Mapping[str, Any], axes: Any) -> str:
    """Condition days: overlap of the first and of the next plane with either ring, over N and layer."""
    found, lengths = outcome["curves"]["days"], outcome["lengths"]
    named = {"ring of the context": found["context"], "ring of the calendar": found["prior"]}
    for pair, part in enumerate(("components 1 and 2", "components 3 and 4")):
        above, below = axes[0, pair], axes[1, pair]
        for ax, x, at in ((above, lengths, (pair, -1)),
                          (below, plots.over_layers(below, outcome), (pair, slice(None), -1))):  # fmt: skip
            plots.bands(ax, x, {name: plots.cut(curve, at) for name, curve in named.items()})
        above.set_title(f"{part}, {plots.last_layer(outcome)}")
        below.set_title(f"{part}, N = {lengths[-1]}")
        plots.log_lengths(above, lengths)
    for ax in axes.ravel():
        plots.structure_free(ax, 2 / 6)
        ax.set_ylim(0, 1.03)
    for ax in axes[:, 0]:
        ax.set_ylabel("overlap with a ring's first plane")
    plots.legend_beside(axes[0, 0])
    return (
        "Days of the week on a permuted ring: does the plane show the order learnt before or the"
        f" context's? Fully covered contexts only; a point"
        f" without a band is one context. {plots.BAND} Dotted: structure-free value."
    )
