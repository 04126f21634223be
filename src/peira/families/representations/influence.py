"""Influence of single items: what a context's geometry owes to each.

Everything follows from squared distances between node means. Invariant: the contextual part compares
means that leave the item's own activation out on both sides; contextual + averaging = total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from peira.families.representations.graphs import Structure
from peira.stats.columns import nanmean

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which node pairs Φ compares: `cross` same group in different clusters; `within` same cluster
    of different groups; and the graph's edges. Each (n, n), symmetric, 0/1."""

    cross: Floats
    within: Floats
    edges: Floats

    @classmethod
    def of(cls, structure: Structure) -> Pairs:
        cluster = structure.clusters
        group = structure.extra.get("groups", np.arange(len(cluster)))
        same_cluster = cluster[:, None] == cluster[None, :]
        same_group = group[:, None] == group[None, :]
        off = ~np.eye(len(cluster), dtype=bool)
        if "groups" not in structure.extra:
            same_group = ~same_cluster  # graphs without meanings: across against within clusters
        cross, within = same_group & ~same_cluster & off, same_cluster & ~same_group & off
        return cls(cross.astype(float), within.astype(float), structure.adjacency)


def distances(grams: Floats) -> Floats:
    """Squared distances (…, n, n) from Gram matrices, centred or not."""
    own = np.diagonal(grams, axis1=-2, axis2=-1)
    return np.asarray(np.maximum(own[..., :, None] + own[..., None, :] - 2 * grams, 0.0))


def shape(squared: Floats, seen: Any, pairs: Pairs) -> dict[str, Floats]:
    """Φ and its kin (…) from squared distances (…, n, n) over the nodes `seen` (…, n).

    `ratio` = ln(mean distance across / within); `energy` = R; `cross`, `within` mean distances;
    `rms` the root mean squared distance. NaN where there is no such pair or fewer than 4 nodes.
    """
    seen = np.asarray(seen, dtype=float)
    valid = seen[..., :, None] * seen[..., None, :]
    root = np.sqrt(squared)
    count = seen.sum(-1)
    cross, within = (_mean(root, valid * kind) for kind in (pairs.cross, pairs.within))
    edges = valid * pairs.edges
    total = (squared * valid).sum((-2, -1)) / np.maximum(2 * count, 1)
    base = edges.sum((-2, -1)) / np.maximum(count - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = (squared * edges).sum((-2, -1)) / 2 / (base * total)
        ratio = np.log(cross / within)
        rms = np.sqrt((squared * valid).sum((-2, -1)) / np.maximum(count * (count - 1), 1))
        rms = np.where(rms > 0, rms, np.nan)
    few = (count < 4) | (base <= 0) | (total <= 0)
    return {"ratio": np.where(np.isfinite(ratio), ratio, np.nan),
            "energy": np.where(few, np.nan, energy), "cross": cross, "within": within, "rms": rms}  # fmt: skip


def _mean(values: Floats, weights: Floats) -> Floats:
    total = weights.sum((-2, -1))
    mean = (values * weights).sum((-2, -1)) / np.maximum(total, 1)
    return np.asarray(np.where(total > 0, mean, np.nan))


def without_own(h: Floats, nodes: Any, size: int) -> tuple[Floats, Floats, Any, Any]:
    """Distances of the full context (n, n), and with each token's activation in no mean (T, n, n);
    nodes seen in each. `h` (T, d) activations, `nodes` (T,) labels, −1 for none.

    The removal changes one node mean: m' = (k·m − h_p)/(k − 1), so no mean is formed again.
    """
    hot = (nodes[None, :] == np.arange(size)[:, None]).astype(float)
    counts = hot.sum(1)
    h = h - h[nodes >= 0].mean(0)
    means = hot @ h / np.maximum(counts, 1)[:, None]
    gram, mixed, own = means @ means.T, h @ means.T, (h * h).sum(1)
    grams = np.repeat(gram[None], len(h), 0)
    seen = np.repeat((counts > 0)[None], len(h), 0)
    for p in np.flatnonzero(nodes >= 0):
        node, k = int(nodes[p]), counts[nodes[p]]
        if k == 1:
            seen[p, node] = False
            continue
        row = (k * gram[node] - mixed[p]) / (k - 1)
        row[node] = (k**2 * gram[node, node] - 2 * k * mixed[p, node] + own[p]) / (k - 1) ** 2
        grams[p, node, :] = grams[p, :, node] = row
    return distances(gram), distances(grams), counts > 0, seen


def matched_difference(values: Floats, bridge: Any, reach: int = 3) -> Floats:
    """Mean over bridge positions of value − that of the nearest anchor at most `reach` away.

    `values` (…, T); `bridge` (T,), position 0 in neither. NaN without a pair.
    """
    at = np.arange(len(bridge))
    bridges, anchors = at[bridge & (at > 0)], at[~bridge & (at > 0)]
    if not len(bridges) or not len(anchors):
        return np.full(values.shape[:-1], np.nan)
    gap = np.abs(bridges[:, None] - anchors[None, :])
    nearest = gap.argmin(1)
    near = gap[np.arange(len(bridges)), nearest] <= reach
    if not near.any():
        return np.full(values.shape[:-1], np.nan)
    found = values[..., bridges[near]] - values[..., anchors[nearest[near]]]
    return nanmean(found, -1)
