"""Metrics have the exact values of the specification, and one on average without structure."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.families.representations import graphs, metrics
from peira.families.representations.metrics import FIELDS


@pytest.mark.parametrize(
    ("spec", "ratio", "base"),
    [("ring:10", 0.17188, 2.22222), ("grid:4x4", 0.18306, 3.2), ("hex:3x4", 0.12503, 2.36364)],
)
def test_smallest_energy_of_each_graph(spec: str, ratio: float, base: float) -> None:
    lap = graphs.draw(spec, 0).laplacian()
    scale = np.trace(lap) / (len(lap) - 1)
    assert scale == pytest.approx(base, abs=1e-5)
    assert np.linalg.eigvalsh(lap)[1] / scale == pytest.approx(ratio, abs=1e-5)


def test_hex_has_thirteen_edges() -> None:
    assert graphs.draw("hex:3x4", 0).adjacency.sum() == 26


def test_identity_has_no_structure_at_any_level() -> None:
    g = graphs.draw("deep", 3)
    geo = metrics.of_points(np.eye(16), g.adjacency, g.levels)
    assert metrics.ENERGY.measure(geo).value == pytest.approx(1, abs=1e-12)
    assert metrics.SEPARATION.measure(geo).value == pytest.approx(1, abs=1e-12)
    for level in (1, 2):
        assert metrics.level_separation(level).measure(geo).value == pytest.approx(1, abs=1e-12)
    assert metrics.level_separation(3).measure(geo).reason == metrics.SINGLETON_CLUSTERS


def test_mean_over_all_720_relabellings_is_one() -> None:
    rng = np.random.default_rng(0)
    graph, x = graphs.draw("ring:6", 0), rng.standard_normal((6, 4))
    labels = np.array([0, 0, 0, 1, 1, 1])
    energies, separations = [], []
    for order in permutations(range(6)):
        geo = metrics.of_points(x[list(order)], graph.adjacency)
        energies.append(metrics.ENERGY.measure(geo).value)
        separations.append(metrics.ClusterSeparation().measure(x[list(order)], labels).value)
    assert np.mean(energies) == pytest.approx(1, abs=1e-12)
    assert np.mean(separations) == pytest.approx(1, abs=1e-12)


def test_circle_on_a_ring_and_coordinates_on_a_grid() -> None:
    for spec, energy, position in (("ring:10", 0.17188, 1.0), ("grid:4x4", 0.1875, 0.99456)):
        g = graphs.draw(spec, 0)
        assert g.layout is not None
        geo = metrics.of_points(g.layout, g.adjacency)
        assert metrics.ENERGY.measure(geo).value == pytest.approx(energy, abs=1e-5)
        assert FIELDS["dirichlet_position"].measure(geo).value == pytest.approx(position, abs=1e-5)


@pytest.mark.parametrize(
    ("spec", "value"), [("ring:10", 0.40909), ("ring:12", 0.39286), ("grid:4x4", 0.56726)]
)
def test_what_mixing_alone_gives(spec: str, value: float) -> None:
    g = graphs.draw(spec, 0)
    assert metrics.mixing(g.steps(), g.adjacency).value == pytest.approx(value, abs=1e-5)


def test_separations_worked_by_hand() -> None:
    points = np.array([(0, 0), (1, 0), (0, 1), (5, 5), (6, 5), (5, 6)], float)
    assert metrics.ClusterSeparation().compute(points, [0, 0, 0, 1, 1, 1]) == pytest.approx(
        4.82833, abs=1e-5
    )
    levels = graphs.draw("deep", 0).levels
    rows = np.concatenate([2 * np.eye(2)[levels[0]], np.eye(4)[levels[1]], np.eye(16)], 1)
    assert metrics.LevelSeparation(1).compute(rows, levels) == pytest.approx(9.40678, abs=1e-5)
    assert metrics.LevelSeparation(2).compute(rows, levels) == pytest.approx(3.18182, abs=1e-5)


def test_separation_of_noise_does_not_grow_with_dimension() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 5)
    values = [
        metrics.ClusterSeparation().compute(rng.standard_normal((15, 4096)), labels)
        for _ in range(8)
    ]
    assert all(abs(v - 1) < 0.06 for v in values)


def test_undefined_values_come_with_a_reason() -> None:
    ring = graphs.draw("ring:4", 0).adjacency
    assert (
        metrics.ENERGY.measure(metrics.of_points(np.eye(3), np.ones((3, 3)))).reason
        == metrics.TOO_FEW_NODES
    )
    assert (
        metrics.ENERGY.measure(metrics.of_points(np.ones((4, 2)), ring)).reason
        == metrics.NO_VARIANCE
    )
    assert (
        metrics.ENERGY.measure(metrics.of_points(np.full((4, 2), np.nan), ring)).reason
        == metrics.NONFINITE
    )
    assert metrics.ClusterSeparation().measure(np.eye(4), np.zeros(4)).reason == metrics.ONE_CLUSTER
    # A square's second and third eigenvalues coincide, so its single direction is not unique.
    ring = graphs.draw("ring:5", 0).adjacency
    assert metrics.SpectralOverlap(1).measure(np.eye(5), ring).reason == "degenerate_eigenspace"


def test_cka_of_independent_noise_is_near_zero_and_of_itself_one() -> None:
    rng = np.random.default_rng(0)
    found = [
        metrics.CKA().compute(rng.standard_normal((20, 500)), rng.standard_normal((20, 500)))
        for _ in range(20)
    ]
    assert abs(float(np.mean(found))) < 0.1
    x = rng.standard_normal((12, 5))
    assert metrics.CKA().compute(x, x) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 50), shift=st.floats(-20, 20))
def test_energy_ignores_rotation_translation_and_scale(
    seed: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    graph, x = graphs.draw("sbm", seed), rng.standard_normal((15, 6))
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for metric in (metrics.DirichletEnergy(), metrics.SpectralOverlap()):
        one = metric.measure(x, graph.adjacency).value
        two = metric.measure(scale * x @ turn + shift, graph.adjacency).value
        assert (one is None) == (two is None)
        if one is not None:
            assert two == pytest.approx(one, abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_energy_lies_between_the_bound_and_the_largest_eigenvalue(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = graphs.draw("sbm", seed)
    geo = metrics.of_points(rng.standard_normal((15, 4)), graph.adjacency)
    lap = geo.laplacian()
    top = np.linalg.eigvalsh(lap)[-1] / (np.trace(lap) / 14)
    energy = metrics.ENERGY.measure(geo).value
    assert energy is not None
    assert float(metrics.energy_bound(lap, geo.gram)) - 1e-9 <= energy <= top + 1e-9
    position = FIELDS["dirichlet_position"].measure(geo).value
    assert position is not None and position <= 1 + 1e-9


def test_batched_formulas_are_the_single_ones() -> None:
    rng = np.random.default_rng(2)
    g = graphs.draw("sbm", 5)
    points = rng.standard_normal((3, 15, 6))
    grams = np.stack([metrics.of_points(p).gram for p in points])
    for k in range(3):
        geo = metrics.Geometry(grams[k], g.adjacency, (g.clusters,))
        assert metrics.energy_ratio(g.laplacian(), grams)[k] == pytest.approx(
            metrics.ENERGY.measure(geo).value
        )
        assert metrics.separation_ratio(grams, g.clusters)[k] == pytest.approx(
            metrics.SEPARATION.measure(geo).value
        )
        assert metrics.within_ratio(g.adjacency, grams, g.clusters)[k] == pytest.approx(
            FIELDS["within_energy"].measure(geo).value
        )


def test_cka_with_the_graph_is_zero_over_relabellings_and_undefined_in_a_degenerate_eigenspace() -> (
    None
):
    graph = graphs.draw("grid:2x3", 0)
    x = np.random.default_rng(8).standard_normal((6, 4))
    every = [metrics.CKA().compute(x[list(o)], graph) for o in permutations(range(6))]
    assert np.mean(every) == pytest.approx(0, abs=1e-12)
    vectors = np.linalg.eigh(metrics.laplacian(graph.adjacency))[1][:, 1:3]
    assert metrics.CKA().compute(vectors, graph) == pytest.approx(1)
    assert metrics.CKA().measure(x, graph).null == 0
    alike = metrics.CKA().measure(np.eye(6), graph)  # every pair as far apart: nothing to align
    assert (alike.value, alike.reason) == (None, metrics.NO_VARIANCE)
    square = metrics.CKA().measure(x[:4], graphs.draw("ring:4", 0))
    assert square.value is not None  # z₂, z₃ are a square's pair
    star = np.zeros((5, 5))
    star[0, 1:] = star[1:, 0] = 1.0
    known = metrics.FIELDS["cka"].measure(metrics.of_points(x[:5], star))
    assert (known.value, known.reason) == (None, "degenerate_eigenspace")


def test_cka_is_the_u_statistic_over_all_four_distinct_units() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 2))
    y = x @ rng.standard_normal((2, 3)) + rng.standard_normal((7, 3))

    def hsic(k: Any, m: Any) -> float:
        terms = [
            k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(7), 4)
        ]
        return float(np.mean(terms))

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert metrics.CKA().compute(x, y) == pytest.approx(expected)


def test_energy_is_the_sum_over_edges_and_the_bound_the_best_placement() -> None:
    rng = np.random.default_rng(5)
    adjacency = graphs.draw("grid:3x4", 0).adjacency
    h = rng.standard_normal((12, 4))
    edges = [(i, j) for i in range(12) for j in range(i) if adjacency[i, j]]
    energy = sum(float(((h[i] - h[j]) ** 2).sum()) for i, j in edges)
    spread = float(((h - h.mean(0)) ** 2).sum())
    null = 2 * len(edges) / 11
    geo = metrics.of_points(h, adjacency)
    assert metrics.ENERGY.measure(geo).value == pytest.approx(energy / spread / null)
    values, vectors = np.linalg.eigh(geo.laplacian())
    singular = np.linalg.svd(h - h.mean(0), compute_uv=False)
    placed = vectors[:, 1:5] * singular
    least = metrics.ENERGY.measure(metrics.of_points(placed, adjacency)).value
    bound = float(values[1:5] @ singular**2 / (singular**2).sum()) / null
    assert least == pytest.approx(bound)
    assert float(metrics.energy_bound(geo.laplacian(), geo.gram)) == pytest.approx(bound)


def test_separation_is_the_analysis_of_variance_of_scipy() -> None:
    from scipy.stats import f_oneway

    rng = np.random.default_rng(8)
    x, labels = rng.standard_normal(14), np.repeat([0, 1, 2], [3, 5, 6])
    anova = float(f_oneway(*(x[labels == k] for k in range(3))).statistic)
    within = anova * 2 / 11  # SSB/SSW
    expected = within / (1 + within) * 13 / 2
    assert metrics.ClusterSeparation().compute(x[:, None], labels) == pytest.approx(expected)


def test_overlap_is_the_mean_squared_cosine_of_scipys_principal_angles() -> None:
    from scipy.linalg import subspace_angles

    rng = np.random.default_rng(9)
    graph, x = graphs.draw("grid:3x4", 0), rng.standard_normal((12, 5))
    target = np.linalg.eigh(graph.laplacian())[1][:, 1:3]
    plane = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, :2]
    expected = float(np.mean(np.cos(subspace_angles(plane, target)) ** 2))
    assert metrics.SpectralOverlap().compute(x, graph) == pytest.approx(expected)


def test_the_relabelling_p_is_that_of_all_relabellings() -> None:
    rng = np.random.default_rng(10)
    graph, x = graphs.draw("ring:6", 0), rng.standard_normal((6, 2))
    own = metrics.DirichletEnergy().compute(x, graph)
    every = [metrics.DirichletEnergy().compute(x[list(o)], graph) for o in permutations(range(6))]
    exact = float(np.mean(np.array(every) <= own + 1e-10))
    drawn = metrics.relabelled_energies(metrics.of_points(x, graph), 9_999, rng)
    assert (1 + (drawn <= own + 1e-10).sum()) / 10_000 == pytest.approx(exact, abs=0.02)
