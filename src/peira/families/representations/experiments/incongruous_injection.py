"""incongruous_injection: is a wrong word washed out early and disruptive late?

Default `replace` at p: nothing moves. `insert` compares with a valid detour of one word. The token at
p is in no mean of any arm. Primary contrast: arm − congruous; also arm − base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import metrics, plots
from peira.families.representations.contexts import Arm, Context
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.experiments.loo import common_neighbour
from peira.families.representations.fields import RECENT, Record, stacked, token_masses
from peira.families.representations.graphs import Structure
from peira.families.representations.reducers import span
from peira.families.representations.summary import Summary, curve, plain
from peira.families.representations.variants import Variant, run_variants
from peira.families.representations.words import group_of
from peira.stats.columns import means, nanmean
from peira.stats.result import NOT_IDENTIFIED, NOT_REACHED

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

TYPES = ("wrong_cluster", "random_vocab", "semantic_outlier", "out_of_vocab")
ALL = ("base", "congruous", *TYPES)
EFFECTS = ("energy", "separation", "mass", "loss")
LAGS = (1, 2, 5, 10, 20)


class IncongruousInjection(Experiment):
    """Effect of one injected token by its kind, its position and the context length."""

    def more(self, spec: Spec, context: Context, record: Record) -> dict[str, Any]:
        return effects(spec, context)

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        at, found = positions(spec.lengths), stacked(records, "injection/")
        summary.curves["injection"] = {
            "positions": list(at), "types": list(TYPES), "lags": list(LAGS)
        }  # fmt: skip
        summary.put("injection", ({} for _ in spec.keys))
        for effect in EFFECTS:
            add_effect(spec, summary, effect, found[effect], at)
            axes = ("context", "type", "position", "layer", "length")
            summary.arrays[f"injection.{effect}"] = (axes, found[effect])
        add_recovery(spec, summary, found["lags"], found["own_loss"])


experiment = IncongruousInjection


def positions(lengths: Sequence[int]) -> tuple[int, ...]:
    """Positions injected at: early and late quarters of every length."""
    marks = {max(1, round(n * share)) for n in lengths for share in (0.125, 0.25, 0.75, 0.875)}
    return tuple(sorted(p for p in marks if p < max(lengths) - 1))


# -- one context ----------------------------------------------------------------------------------


def injected_ids(spec: Spec, context: Context, p: int) -> dict[str, int]:
    """The token each arm puts at p; an arm that is impossible here is left out."""
    nodes, rng = context.nodes, context.rng(f"inject|{p}")
    clusters = context.structure.clusters
    gap = 0 if spec.mode == "insert" else 1
    found = {"base": int(context.natural.ids[p])}
    other = common_neighbour(context, p, gap)
    if other is not None:
        found["congruous"] = int(context.node_ids[other])
    wrong = [n for n in range(len(clusters)) if clusters[n] != clusters[nodes[p]]
             and not context.graphs[0][nodes[p - 1], n]]  # fmt: skip
    if wrong:
        found["wrong_cluster"] = int(context.node_ids[int(rng.choice(wrong))])
    words = set(context.words)
    kinds = {group_of(w) for w in words}
    free = [w for w in spec.vocabulary.words if w not in words]
    outlier = [w for w in free if group_of(w) not in kinds]
    if free:
        found["random_vocab"] = spec.vocabulary.id_of(str(rng.choice(free)))
    if outlier:
        found["semantic_outlier"] = spec.vocabulary.id_of(str(rng.choice(outlier)))
    if spec.vocabulary.outside:
        found["out_of_vocab"] = int(rng.choice(spec.vocabulary.outside))
    return found


def arm_with(spec: Spec, context: Context, p: int, kind: str, token: int) -> Arm:
    """The natural arm with `token` at p (replaced or inserted), p in no mean."""
    ids, nodes = context.natural.ids.copy(), context.natural.node_of.copy()
    if spec.mode == "insert" and kind != "base":
        ids, nodes = np.insert(ids, p, token)[:-1], np.insert(nodes, p, -1)[:-1]
    else:
        ids[p], nodes[p] = token, -1
    return Arm(f"{kind}@{p}", ids, nodes)


def effects(spec: Spec, context: Context) -> dict[str, Any]:
    """Per effect an array (type incl. base and congruous, position, layer, length)."""
    at = positions(spec.lengths)
    made = {(k, p): Variant(arm_with(spec, context, p, k, token), p)
            for p in at for k, token in injected_ids(spec, context, p).items()}  # fmt: skip
    rows = dict(
        zip(made, run_variants(spec, context, list(made.values()), spec.moments), strict=True)
    )
    size = (len(ALL), len(at))
    out = {e: np.full((*size, len(spec.layers), len(spec.lengths)), np.nan) for e in EFFECTS}
    out |= {"lags": np.full((*size, len(LAGS)), np.nan), "own_loss": np.full(size, np.nan)}
    for (kind, p), row in rows.items():
        where, losses = (ALL.index(kind), at.index(p)), row["losses"]
        out["own_loss"][where] = losses[p]
        reached = [k for k, lag in enumerate(LAGS) if p + lag < len(losses)]
        out["lags"][where][reached] = [losses[p + LAGS[k]] for k in reached]
        for effect, values in cell(spec, context.structure, row, p).items():
            out[effect][where] = values
    return {f"injection/{name}": values for name, values in out.items()}


def cell(spec: Spec, structure: Structure, row: Mapping[str, Any], p: int) -> dict[str, Any]:
    """Effects (L, N) of one variant; NaN at lengths that do not reach beyond p."""
    nodes = row["nodes"]
    masses = token_masses(row["mass"].astype(float), nodes, structure, spec.walk)["neighbour_mass"]
    out = {e: np.full((len(spec.layers), len(spec.lengths)), np.nan) for e in EFFECTS}
    for j, n in enumerate(spec.lengths):
        if n <= p + 1:
            continue
        labels = nodes[slice(*span(n, spec.window))]
        grams = [row["reduced"][name]["gram"][j] for name in spec.names]
        g = metrics.geometry(grams, np.isin(np.arange(structure.num_nodes), labels), structure)
        if not g.bare:
            out["energy"][:, j] = metrics.ENERGY.formula(g)
            if len(np.unique(g.clusters)) > 1:
                out["separation"][:, j] = metrics.SEPARATION.formula(g)
        out["mass"][:, j] = nanmean(masses[p + 1 : n][-RECENT:])
        out["loss"][:, j] = nanmean(row["losses"][p + 1 : n].astype(float))
    return out


# -- over contexts --------------------------------------------------------------------------------


def contrasts(array: Any, against: str) -> Any:
    """(C, type, …): arm − `against` for the four incongruous kinds."""
    return array[:, 2:] - array[:, ALL.index(against) : ALL.index(against) + 1]


def add_effect(spec: Spec, summary: Summary, effect: str, array: Any, at: Sequence[int]) -> None:
    """Contrasts by type, position and length; early − late at the longest N by layer."""
    for against in ("congruous", "base"):
        found = means(contrasts(array, against))
        summary.curves["injection"][f"{effect}_minus_{against}"] = curve(found)
    primary = contrasts(array, "congruous")[..., -1]
    early = nanmean(primary[:, :, [k for k, p in enumerate(at) if p <= spec.length / 4]], 2)
    late = nanmean(primary[:, :, [k for k, p in enumerate(at) if p >= 3 * spec.length / 4]], 2)
    told = {"early": means(early), "late": means(late), "early_minus_late": means(early - late)}
    summary.curves["injection"][f"{effect}_early_late"] = {n: curve(m) for n, m in told.items()}
    for i, results in enumerate(summary.results.values()):
        results["injection"][effect] = {
            kind: {name: curve(m[k, i]) for name, m in told.items()} for k, kind in enumerate(TYPES)
        }
    if effect in ("energy", "loss"):
        summary.find(
            f"{effect}_early_minus_late",
            f"{spec.keys[-1]}: effect of a word of the wrong cluster on {effect} (arm − congruous),"
            f" early (p ≤ N/4) − late (p ≥ 3N/4), N {spec.length}",
            told["early_minus_late"].estimate((TYPES.index("wrong_cluster"), -1), reason=NOT_IDENTIFIED,
                                              estimand=f"{effect}, early − late"))  # fmt: skip


def add_recovery(spec: Spec, summary: Summary, lags: Any, own: Any) -> None:
    """Loss of the injected token; excess loss by lag and its half-life."""
    excess = means(nanmean(contrasts(lags, "congruous"), 2))  # over positions
    half = {kind: _half_life(excess.mean[k]) for k, kind in enumerate(TYPES)}
    losses = dict(zip(ALL, plain(nanmean(nanmean(own, 2))), strict=True))
    summary.curves["injection"] |= {"excess_loss": curve(excess), "own_loss": losses}
    for results in summary.results.values():
        results["injection"] |= {"own_loss": losses, "half_life": half}
    for kind in [kind for kind, value in half.items() if value is None]:
        summary.reasons[f"injection.half_life.{kind}"] = NOT_REACHED


def _half_life(excess: Any) -> float | None:
    """Lag at which the excess has fallen to half of that at lag 1; None if it does not."""
    below = np.flatnonzero(excess <= excess[0] / 2)
    if not excess[0] > 0 or not len(below):
        return None
    k = int(below[0])
    part = (excess[k - 1] - excess[0] / 2) / (excess[k - 1] - excess[k])
    return float(LAGS[k - 1] + part * (LAGS[k] - LAGS[k - 1]))


# -- figures --------------------------------------------------------------------------------------


def _kinds(curve: Mapping[str, Any], *index: Any) -> dict[str, Any]:
    """A part of a curve for each kind of word, by its name."""
    return {kind.replace("_", " "): plots.cut(curve, (k, *index)) for k, kind in enumerate(TYPES)}


@plots.figure(7.0, 2.9, 1, 2)
def effect_by_position(outcome: Mapping[str, Any], axes: Any) -> str:
    """Effect on energy and loss by position, one line per kind, longest N, last layer."""
    found = outcome["curves"]["injection"]
    for ax, effect in zip(axes, ("energy", "loss"), strict=True):
        plots.zero(ax)
        curves = _kinds(found[f"{effect}_minus_congruous"], slice(None), -1, -1)
        plots.bands(ax, found["positions"], curves)
        ax.set_xlabel("position p of the injected word")
        ax.set_ylabel(f"effect on {'energy R' if effect == 'energy' else 'later loss (nats)'}")
    axes[0].legend()
    where = f"N = {outcome['lengths'][-1]}, {plots.last_layer(outcome)}"
    return f"Arm − congruous at {where}. {plots.BAND}"


@plots.figure(7.4, 2.7, 1, len(TYPES), sharey=True)
def effect_map(outcome: Mapping[str, Any], axes: Any) -> str:
    """p × N: effect of a word of the wrong cluster on energy."""
    found = outcome["curves"]["injection"]
    data = plots.numbers(found["energy_minus_congruous"]["mean"])[:, :, -1, :]
    peak = float(np.nanmax(np.abs(data))) if np.isfinite(data).any() else 1.0
    for k, (ax, kind) in enumerate(zip(axes, TYPES, strict=True)):
        image = plots.heat(ax, data[k], found["positions"], outcome["lengths"], peak=peak)
        ax.set_title(kind.replace("_", " "))
        ax.set_xlabel("N")
    axes[0].set_ylabel("position p")
    plots.bar(image, list(axes), "effect on R")
    return "Arm − congruous, last layer. Grey: p beyond N or no congruous word."


@plots.figure(7.4, 2.6, 1, len(TYPES), sharey=True)
def early_and_late(outcome: Mapping[str, Any], axes: Any) -> str:
    """Early and late effects on energy by layer."""
    found = outcome["curves"]["injection"]["energy_early_late"]
    for k, (ax, kind) in enumerate(zip(axes, TYPES, strict=True)):
        plots.zero(ax)
        parts = {part: plots.cut(found[part], k) for part in ("early", "late")}
        plots.bands(ax, plots.over_layers(ax, outcome), parts)
        ax.set_title(kind.replace("_", " "))
    axes[0].set_ylabel("effect on energy R")
    axes[0].legend()
    return (
        f"Early: p ≤ N/4; late: p ≥ 3N/4; N = {outcome['lengths'][-1]}; arm − congruous."
        f" {plots.BAND}"
    )


@plots.figure(4.8, 3.0)
def recovery(outcome: Mapping[str, Any], ax: Any) -> str:
    """Excess loss by lag after the injected word."""
    found = outcome["curves"]["injection"]
    plots.zero(ax)
    plots.bands(ax, found["lags"], _kinds(found["excess_loss"]))
    ax.set_xscale("log")
    ax.set_xticks(found["lags"], [str(x) for x in found["lags"]])
    ax.minorticks_off()
    ax.set_xlabel("words after the injected one")
    ax.set_ylabel("excess loss (nats)")
    ax.legend()
    return f"Arm − congruous, over positions. {plots.BAND}"
