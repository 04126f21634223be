"""What a trial says of its contexts: results by layer, findings, claims, diagnostics.

Invariant: every number in `results` carries its interval and n beside it; null values have a code in
`reasons`; a claim of structure rests on two paired differences that both exclude zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference, metrics
from peira.families.representations.fields import MASSES, Record, Values, values, with_structures
from peira.report.analysis import Finding
from peira.stats.columns import FEW, Means, means, nanmean, partial_losses, q_values, sensitivity
from peira.stats.permutation import monte_carlo_p
from peira.stats.result import (  # fmt: skip
    DEGENERATE_EIGENSPACE,
    INTERVAL_UNRELIABLE,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
)

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

RELABELLINGS = 9_999
LEAST = 8  # fully covered contexts behind a population geometry
NULLS = {
    "shuffled": "order-dependent",
    "untrained": "unlike an untrained twin's",
}  # what each allows to say


@dataclass(eq=False)
class Summary:
    """`results` by layer; `arrays`: name -> (axes, values) for contexts.npz; `curves`: what the
    figures draw."""

    results: dict[str, dict[str, Any]]
    findings: list[Finding] = field(default_factory=list)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, tuple[tuple[str, ...], Any]] = field(default_factory=dict)
    answer: str = ""
    arms: dict[str, Values] = field(default_factory=dict)  # all that was measured, by arm

    @property
    def natural(self) -> Values:
        """What was measured of the contexts as drawn."""
        return self.arms["natural"]

    def find(self, name: str, claim: str, estimate: Estimate, q: Any = None) -> None:
        """Add a finding over contexts."""
        self.findings.append(Finding(name, claim, estimate, unit="context", q=plain(q)))

    def put(self, name: str, by_layer: Iterable[Any]) -> None:
        """Something of each layer into its results."""
        for cell, value in zip(self.results.values(), by_layer, strict=True):
            cell[name] = plain(value)

    def put_means(self, name: str, found: Means) -> None:
        """Means (L,), with interval and n, into the results of each layer."""
        for i, cell in enumerate(self.results.values()):
            cell |= _numbers(name, found[i])

    def put_lengths(self, name: str, found: Means, lengths: Sequence[int]) -> None:
        """Means (L, N) into the results of each layer: at the longest N, and by length."""
        self.put_means(name, found[:, -1])
        for i, cell in enumerate(self.results.values()):
            rows = cell.setdefault("by_length", {})
            for j, length in enumerate(lengths):
                rows[str(length)] = rows.get(str(length), {}) | _numbers(name, found[i, j])

    def lacks(self, key: str, name: str, reason: str) -> None:
        """Why a layer has no value of that name."""
        self.reasons[f"results.{key}.{name}"] = reason


def plain(data: Any) -> Any:
    """Strict-JSON form: arrays to lists, NaN and infinities to None, numbers to seven digits;
    estimates and findings as mappings."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, (Estimate, Finding)):
        return plain(data.to_dict())
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, (list, tuple)):
        return [plain(item) for item in data]
    if isinstance(data, (np.floating, float)):
        return float(f"{float(data):.7g}") if math.isfinite(data) else None
    if isinstance(data, (np.integer, np.bool_)):
        return data.item()
    return data


def curve(found: Means) -> dict[str, Any]:
    """Means as drawn: mean, low, high, n."""
    return {name: plain(getattr(found, name)) for name in ("mean", "low", "high", "n")}


def layer_curves(found: Means) -> list[dict[str, Any]]:
    """`curve` of each layer."""
    return [curve(found[i]) for i in range(len(found.mean))]


def _numbers(name: str, found: Means) -> dict[str, Any]:
    interval = plain([found.low, found.high])
    return {name: plain(found.mean), f"{name}_ci": None if None in interval else interval,
            f"{name}_n": int(found.n)}  # fmt: skip


def geometry_summary(spec: Spec, records: Sequence[Record]) -> Summary:
    """The common part of every experiment: §4's fields, nulls, claims and sensitivity."""
    arms = {name: spec_values(spec, records, name) for name in arms_of(records)}
    summary = Summary(results={key: {} for key in spec.keys}, arms=arms)
    for name in summary.natural.geometry:
        _add_field(summary, spec, name)
    for name in MASSES:
        _add_mass(summary, spec, name)
    _add_sensitivity(summary, spec, losses_of(records, spec.length))
    _add_claims(summary, spec)
    _add_population(summary, spec, records)
    _add_mixing(summary, spec, records)
    _add_diagnostics(summary, spec, records)
    for arm, found in arms.items():
        for name, array in found.geometry.items():
            summary.arrays[f"{arm}.{name}"] = (("context", "layer", "length"), array)
        for name, array in found.predictions.items():
            summary.arrays[f"{arm}.{name}"] = (("context", "length"), array)
    summary.answer = headline(spec, summary)
    return summary


def arms_of(records: Sequence[Record]) -> list[str]:
    """Arms with geometry, in the order they were recorded."""
    return [key.removesuffix("/gram") for key in records[0] if key.endswith("/gram")]


def spec_values(spec: Spec, records: Sequence[Record], arm: str = "natural") -> Values:
    """`fields.values` with the trial's graph, lengths and window."""
    return values(records, spec.structure, arm, spec.lengths, spec.window)


def _add_field(summary: Summary, spec: Spec, name: str) -> None:
    arms = summary.arms
    found = {arm: means(arms[arm].geometry[name]) for arm in ("natural", *NULLS) if arm in arms}
    natural = found["natural"]
    summary.put_lengths(name, natural, spec.lengths)
    for i, (key, cell) in enumerate(summary.results.items()):
        for arm in [arm for arm in NULLS if arm in found]:
            mean = plain(found[arm].mean[i])
            cell[f"{name}_{arm}"] = mean[-1]
            for row, value in zip(cell["by_length"].values(), mean, strict=True):
                row[f"{name}_{arm}"] = value
        if not np.isfinite(natural.mean[i, -1]):
            summary.lacks(key, name, summary.natural.why(name))
    null = metrics.fields_of(len(spec.structure.levels))[name].null
    drawn = {"null": null, **{arm: curve(m) for arm, m in found.items()}}
    summary.curves.setdefault("geometry", {})[name] = drawn


def _add_mass(summary: Summary, spec: Spec, name: str) -> None:
    """Predictions are the model's, not a layer's: the same numbers stand under every layer."""
    found = {arm: means(of.predictions[name]) for arm, of in summary.arms.items()
             if arm in ("natural", "shuffled")}  # fmt: skip
    summary.put_lengths(name, found["natural"].repeated(len(spec.keys)), spec.lengths)
    drawn = {arm: curve(m) for arm, m in found.items()}
    summary.curves.setdefault("predictions", {})[name] = drawn


# -- sensitivity ----------------------------------------------------------------------------------


def losses_of(records: Sequence[Record], length: int) -> Any:
    """(C, N): losses of the natural arm."""
    return np.stack([record["natural/losses"][:length] for record in records])


def potentials(found: Values, column: int = -1) -> dict[str, Any]:
    """Φ (C, L) at one length: more is more structured."""
    layers = found.geometry["dirichlet_energy"].shape[1]
    mass = found.predictions["neighbour_mass"][:, column]
    return {
        "separation": found.geometry["cluster_separation"][:, :, column],
        "structure": 1 - found.geometry["dirichlet_energy"][:, :, column],
        "mass": np.repeat(mass[:, None], layers, axis=1),
    }  # fmt: skip


def _add_sensitivity(summary: Summary, spec: Spec, losses: Any) -> None:
    found = summary.natural
    drawn = summary.curves["css"] = {}
    for kind, phi in potentials(found).items():
        suffix, score = "" if kind == "separation" else f"_{kind}", sensitivity(losses, phi)
        q = q_values(score.p)
        summary.put(f"css_per_token{suffix}", score.css)
        summary.put(f"css_per_token{suffix}_ci", np.stack([score.low, score.high], -1))
        for name, by_layer in (("css_q", q), ("css_r", score.r), ("css_n", score.n)):
            summary.put(f"{name}{suffix}", by_layer)
        why = found.why("cluster_separation") if kind == "separation" else ZERO_VARIANCE
        for key, row in zip(spec.keys, score.css, strict=True):
            if not np.isfinite(row).any():
                summary.lacks(key, f"css_per_token{suffix}", why)
        drawn[kind] = plain({"css": score.css, "low": score.low, "high": score.high, "q": q})
        if kind == "separation":
            summary.put("css_partial", sensitivity(partial_losses(losses), phi).css)
            _sensitivity_finding(summary, spec, score, q)


def _sensitivity_finding(summary: Summary, spec: Spec, score: Any, q: Any) -> None:
    if not np.isfinite(q).any():
        return
    i, t = np.unravel_index(np.nanargmin(q), q.shape)
    best = score[i, t]
    estimate = Estimate(
        float(best.r), best.r_low, best.r_high, p=best.p, n=int(best.n),
        method="Pearson, Fisher z over contexts", estimand="correlation of −loss with separation",
        flags=(INTERVAL_UNRELIABLE,) if best.n < FEW else (),
        reason=None if np.isfinite(best.r_low) else TOO_FEW_UNITS,
    )  # fmt: skip
    summary.find(
        "css_strongest",
        f"low loss goes with separation most at word {t + 1}, {spec.keys[i]} (correlational;"
        f" {int((q < 0.05).sum())} of {int(np.isfinite(q).sum())} cells at q < .05)",
        estimate, q=q[i, t])  # fmt: skip


# -- claims ---------------------------------------------------------------------------------------


def _below(arms: Mapping[str, Values]) -> dict[str, Means]:
    """Mean over contexts of the energy's difference to each null (L, N)."""
    energy = {arm: found.geometry["dirichlet_energy"] for arm, found in arms.items()}
    return {null: means(energy["natural"] - energy[null]) for null in NULLS if null in arms}


def claims(arms: Mapping[str, Values]) -> tuple[Any, str]:
    """(L, N) booleans: energy below that of every null at q < .05, and what may be said.

    The p of a cell is the largest over the nulls (all must hold), BH over layers × lengths.
    """
    gaps = _below(arms)
    if not gaps:
        return np.zeros(arms["natural"].geometry["dirichlet_energy"].shape[1:], dtype=bool), "none"
    p = np.max([np.where(d.mean < 0, d.p, 1.0) for d in gaps.values()], axis=0)
    below = np.all([d.high < 0 for d in gaps.values()], axis=0)
    wording = "structure" if len(gaps) == 2 else NULLS[next(iter(gaps))]
    return below & (np.nan_to_num(q_values(p), nan=1.0) < 0.05), wording


def _add_claims(summary: Summary, spec: Spec) -> None:
    claimed, wording = claims(summary.arms)
    for cell, row in zip(summary.results.values(), claimed, strict=True):
        cell["claim"] = wording if row[-1] else None
        for by_length, holds in zip(cell["by_length"].values(), row, strict=True):
            by_length["claim"] = wording if holds else None
    told = {"wording": wording, "cells": int(claimed.sum()), "of": int(claimed.size)}
    summary.diagnostics["claims"] = told
    for null, gap in _below(summary.arms).items():
        last = gap.mean[:, -1]
        i = int(np.nanargmin(last)) if np.isfinite(last).any() else 0
        summary.find(
            f"energy_minus_{null}",
            f"Dirichlet energy at N {spec.length}, {spec.keys[i]} (its best layer): natural − {null}",
            gap.estimate((i, -1), reason=summary.natural.why("dirichlet_energy"),
                         estimand=f"R, natural − {null}"), q=q_values(gap.p)[i, -1])  # fmt: skip


def bootstrapped(
    spec: Spec, purpose: str, statistic: Callable[[int, Any], float], count: int, **about: Any
) -> list[Estimate]:
    """`inference.by_bootstrap` of `statistic(layer, contexts)` per layer; `purpose`, with the layer's
    key in its braces, names the random stream."""
    return [
        inference.by_bootstrap(partial(statistic, i), count, spec.rng(purpose.format(key)), **about)
        for i, key in enumerate(spec.keys)
    ]


def add_half_lengths(spec: Spec, summary: Summary, names: Mapping[str, str]) -> None:
    """N½ of geometry fields by layer, the last layer's as findings; `names` are field -> in words."""
    for name, words in names.items():
        told = [inference.emergence(summary.natural.geometry[name][:, i], 1.0, spec.lengths,
                                    spec.rng(f"emergence|{key}|{name}"), f"N½ of {name}")
                for i, key in enumerate(spec.keys)]  # fmt: skip
        summary.put(f"emergence_{name}", told)
        summary.find(f"emergence_{name}",
                     f"{spec.keys[-1]}: context length at which {words} is halfway", told[-1])  # fmt: skip


def headline(spec: Spec, summary: Summary) -> str:
    """The answer in one sentence, from the difference to the shuffled contexts."""
    found = next((f for f in summary.findings if f.name.startswith("energy_minus_")), None)
    if found is None:
        return f"{spec.entry.question} Without a null (--null) nothing is claimed of the geometry."
    if not found.estimate.defined:
        return f"{spec.entry.question} Nothing could be measured at N {spec.length}."
    e, made = found.estimate, summary.diagnostics["claims"]
    both = made["wording"] == "structure"
    what = "that of the graph, by both nulls" if both else made["wording"]
    verb = "is" if made["cells"] else "is not"
    null = "shuffled contexts" if "shuffled" in found.name else "the untrained twin"
    return (
        f"At N {spec.length} the geometry {verb} {what}"
        f" ({made['cells']} of {made['of']} layer × length cells): energy differs from {null}"
        f" by {e.estimate:+.3f} [{e.low:+.3f}, {e.high:+.3f}] in its best layer, n = {e.n} contexts."
    )  # fmt: skip


# -- populations, mixing, diagnostics -------------------------------------------------------------


def _add_population(summary: Summary, spec: Spec, records: Sequence[Record]) -> None:
    """Mean geometry over fully covered contexts, its overlap with a bootstrap interval, its plane."""
    s = spec.structure
    planes: dict[str, Any] = {}
    graph = {"name": s.name, "adjacency": s.adjacency, "clusters": s.clusters, "layout": s.layout}
    summary.curves |= {"population": planes, "graph": plain(graph)}
    if spec.settings.graphs == "per_context":  # nodes of different graphs have no common order
        return
    for i, key in enumerate(spec.keys):
        for name in [arm for arm in ("natural", *NULLS) if f"{arm}/gram" in records[0]]:
            grams = whole_grams(records, name, i)
            if len(grams) < LEAST:
                summary.lacks(key, "population_overlap_2", metrics.TOO_FEW_NODES)
                continue
            planes.setdefault(key, {})[name] = plain(grams.mean(0))
            if name == "natural":
                _add_overlap(summary, spec, key, grams)


def whole_grams(records: Sequence[Record], arm: str, layer: int, column: int | None = None) -> Any:
    """S/tr S of the contexts that visited every node (C', n, n): at one length, or, without a
    `column`, over the wide span at the longest."""
    kept = []
    for r in records:
        gram, seen = (
            (r[f"{arm}/wide"][layer], r[f"{arm}/wide_visits"]) if column is None
            else (r[f"{arm}/gram"][layer, column], r[f"{arm}/visits"][column])
        )  # fmt: skip
        if r[f"{arm}/finite"][layer] and (seen > 0).all() and np.trace(gram.astype(float)) > 0:
            kept.append(gram.astype(float) / np.trace(gram.astype(float)))
    return np.array(kept) if kept else np.zeros((0, 1, 1))


def _add_overlap(summary: Summary, spec: Spec, key: str, grams: Any) -> None:
    lap = spec.structure.laplacian()
    target = metrics.eigenspace(lap, 2)
    if target is None:
        summary.lacks(key, "population_overlap_2", DEGENERATE_EIGENSPACE)
        return
    rng = spec.rng(f"population|{key}")
    found = inference.by_bootstrap(
        lambda rows: float(metrics.overlap_with(target, grams[rows].mean(0))), len(grams), rng,
        estimand="overlap",
    )  # fmt: skip
    g = metrics.Geometry(metrics.centred(grams.mean(0)), spec.structure.adjacency)
    energies = metrics.relabelled_energies(g, RELABELLINGS, rng)
    own = float(metrics.energy_ratio(lap, g.gram))
    summary.results[key] |= plain({
        "population_overlap_2": found.estimate,
        "population_overlap_2_ci": None if found.low is None else [found.low, found.high],
        "population_overlap_2_n": found.n, "population_energy": own,
        "population_energy_p": monte_carlo_p(int((energies <= own + 1e-10).sum()), RELABELLINGS).p,
    })  # fmt: skip


def _add_mixing(summary: Summary, spec: Spec, records: Sequence[Record]) -> None:
    """R that one round of previous-token mixing of random vectors gives on these very walks."""
    found: dict[str, list[Any]] = {"same": [], "orth": []}
    for record, structure in with_structures(records, spec.structure):
        nodes, n = record["natural/nodes"], structure.num_nodes
        seen = np.flatnonzero(np.bincount(nodes[nodes >= 0], minlength=n))
        inside = np.ix_(seen, seen)
        law = metrics.predecessor_law([int(x) for x in nodes], n)[inside]
        for kind, column in found.items():
            column.append(metrics.mixing(law, structure.adjacency[inside], kind).value)
    for kind, column in found.items():
        average = means(np.array(column, dtype=float))
        summary.put_means(f"mixing_{kind}", average.repeated(len(spec.keys)))
        summary.curves.setdefault("mixing", {})[kind] = plain(average.mean)


def _add_diagnostics(summary: Summary, spec: Spec, records: Sequence[Record]) -> None:
    energies = np.full((len(records), len(spec.keys)), np.nan)
    for row, (record, structure) in zip(energies, with_structures(records, spec.structure), strict=True):  # fmt: skip
        g = metrics.geometry(record["natural/bare"], record["natural/visits"][-1] > 0, structure)
        if g.size >= metrics.MIN_NODES:
            row[:] = metrics.energy_ratio(g.laplacian(), g.gram)
    sinks = [tuple(map(float, s)) for r in records for s in r["natural/sinks"]]
    broken = (~np.stack([r["natural/finite"].astype(bool) for r in records])).sum(0)
    summary.diagnostics |= {
        "coverage": plain(summary.natural.coverage.mean(0)), "contexts": len(records),
        "nonfinite_contexts": dict(zip(spec.keys, broken.tolist(), strict=True)),
        "sinks": {"count": len(sinks), "positions": sorted({int(t) for t, _ in sinks})[:50]},
        "dirichlet_energy_without_sinks": plain(nanmean(energies)),
        "reasons": {name: dict(codes) for name, codes in summary.natural.reasons.items()},
    }  # fmt: skip
    if broken.any() and spec.settings.dtype == "float16":
        summary.diagnostics["remedy"] = "--dtype bfloat16"
