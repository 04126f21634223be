"""What a trial says of its contexts: results by layer, findings, claims, diagnostics.

Invariant: every number in `results` carries its interval and n beside it; null values have a code in
`reasons`; a claim of structure rests on two paired differences that both exclude zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import inference
from peira.families.representations.fields import (
    GEOMETRY_NULLS,
    MASSES,
    Record,
    Values,
    structures_of,
    values,
)
from peira.families.representations.inference import Means, means, q_values, sensitivity
from peira.report.analysis import Finding
from peira.stats.result import Estimate

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

UNIT = "context"


@dataclass(eq=False)
class Summary:
    """`arrays`: name -> (axes, values) for contexts.npz; `curves`: what the figures draw."""

    results: dict[str, dict[str, Any]]
    findings: list[Finding] = field(default_factory=list)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, tuple[tuple[str, ...], Any]] = field(default_factory=dict)
    answer: str = ""

    def find(self, name: str, claim: str, estimate: Estimate, q: Any = None) -> None:
        """Add a finding over contexts."""
        self.findings.append(Finding(name, claim, estimate, unit=UNIT, q=plain(q)))


def plain(data: Any) -> Any:
    """Strict-JSON form: arrays to lists, NaN and infinities to None, numbers to seven digits."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, (list, tuple)):
        return [plain(item) for item in data]
    if isinstance(data, (np.floating, float)):
        return float(f"{float(data):.7g}") if math.isfinite(data) else None
    if isinstance(data, (np.integer, np.bool_)):
        return data.item()
    return data


def curve(found: Means, index: Any = ()) -> dict[str, Any]:
    """Means as drawn: mean, low, high, n."""
    return {name: plain(getattr(found, name)[index]) for name in ("mean", "low", "high", "n")}


def geometry_summary(spec: Spec, records: Sequence[Record], arm: str = "natural") -> Summary:
    """The common part of every experiment: §4's fields, nulls, claims and sensitivity of an arm."""
    arms = {name: spec_values(spec, records, name) for name in arms_of(records)}
    summary = Summary(results={key: {} for key in spec.keys})
    for name in arms[arm].geometry:
        _add_field(summary, spec, arms, arm, name)
    for name in MASSES:
        _add_mass(summary, spec, arms, arm, name)
    _add_sensitivity(summary, spec, records, arms[arm], arm)
    _add_claims(summary, spec, arms, arm)
    _add_population(summary, spec, records, arm)
    _add_mixing(summary, spec, records, arm)
    _add_diagnostics(summary, spec, records, arms[arm], arm)
    for name, found in arms.items():
        _add_arrays(summary, name, found)
    summary.answer = headline(spec, summary)
    return summary


def arms_of(records: Sequence[Record]) -> list[str]:
    """Arms with geometry, in the order they were recorded."""
    return [key.removesuffix("/gram") for key in records[0] if key.endswith("/gram")]


def spec_values(spec: Spec, records: Sequence[Record], arm: str) -> Values:
    """`fields.values` with the trial's graph, lengths and window."""
    return values(records, spec.structure, arm, spec.lengths, spec.window)


def _add_field(
    summary: Summary, spec: Spec, arms: Mapping[str, Values], arm: str, name: str
) -> None:
    found = means(arms[arm].geometry[name])
    others = {n: means(arms[n].geometry[name]) for n in ("shuffled", "untrained") if n in arms}
    for i, key in enumerate(spec.keys):
        cell = summary.results[key]
        cell |= _numbers(found, (i, -1), name)
        cell |= {f"{name}_{n}": plain(m.mean[i, -1]) for n, m in others.items()}
        by_length = cell.setdefault("by_length", {})
        for j, length in enumerate(spec.lengths):
            row = by_length.setdefault(str(length), {})
            row |= _numbers(found, (i, j), name)
            row |= {f"{name}_{n}": plain(m.mean[i, j]) for n, m in others.items()}
        if not np.isfinite(found.mean[i, -1]):
            summary.reasons[f"results.{key}.{name}"] = arms[arm].why(name)
    summary.curves.setdefault("geometry", {})[name] = {
        "null": GEOMETRY_NULLS.get(name, 1.0), arm: curve(found),
        **{n: curve(m) for n, m in others.items()},
    }  # fmt: skip


def _numbers(found: Means, index: Any, name: str) -> dict[str, Any]:
    interval = [plain(found.low[index]), plain(found.high[index])]
    return {
        name: plain(found.mean[index]), f"{name}_ci": None if None in interval else interval,
        f"{name}_n": int(found.n[index]),
    }  # fmt: skip


def _add_mass(
    summary: Summary, spec: Spec, arms: Mapping[str, Values], arm: str, name: str
) -> None:
    """Predictions are the model's, not a layer's: the same numbers stand under every layer."""
    found = means(arms[arm].predictions[name])
    for key in spec.keys:
        cell = summary.results[key]
        cell |= _numbers(found, -1, name)
        for j, length in enumerate(spec.lengths):
            cell["by_length"][str(length)] |= _numbers(found, j, name)
    summary.curves.setdefault("predictions", {})[name] = {
        n: curve(means(v.predictions[name])) for n, v in arms.items() if n in (arm, "shuffled")
    }  # fmt: skip


# -- sensitivity ----------------------------------------------------------------------------------


def losses_of(records: Sequence[Record], arm: str, length: int) -> Any:
    """(C, N): losses of an arm."""
    return np.stack([record[f"{arm}/losses"][:length] for record in records])


def potentials(found: Values, column: int = -1) -> dict[str, Any]:
    """Φ (C, L) at one length: more is more structured."""
    layers = found.geometry["dirichlet_energy"].shape[1]
    mass = found.predictions["neighbour_mass"][:, column]
    return {
        "separation": found.geometry["cluster_separation"][:, :, column],
        "structure": 1 - found.geometry["dirichlet_energy"][:, :, column],
        "mass": np.repeat(mass[:, None], layers, axis=1),
    }  # fmt: skip


def _add_sensitivity(
    summary: Summary, spec: Spec, records: Sequence[Record], found: Values, arm: str
) -> None:
    losses = losses_of(records, arm, spec.length)
    for kind, phi in potentials(found).items():
        suffix = "" if kind == "separation" else f"_{kind}"
        score = sensitivity(losses, phi)
        q = q_values(score.p)
        for i, key in enumerate(spec.keys):
            summary.results[key] |= {
                f"css_per_token{suffix}": plain(score.css[i]),
                f"css_per_token{suffix}_ci": plain(np.stack([score.low[i], score.high[i]], 1)),
                f"css_q{suffix}": plain(q[i]), f"css_r{suffix}": plain(score.r[i]),
                f"css_n{suffix}": plain(score.n[i]),
            }  # fmt: skip
            if not np.isfinite(score.css[i]).any():
                summary.reasons[f"results.{key}.css_per_token{suffix}"] = found.why(
                    "cluster_separation") if kind == "separation" else "zero_variance"  # fmt: skip
        summary.curves.setdefault("css", {})[kind] = {
            "css": plain(score.css), "low": plain(score.low), "high": plain(score.high),
            "q": plain(q),
        }  # fmt: skip
    partial = sensitivity(inference.partial_losses(losses), potentials(found)["separation"])
    for i, key in enumerate(spec.keys):
        summary.results[key]["css_partial"] = plain(partial.css[i])
    first = sensitivity(losses, potentials(found)["separation"])
    _sensitivity_finding(summary, spec, first, q_values(first.p))


def _sensitivity_finding(summary: Summary, spec: Spec, score: Any, q: Any) -> None:
    if not np.isfinite(q).any():
        return
    i, t = np.unravel_index(np.nanargmin(q), q.shape)
    low, high = score.r_low[i, t], score.r_high[i, t]
    flags = ("interval_unreliable",) if score.n[i, t] < inference.FEW else ()
    estimate = Estimate(
        float(score.r[i, t]), low, high, p=float(score.p[i, t]), n=int(score.n[i, t]),
        method="Pearson, Fisher z over contexts", estimand="correlation of −loss with separation",
        flags=flags, reason=None if np.isfinite(low) else "too_few_units",
    )  # fmt: skip
    found = int((q < 0.05).sum())
    summary.find(
        "css_strongest",
        f"low loss goes with separation most at word {t + 1}, {spec.keys[i]} (correlational;"
        f" {found} of {int(np.isfinite(q).sum())} cells at q < .05)",
        estimate, q=float(q[i, t]))  # fmt: skip


# -- claims ---------------------------------------------------------------------------------------


def paired_differences(arms: Mapping[str, Values], arm: str, against: str, name: str) -> Means:
    """Mean over contexts of arm − against for a geometry field (L, N)."""
    return means(arms[arm].geometry[name] - arms[against].geometry[name])


WORDING = {"shuffled": "order-dependent", "untrained": "unlike an untrained twin's"}


def claims(arms: Mapping[str, Values], arm: str = "natural") -> tuple[Any, str]:
    """(L, N) booleans: energy below that of every null at q < .05, and what may be said.

    The p of a cell is the largest over the nulls (all must hold), BH over layers × lengths.
    """
    nulls = [name for name in WORDING if name in arms]
    wording = "structure" if len(nulls) == 2 else WORDING[nulls[0]] if nulls else "none"
    differences = [paired_differences(arms, arm, name, "dirichlet_energy") for name in nulls]
    if not differences:
        return np.zeros(arms[arm].geometry["dirichlet_energy"].shape[1:], dtype=bool), wording
    p = np.max([np.where(d.mean < 0, d.p, 1.0) for d in differences], axis=0)
    below = np.all([d.high < 0 for d in differences], axis=0)
    q = q_values(p)
    return below & (np.nan_to_num(q, nan=1.0) < 0.05), wording


def _add_claims(summary: Summary, spec: Spec, arms: Mapping[str, Values], arm: str) -> None:
    claimed, wording = claims(arms, arm)
    for i, key in enumerate(spec.keys):
        summary.results[key]["claim"] = wording if claimed[i, -1] else None
        for j, length in enumerate(spec.lengths):
            cell = summary.results[key]["by_length"][str(length)]
            cell["claim"] = wording if claimed[i, j] else None
    summary.diagnostics["claims"] = {"wording": wording, "cells": int(claimed.sum()),
                                     "of": int(claimed.size)}  # fmt: skip
    for null in [name for name in WORDING if name in arms]:
        found = paired_differences(arms, arm, null, "dirichlet_energy")
        q = q_values(found.p)
        i = int(np.nanargmin(found.mean[:, -1])) if np.isfinite(found.mean[:, -1]).any() else 0
        about = {"reason": arms[arm].why("dirichlet_energy"), "estimand": f"R, {arm} − {null}"}
        summary.find(
            f"energy_minus_{null}",
            f"Dirichlet energy at N {spec.length}, {spec.keys[i]} (its best layer): {arm} − {null}",
            found.estimate((i, -1), **about),
            q=float(q[i, -1]) if np.isfinite(q[i, -1]) else None)  # fmt: skip


def add_half_lengths(spec: Spec, summary: Summary, found: Values, names: Mapping[str, str]) -> None:
    """N½ of geometry fields by layer, the last layer's as findings; `names` are field -> in words."""
    for i, key in enumerate(spec.keys):
        for name, words in names.items():
            estimate = inference.emergence(
                found.geometry[name][:, i], 1.0, spec.lengths, spec.rng(f"emergence|{key}|{name}"),
                f"N½ of {name}",
            )  # fmt: skip
            summary.results[key][f"emergence_{name}"] = plain(estimate.to_dict())
            if i == len(spec.keys) - 1:
                summary.find(f"emergence_{name}",
                             f"{key}: context length at which {words} is halfway", estimate)  # fmt: skip


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
    interval = "" if e.low is None else f" [{e.low:+.3f}, {e.high:+.3f}]"
    return (
        f"At N {spec.length} the geometry {verb} {what}"
        f" ({made['cells']} of {made['of']} layer × length cells): energy differs from {null}"
        f" by {e.estimate:+.3f}{interval} in its best layer, n = {e.n} contexts."
    )  # fmt: skip


# -- populations, mixing, diagnostics -------------------------------------------------------------


def _add_population(summary: Summary, spec: Spec, records: Sequence[Record], arm: str) -> None:
    """Mean geometry over fully covered contexts, its overlap with a bootstrap interval, its plane."""
    from peira.families.representations import metrics

    planes: dict[str, Any] = {}
    summary.curves |= {"population": planes, "graph": graph_data(spec)}
    if spec.settings.graphs == "per_context":  # nodes of different graphs have no common order
        return
    lap = spec.structure.laplacian()
    target = metrics.eigenspace(lap, 2)
    for i, key in enumerate(spec.keys):
        for name in [arm, *(n for n in ("shuffled", "untrained") if f"{n}/gram" in records[0])]:
            grams = whole_grams(records, name, i)
            mean = metrics.population(list(grams))
            if mean is None:
                summary.reasons[f"results.{key}.population_overlap_2"] = metrics.TOO_FEW_NODES
                continue
            planes.setdefault(key, {})[name] = plain(mean)
            if name == arm:
                _add_overlap(summary, spec, key, grams, target)


def whole_grams(records: Sequence[Record], arm: str, layer: int, column: int | None = None) -> Any:
    """S/tr S of the contexts that visited every node (C', n, n): at one length, or, without a
    `column`, over the wide span at the longest."""

    def of(record: Record) -> tuple[Any, Any]:
        if column is None:
            return record[f"{arm}/wide"][layer], record[f"{arm}/wide_visits"]
        return record[f"{arm}/gram"][layer, column], record[f"{arm}/visits"][column]

    found = [(*of(r), bool(r[f"{arm}/finite"][layer])) for r in records]
    kept = [gram.astype(float) for gram, seen, finite in found if finite and (seen > 0).all()]
    kept = [g / np.trace(g) for g in kept if np.trace(g) > 0]
    return np.array(kept) if kept else np.zeros((0, 1, 1))


def _add_overlap(summary: Summary, spec: Spec, key: str, grams: Any, target: Any) -> None:
    from peira.families.representations import metrics

    if target is None:
        summary.reasons[f"results.{key}.population_overlap_2"] = "degenerate_eigenspace"
        return
    rng = spec.rng(f"population|{key}")

    def statistic(rows: Any) -> float:
        return float(metrics.overlap_with(target, grams[rows].mean(0)))

    found = inference.estimate_by_bootstrap(statistic, len(grams), rng, estimand="overlap")
    energies = metrics.relabelled_energies(
        metrics.Geometry(metrics.centred(grams.mean(0)), spec.structure.adjacency), 9_999, rng
    )
    own = float(metrics.energy_ratio(spec.structure.laplacian(), metrics.centred(grams.mean(0))))
    summary.results[key] |= {
        "population_overlap_2": plain(found.estimate),
        "population_overlap_2_ci": None if found.low is None else plain([found.low, found.high]),
        "population_overlap_2_n": found.n, "population_energy": plain(own),
        "population_energy_p": plain((1 + int((energies <= own + 1e-10).sum())) / 10_000),
    }  # fmt: skip


def graph_data(spec: Spec) -> dict[str, Any]:
    """The graph as figures draw it."""
    s = spec.structure
    return {
        "name": s.name, "adjacency": plain(s.adjacency), "clusters": plain(s.clusters),
        "layout": None if s.layout is None else plain(s.layout),
    }  # fmt: skip


def _add_mixing(summary: Summary, spec: Spec, records: Sequence[Record], arm: str) -> None:
    """R that one round of previous-token mixing of random vectors gives on these very walks."""
    from peira.families.representations import metrics

    n, found = spec.structure.num_nodes, {"same": [], "orth": []}  # type: ignore[var-annotated]
    for record, structure in zip(records, structures_of(records, spec.structure), strict=True):
        nodes = record[f"{arm}/nodes"]
        seen = np.flatnonzero(np.bincount(nodes[nodes >= 0], minlength=n))
        law = metrics.predecessor_law([int(x) for x in nodes], n)[np.ix_(seen, seen)]
        for kind, column in found.items():
            value = metrics.mixing(law, structure.adjacency[np.ix_(seen, seen)], kind).value
            column.append(np.nan if value is None else value)
    for kind, column in found.items():
        average = means(np.array(column))
        for key in spec.keys:
            summary.results[key] |= _numbers(average, (), f"mixing_{kind}")
        summary.curves.setdefault("mixing", {})[kind] = plain(average.mean)


def _add_diagnostics(
    summary: Summary, spec: Spec, records: Sequence[Record], found: Values, arm: str
) -> None:
    from peira.families.representations import metrics

    bare = np.stack([r[f"{arm}/bare"] for r in records]).astype(float)
    seen = np.stack([r[f"{arm}/visits"][-1] > 0 for r in records])
    energies = np.array([
        metrics.energy_ratio(metrics.laplacian(graph.adjacency[np.ix_(s, s)]),
                             metrics.centred(g[:, s][:, :, s])) if s.sum() > 3 else
        np.full(len(spec.keys), np.nan)
        for g, s, graph in zip(bare, seen, structures_of(records, spec.structure), strict=True)
    ])  # fmt: skip
    sinks = [tuple(map(float, s)) for r in records for s in r[f"{arm}/sinks"]]
    broken = (~np.stack([r[f"{arm}/finite"].astype(bool) for r in records])).sum(0)
    summary.diagnostics |= {
        "coverage": plain(found.coverage.mean(0)), "contexts": len(records),
        "nonfinite_contexts": dict(zip(spec.keys, broken.tolist(), strict=True)),
        "sinks": {"count": len(sinks), "positions": sorted({int(t) for t, _ in sinks})[:50]},
        "dirichlet_energy_without_sinks": plain(inference.nanmean(energies)),
        "reasons": {name: dict(codes) for name, codes in found.reasons.items()},
    }  # fmt: skip
    if broken.any() and spec.settings.dtype == "float16":
        summary.diagnostics["remedy"] = "--dtype bfloat16"


def _add_arrays(summary: Summary, arm: str, found: Values) -> None:
    for name, array in found.geometry.items():
        summary.arrays[f"{arm}.{name}"] = (("context", "layer", "length"), array)
    for name, array in found.predictions.items():
        summary.arrays[f"{arm}.{name}"] = (("context", "length"), array)
