"""superposition_collapse: is the model between two hypotheses before the deciding step?

Walk on edges both graphs share until q, then one edge only the true graph has, then the true graph.
Commitment of token x of word w: ⟨x − m_w, Δ_w⟩ with m_w the midpoint and Δ_w the difference of the
word's two reference means, from unambiguous walks in the same words, halves A and B exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.graphs import components
from peira.families.representations.inference import means
from peira.families.representations.reducers import NodeMeans, Vectors
from peira.families.representations.summary import Summary, curve, plain
from peira.families.representations.trial import forward
from peira.families.representations.walks import walk_nodes
from peira.stats.result import NOT_REACHED, undefined

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

    def measure(self, spec: Spec, drawn: list[Context]) -> list[dict[str, Any]]:
        records = super().measure(spec, drawn)
        for record, context in zip(records, drawn, strict=True):
            record |= commitments(spec, context)
        return records

    def extend(self, spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary) -> None:
        separable = add_separability(spec, summary, records)
        raw = np.stack([r["super/commitment"] for r in records])  # (C, L, q, T)
        product = np.stack([r["super/product"] for r in records])  # (C, L)
        scale = inference.nanmean(product)
        values = raw / np.where(separable, scale, np.nan)[None, :, None, None]
        odds = np.stack([r["super/log_odds"] for r in records])  # (C, q, T)
        add_before(spec, summary, values)
        add_after(spec, summary, values, odds)
        summary.arrays["superposition.commitment"] = (
            ("context", "layer", "switch", "token"),
            values,
        )
        summary.arrays["superposition.log_odds"] = (("context", "switch", "token"), odds)


experiment = SuperpositionCollapse


# -- one context ----------------------------------------------------------------------------------


def _law(graph: Any) -> Any:
    total = graph.sum(1, keepdims=True)
    return np.where(total > 0, graph / np.where(total > 0, total, 1), 1 / len(graph))


def references(spec: Spec, context: Context) -> list[Arm]:
    """Unambiguous walks, eight per hypothesis, in the context's own words."""
    arms = []
    for side, graph in enumerate(context.graphs):
        for k in range(REFERENCES):
            rng = context.rng(f"reference|{side}|{k}")
            nodes = walk_nodes(_law(graph), spec.length, rng)
            arms.append(context.arm(
                f"reference-{side}-{k}", nodes, truth=1.0 if side == 0 else -1.0, decided=0,
                graph_of=np.full(spec.length, side),
            ))  # fmt: skip
    return arms


def switches(spec: Spec, context: Context, index: int) -> list[Arm]:
    """One walk per switch point; the truth alternates between contexts."""
    truth = 1.0 if index % 2 == 0 else -1.0
    return [switch_walk(spec, context, q, truth) for q in SWITCHES]


def switch_walk(spec: Spec, context: Context, q: float | None, truth: float) -> Arm:
    """Shared edges until q, one edge only the true graph has, then the true graph."""
    shared, length = context.structure.extra["shared"], spec.length
    rng = context.rng(f"switch|{q}")
    own = context.graphs[0 if truth > 0 else 1]
    only = own - shared
    members = np.flatnonzero(components(shared) == np.bincount(components(shared)).argmax())
    start = int(rng.choice(members))
    name = f"switch-{q}"
    if q is None:
        nodes = walk_nodes(_law(shared), length, rng, start)
        return context.arm(name, nodes, truth=truth, decided=length, graph_of=np.zeros(length, int))
    ready = [n for n in members if only[n].any()]
    nodes = walk_nodes(_law(shared), round(length * q), rng, start)
    while nodes[-1] not in ready:
        nodes.append(walk_nodes(_law(shared), 2, rng, nodes[-1])[1])
    at = min(len(nodes), length - 1)
    nodes = nodes[:at]
    leap = int(rng.choice(np.flatnonzero(only[nodes[-1]])))
    nodes += walk_nodes(_law(own), length - at, rng, leap)
    side = np.where(np.arange(length) < at, 0, 0 if truth > 0 else 1)
    return context.arm(name, nodes, truth=truth, decided=at, graph_of=side)


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
    odds = np.stack([_log_odds(row["mass"], arm, context)
                     for arm, row in zip(walks, tests, strict=True)])  # fmt: skip
    decided = np.array([arm.decided for arm in walks])
    return {"super/commitment": out, "super/product": product, "super/log_odds": odds,
            "super/decided": decided}  # fmt: skip


def _halves(rows: Sequence[Mapping[str, Any]], name: str, size: int) -> Any:
    """Reference means (half, hypothesis, n, d), each over that half's walks; NaN where unvisited."""
    half = REFERENCES // 2
    out = []
    for part in range(2):
        sides = []
        for side in range(2):
            picked = rows[side * REFERENCES + part * half : side * REFERENCES + (part + 1) * half]
            counts = np.stack(
                [np.bincount(r["nodes"][r["nodes"] >= 0], minlength=size) for r in picked]
            )
            sums = np.stack([r["reduced"][name] for r in picked]) * counts[:, :, None]
            total = counts.sum(0)
            mean = sums.sum(0) / np.where(total > 0, total, 1)[:, None]
            sides.append(np.where((total > 0)[:, None], mean, np.nan))
        out.append(np.stack(sides))
    return np.stack(out)


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


def add_separability(spec: Spec, summary: Summary, records: Sequence[Mapping[str, Any]]) -> Any:
    """(L,): is the pooled ⟨Δᴬ, Δᴮ⟩ above zero?"""
    told = means(np.stack([r["super/product"] for r in records]))
    able = np.isfinite(told.low) & (told.low > 0)
    for i, key in enumerate(spec.keys):
        summary.results[key]["separability"] = curve(told, i)
        if not able[i]:
            summary.reasons[f"results.{key}.commitment_before"] = NOT_SEPARABLE
    summary.curves["separable"] = able.tolist()
    return able


def add_before(spec: Spec, summary: Summary, values: Any) -> None:
    """Mean before the deciding step, and covariance over contexts of odd and even positions."""
    never = values[:, :, SWITCHES.index(None), 10:]
    odd, even = (inference.nanmean(np.moveaxis(never[..., k::2], -1, 0)) for k in (1, 0))
    told = means(inference.nanmean(np.moveaxis(never, -1, 0)))
    for i, key in enumerate(spec.keys):
        rng = spec.rng(f"covariance|{key}")

        def statistic(rows: Any, i: int = i) -> float:
            a, b = odd[rows, i], even[rows, i]
            keep = np.isfinite(a) & np.isfinite(b)
            return float(np.cov(a[keep], b[keep])[0, 1]) if keep.sum() > 2 else float("nan")

        if summary.curves["separable"][i]:
            estimate = inference.estimate_by_bootstrap(
                statistic, len(values), rng, estimand="covariance of odd and even commitments"
            )
        else:
            estimate = undefined(NOT_SEPARABLE, n=len(values))
        summary.results[key] |= {
            "commitment_before": plain(told.mean[i]), "commitment_before_ci":
            plain([told.low[i], told.high[i]]), "commitment_covariance": plain(estimate.to_dict()),
        }  # fmt: skip
    summary.find(
        "secret_commitment", f"{spec.keys[-1]}: covariance of commitments before the deciding step;"
        " 0 superposed, ¼ secretly committed", estimate)  # fmt: skip


def aligned(values: Any, decided: int) -> Any:
    """Values (…, T) at lags 0 … 20 from the deciding step; NaN beyond the walk."""
    stop = min(decided + MAX_LAG + 1, values.shape[-1])
    out = np.full((*values.shape[:-1], MAX_LAG + 1), np.nan)
    out[..., : stop - decided] = values[..., decided:stop]
    return out


def add_after(spec: Spec, summary: Summary, values: Any, odds: Any) -> None:
    """Curve over lags, half-time, and the jump against the same lag without switch."""
    points = [round(spec.length * q) for q in SWITCHES if q is not None]
    switched = np.stack([aligned(values[:, :, k], p) for k, p in enumerate(points)]).mean(0)
    still = np.stack([aligned(values[:, :, -1], p) for p in points]).mean(0)
    told, jump = means(switched), means(switched - still)
    odds_told = means(
        inference.nanmean(np.stack([aligned(odds[:, k], p) for k, p in enumerate(points)]))
    )
    summary.curves["lags"] = {
        "commitment": curve(told), "jump": curve(jump), "log_odds": curve(odds_told),
        "by_switch": [curve(means(values[:, :, k])) for k in range(len(SWITCHES))],
        "switch_at": [None if q is None else round(spec.length * q) for q in SWITCHES],
    }  # fmt: skip
    for i, key in enumerate(spec.keys):
        if summary.curves["separable"][i]:
            estimate = inference.estimate_by_bootstrap(
                partial(_half_time_of, switched[:, i]),
                len(values), spec.rng(f"half|{key}"), estimand="half-time of commitment (words)",
            )  # fmt: skip
            if estimate.estimate is None:
                estimate = undefined(NOT_REACHED, n=len(values))
        else:
            estimate = undefined(NOT_SEPARABLE, n=len(values))
        summary.results[key] |= {
            "half_time": plain(estimate.to_dict()),
            "jump": curve(jump, (i, 5)),
        }
    summary.find(
        "half_time", f"{spec.keys[-1]}: words after the deciding step until commitment is halfway",
        estimate)  # fmt: skip


def _half_time_of(values: Any, rows: Any) -> float:
    return half_time(inference.nanmean(values[rows]))


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
            mean, low, high = (plots.numbers(found["by_switch"][k][x])[able[-1]]
                               for x in ("mean", "low", "high"))  # fmt: skip
            ax.plot(mean, color=plots.PALETTE[k], linewidth=1)
            ax.fill_between(
                range(len(mean)), low, high, alpha=0.2, color=plots.PALETTE[k], linewidth=0
            )
        if at is not None:
            ax.axvline(at, color="#444444", linestyle="--", linewidth=0.8)
        ax.set_title("never decided" if at is None else f"decided at {at}")
        ax.set_xlabel("word of the walk")
        ax.set_ylim(-0.6, 0.9)
    axes[0].set_ylabel("commitment to the truth")
    layer = f"layer {plots.layers(outcome)[able[-1]]}" if able else "no separable layer"
    return f"{layer}; ½ is a hypothesis fully held. {plots.BAND}"


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
