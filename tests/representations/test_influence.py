"""Influence: leave-one-out adds up, injection moves nothing before p, the toy changes sign."""

from __future__ import annotations

import numpy as np
import pytest

from peira.families.representations import graphs, influence, metrics, sgld
from peira.families.representations.experiments import of
from peira.families.representations.experiments.block_permutation import ARMS
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.trial import Spec, resolve
from peira.families.representations.walks import valid_share

MIXER = "sim:mixer,d=48,layers=3"


def spec_of(experiment: str, **settings: object) -> Spec:
    given = {"experiment": experiment, "model": MIXER, "n_contexts": 3, **settings}
    return resolve(RepresentationSettings.model_validate(given), 42, MIXER)


@pytest.mark.parametrize("mode", ["delete", "mask", "swap"])
def test_contextual_and_averaging_add_up_to_the_total(mode: str) -> None:
    spec = spec_of("loo_multilayer", lengths=(10, 30), mode=mode)
    experiment = of("loo_multilayer")
    record = experiment.measure(spec, [experiment.draw(spec, 0)])[0]
    parts = record["loo/ratio_influence"] + record["loo/ratio_averaging"]
    total = record["loo/ratio_total"]
    assert np.isfinite(total).any()
    assert np.nanmax(np.abs(parts - total)) < 1e-6
    assert np.isnan(total[:, 0, 10:]).all() and np.isnan(total[..., 0]).all()


def test_the_last_item_has_no_contextual_part() -> None:
    spec = spec_of("loo_multilayer", lengths=(10, 30))
    experiment = of("loo_multilayer")
    record = experiment.measure(spec, [experiment.draw(spec, 0)])[0]
    for j, n in enumerate(spec.lengths):
        for key in ("ratio_influence", "energy_influence", "cross_dist_influence"):
            last = record[f"loo/{key}"][:, j, n - 1]
            assert np.abs(last[np.isfinite(last)]).max(initial=0) < 1e-5
    assert np.isfinite(record["loo/energy_influence"][:, 1, 29]).all()
    assert np.isnan(record["loo/loss_influence"][:, 1, 29]).all()


def test_removing_one_activation_from_the_means_is_exact() -> None:
    rng = np.random.default_rng(0)
    nodes, h = rng.integers(0, 6, 25), rng.standard_normal((25, 5))
    full, without, seen, left = influence.without_own(h, nodes, 6)
    for p in (0, 7, 24):
        kept = np.arange(25) != p
        table = np.stack([h[kept & (nodes == n)].mean(0) if (kept & (nodes == n)).any() else np.zeros(5)
                          for n in range(6)])  # fmt: skip
        truth = ((table[:, None] - table[None]) ** 2).sum(-1)
        both = left[p][:, None] & left[p][None]
        assert np.abs(without[p] - truth)[both].max() < 1e-10
    assert seen.sum() == len(np.unique(nodes)) and full.shape == (6, 6)


def test_shape_agrees_with_the_metrics() -> None:
    rng = np.random.default_rng(1)
    g = graphs.draw("conflict", 0)
    geo = metrics.of_points(rng.standard_normal((12, 4)), g.adjacency)
    told = influence.shape(influence.distances(geo.gram), np.ones(12, bool), influence.Pairs.of(g))
    assert float(told["energy"]) == pytest.approx(metrics.ENERGY.measure(geo).value or 0)


def test_matched_difference_takes_the_nearest_anchor_within_reach() -> None:
    bridge = np.array([0, 0, 1, 0, 0, 0, 0, 0, 1], bool)
    values = np.arange(9.0)
    # 2 pairs with anchor 1, 8 with anchor 7
    assert influence.matched_difference(values, bridge) == pytest.approx(1.0)
    assert np.isnan(influence.matched_difference(values, np.ones(9, bool)))


@pytest.mark.parametrize("mode", ["replace", "insert"])
def test_injection_changes_nothing_before_p(mode: str) -> None:
    from peira.families.representations.experiments import incongruous_injection as module
    from peira.families.representations.reducers import Vectors
    from peira.families.representations.trial import forward

    spec = spec_of("incongruous_injection", lengths=(20, 40), mode=mode)
    context = of("incongruous_injection").draw(spec, 0)
    base = forward(spec, [(context, context.natural)], Vectors())[0]
    for p in module.positions(spec.lengths):
        for kind, token in module.injected_ids(spec, context, p).items():
            arm = module.arm_with(spec, context, p, kind, token)
            row = forward(spec, [(context, arm)], Vectors())[0]
            assert arm.length == context.natural.length and arm.node_of[p] == -1
            for name in spec.names:
                assert np.abs(row["reduced"][name][:p] - base["reduced"][name][:p]).max() < 1e-6


def test_reversed_keeps_every_edge_and_every_count() -> None:
    spec = spec_of("block_permutation", lengths=(20, 50))
    experiment = of("block_permutation")
    context = experiment.draw(spec, 1)
    counts = {a: np.bincount(context.arms[a].node_of, minlength=15).tolist() for a in ARMS}
    assert all(c == counts["natural"] for c in counts.values())
    near = context.graphs[0]
    assert valid_share(context.arms["reversed"].node_of, near) == 1
    assert valid_share(context.arms["shuffled"].node_of, near) < 0.8


def test_the_toys_modes_and_sign_change() -> None:
    toy = sgld.Toy()
    expected = [0.4841, 0.3307, 0.2165, 0.2165, 0.125, 0.125, 0.125, 0.125]
    assert toy.singular_values() == pytest.approx(expected, abs=5e-5)
    sibling = toy.retraining(0)[:, 1]
    assert sibling[20:71].min() < -0.2 and sibling[70:101].max() > 0.1


def test_bif_sees_the_toys_sign_change() -> None:
    toy = sgld.Toy()
    weights = toy.train()
    found = {s: toy.bif(weights[s], sgld.Sampler(), np.random.default_rng(0)) for s in (40, 80)}
    assert found[40].correlation[0, 1] < 0 and found[80].correlation[0, 1] > 0.3
    assert all(f.r_hat < 1.5 and f.ess > 100 for f in found.values())


def test_bif_of_a_linear_regression_is_the_gaussian_formula() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 4))
    y = x @ rng.standard_normal(4) + 0.5 * rng.standard_normal(12)
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    sampler = sgld.Sampler(chains=128, draws=1500, epsilon=2e-3, n_beta=20.0, gamma=10.0, burn=200)

    def gradient(at: np.ndarray) -> np.ndarray:
        return (at @ x.T - y) @ x / len(y)

    def losses(at: np.ndarray) -> np.ndarray:
        return 0.5 * (at @ x.T - y) ** 2

    found = sgld.influence(sgld.sample(w, gradient, losses, sampler, rng))
    cover = np.linalg.inv(20.0 * x.T @ x / len(y) + 10.0 * np.eye(4))
    s, r = x @ cover @ x.T, x @ w - y
    truth = -(np.outer(r, r) * s + s**2 / 2)
    assert np.corrcoef(found.bif.ravel(), truth.ravel())[0, 1] >= 0.98


def test_retraining_without_an_item_leaves_its_own_loss_high() -> None:
    gain = sgld.Toy().retraining(0)[-1]
    assert gain[0] < -1 and abs(gain[4]) < 0.2
