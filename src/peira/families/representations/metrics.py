"""Geometry of node means against a graph: every metric with its structure-free value.

All follow from S = XXᵀ, the Gram matrix (n, n) of centred node means over the visited nodes, and
from the subgraph on them. Invariant: an undefined value is None with a reason code; equal data
give equal numbers whatever the order, rotation, translation or (normalised metrics) scale.
Sources: Park et al. 2024 (arXiv:2501.00070) for the Dirichlet energy, which sums ordered pairs and
so is twice `raw`; the lower bound is von Neumann's trace inequality; debiased CKA: Song et al. 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.stats.columns import Sensitivity, sensitivity
from peira.stats.result import DEGENERATE_EIGENSPACE

if TYPE_CHECKING:
    from peira.families.representations.graphs import Structure

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


@dataclass(frozen=True, eq=False)
class Geometry:
    """Centred node means of the visited nodes as Gram matrices, with the subgraph on them.

    `gram` (..., n, n), one or many over the same nodes; `adjacency` (n, n); `labels` coarse to fine,
    each (n,).
    """

    gram: Floats
    adjacency: Floats
    labels: tuple[Ints, ...] = ()

    @property
    def size(self) -> int:
        return int(self.gram.shape[-1])

    @property
    def trace(self) -> Floats:
        """tr S (...)."""
        return np.asarray(np.trace(self.gram, axis1=-2, axis2=-1))

    def laplacian(self) -> Floats:
        return laplacian(self.adjacency)

    @property
    def clusters(self) -> Ints:
        """The coarsest labels; one cluster where there are none."""
        return self.labels[0] if self.labels else np.zeros(self.size, dtype=np.int64)

    @property
    def bare(self) -> bool:
        """Too few nodes, or no edge between them, for anything to be said of the graph."""
        return self.size < MIN_NODES or not self.adjacency.any()


def laplacian(adjacency: Floats) -> Floats:
    """D − A."""
    return np.asarray(np.diag(adjacency.sum(1)) - adjacency)


def centred(gram: Floats) -> Floats:
    """Gram matrices (..., n, n) after the mean row is taken away from the rows behind them."""
    rows = gram - gram.mean(-2, keepdims=True)
    return np.asarray(rows - rows.mean(-1, keepdims=True))


def geometry(grams: Any, visited: Any, structure: Structure) -> Geometry:
    """The geometry over visited nodes, `visited` (n,) booleans, of Gram matrices (..., n, n)."""
    seen = np.flatnonzero(visited)
    return Geometry(
        centred(np.asarray(grams, float)[..., seen[:, None], seen]),
        structure.adjacency[np.ix_(seen, seen)], tuple(labels[seen] for labels in structure.levels),
    )  # fmt: skip


def of_points(points: Any, graph: Any = None, labels: Sequence[Any] = ()) -> Geometry:
    """The geometry of node means given as rows (n, d), on a graph or its adjacency matrix."""
    x = matrix(points)
    x = x - x.mean(0)
    adjacency = np.zeros((len(x), len(x))) if graph is None else _adjacency_of(graph)
    return Geometry(x @ x.T, adjacency, tuple(np.asarray(lab) for lab in labels))


def matrix(data: Any) -> Floats:
    """Rows as float64, from numpy, lists or a torch tensor of any dtype."""
    if hasattr(data, "detach"):
        data = data.detach().to("cpu").float().numpy()
    return np.asarray(data, dtype=float)


def _adjacency_of(graph: Any) -> Floats:
    return matrix(getattr(graph, "adj_matrix", getattr(graph, "adjacency", graph)))


# -- formulas over Gram matrices (..., n, n): values (...) ----------------------------------------


def energy_ratio(lap: Floats, grams: Floats) -> Floats:
    """R = tr(LS)/(e₀ tr S), e₀ = tr L/(n−1), exactly 1 on average over relabellings; NaN where
    nothing varies."""
    base = np.trace(lap) / (len(lap) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(_raw_energy(lap, grams) / (base * np.trace(grams, axis1=-2, axis2=-1)))


def _raw_energy(lap: Floats, grams: Floats) -> Floats:
    return np.asarray(np.einsum("ij,...ij->...", lap, grams))


def energy_bound(lap: Floats, grams: Floats) -> Floats:
    """B: the least R that the spectra of the Gram matrices allow on this graph."""
    eigen = np.linalg.eigvalsh(lap)[1:]
    spectrum = np.clip(np.linalg.eigvalsh(grams)[..., ::-1][..., : len(eigen)], 0, None)
    base = np.trace(lap) / (len(lap) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(spectrum @ eigen / (base * spectrum.sum(-1)))


def _position(g: Geometry) -> Floats:
    """(1−R)/(1−B): 0 without structure, 1 at the least energy this spectrum allows."""
    lap = g.laplacian()
    room = 1 - energy_bound(lap, g.gram)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(room > 1e-12, (1 - energy_ratio(lap, g.gram)) / room, np.nan)


def within_ratio(adjacency: Floats, grams: Floats, labels: Ints) -> Floats:
    """The energy within clusters, Σ_c tr(L_c S_c)/Σ_c e₀_c tr S_c, exactly 1 without structure; NaN
    where no cluster has an edge."""
    top = bottom = np.zeros(grams.shape[:-2])
    for members in _members(labels):
        if len(members) < 2:
            continue
        part = centred(grams[..., members[:, None], members])
        lap = laplacian(adjacency[np.ix_(members, members)])
        top = top + _raw_energy(lap, part)
        bottom = bottom + np.trace(lap) / (len(members) - 1) * np.trace(part, axis1=-2, axis2=-1)
    return np.asarray(np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan))


def _members(labels: Ints) -> list[Ints]:
    return [np.flatnonzero(labels == k) for k in np.unique(labels)]


def between(grams: Floats, labels: Ints) -> Floats:
    """SSB of the centred points behind the Gram matrices."""
    parts = [grams[..., m[:, None], m].sum((-2, -1)) / len(m) for m in _members(labels)]
    return np.asarray(sum(parts))


def separation_ratio(grams: Floats, labels: Ints) -> Floats:
    """F = (SSB/SST)(n−1)/(K−1) of node means, 1 without structure, at most (n−1)/(K−1); NaN where
    nothing varies."""
    n, k = len(labels), len(np.unique(labels))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = between(grams, labels) / np.trace(grams, axis1=-2, axis2=-1)
        return np.asarray(share * (n - 1) / (k - 1))


def level_ratio(grams: Floats, finer: Ints, coarser: Ints) -> Floats:
    """Separation of `finer` clusters net of `coarser`, 1 without structure."""
    n, k_fine, k_coarse = len(finer), len(np.unique(finer)), len(np.unique(coarser))
    fine, coarse = between(grams, finer), between(grams, coarser)
    total = np.trace(grams, axis1=-2, axis2=-1)
    rest = (total - coarse) / (n - k_coarse)
    ratio = (fine - coarse) / (k_fine - k_coarse) / np.where(rest > 0, rest, 1)
    return np.asarray(np.where(rest > 1e-12 * total, ratio, np.nan))


def eigenspace(lap: Floats, k: int) -> Floats | None:
    """z₂…z_{k+1} as columns, or None when λ_{k+1} = λ_{k+2} leaves them undefined."""
    values, vectors = np.linalg.eigh(lap)
    if len(values) < k + 2 or values[k + 1] - values[k] < 1e-9 * max(values[-1], 1.0):
        return None
    return np.asarray(vectors[:, 1 : k + 1])


def overlap_with(target: Floats, grams: Floats) -> Floats:
    """Mean cos² of the angles between the top components and as many orthonormal columns."""
    k = target.shape[1]
    top = np.linalg.eigh(grams)[1][..., -k:]
    return np.asarray(np.sum((np.swapaxes(top, -1, -2) @ target) ** 2, axis=(-2, -1)) / k)


def plane_cosines(g: Geometry, k: int = 2) -> list[float]:
    """Cosines of the principal angles between the top k components and z₂…z_{k+1}."""
    vectors = np.linalg.eigh(g.laplacian())[1][:, 1 : k + 1]
    top = np.linalg.eigh(g.gram)[1][:, ::-1][:, :k]
    return [float(c) for c in np.linalg.svd(top.T @ vectors, compute_uv=False)]


def cka(first: Floats, second: Floats) -> Floats:
    """Debiased linear CKA of Gram matrices (..., n, n) over the same units (U-statistic HSIC), exactly 0
    on average over relabellings of one; NaN where one does not vary, or varies alike between all pairs."""
    a, b = _off_centred(first), _off_centred(second)
    scale = _square(a) * _square(b)
    flat = scale <= 1e-20 * _square(first) * _square(second)
    return np.asarray(np.sum(a * b, axis=(-2, -1)) / np.where(flat, np.nan, scale) ** 0.5)


def _square(gram: Floats) -> Floats:
    return np.asarray(np.sum(gram * gram, axis=(-2, -1)))


def _off_centred(gram: Floats) -> Floats:
    """U-centring: off-diagonal entries less their row, column and total means."""
    n = gram.shape[-1]
    apart = 1 - np.eye(n)
    k = gram * apart
    rows = k.sum(-1) / (n - 2)
    total = k.sum((-2, -1)) / ((n - 1) * (n - 2))
    return np.asarray(
        (k - rows[..., None, :] - rows[..., :, None] + total[..., None, None]) * apart
    )


# -- the metrics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """`formula` gives the values (...) of a geometry, NaN where one is undefined for the reason
    `otherwise`; `fault` says why none can be had on these nodes."""

    formula: Callable[[Geometry], Floats]
    null: float | None = None
    fault: Callable[[Geometry], str | None] = lambda g: None
    otherwise: str = NO_VARIANCE
    least: int = MIN_NODES  # nodes
    edges: bool = True  # does it need any?

    def measure(self, g: Geometry) -> Measure:
        """The value of one Gram matrix."""
        reason = self._reason(g)
        value = float("nan") if reason else float(self.formula(g))
        if np.isfinite(value):
            return Measure(value, self.null)
        return Measure(None, self.null, reason or self.otherwise)

    def _reason(self, g: Geometry) -> str | None:
        if not np.isfinite(g.gram).all():
            return NONFINITE
        if g.size < self.least or (self.edges and not g.adjacency.any()):
            return TOO_FEW_NODES
        return self.fault(g) or (NO_VARIANCE if g.trace <= 0 else None)


def _one_cluster(g: Geometry) -> str | None:
    return ONE_CLUSTER if len(np.unique(g.clusters)) < 2 else None


def on_eigenspace(
    k: int, formula: Callable[[Floats, Floats], Floats], null: float | None = None
) -> Metric:
    """A metric of Gram matrices against z₂…z_{k+1}; undefined where those are not unique."""

    def fault(g: Geometry) -> str | None:
        return DEGENERATE_EIGENSPACE if eigenspace(g.laplacian(), k) is None else None

    def values(g: Geometry) -> Floats:
        target = eigenspace(g.laplacian(), k)
        assert target is not None  # `fault` said so
        return formula(target, g.gram)

    return Metric(values, null, fault, least=max(MIN_NODES, k + 2))


def overlap(k: int = 2) -> Metric:
    """`overlap_k`; k/(n−1) by chance."""
    return on_eigenspace(k, overlap_with)


def level_separation(level: int) -> Metric:
    """`level_separation_l`, 1 being the coarsest level."""

    def sides(g: Geometry) -> tuple[Ints, Ints]:
        if not 1 <= level <= len(g.labels):
            raise ValueError(f"level must be 1..{len(g.labels)}; got {level}")
        coarser = g.labels[level - 2] if level > 1 else np.zeros(g.size, dtype=np.int64)
        return g.labels[level - 1], coarser

    def fault(g: Geometry) -> str | None:
        fine, coarse = (len(np.unique(labels)) for labels in sides(g))
        if fine == g.size:
            return SINGLETON_CLUSTERS
        return ONE_CLUSTER if fine == coarse else None

    return Metric(lambda g: level_ratio(g.gram, *sides(g)), 1.0, fault, edges=False)


ENERGY = Metric(lambda g: energy_ratio(g.laplacian(), g.gram), 1.0)
SEPARATION = Metric(lambda g: separation_ratio(g.gram, g.clusters), 1.0, _one_cluster, edges=False)
GRAPH_CKA = on_eigenspace(2, lambda target, grams: cka(grams, target @ target.T), 0.0)
DIMENSION = Metric(lambda g: g.trace**2 / (g.gram**2).sum((-2, -1)), least=2, edges=False)
FIELDS = {
    "dirichlet_energy": ENERGY,
    "dirichlet_position": Metric(_position, 0.0, otherwise=DEGENERATE_EIGENSPACE),
    "cluster_separation": SEPARATION,
    "within_energy": Metric(lambda g: within_ratio(g.adjacency, g.gram, g.clusters), 1.0,
                            otherwise=TOO_FEW_NODES),
    "overlap_2": overlap(),
    "cka": GRAPH_CKA,
    "effective_dimension": DIMENSION,
    "dirichlet_energy_raw": Metric(lambda g: _raw_energy(g.laplacian(), g.gram)),
}  # fmt: skip


def fields_of(levels: int) -> dict[str, Metric]:
    """The metrics of a graph with nested clusters, by the names of their fields."""
    deep = range(1, levels + 1) if levels > 1 else ()
    return FIELDS | {f"level_separation_{k}": level_separation(k) for k in deep}


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
    return ENERGY.measure(Geometry(centred(gram), adjacency))


def relabelled_energies(g: Geometry, draws: int, rng: np.random.Generator) -> Floats:
    """R under `draws` random relabellings of the nodes."""
    order = np.argsort(rng.random((draws, g.size)), axis=1)
    return energy_ratio(g.laplacian(), g.gram[order[:, :, None], order[:, None, :]])


# -- the guide's classes ------------------------------------------------------------------------


class _Metric:
    """A metric of representations against a graph or against cluster labels."""

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        """Value, structure-free value, reason."""
        raise NotImplementedError

    def compute(self, representations: Any, labels_or_graph: Any = None, **named: Any) -> float:
        """The value alone; NaN when it is undefined (`measure` says why)."""
        given = named.get("cluster_labels", named.get("graph", labels_or_graph))
        value = self.measure(representations, given).value
        return float("nan") if value is None else value


class DirichletEnergy(_Metric):
    """R of node means (n, d) on a graph."""

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return ENERGY.measure(of_points(representations, labels_or_graph))


class ClusterSeparation(_Metric):
    """F of rows (n, d) with cluster labels (n,) or a graph whose nodes are the rows."""

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        labels = getattr(labels_or_graph, "cluster_assignments", labels_or_graph)
        return SEPARATION.measure(of_points(representations, labels=[labels]))


class LevelSeparation(_Metric):
    """`level_separation_l` of rows with nested labels, coarse to fine."""

    def __init__(self, level: int) -> None:
        self.metric = level_separation(level)

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        structure = getattr(labels_or_graph, "structure", None)
        levels = structure.levels if structure is not None else labels_or_graph
        return self.metric.measure(of_points(representations, labels=levels))


class SpectralOverlap(_Metric):
    """`overlap_k` of node means on a graph."""

    def __init__(self, k: int = 2) -> None:
        self.k = k

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        g = of_points(representations, labels_or_graph)
        return replace(overlap(self.k).measure(g), null=self.k / (g.size - 1))


class NeighbourMixing(_Metric):
    """What mixing alone gives: `representations` is the predecessor law P̂ (n, n)."""

    def __init__(self, kind: str = "same") -> None:
        self.kind = kind

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return mixing(matrix(representations), _adjacency_of(labels_or_graph), self.kind)


class EffectiveDimension(_Metric):
    """Participation ratio of node means."""

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        return DIMENSION.measure(of_points(representations))


class CKA(_Metric):
    """Debiased linear CKA of rows against other rows, or against a graph's eigenprojector."""

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        if hasattr(labels_or_graph, "adj_matrix") or hasattr(labels_or_graph, "adjacency"):
            return GRAPH_CKA.measure(of_points(representations, labels_or_graph))
        other = of_points(labels_or_graph).gram
        if not np.isfinite(other).all():
            return Measure(None, 0.0, NONFINITE)
        between = Metric(lambda g: cka(g.gram, other), 0.0, edges=False)
        return between.measure(of_points(representations))


class NeighbourMass(_Metric):
    """Mean probability on true neighbours: rows are node probabilities (t, n), labels the nodes."""

    def __init__(self, graph: Any) -> None:
        self.adjacency = _adjacency_of(graph)

    def measure(self, representations: Any, labels_or_graph: Any = None) -> Measure:
        at = np.asarray(labels_or_graph)
        probabilities, kept = matrix(representations), at >= 0
        if not kept.any():
            return Measure(None, None, "empty")
        mass = (probabilities * self.adjacency[at]).sum(1)[kept]
        null = float(self.adjacency[at[kept]].sum(1).mean() / len(self.adjacency))
        return Measure(float(mass.mean()), null)


class ContextSensitivityScore:
    """−Cov over contexts of each token's loss and a metric of the context's representations."""

    def __init__(self, metric: Any = None) -> None:
        self.metric = metric or ClusterSeparation()

    def compute_batch(
        self, losses: Any, representations: Sequence[Any], labels: Sequence[Any]
    ) -> Sensitivity:
        """Scores (T,) with errors and intervals.

        `losses` (C, T); `representations` one (rows, d) per context; `labels` what the metric takes,
        one per context, or one for all. Raises ValueError when the counts differ.
        """
        count = len(representations)
        table = np.stack([matrix(row).ravel() for row in losses])
        given = list(labels) if len(labels) == count else [labels] * count
        if len(table) != count:
            raise ValueError(f"{len(table)} rows of losses, {count} contexts")
        values = [
            self.metric.measure(r, lab).value for r, lab in zip(representations, given, strict=True)
        ]
        phi = np.array([np.nan if v is None else v for v in values])[:, None]
        return sensitivity(table, phi)[0]
