"""What the tiny model reads: walks on fresh graphs in fresh words, and a few departures.

Invariant: every sequence is drawn from its own generator state; no word has a fixed meaning
except in the small share that follows word groups and the rings of days and months.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from peira.families.representations.graphs import lattice_edges
from peira.families.representations.words import groups, tiny_words

Neighbours = list[list[int]]  # node -> nodes a step may go to, repeated by weight
PAD, BOS, FIRST = 0, 1, 2  # ids; words follow from FIRST in vocabulary order


@dataclass(frozen=True)
class Mixture:
    """Shares of sequences that depart from a plain walk, and how long walks stay."""

    switch: float = 0.06
    noise: float = 0.05
    groups: float = 0.03
    rings: float = 0.03
    noise_rate: float = 0.1
    stay: tuple[float, float] = (0.0, 0.0)  # the stay probability is drawn per sequence


def _undirected(size: int, edges: list[tuple[int, int]]) -> Neighbours:
    out: Neighbours = [[] for _ in range(size)]
    for a, b in edges:
        out[a].append(b)
        out[b].append(a)
    return out


def _ring(rng: np.random.Generator) -> Neighbours:
    n = int(rng.integers(4, 17))
    return _undirected(n, [(i, (i + 1) % n) for i in range(n)])


def _path(rng: np.random.Generator) -> Neighbours:
    n = int(rng.integers(4, 17))
    return _undirected(n, [(i, i + 1) for i in range(n - 1)])


def _tree(rng: np.random.Generator) -> Neighbours:
    n = int(rng.integers(4, 17))
    return _undirected(n, [(i, int(rng.integers(0, i))) for i in range(1, n)])


def _lattice(rng: np.random.Generator, honeycomb: bool) -> Neighbours:
    while True:
        rows, cols = int(rng.integers(2, 5)), int(rng.integers(2, 6))
        if rows * cols <= 16:
            break
    return _undirected(rows * cols, lattice_edges(rows, cols, honeycomb))


def _random(rng: np.random.Generator) -> Neighbours:
    n = int(rng.integers(5, 17))
    tree = {(int(rng.integers(0, i)), i) for i in range(1, n)}
    extra = rng.integers(0, n, size=(int(rng.integers(0, n + 1)), 2))
    more = {(int(min(a, b)), int(max(a, b))) for a, b in extra if a != b}
    return _undirected(n, sorted(tree | more))


def _blocks(rng: np.random.Generator) -> Neighbours:
    """Clusters joined by bridges; a step within its cluster weighs one to four times more."""
    clusters, size = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    size = min(size, 16 // clusters)
    n, weight = clusters * size, int(rng.integers(1, 5))
    within = [(i, j) for i in range(n) for j in range(i) if i // size == j // size]
    inside = [pair for pair in within if rng.random() < 0.8]
    inside += [(c * size + i, c * size + i + 1) for c in range(clusters) for i in range(size - 1)]
    across = [(i, j) for i in range(n) for j in range(i) if i // size != j // size]
    bridges = [pair for pair in across if rng.random() < 0.1]
    bridges += [(c * size - 1, c * size) for c in range(1, clusters)]
    unique = {(max(p), min(p)) for p in inside}
    return _undirected(n, sorted(unique) * weight + sorted({(max(p), min(p)) for p in bridges}))


SHAPES: tuple[tuple[Callable[[np.random.Generator], Neighbours], float], ...] = (
    (_ring, 0.2),
    (partial(_lattice, honeycomb=False), 0.22),
    (partial(_lattice, honeycomb=True), 0.2),
    (_blocks, 0.14),
    (_random, 0.12),
    (_tree, 0.06),
    (_path, 0.06),
)


def walk(graph: Neighbours, length: int, stay: float, rng: np.random.Generator) -> list[int]:
    """Node indices of one walk from a uniform start."""
    node = int(rng.integers(0, len(graph)))
    out = [node]
    moves, picks = (rng.random(length) >= stay).tolist(), rng.random(length).tolist()
    for t in range(1, length):
        if moves[t]:
            options = graph[node]
            node = options[int(picks[t] * len(options))]
        out.append(node)
    return out


def _draw_graph(rng: np.random.Generator) -> Neighbours:
    weights = np.array([w for _, w in SHAPES])
    return SHAPES[int(rng.choice(len(SHAPES), p=weights / weights.sum()))][0](rng)


def _stay(mixture: Mixture, rng: np.random.Generator) -> float:
    return float(rng.uniform(*mixture.stay))


def _plain(length: int, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    graph = _draw_graph(rng)
    words = FIRST + rng.permutation(len(tiny_words()))[: len(graph)]
    return words[walk(graph, length, _stay(mixture, rng), rng)]


def _switching(length: int, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    """Two graphs one after the other; half the time over the same words."""
    cut = int(rng.integers(length // 4, 3 * length // 4))
    first, second = _draw_graph(rng), _draw_graph(rng)
    words = FIRST + rng.permutation(len(tiny_words()))
    other = words[rng.permutation(len(second))] if rng.random() < 0.5 else words[16:]
    head = words[walk(first, cut, _stay(mixture, rng), rng)]
    return np.concatenate([head, other[walk(second, length - cut, 0.0, rng)]])


def _noisy(length: int, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    out = _plain(length, mixture, rng)
    hit = rng.random(length) < mixture.noise_rate * rng.random()
    out[hit] = FIRST + rng.integers(0, len(tiny_words()), size=int(hit.sum()))
    return out


def _grouped(length: int, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    """Words of one semantic group tend to follow each other (nine steps of ten)."""
    index = {word: i for i, word in enumerate(tiny_words())}
    nouns = [members for name, members in list(groups().items())[3:11]]
    chosen = [nouns[i] for i in rng.permutation(len(nouns))[: int(rng.integers(2, 5))]]
    few = [[FIRST + index[w] for w in rng.permutation(np.array(m))[:5]] for m in chosen]
    at, out = 0, []
    for _ in range(length):
        at = at if rng.random() < 0.9 else int(rng.integers(0, len(few)))
        out.append(few[at][int(rng.integers(0, len(few[at])))])
    return np.array(out)


def _calendar(length: int, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    """A walk on the ring of days, or of months, in calendar order."""
    start, size = (0, 7) if rng.random() < 0.5 else (7, 12)
    ring = _undirected(size, [(i, (i + 1) % size) for i in range(size)])
    return FIRST + start + np.array(walk(ring, length, _stay(mixture, rng), rng))


def batch(size: int, length: int, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    """Token ids (size, length + 1), the first column BOS."""
    makers = (_switching, _noisy, _grouped, _calendar, _plain)
    shares = np.array([mixture.switch, mixture.noise, mixture.groups, mixture.rings, 0.0])
    shares[-1] = 1 - shares.sum()
    picks = rng.choice(len(makers), size=size, p=shares)
    rows = [makers[i](length, mixture, rng) for i in picks]
    return np.concatenate([np.full((size, 1), BOS), np.stack(rows)], axis=1)
