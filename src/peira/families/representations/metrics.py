"""Geometry of node means against a graph: every metric with its structure-free value.

All follow from S = XXᵀ, the Gram matrix (n, n) of centred node means over the visited nodes, and
from the subgraph on them. Invariant: an undefined value is None with a reason code; equal data
give equal numbers whatever the order, rotation, translation or (normalised metrics) scale.
Sources: Park et al. 2024 (arXiv:2501.00070) for the Dirichlet energy, which sums ordered pairs and
so is twice `raw`; the lower bound is von Neumann's trace inequality; debiased CKA: Song et al. 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peira.stats.result import DEGENERATE_EIGENSPACE

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

TOO_FEW_NODES = "too_few_nodes"
ONE_CLUSTER = "one_cluster"
SINGLETON_CLUSTERS = "singleton_clusters"
NO_VARIANCE = "zero_variance"
NONFINITE = "nonfinite"
MIN_NODES = 4


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric on one geometry: value, its structure-free value, or why there is none."""

    value: float | None
    null: float | None = None
    reason: str | None = None
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Centred node means of the visited nodes as a Gram matrix, with the subgraph on them.

    `gram` (n, n); `adjacency` (n, n); `labels` coarse to fine, each (n,); `nodes` their original
    indices.
    """

    gram: Floats
    adjacency: Floats
    labels: tuple[Ints, ...] = ()
    nodes: Ints | None = None

    @property
    def size(self) -> int:
        return len(self.gram)

    @property
    def trace(self) -> float:
        return float(np.trace(self.gram))

    def laplacian(self) -> Floats:
        return laplacian(self.adjacency)

    def fault(self) -> str | None:
        """Why nothing can be measured against the graph here, if so."""
        return self.points_fault() or (TOO_FEW_NODES if self.adjacency.sum() == 0 else None)

    def points_fault(self) -> str | None:
        """Why nothing can be measured of the points alone, if so."""
        if not np.isfinite(self.gram).all():
            return NONFINITE
        if self.size < MIN_NODES:
            return TOO_FEW_NODES
        return NO_VARIANCE if self.trace <= 0 else None


def laplacian(adjacency: Floats) -> Floats:
    """D − A."""
    return np.asarray(np.diag(adjacency.sum(1)) - adjacency)


def centred(gram: Floats) -> Floats:
    """Gram matrices (..., n, n) after the mean row is taken away from the rows behind them."""
    rows = gram - gram.mean(-2, keepdims=True)
    return np.asarray(rows - rows.mean(-1, keepdims=True))


def geometry(
    gram: Floats, visits: Ints, adjacency: Floats, labels: Sequence[Ints] = ()
) -> Geometry:
    """The geometry over visited nodes of a full (n, n) Gram matrix."""
    seen = np.flatnonzero(np.asarray(visits) > 0)
    inside = np.ix_(seen, seen)
    return Geometry(
        centred(np.asarray(gram, float)[inside]), adjacency[inside],
        tuple(np.asarray(lab)[seen] for lab in labels), seen,
    )  # fmt: skip


def of_points(points: Any, adjacency: Any = None, labels: Sequence[Any] = ()) -> Geometry:
    """The geometry of node means given as rows (n, d)."""
    x = _matrix(points)
    x = x - x.mean(0)
    graph = np.zeros((len(x), len(x))) if adjacency is None else _matrix(adjacency)
    return Geometry(x @ x.T, graph, tuple(np.asarray(lab) for lab in labels))


def _matrix(data: Any) -> Floats:
    """Rows as float64, from numpy, lists or a torch tensor of any dtype."""
    if hasattr(data, "detach"):
        data = data.detach().to("cpu").float().numpy()
    return np.asarray(data, dtype=float)


# -- energies -----------------------------------------------------------------------------------


def dirichlet(g: Geometry) -> Measure:
    """R = tr(LS)/(e₀ tr S), e₀ = tr L/(n−1). Exactly 1 on average over relabellings."""
    fault = g.fault()
    if fault:
        return Measure(None, 1.0, fault)
    lap = g.laplacian()
    raw = float(np.sum(lap * g.gram))
    return Measure(float(energy_ratio(lap, g.gram)), 1.0, extra={"raw": raw})


def traces(grams: Floats) -> Floats:
    """tr S of Gram matrices (..., n, n)."""
    return np.asarray(np.trace(grams, axis1=-2, axis2=-1))


def energy_ratio(lap: Floats, grams: Floats) -> Floats:
    """R of Gram matrices (..., n, n) that share one Laplacian; NaN where nothing varies."""
    base = np.trace(lap) / (len(lap) - 1)
    total = traces(grams)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.einsum("ij,...ij->...", lap, grams) / (base * total))


def dirichlet_position(g: Geometry) -> Measure:
    """(1−R)/(1−B): 0 without structure, 1 at the least energy this spectrum allows."""
    energy = dirichlet(g)
    if energy.value is None:
        return Measure(None, 0.0, energy.reason)
    bound = float(energy_bound(g.laplacian(), g.gram))
    if 1 - bound < 1e-12:
        return Measure(None, 0.0, DEGENERATE_EIGENSPACE)
    return Measure((1 - energy.value) / (1 - bound), 0.0, extra={"bound": bound})


def energy_bound(lap: Floats, grams: Floats) -> Floats:
    """B: the least R that the spectra of Gram matrices (..., n, n) allow on this graph."""
    eigen = np.linalg.eigvalsh(lap)[1:]
    spectrum = np.clip(np.linalg.eigvalsh(grams)[..., ::-1][..., : len(eigen)], 0, None)
    base = np.trace(lap) / (len(lap) - 1)
    return np.asarray(spectrum @ eigen / (base * spectrum.sum(-1)))


def within_energy(g: Geometry) -> Measure:
    """The energy within clusters: Σ_c tr(L_c S_c)/Σ_c e₀_c tr S_c. Exactly 1 without structure."""
    fault = g.fault()
    if fault or not g.labels:
        return Measure(None, 1.0, fault or ONE_CLUSTER)
    value = float(within_ratio(g.adjacency, g.gram, g.labels[0]))
    return Measure(value, 1.0) if np.isfinite(value) else Measure(None, 1.0, TOO_FEW_NODES)


def within_ratio(adjacency: Floats, grams: Floats, labels: Ints) -> Floats:
    """`within_energy` of Gram matrices (..., n, n); NaN where no cluster has an edge."""
    top = bottom = np.zeros(grams.shape[:-2])
    for members in _members(labels):
        if len(members) < 2:
            continue
        inside = np.ix_(members, members)
        lap, gram = laplacian(adjacency[inside]), centred(grams[..., members[:, None], members])
        top = top + np.einsum("ij,...ij->...", lap, gram)
        bottom = bottom + np.trace(lap) / (len(members) - 1) * traces(gram)
    return np.asarray(np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan))


def _members(labels: Ints) -> list[Ints]:
    return [np.flatnonzero(labels == k) for k in np.unique(labels)]


# -- separations --------------------------------------------------------------------------------


def between(grams: Floats, labels: Ints) -> Floats:
    """SSB of centred points from their Gram matrices (..., n, n)."""
    parts = [grams[..., m[:, None], m].sum((-2, -1)) / len(m) for m in _members(labels)]
    return np.asarray(sum(parts))


def separation_ratio(grams: Floats, labels: Ints) -> Floats:
    """F of Gram matrices (..., n, n); NaN where nothing varies."""
    n, k = len(labels), len(np.unique(labels))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(between(grams, labels) / traces(grams) * (n - 1) / (k - 1))


def level_ratio(grams: Floats, finer: Ints, coarser: Ints) -> Floats:
    """Separation of `finer` clusters net of `coarser`, for Gram matrices (..., n, n)."""
    n, k_fine, k_coarse = len(finer), len(np.unique(finer)), len(np.unique(coarser))
    fine, coarse, total = between(grams, finer), between(grams, coarser), traces(grams)
    rest = (total - coarse) / (n - k_coarse)
    ratio = (fine - coarse) / (k_fine - k_coarse) / np.where(rest > 0, rest, 1)
    return np.asarray(np.where(rest > 1e-12 * total, ratio, np.nan))


def separation(g: Geometry, labels: Ints | None = None) -> Measure:
    """F = (SSB/SST)(n−1)/(K−1) of node means; 1 without structure, at most (n−1)/(K−1)."""
    blank = np.zeros(g.size, dtype=np.int64)
    lab = labels if labels is not None else (g.labels[0] if g.labels else blank)
    fault = g.points_fault()
    if fault in (None, NO_VARIANCE) and len(np.unique(lab)) < 2:
        fault = ONE_CLUSTER
    if fault:
        return Measure(None, 1.0, fault)
    return Measure(float(separation_ratio(g.gram, lab)), 1.0)


def level_separation(g: Geometry, level: int) -> Measure:
    """Separation of level `level` (1 = coarsest) net of the coarser levels; 1 without structure."""
    if not 1 <= level <= len(g.labels):
        raise ValueError(f"level must be 1..{len(g.labels)}; got {level}")
    fault = g.points_fault()
    if fault:
        return Measure(None, 1.0, fault)
    finer = g.labels[level - 1]
    coarser = g.labels[level - 2] if level > 1 else np.zeros(g.size, dtype=np.int64)
    k_fine, k_coarse = len(np.unique(finer)), len(np.unique(coarser))
    if k_fine == g.size:
        return Measure(None, 1.0, SINGLETON_CLUSTERS)
    if k_fine == k_coarse:
        return Measure(None, 1.0, ONE_CLUSTER)
    value = float(level_ratio(g.gram, finer, coarser))
    return Measure(value, 1.0) if np.isfinite(value) else Measure(None, 1.0, NO_VARIANCE)


# -- directions ---------------------------------------------------------------------------------


def overlap(g: Geometry, k: int = 2) -> Measure:
    """Mean cos² of the angles between the top k components and z₂…z_{k+1}; k/(n−1) by chance."""
    fault = g.fault()
    if fault or g.size < k + 2:
        return Measure(None, None, fault or TOO_FEW_NODES)
    null, target = k / (g.size - 1), eigenspace(g.laplacian(), k)
    if target is None:
        return Measure(None, null, DEGENERATE_EIGENSPACE)
    return Measure(float(overlap_with(target, g.gram)), null)


def eigenspace(lap: Floats, k: int) -> Floats | None:
    """z₂…z_{k+1} as columns, or None when λ_{k+1} = λ_{k+2} leaves them undefined."""
    values, vectors = np.linalg.eigh(lap)
    if len(values) < k + 2 or values[k + 1] - values[k] < 1e-9 * max(values[-1], 1.0):
        return None
    return np.asarray(vectors[:, 1 : k + 1])


def overlap_with(target: Floats, grams: Floats) -> Floats:
    """Overlap of the top components of Gram matrices (..., n, n) with orthonormal columns."""
    k = target.shape[1]
    top = np.linalg.eigh(grams)[1][..., -k:]
    return np.asarray(np.sum((np.swapaxes(top, -1, -2) @ target) ** 2, axis=(-2, -1)) / k)


def plane_cosines(g: Geometry, k: int = 2) -> list[float]:
    """Cosines of the principal angles between the top k components and z₂…z_{k+1}."""
    vectors = np.linalg.eigh(g.laplacian())[1][:, 1 : k + 1]
    top = np.linalg.eigh(g.gram)[1][:, ::-1][:, :k]
    return [float(c) for c in np.linalg.svd(top.T @ vectors, compute_uv=False)]


def effective_dimension(g: Geometry) -> Measure:
    """(tr S)²/tr S²: how many directions share the variance."""
    if not np.isfinite(g.gram).all():
        return Measure(None, None, NONFINITE)
    if g.size < 2 or g.trace <= 0:
        return Measure(None, None, NO_VARIANCE if g.size >= 2 else TOO_FEW_NODES)
    return Measure(g.trace**2 / float(np.sum(g.gram**2)))


def cka(first: Floats, second: Floats) -> Measure:
    """Debiased linear CKA of two Gram matrices over the same units (U-statistic HSIC)."""
    n = len(first)
    if n < MIN_NODES:
        return Measure(None, 0.0, TOO_FEW_NODES)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Measure(None, 0.0, NONFINITE)
    a, b = _off_centred(first), _off_centred(second)
    scale = float(np.sum(a * a) * np.sum(b * b))
    if scale <= 0:
        return Measure(None, 0.0, NO_VARIANCE)
    return Measure(float(np.sum(a * b)) / scale**0.5, 0.0)


def _off_centred(gram: Floats) -> Floats:
    """U-centring: off-diagonal entries less their row, column and total means."""
    n = len(gram)
    k = gram - np.diag(np.diag(gram))
    rows = k.sum(0) / (n - 2)
    out = k - rows[None, :] - rows[:, None] + k.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(out, 0.0)
    return np.asarray(out)


def eigenprojector(adjacency: Floats, k: int = 2) -> Floats:
    """Projector onto z₂…z_{k+1}: the graph's own Gram matrix, for `cka`."""
    vectors = np.linalg.eigh(laplacian(adjacency))[1][:, 1 : k + 1]
    return np.asarray(vectors @ vectors.T)


# -- what one round of mixing gives -------------------------------------------------------------


def predecessor_law(nodes: Sequence[int], size: int) -> Floats:
    """P̂ (n, n): how often each node (column) preceded each (row)."""
    counts = np.zeros((size, size))
    at = [node for node in nodes if node >= 0]
    np.add.at(counts, (at[1:], at[:-1]), 1.0)
    total = counts.sum(1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, 1.0))


def mixing(law: Floats, adjacency: Floats, kind: str = "same") -> Measure:
    """R that previous-token mixing of random vectors gives by itself.

    `same`: each token carries its word's vector and its predecessor's, (I+P̂)(I+P̂)ᵀ; `orth`: the
    predecessor's comes in a direction of its own, I+P̂P̂ᵀ.
    """
    eye = np.eye(len(law))
    gram = (eye + law) @ (eye + law).T if kind == "same" else eye + law @ law.T
    return dirichlet(Geometry(centred(gram), adjacency))


# -- populations and permutations ---------------------------------------------------------------


def population(grams: Sequence[Floats], minimum: int = 8) -> Floats | None:
    """Mean of S/tr S over contexts that visited every node; None below `minimum` of them."""
    traces = [float(np.trace(g)) for g in grams]
    usable = [g / t for g, t in zip(grams, traces, strict=True) if np.isfinite(t) and t > 0]
    return np.mean(usable, axis=0) if len(usable) >= minimum else None


def relabelled_energies(g: Geometry, draws: int, rng: np.random.Generator) -> Floats:
    """R under `draws` random relabellings of the nodes."""
    lap = g.laplacian()
    scale = float(np.trace(lap)) / (g.size - 1) * g.trace
    order = np.argsort(rng.random((draws, g.size)), axis=1)
    moved = g.gram[order[:, :, None], order[:, None, :]]
    return np.asarray(np.einsum("ij,pij->p", lap, moved) / scale)


# -- the guide's classes ------------------------------------------------------------------------


class _Metric:
    """A metric of representations against a graph or against cluster labels."""

    name = ""

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        """Value, structure-free value, reason. Rows of `representations` with the same label are
        averaged into one node mean when a `nodes` labelling is not one to one."""
        raise NotImplementedError

    def compute(self, representations: Any, labels_or_graph: Any = None, **named: Any) -> float:
        """The value alone; NaN when it is undefined (`measure` says why)."""
        given = named.get("cluster_labels", named.get("graph", labels_or_graph))
        value = self.measure(representations, given).value
        return float("nan") if value is None else value


def _adjacency_of(graph: Any) -> Floats:
    return _matrix(getattr(graph, "adj_matrix", getattr(graph, "adjacency", graph)))


class DirichletEnergy(_Metric):
    """R of node means (n, d) on a graph."""

    name = "dirichlet_energy"

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return dirichlet(of_points(representations, _adjacency_of(labels_or_graph)))


class ClusterSeparation(_Metric):
    """F of rows (n, d) with cluster labels (n,) or a graph whose nodes are the rows."""

    name = "cluster_separation"

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        labels = getattr(labels_or_graph, "cluster_assignments", labels_or_graph)
        return separation(of_points(representations), np.asarray(labels))


class LevelSeparation(_Metric):
    """`level_separation_l` of rows with nested labels, coarse to fine."""

    name = "level_separation"

    def __init__(self, level: int) -> None:
        self.level = level

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        structure = getattr(labels_or_graph, "structure", None)
        levels = structure.levels if structure is not None else labels_or_graph
        return level_separation(of_points(representations, labels=levels), self.level)


class SpectralOverlap(_Metric):
    """`overlap_k` of node means on a graph."""

    name = "overlap"

    def __init__(self, k: int = 2) -> None:
        self.k = k

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return overlap(of_points(representations, _adjacency_of(labels_or_graph)), self.k)


class NeighbourMixing(_Metric):
    """What mixing alone gives: `representations` is the predecessor law P̂ (n, n)."""

    name = "mixing"

    def __init__(self, kind: str = "same") -> None:
        self.kind = kind

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return mixing(_matrix(representations), _adjacency_of(labels_or_graph), self.kind)


class EffectiveDimension(_Metric):
    """Participation ratio of node means."""

    name = "effective_dimension"

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return effective_dimension(of_points(representations))


class CKA(_Metric):
    """Debiased linear CKA of rows against other rows, or against a graph's eigenprojector."""

    name = "cka"

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        mine = of_points(representations).gram
        if hasattr(labels_or_graph, "adj_matrix") or hasattr(labels_or_graph, "adjacency"):
            return cka(mine, eigenprojector(_adjacency_of(labels_or_graph)))
        return cka(mine, of_points(labels_or_graph).gram)


class NeighbourMass(_Metric):
    """Mean probability on true neighbours: rows are node probabilities (t, n), labels the nodes."""

    name = "neighbour_mass"

    def __init__(self, graph: Any) -> None:
        self.adjacency = _adjacency_of(graph)

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        at = np.asarray(labels_or_graph)
        probabilities, kept = _matrix(representations), at >= 0
        if not kept.any():
            return Measure(None, None, "empty")
        mass = (probabilities * self.adjacency[at]).sum(1)[kept]
        null = float(self.adjacency[at[kept]].sum(1).mean() / len(self.adjacency))
        return Measure(float(mass.mean()), null)
