"""Walks: which node follows which.

Invariant: a walk depends on its generator alone; its first node is uniform unless given.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from peira.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float64]]
ALLOWED = "uniform, weighted, pairs, lazy:p with 0 <= p < 1"


@dataclass(frozen=True)
class Walk:
    """How a context is walked. `pairs` emits both ends of independent random edges."""

    kind: Literal["uniform", "weighted", "pairs", "lazy"] = "weighted"
    stay: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Walk:
        """From `--walk`; InputError for an unknown form."""
        kind, _, value = text.partition(":")
        if kind in ("uniform", "weighted", "pairs") and not value:
            return cls(kind)  # type: ignore[arg-type]
        try:
            stay = float(value)
        except ValueError:
            stay = -1.0
        if kind == "lazy" and 0 <= stay < 1:
            return cls("lazy", stay)
        raise InputError(f"--walk: {text}\n  allowed: {ALLOWED}")


def step_law(adjacency: Floats, weights: Floats, walk: Walk) -> Floats:
    """Transition probabilities (n, n). A node without edges may go anywhere."""
    base = adjacency if walk.kind == "uniform" else weights
    total = base.sum(1, keepdims=True)
    law = np.where(total > 0, base / np.where(total > 0, total, 1), 1 / len(base))
    return np.asarray(walk.stay * np.eye(len(law)) + (1 - walk.stay) * law)


def walk_nodes(
    law: Floats, length: int, rng: np.random.Generator, start: int | None = None
) -> list[int]:
    """Node indices of one walk of `length` under the transition law."""
    rows = [row.tolist() for row in np.cumsum(law, 1)]
    last = len(rows) - 1
    node = int(rng.integers(0, len(rows))) if start is None else start
    out = [node]
    for draw in rng.random(length - 1).tolist():
        node = min(bisect(rows[node], draw), last)
        out.append(node)
    return out


def pair_nodes(adjacency: Floats, length: int, rng: np.random.Generator) -> list[int]:
    """Both ends, in random order, of independent uniform edges."""
    edges = np.argwhere(np.triu(adjacency) > 0)
    picks = edges[rng.integers(0, len(edges), size=(length + 1) // 2)]
    flip = rng.random(len(picks)) < 0.5
    picks[flip] = picks[flip][:, ::-1]
    return [int(i) for i in picks.ravel()[:length]]


def draw_walk(
    adjacency: Floats, law: Floats, walk: Walk, length: int, rng: np.random.Generator
) -> list[int]:
    """A context's nodes, by the kind of walk."""
    if walk.kind == "pairs":
        return pair_nodes(adjacency, length, rng)
    return walk_nodes(law, length, rng)


def valid_share(nodes: ArrayLike, adjacency: Floats) -> float:
    """Share v of steps that follow an edge (or stay put)."""
    at = np.asarray(nodes)
    step = (adjacency[at[:-1], at[1:]] > 0) | (at[:-1] == at[1:])
    return float(step.mean()) if len(step) else 1.0
