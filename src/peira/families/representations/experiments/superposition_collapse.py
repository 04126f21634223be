"""superposition_collapse: is the model between two hypotheses before the deciding step?

Walk on edges both graphs share until q, then one edge only the true graph has, then the true graph.
Commitment of token x of word w: ⟨x − m_w, Δ_w⟩ with m_w the midpoint and Δ_w the difference of the
word's two reference means, from unambiguous walks in the same words, halves A and B exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import Record, stacked
from peira.families.representations.graphs import components
from peira.families.representations.reducers import NodeMeans, Vectors
from peira.families.representations.summary import Summary, bootstrapped, curve, layer_curves
from peira.families.representations.trial import forward
from peira.families.representations.walks import Walk, step_law, walk_nodes
from peira.stats.columns import means, nanmean
from peira.stats.result import NOT_REACHED, Estimate, undefined

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

SWITCHES = (0.25, 0.5, 0.75, None)  # share of the walk at which the deciding step comes
REFERENCES = 8  # unambiguous walks per hypothesis
MAX_LAG = 20
NOT_SEPARABLE = "hypotheses_not_separable"


class SuperpositionCollapse(Experiment):
    """Commitment to a hypothesis before and after the deciding step."""

    def draw(self, spec: Spec, index: int) -> Context:
        context = super().draw(spec, index)
        return context.with_arms(*references(spec, context), *switches(spec, context, index))

    def arms(self, context: Context) -> Mapping[str, Arm]:
        return {n: a for n, a in context.arms.items() if n in ("natural", "shuffled")}

    def more(self, spec: Spec, context: Context, record: Record) -> dict[str, Any]:
        return commitments(spec, context)

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        found = stacked(records, "super/")
        separable = add_separability(spec, summary, found["product"])
        scale = np.where(separable, nanmean(found["product"]), np.nan)
        values = found["commitment"] / scale[None, :, None, None]  # (C, L, q, T)
        add_before(spec, summary, values)
        add_after(spec, summary, values, found["log_odds"], found["decided"])
        axes = ("context", "layer", "switch", "token")
        summary.arrays["superposition.commitment"] = (axes, values)
        summary.arrays["superposition.log_odds"] = ((axes[0], *axes[2:]), found["log_odds"])


experiment = SuperpositionCollapse


# -- one context ----------------------------------------------------------------------------------


def _walk(graph: Any, length: int, rng: np.random.Generator, start: int | None = None) -> list[int]:
    """A uniform walk on an adjacency matrix."""
    return walk_nodes(step_law(graph, graph, Walk("uniform")), length, rng, start)


def references(spec: Spec, context: Context) -> list[Arm]:
    """Unambiguous walks, eight per hypothesis, in the context's own words."""
    arms = []
    for side, graph in enumerate(context.graphs):
        for k in range(REFERENCES):
            rng = context.rng(f"reference|{side}|{k}")
            nodes = _walk(graph, spec.length, rng)
            arms.append(context.arm(
                f"reference-{side}-{k}", nodes, truth=1.0 if side == 0 else -1.0, decided=0,
                graph_of=np.full(spec.length, side),
            ))  # fmt: skip
    return arms


def switch_at(length: int, q: float) -> int:
    """The word from which on the deciding step is taken, as soon as an edge allows it."""
    return min(max(1, round(length * q)), length - 1)


def switches(spec: Spec, context: Context, index: int) -> list[Arm]:
    """One walk per switch point; the truth alternates between contexts."""
    truth = 1.0 if index % 2 == 0 else -1.0
    return [switch_walk(spec, context, q, truth) for q in SWITCHES]


def switch_walk(spec: Spec, context: Context, q: float | None, truth: float) -> Arm:
    """Shared edges until q, one edge only the true graph has, then the true graph."""
    shared, length = context.structure.extra["shared"], spec.length
    rng, side = context.rng(f"switch|{q}"), 0 if truth > 0 else 1
    own = context.graphs[side]
    only = own - shared
    members = np.flatnonzero(components(shared) == np.bincount(components(shared)).argmax())
    start = int(rng.choice(members))
    if q is None:
        nodes, at = _walk(shared, length, rng, start), length
    else:
        head = _undecided(shared, only, switch_at(length, q), rng, start)
        while len(head) >= length:  # no way out in time: from elsewhere
            head = _undecided(shared, only, switch_at(length, q), rng, int(rng.choice(members)))
        at = len(head)
        leap = int(rng.choice(np.flatnonzero(only[head[-1]])))
        nodes = head + _walk(own, length - at, rng, leap)
    graph_of = np.where(np.arange(length) < at, 0, side)
    return context.arm(f"switch-{q}", nodes, truth=truth, decided=at, graph_of=graph_of)


def _undecided(
    shared: Any, only: Any, length: int, rng: np.random.Generator, start: int
) -> list[int]:
    """A walk on shared edges, of `length` or as much longer as a deciding edge is away."""
    nodes = _walk(shared, length, rng, start)
    while not only[nodes[-1]].any():
        nodes.append(_walk(shared, 2, rng, nodes[-1])[1])
    return nodes


def commitments(spec: Spec, context: Context) -> dict[str, Any]:
    """Raw commitment (L, q, T), the references' ⟨Δᴬ, Δᴮ⟩ (L,), log-odds (q, T), deciding steps."""
    named = [a for a in context.arms.values() if a.name.startswith("reference")]
    rows = forward(spec, [(context, a) for a in named], NodeMeans())
    walks = [a for a in context.arms.values() if a.name.startswith("switch")]
    tests = forward(spec, [(context, a) for a in walks], Vectors())
    out = np.full((len(spec.names), len(walks), spec.length), np.nan)
    product = np.zeros(len(spec.names))
    for i, name in enumerate(spec.names):
        sides = _halves(rows, name, len(context.node_ids))
        product[i] = _product(sides)
        for k, (arm, row) in enumerate(zip(walks, tests, strict=True)):
            out[i, k] = arm.truth * _commitment(row["reduced"][name], row["nodes"], sides)
    odds = [_log_odds(row["mass"], arm, context) for arm, row in zip(walks, tests, strict=True)]
    return {"super/commitment": out, "super/product": product, "super/log_odds": np.stack(odds),
            "super/decided": np.array([arm.decided for arm in walks])}  # fmt: skip


def _halves(rows: Sequence[Mapping[str, Any]], name: str, size: int) -> Any:
    """Reference means (half, hypothesis, n, d), each over that half's walks; NaN where unvisited."""
    counts = np.stack(
        [np.bincount(r["nodes"][r["nodes"] >= 0], minlength=size) for r in rows]
    )[:, :, None]  # fmt: skip
    sums = np.stack([r["reduced"][name] for r in rows]) * counts
    by_half = (2, 2, REFERENCES // 2, size)  # hypothesis, half
    total = counts.reshape(*by_half, 1).sum(2)
    mean = sums.reshape(*by_half, -1).sum(2) / np.maximum(total, 1)
    return np.swapaxes(np.where(total > 0, mean, np.nan), 0, 1)


def _product(halves: Any) -> float:
    """⟨Δᴬ, Δᴮ⟩ pooled over words."""
    delta = halves[:, 0] - halves[:, 1]
    each = (delta[0] * delta[1]).sum(1)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def _commitment(h: Any, nodes: Any, halves: Any) -> Any:
    """⟨x − m_w, Δ_w⟩ per token (T,), midpoint from one half and difference from the other."""
    at = np.where(nodes >= 0, nodes, 0)
    total = np.zeros(len(nodes))
    for a, b in ((0, 1), (1, 0)):
        middle, delta = halves[a].mean(0)[at], (halves[b, 0] - halves[b, 1])[at]
        total += ((h[: len(nodes)] - middle) * delta).sum(1) / 2
    return np.where(nodes >= 0, total, np.nan)


def _log_odds(mass: Any, arm: Arm, context: Context) -> Any:
    """ln of mass on neighbours only the true graph has, over those only the other has (T,)."""
    first, second = context.graphs
    own, other = (first, second) if arm.truth > 0 else (second, first)
    at = arm.node_of
    mine, theirs = (np.maximum(own - other, 0)[at], np.maximum(other - own, 0)[at])
    a, b = (mass * mine).sum(1), (mass * theirs).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        per = np.log((a / np.maximum(mine.sum(1), 1)) / (b / np.maximum(theirs.sum(1), 1)))
    return np.where((mine.sum(1) > 0) & (theirs.sum(1) > 0) & (a > 0) & (b > 0), per, np.nan)


# -- over contexts --------------------------------------------------------------------------------


def add_separability(spec: Spec, summary: Summary, product: Any) -> Any:
    """(L,): is the pooled ⟨Δᴬ, Δᴮ⟩ above zero?"""
    told = means(product)
    able = np.isfinite(told.low) & (told.low > 0)
    summary.put("separability", layer_curves(told))
    for key in [key for key, ok in zip(spec.keys, able, strict=True) if not ok]:
        summary.lacks(key, "commitment_before", NOT_SEPARABLE)
    summary.curves["separable"] = able.tolist()
    return able


def add_before(spec: Spec, summary: Summary, values: Any) -> None:
    """Mean before the deciding step, and covariance over contexts of odd and even positions."""
    never = values[:, :, SWITCHES.index(None), 10:]
    odd, even = (nanmean(never[..., k::2], -1) for k in (1, 0))
    told = means(nanmean(never, -1))

    def covariance(i: int, rows: Any) -> float:
        a, b = odd[rows, i], even[rows, i]
        keep = np.isfinite(a) & np.isfinite(b)
        return float(np.cov(a[keep], b[keep])[0, 1]) if keep.sum() > 2 else float("nan")

    found = _if_separable(summary, bootstrapped(
        spec, "covariance|{}", covariance, len(values),
        estimand="covariance of odd and even commitments"))  # fmt: skip
    summary.put("commitment_before", told.mean)
    summary.put("commitment_before_ci", np.stack([told.low, told.high], -1))
    summary.put("commitment_covariance", found)
    summary.find(
        "secret_commitment", f"{spec.keys[-1]}: covariance of commitments before the deciding step;"
        " 0 superposed, ¼ secretly committed", found[-1])  # fmt: skip


def _if_separable(summary: Summary, found: Sequence[Estimate]) -> list[Estimate]:
    """Estimates by layer, undefined where the hypotheses are not separable."""
    able = summary.curves["separable"]
    return [e if ok else undefined(NOT_SEPARABLE, n=e.n) for e, ok in zip(found, able, strict=True)]


def aligned(values: Any, decided: Any) -> Any:
    """Values (C, …, T) at lags 0 … 20 from each context's own step `decided` (C,); NaN beyond the
    walk."""
    blank = np.full((*values.shape[:-1], MAX_LAG + 1), np.nan)
    longer = np.concatenate([values, blank], -1)
    return np.stack([v[..., t : t + MAX_LAG + 1] for v, t in zip(longer, decided, strict=True)])


def add_after(spec: Spec, summary: Summary, values: Any, odds: Any, decided: Any) -> None:
    """Curve over lags, half-time, and the jump against the same words of a walk without switch."""
    switching = [k for k, q in enumerate(SWITCHES) if q is not None]
    switched, still = (
        np.mean([aligned(values[:, :, of(k)], decided[:, k]) for k in switching], 0)
        for of in (int, lambda k: SWITCHES.index(None))
    )  # fmt: skip
    jump = means(switched - still)
    told_odds = nanmean(np.stack([aligned(odds[:, k], decided[:, k]) for k in switching]))
    summary.curves["lags"] = {
        "commitment": curve(means(switched)), "jump": curve(jump), "log_odds": curve(means(told_odds)),
        "by_switch": [curve(means(values[:, :, k])) for k in range(len(SWITCHES))],
        "switch_at": [None if q is None else switch_at(spec.length, q) for q in SWITCHES],
    }  # fmt: skip
    found = _if_separable(summary, bootstrapped(
        spec, "half|{}", lambda i, rows: half_time(nanmean(switched[rows, i])), len(values),
        estimand="half-time of commitment (words)", reason=NOT_REACHED))  # fmt: skip
    summary.put("half_time", found)
    summary.put("jump", layer_curves(jump[:, 5]))
    summary.find(
        "half_time", f"{spec.keys[-1]}: words after the deciding step until commitment is halfway",
        found[-1])  # fmt: skip


def half_time(curve_: Any) -> float:
    """Words from before the deciding step until the mean is halfway to a hypothesis (¼); NaN if not.

    Lag 0 is the deciding step itself, the first word that tells, so it counts as one.
    """
    hit = np.flatnonzero(curve_ >= 0.25)
    if not len(hit):
        return float("nan")
    k = int(hit[0])
    if k == 0:
        return 1.0
    before, after = curve_[k - 1], curve_[k]
    return float(k + (0.25 - before) / (after - before))


# -- figures --------------------------------------------------------------------------------------


@plots.figure(7.2, 2.8, 1, 4, sharey=True)
def trajectories(outcome: Mapping[str, Any], axes: Any) -> str:
    """Commitment over the walk by switch point, best separable layer (the last one)."""
    found = outcome["curves"]["lags"]
    able = [i for i, ok in enumerate(outcome["curves"]["separable"]) if ok]
    for k, ax in enumerate(axes):
        at = found["switch_at"][k]
        plots.zero(ax)
        ax.axhline(0.5, color="#888888", linestyle=":", linewidth=0.8)
        if able:
            told = plots.cut(found["by_switch"][k], able[-1])
            plots.band(ax, range(len(told["mean"])), told, color=plots.PALETTE[k], marker="")
        if at is not None:
            ax.axvline(at, color="#444444", linestyle="--", linewidth=0.8)
        ax.set_title("never decided" if at is None else f"decided from {at}")
        ax.set_xlabel("word of the walk")
        ax.set_ylim(-0.6, 0.9)
    axes[0].set_ylabel("commitment to the truth")
    layer = f"layer {plots.layers(outcome)[able[-1]]}" if able else "no separable layer"
    return f"{layer}; ½ is a hypothesis fully held; dashed: the deciding step comes here or soon after. {plots.BAND}"


@plots.figure(7.0, 2.8, 1, 2, width_ratios=(1.3, 1))
def layer_by_lag(outcome: Mapping[str, Any], axes: Any) -> str:
    """Layer × lag: commitment after the deciding step, less the walks without one."""
    found = outcome["curves"]["lags"]
    labels = plots.layers(outcome)
    image = plots.heat(axes[0], found["jump"]["mean"], labels, range(MAX_LAG + 1), peak=0.6)
    axes[0].set_xlabel("words after the deciding step")
    axes[0].set_ylabel("layer")
    plots.bar(image, axes[0], "jump in commitment")
    plots.zero(axes[1])
    plots.band(axes[1], range(MAX_LAG + 1), found["log_odds"], color=plots.PALETTE[1])
    axes[1].set_xlabel("words after the deciding step")
    axes[1].set_ylabel("log-odds of the true graph")
    return (
        "Left: commitment − that of undecided walks at the same word"
        f" (grey: hypotheses not separable; colours end at ±.6). Right: predictions. {plots.BAND}"
    )  # fmt: skip
