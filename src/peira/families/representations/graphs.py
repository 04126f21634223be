"""Hidden graphs: how they are drawn, and the one face they all have.

Invariant: a graph is plain data (adjacency, step weights, clusters, nested levels) behind the
face of `HierarchicalGraph`; the words on its nodes are drawn by whoever uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from peira.errors import InputError
from peira.families.representations.metrics import laplacian
from peira.families.representations.walks import Walk, step_law, walk_nodes
from peira.families.representations.words import ORDERED_GROUPS, groups, need
from peira.families.representations.words import vocabulary as vocabulary_of
from peira.study.seeds import generator

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Structure:
    """A graph as data. `levels` are nested cluster labels, coarse to fine; `layout` is (n, 2)."""

    name: str
    adjacency: Floats
    weights: Floats  # of a step; zero where there is no edge
    levels: tuple[Ints, ...]
    layout: Floats | None = None
    walk: Walk = field(default_factory=Walk)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        return len(self.adjacency)

    @property
    def clusters(self) -> Ints:
        """The coarsest labels."""
        return self.levels[0]

    def laplacian(self) -> Floats:
        return laplacian(self.adjacency)

    def steps(self, walk: Walk | None = None) -> Floats:
        """Transition probabilities (n, n) of a walk on this graph."""
        return step_law(self.adjacency, self.weights, walk or self.walk)


class WordGraph:
    """A graph with a word on each node: walks come out as text."""

    def __init__(
        self,
        structure: Structure,
        vocabulary: Sequence[str] | None = None,
        seed: int | None = None,
        walk_length: int = 50,
    ) -> None:
        self.structure = structure
        self.walk_length = walk_length
        self.rng = np.random.default_rng(seed)
        pool = vocabulary_of("words", None).nouns() if vocabulary is None else vocabulary
        need(len(pool), structure.num_nodes, "the vocabulary given")
        chosen = [pool[i] for i in self.rng.permutation(len(pool))[: structure.num_nodes]]
        self._write(chosen)

    def _write(self, words: Sequence[str]) -> None:
        """One word on each node."""
        self.node_to_token: dict[int, str] = dict(enumerate(words))
        self.token_to_node: dict[str, int] = {word: i for i, word in enumerate(words)}

    @property
    def adj_matrix(self) -> Floats:
        return self.structure.adjacency

    @property
    def cluster_assignments(self) -> Ints:
        return self.structure.clusters

    @property
    def num_nodes(self) -> int:
        return self.structure.num_nodes

    def get_neighbors(self, node: int) -> list[int]:
        """Nodes one edge away."""
        return [int(i) for i in np.flatnonzero(self.adj_matrix[node] > 0)]

    def get_cluster(self, node: int) -> int:
        """The cluster of a node."""
        return int(self.cluster_assignments[node])

    def generate_random_walk(
        self, length: int | None = None, start_node: int | None = None, return_nodes: bool = False
    ) -> Any:
        """One walk as words separated by spaces; with `return_nodes`, (text, its nodes)."""
        size = length or self.walk_length
        nodes = walk_nodes(self.structure.steps(), size, self.rng, start_node)
        text = " ".join(self.node_to_token[node] for node in nodes)
        return (text, nodes) if return_nodes else text

    def generate_batch(self, batch_size: int, length: int | None = None) -> list[dict[str, Any]]:
        """Independent walks, each {"prompt": text, "nodes": [...], "clusters": [...]}."""
        walks = [self.generate_random_walk(length, return_nodes=True) for _ in range(batch_size)]
        return [
            {"prompt": text, "nodes": nodes, "clusters": [self.get_cluster(n) for n in nodes]}
            for text, nodes in walks
        ]


@dataclass(frozen=True)
class HierarchicalGraphConfig:
    """A stochastic block model: clusters of nodes, dense within, sparse between."""

    num_superclusters: int = 3
    nodes_per_cluster: int = 5
    p_intra_cluster: float = 0.8
    p_inter_cluster: float = 0.1
    walk_length: int = 50
    bridge_penalty: float = 0.3  # weight of a step across clusters; 1 within
    vocabulary: tuple[str, ...] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.num_superclusters < 1 or self.nodes_per_cluster < 1:
            raise InputError("HierarchicalGraphConfig: clusters and nodes must be at least 1")
        for name in ("p_intra_cluster", "p_inter_cluster", "bridge_penalty"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"HierarchicalGraphConfig.{name}: {getattr(self, name)}\n"
                                 "  allowed: 0 to 1")  # fmt: skip


class HierarchicalGraph(WordGraph):
    """`HierarchicalGraphConfig` drawn: the guide's graph."""

    def __init__(self, config: HierarchicalGraphConfig | None = None) -> None:
        self.config = config or HierarchicalGraphConfig()
        structure = blocks(self.config, np.random.default_rng(self.config.seed))
        super().__init__(
            structure, self.config.vocabulary, self.config.seed, self.config.walk_length
        )


class DeepHierarchicalGraph(WordGraph):
    """A tree of clusters; the last branching factor is the number of nodes per leaf cluster."""

    def __init__(self, branching: Sequence[int] = (2, 2, 4), seed: int | None = None) -> None:
        super().__init__(deep(branching, np.random.default_rng(seed)), seed=seed, walk_length=100)


class SemanticConflictGraph(WordGraph):
    """Twelve words whose graph clusters cut across their meanings."""

    def __init__(self, seed: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        structure = conflict(rng)
        super().__init__(structure, seed=seed)
        self._write(conflict_words(structure, groups(), rng))


class DualInterpretationGraph(WordGraph):
    """Two graphs over the same words; `structure.extra` holds both and their shared edges."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(dual(np.random.default_rng(seed)), seed=seed, walk_length=100)


# -- constructions ---------------------------------------------------------------------------


def _random_edges(probability: Floats, rng: np.random.Generator) -> Floats:
    n = len(probability)
    upper = np.triu(rng.random((n, n)) < probability, 1)
    return (upper | upper.T).astype(float)


def components(adjacency: Floats) -> Ints:
    """Connected component of each node."""
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(adjacency > 0, directed=False)[1], dtype=np.int64)


def _joined(adjacency: Floats, rng: np.random.Generator) -> Floats:
    """Random links between components until the graph is connected."""
    out = adjacency.copy()
    while (part := components(out)).max() > 0:
        a = int(rng.choice(np.flatnonzero(part == 0)))
        b = int(rng.choice(np.flatnonzero(part == 1)))
        out[a, b] = out[b, a] = 1.0
    return out


def blocks(config: HierarchicalGraphConfig, rng: np.random.Generator) -> Structure:
    """`sbm`: edge probabilities by cluster, then random links until connected."""
    clusters = np.repeat(np.arange(config.num_superclusters), config.nodes_per_cluster)
    same = clusters[:, None] == clusters[None, :]
    edges = np.where(same, config.p_intra_cluster, config.p_inter_cluster)
    adjacency = _joined(_random_edges(edges, rng), rng)
    weights = adjacency * np.where(same, 1.0, config.bridge_penalty)
    return Structure("sbm", adjacency, weights, (clusters,))


def deep(branching: Sequence[int], rng: np.random.Generator) -> Structure:
    """`deep`: with h levels from leaf cluster to lowest common ancestor, edges .9·.3^h, steps .5^h.

    `levels` runs from the coarsest clusters to the nodes themselves.
    """
    if len(branching) < 2 or min(branching) < 1:
        raise InputError(f"branching: {tuple(branching)}\n  allowed: two or more factors >= 1")
    n = int(np.prod(branching))
    sizes = [int(np.prod(branching[level + 1 :])) for level in range(len(branching))]
    levels = tuple(np.arange(n) // size for size in sizes)
    shared = sum((lab[:, None] == lab[None, :]).astype(int) for lab in levels[:-1])
    h = len(branching) - 1 - shared
    adjacency = _joined(_random_edges(0.9 * 0.3**h, rng), rng)
    return Structure("deep", adjacency, adjacency * 0.5**h, levels)


def conflict(rng: np.random.Generator) -> Structure:
    """`conflict`: three clusters, each with one word of each of four semantic groups."""
    config = HierarchicalGraphConfig(3, 4, 0.8, 0.1, bridge_penalty=1.0)
    plain = blocks(config, rng)
    meaning = np.tile(np.arange(4), 3)
    return replace(plain, name="conflict", extra={"groups": meaning})


def conflict_words(
    structure: Structure, named: dict[str, tuple[str, ...]], rng: np.random.Generator
) -> list[str]:
    """Words for a conflict graph: node i takes a word of its semantic group."""
    able = [g for g, members in named.items() if len(members) >= 3 and g not in ORDERED_GROUPS]
    need(len(able), 4, "the vocabulary's semantic groups")
    chosen = [able[i] for i in rng.permutation(len(able))[:4]]
    picks = {g: list(rng.permutation(np.array(named[g]))) for g in chosen}
    return [str(picks[chosen[g]].pop()) for g in structure.extra["groups"]]


def dual(rng: np.random.Generator) -> Structure:
    """`dual`: two random 3-clusterings of 15 nodes, .8/.15.

    Redrawn until the shared edges connect at least 12 nodes and each graph has at least five
    edges of its own. The walk's adjacency is graph one; `extra` holds `second` and `shared`.
    """
    while True:
        parts = [rng.permutation(np.repeat(np.arange(3), 5)) for _ in range(2)]
        both = [
            _joined(_random_edges(np.where(p[:, None] == p[None, :], 0.8, 0.15), rng), rng)
            for p in parts
        ]
        shared = both[0] * both[1]
        largest = np.bincount(components(shared)).max()
        own = [(graph - shared).sum() / 2 for graph in both]
        if largest >= 12 and min(own) >= 5:
            break
    extra = {"second": both[1], "shared": shared, "second_clusters": parts[1]}
    return Structure("dual", both[0], both[0], (parts[0],), extra=extra)


def crossed(size: int = 4, stay: float = 0.9) -> tuple[Structure, Structure]:
    """Two partitions of size² words whose clusters share one node each (rows and columns).

    A step stays within its cluster with probability `stay`.
    """
    n = size * size
    out = []
    for name, labels in (("rows", np.arange(n) // size), ("columns", np.arange(n) % size)):
        same = (labels[:, None] == labels[None, :]) & ~np.eye(n, dtype=bool)
        other = labels[:, None] != labels[None, :]
        weights = same * stay / same.sum(1, keepdims=True)
        weights = weights + other * (1 - stay) / other.sum(1, keepdims=True)
        out.append(Structure(name, same.astype(float), weights, (labels,)))
    out[0].extra["second"] = out[1].adjacency
    return out[0], out[1]


def _from_edges(
    name: str, n: int, edges: Sequence[tuple[int, int]], layout: Floats | None, cut: Ints
) -> Structure:
    adjacency = np.zeros((n, n))
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1.0
    return Structure(name, adjacency, adjacency, (cut,), layout)


def ring(n: int) -> Structure:
    """`ring:n`; its clusters are two arcs."""
    angle = 2 * np.pi * np.arange(n) / n
    layout = np.stack([np.cos(angle), np.sin(angle)], 1)
    edges = [(i, (i + 1) % n) for i in range(n)]
    return _from_edges(f"ring:{n}", n, edges, layout, np.arange(n) * 2 // n)


def lattice_edges(rows: int, cols: int, honeycomb: bool) -> list[tuple[int, int]]:
    """Edges along the rows, then down the columns."""
    cells = [(r, c) for r in range(rows) for c in range(cols)]
    along = [(r * cols + c, r * cols + c + 1) for r, c in cells if c + 1 < cols]
    down = [(r * cols + c, (r + 1) * cols + c) for r, c in cells
            if r + 1 < rows and not (honeycomb and (r + c) % 2)]  # fmt: skip
    return along + down


def lattice(rows: int, cols: int, honeycomb: bool = False) -> Structure:
    """`grid:RxC`, or `hex:RxC` with (r,c)-(r+1,c) linked where r + c is even."""
    cells = [(r, c) for r in range(rows) for c in range(cols)]
    layout = np.array([(c, -r) for r, c in cells], dtype=float)
    cut = np.array([2 * (r * 2 // max(rows, 1)) + c * 2 // max(cols, 1) for r, c in cells])
    name, edges = "hex" if honeycomb else "grid", lattice_edges(rows, cols, honeycomb)
    quarters = np.unique(cut, return_inverse=True)[1]
    return _from_edges(f"{name}:{rows}x{cols}", rows * cols, edges, layout, quarters)


HEADERS = ("a", "from", "source", "node1")


def from_file(path: Path) -> Structure:
    """An edge list: one `a,b` (or `a,b,weight`) per line; a header line is skipped."""
    import csv

    if not path.is_file():
        raise InputError(f"--graph: {path}: no such file\n  allowed: {ALLOWED}")
    rows = [row for row in csv.reader(path.read_text("utf-8").splitlines()) if len(row) >= 2]
    if rows and (rows[0][0].strip().lower() in HEADERS or not all(map(_is_number, rows[0][2:3]))):
        rows = rows[1:]
    names = list(dict.fromkeys(cell.strip() for row in rows for cell in row[:2]))
    if len(names) < 2:
        raise InputError(f"--graph: {path}: no edges\n  allowed: lines of a,b or a,b,weight")
    adjacency, weights = (np.zeros((len(names), len(names))) for _ in range(2))
    for row in rows:
        a, b = (names.index(cell.strip()) for cell in row[:2])
        if len(row) > 2 and not (_is_number(row[2]) and 0 < float(row[2]) < np.inf):
            raise InputError(f"--graph: {path}: weight {row[2]!r} of {row[0]},{row[1]}\n"
                             "  allowed: lines of a,b or a,b,weight with a weight above 0")  # fmt: skip
        adjacency[a, b] = adjacency[b, a] = 1.0
        weights[a, b] = weights[b, a] = float(row[2]) if len(row) > 2 else 1.0
    np.fill_diagonal(adjacency, 0.0)
    cut = _spectral_halves(adjacency)
    return Structure(path.name, adjacency, weights * adjacency, (cut,))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _spectral_halves(adjacency: Floats) -> Ints:
    """Two clusters by the sign of the Fiedler vector, for graphs that come without clusters."""
    return np.asarray(np.linalg.eigh(laplacian(adjacency))[1][:, 1] > 0, dtype=np.int64)


ALLOWED = "sbm, deep, conflict, dual, ring:n, grid:RxC, hex:RxC, FILE.csv"


def draw(spec: str, seed: int, branching: Sequence[int] = (2, 2, 4)) -> Structure:
    """The graph a `--graph` value names, drawn from `seed`. InputError for an unknown one."""
    kind, sizes = _parsed(spec)
    rng = generator(seed, "graph", spec)
    drawn = {"sbm": lambda: blocks(HierarchicalGraphConfig(), rng), "deep": lambda: deep(branching, rng),
             "conflict": lambda: conflict(rng), "dual": lambda: dual(rng)}  # fmt: skip
    if kind in drawn and ":" not in spec:
        return drawn[kind]()
    if kind == "ring" and len(sizes) == 1 and sizes[0] >= 3:
        return ring(sizes[0])
    if kind in ("grid", "hex") and len(sizes) == 2 and min(sizes) >= 1 and max(sizes) >= 2:
        return lattice(sizes[0], sizes[1], kind == "hex")
    if spec.endswith(".csv"):
        return from_file(Path(spec))
    raise InputError(f"--graph: {spec}\n  allowed: {ALLOWED}")


def node_count(spec: str, branching: Sequence[int] = (2, 2, 4)) -> int:
    """Nodes of a `--graph` value, without holding an n × n matrix for absurd sizes."""
    kind, sizes = _parsed(spec)
    if (kind, len(sizes)) in (("ring", 1), ("grid", 2), ("hex", 2)):
        return math.prod(sizes)
    return draw(spec, 0, branching).num_nodes


def _parsed(spec: str) -> tuple[str, list[int]]:
    """`grid:4x4` as ("grid", [4, 4]); no sizes where there is anything but numbers."""
    kind, _, size = spec.partition(":")
    parts = size.split("x")
    return kind, [int(part) for part in parts] if all(part.isdigit() for part in parts) else []
