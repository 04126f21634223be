"""From what reducers kept to named values: every metric per context, layer and length.

A record is what one context left: a flat dict of arrays, `<arm>/gram` (L, N, n, n), `<arm>/visits`
(N, n), `<arm>/finite` (L,), `<arm>/losses` (T,), `<arm>/mass` (T, n), `<arm>/nodes` (T,)….
Invariant: a value that is undefined is NaN, and `Values.reasons` says why.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from peira.families.representations import metrics
from peira.families.representations.graphs import Structure
from peira.families.representations.reducers import span
from peira.families.representations.walks import Walk, step_law

Record = Mapping[str, Any]
BLOCKS = "contexts/"  # beginning of the names of checkpoints that hold contexts
TOKENS = "tokens"  # checkpoint of what was forwarded before; TOKENS/n for the block n
MASSES = ("neighbour_mass", "node_mass", "share", "kl", "back_mass", "loss")
RECENT = 20  # tokens behind N that "mass at N" is averaged over


@dataclass(eq=False)
class Values:
    """Values of one arm: geometry (C, L, N) by field, predictions (C, N) by field."""

    geometry: dict[str, Any]
    predictions: dict[str, Any]
    coverage: Any
    reasons: dict[str, Counter[str]]

    def at_end(self, name: str) -> Any:
        """(C, L): a geometry field at the longest N."""
        return self.geometry[name][:, :, -1]

    def why(self, name: str) -> str:
        """The commonest reason for which a field is undefined."""
        found = self.reasons.get(name)
        return found.most_common(1)[0][0] if found else "empty"


def with_structures(
    records: Sequence[Record], structure: Structure
) -> Iterator[tuple[Record, Structure]]:
    """Each record with its graph: the trial's, or its own under `graphs: per_context`."""
    return ((record, record.get("structure", structure)) for record in records)


def stacked(records: Sequence[Record], prefix: str) -> dict[str, Any]:
    """Arrays (C, …) over the contexts of everything recorded under `prefix`, by the rest of its name."""
    names = [key for key in records[0] if key.startswith(prefix)]
    return {key.removeprefix(prefix): np.stack([r[key] for r in records]) for key in names}


def values(
    records: Sequence[Record], structure: Structure, arm: str, lengths: Sequence[int],
    window: int | None,
) -> Values:  # fmt: skip
    """Every field of an arm over the records."""
    reasons: dict[str, Counter[str]] = {}
    geometry, masses = [], []
    for record, own in with_structures(records, structure):
        geometry.append(_geometry(record, own, arm, reasons))
        masses.append(_masses(record, own, arm, lengths, window))
    coverage = np.stack([(r[f"{arm}/visits"] > 0).mean(1) for r in records])
    return Values(_together(geometry), _together(masses), coverage, reasons)


def _together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _geometry(
    record: Record, structure: Structure, arm: str, reasons: dict[str, Counter[str]]
) -> dict[str, Any]:
    """Fields (L, N) of one context; why some are missing is counted in `reasons`."""
    grams, visits = record[f"{arm}/gram"], record[f"{arm}/visits"]
    finite = np.asarray(record[f"{arm}/finite"], dtype=bool)
    known = metrics.fields_of(len(structure.levels))
    out = {name: np.full(grams.shape[:2], np.nan) for name in known}
    for j, seen in enumerate(visits > 0):
        g = metrics.geometry(grams[:, j], seen, structure)
        live = finite & (g.trace > 1e-12 * max(g.trace.max(initial=0), 1e-300))
        g = replace(g, gram=g.gram[live])
        for name, metric in known.items():
            code = metrics.TOO_FEW_NODES if g.bare else metric.fault(g)
            if code is None:
                out[name][live, j] = metric.formula(g)
                nothing = metric.otherwise if live.any() else metrics.NO_VARIANCE
                code = nothing if np.isnan(out[name][live, j]).all() else None
            if code and finite.any():
                reasons.setdefault(name, Counter())[code] += 1
    if lost := int((~finite).sum()) * len(visits):
        for name in known:
            reasons.setdefault(name, Counter())[metrics.NONFINITE] += lost
    return out


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
    """(N,): means over each length's last 20 tokens (or the window, if shorter)."""
    per = token_masses(record[f"{arm}/mass"], record[f"{arm}/nodes"], structure, structure.walk) | {
        "loss": record[f"{arm}/losses"]
    }
    return {name: recent_means(per[name], lengths, window) for name in MASSES}


def recent_means(series: Any, lengths: Sequence[int], window: int | None = None) -> Any:
    """Mean of a series (T,) over each length's last 20 tokens, or the window, if shorter; NaN where
    nothing is finite."""
    out = np.full(len(lengths), np.nan)
    for j, length in enumerate(lengths):
        start, stop = span(min(length, len(series)), min(window or RECENT, RECENT))
        part = series[start:stop]
        part = part[np.isfinite(part)]
        out[j] = part.mean() if len(part) else np.nan
    return out


# -- as bytes: what checkpoints hold, and new metrics are computed from ----------------------------


def pack(records: Mapping[int, Mapping[str, Any]]) -> bytes:
    """Records as one uncompressed npz; keys are `<context>|<name>`."""
    out = io.BytesIO()
    flat = {f"{i}|{name}": np.asarray(value) for i, record in records.items()
            for name, value in record.items() if name != "structure"}  # fmt: skip
    np.savez(out, allow_pickle=False, **flat)
    return out.getvalue()


def unpack(data: bytes) -> dict[int, dict[str, Any]]:
    """The inverse of `pack`."""
    found: dict[int, dict[str, Any]] = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for key in archive.files:
            index, _, name = key.partition("|")
            found.setdefault(int(index), {})[name] = archive[key]
    return found
