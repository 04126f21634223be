"""From what reducers kept to named values: every metric per context, layer and length.

A record is what one context left: a flat dict of arrays, `<arm>/gram` (L, N, n, n), `<arm>/visits`
(N, n), `<arm>/finite` (L,), `<arm>/losses` (T,), `<arm>/mass` (T, n), `<arm>/nodes` (T,)….
Invariant: a value that is undefined is NaN, and `Values.reasons` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peira.families.representations import metrics
from peira.families.representations.graphs import Structure
from peira.families.representations.reducers import span
from peira.families.representations.walks import Walk, step_law
from peira.stats.result import DEGENERATE_EIGENSPACE

Record = Mapping[str, Any]
GEOMETRY_NULLS = {
    "dirichlet_energy": 1.0, "dirichlet_position": 0.0, "cluster_separation": 1.0,
    "within_energy": 1.0, "overlap_2": None, "effective_dimension": None,
    "dirichlet_energy_raw": None,
}  # fmt: skip
MASSES = ("neighbour_mass", "node_mass", "share", "kl", "back_mass", "loss")


@dataclass(eq=False)
class Values:
    """Values of one arm: geometry (C, L, N) by field, predictions (C, N) by field."""

    geometry: dict[str, Any]
    predictions: dict[str, Any]
    coverage: Any
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def at_end(self, name: str) -> Any:
        """(C, L): a geometry field at the longest N."""
        return self.geometry[name][:, :, -1]

    def why(self, name: str) -> str:
        """The commonest reason for which a field is undefined."""
        found = self.reasons.get(name)
        return found.most_common(1)[0][0] if found else "empty"


def structures_of(records: Sequence[Record], structure: Structure) -> list[Structure]:
    """The graph of each record: the trial's, or its own under `graphs: per_context`."""
    return [record.get("structure", structure) for record in records]


def values(
    records: Sequence[Record], structure: Structure, arm: str, lengths: Sequence[int],
    window: int | None,
) -> Values:  # fmt: skip
    """Every field of an arm over the records."""
    per = [_one(r, s, arm) for r, s in zip(records, structures_of(records, structure), strict=True)]
    reasons: dict[str, Counter[str]] = {}
    for _, why in per:
        for name, code in why:
            reasons.setdefault(name, Counter())[code] += 1
    names = per[0][0].keys()
    geometry = {name: np.stack([found[name] for found, _ in per]) for name in names}
    masses = [_masses(r, s, arm, lengths, window)
              for r, s in zip(records, structures_of(records, structure), strict=True)]  # fmt: skip
    predictions = {name: np.stack([m[name] for m in masses]) for name in MASSES}
    coverage = np.stack([(r[f"{arm}/visits"] > 0).mean(1) for r in records])
    return Values(geometry, predictions, coverage, reasons)


def field_names(structure: Structure) -> list[str]:
    """The geometry fields of a graph."""
    levels = [f"level_separation_{k}" for k in range(1, len(structure.levels) + 1)]
    return [*GEOMETRY_NULLS, *(levels if len(levels) > 1 else [])]


def _one(
    record: Record, structure: Structure, arm: str
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Fields (L, N) of one context, and why some are missing."""
    grams, visits = record[f"{arm}/gram"], record[f"{arm}/visits"]
    layers, lengths = grams.shape[:2]
    names = field_names(structure)
    out = {name: np.full((layers, lengths), np.nan) for name in names}
    why: list[tuple[str, str]] = []
    for j in range(lengths):
        seen = np.flatnonzero(visits[j] > 0)
        part = metrics.centred(grams[:, j][:, seen[:, None], seen].astype(float))
        found, missing = _cell(part, structure, seen)
        for name, column in found.items():
            out[name][:, j] = column
        why += missing
    bad = ~np.asarray(record[f"{arm}/finite"], dtype=bool)
    if bad.any():
        for name in names:
            out[name][bad] = np.nan
            why += [(name, metrics.NONFINITE)] * int(bad.sum() * lengths)
    return out, why


def _cell(
    grams: Any, structure: Structure, seen: Any
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Fields of Gram matrices (L, n, n) that share their visited nodes."""
    inside = structure.adjacency[np.ix_(seen, seen)]
    if len(seen) < metrics.MIN_NODES or inside.sum() == 0:
        return {}, [(name, metrics.TOO_FEW_NODES) for name in field_names(structure)]
    lap, total = metrics.laplacian(inside), metrics.traces(grams)
    live = total > 1e-12 * np.maximum(total.max(initial=0), 1e-300)
    energy = metrics.energy_ratio(lap, grams)
    with np.errstate(invalid="ignore", divide="ignore"):
        best = 1 - metrics.energy_bound(lap, grams)
        out = {
            "dirichlet_energy": energy,
            "dirichlet_energy_raw": np.einsum("ij,lij->l", lap, grams),
            "dirichlet_position": np.where(best > 1e-12, (1 - energy) / best, np.nan),
            "within_energy": metrics.within_ratio(inside, grams, structure.clusters[seen]),
            "effective_dimension": total**2 / (grams**2).sum((1, 2)),
        }
    why: list[tuple[str, str]] = []
    _add_separations(out, why, grams, structure, seen)
    target = metrics.eigenspace(lap, 2)
    if target is None:
        why.append(("overlap_2", DEGENERATE_EIGENSPACE))
    else:
        out["overlap_2"] = metrics.overlap_with(target, grams)
    return {name: np.where(live, column, np.nan) for name, column in out.items()}, why


def _add_separations(
    out: dict[str, Any], why: list[tuple[str, str]], grams: Any, structure: Structure, seen: Any
) -> None:
    clusters = structure.clusters[seen]
    if len(np.unique(clusters)) > 1:
        out["cluster_separation"] = metrics.separation_ratio(grams, clusters)
    else:
        why.append(("cluster_separation", metrics.ONE_CLUSTER))
    if len(structure.levels) < 2:
        return
    coarser = np.zeros(len(seen), dtype=np.int64)
    for level, labels in enumerate(structure.levels, start=1):
        finer, name = labels[seen], f"level_separation_{level}"
        kinds, before = len(np.unique(finer)), len(np.unique(coarser))
        if kinds == len(seen):
            why.append((name, metrics.SINGLETON_CLUSTERS))
        elif kinds == before:
            why.append((name, metrics.ONE_CLUSTER))
        else:
            out[name] = metrics.level_ratio(grams, finer, coarser)
        coarser = finer


# -- predictions ----------------------------------------------------------------------------------


def token_masses(mass: Any, nodes: Any, structure: Structure, walk: Walk) -> dict[str, Any]:
    """Per token (T,): what the prediction made there puts on the graph; NaN off the graph."""
    here = nodes >= 0
    at = np.where(here, nodes, 0)
    law = step_law(structure.adjacency, structure.weights, walk)[at]
    near = (mass * structure.adjacency[at]).sum(1)
    on_graph = mass.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(
            law > 0, law * np.log(np.where(law > 0, law, 1) / np.maximum(mass, 1e-12)), 0
        )
    back = np.full(len(nodes), np.nan)
    known = here[1:] & here[:-1]
    back[1:][known] = mass[1:][known, at[:-1][known]]
    blank = np.where(here, 1.0, np.nan)
    return {
        "neighbour_mass": near * blank, "node_mass": on_graph * blank,
        "share": near / np.maximum(on_graph, 1e-12) * blank, "kl": ratio.sum(1) * blank,
        "back_mass": back,
    }  # fmt: skip


def _masses(
    record: Record, structure: Structure, arm: str, lengths: Sequence[int], window: int | None
) -> dict[str, Any]:
    walk = structure.walk
    per = token_masses(record[f"{arm}/mass"], record[f"{arm}/nodes"], structure, walk)
    per["loss"] = record[f"{arm}/losses"]
    return {name: _spans(per[name], lengths, window) for name in MASSES}


def _spans(series: Any, lengths: Sequence[int], window: int | None) -> Any:
    """Mean of a series (T,) over each length's last 20 tokens (or the window, if shorter)."""
    out = np.full(len(lengths), np.nan)
    for j, length in enumerate(lengths):
        start, stop = span(min(length, len(series)), min(window or RECENT, RECENT))
        part = series[start:stop]
        part = part[np.isfinite(part)]
        out[j] = part.mean() if len(part) else np.nan
    return out


RECENT = 20  # tokens behind N that "mass at N" is averaged over
