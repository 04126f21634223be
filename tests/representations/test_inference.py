"""Inference over contexts: the worked example, emergence, intervals that say when they are absent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from peira.families.representations import fields, graphs, inference
from peira.families.representations.analysis import size_findings
from peira.families.representations.metrics import ContextSensitivityScore
from peira.stats import columns
from peira.stats.result import NOT_REACHED

L = np.array([2, 1.6, 1.1, 0.9, 0.4])
PHI = np.array([0.8, 1, 1.3, 1.2, 1.7])


def test_sensitivity_worked_by_hand() -> None:
    found = columns.sensitivity(L[:, None], PHI[:, None])
    assert found.css[0, 0] == pytest.approx(0.2025)
    assert found.se[0, 0] == pytest.approx(0.13828, abs=1e-5)
    assert (found.low[0, 0], found.high[0, 0]) == pytest.approx((-0.1814, 0.5864), abs=1e-4)
    assert found.r[0, 0] == pytest.approx(0.96238, abs=1e-5)
    assert (found.r_low[0, 0], found.r_high[0, 0]) == pytest.approx((0.5308, 0.9976), abs=1e-4)


def test_the_guides_class_gives_the_same_scores() -> None:
    class Given:
        def __init__(self) -> None:
            self.values = iter(PHI)

        def measure(self, representations: object, labels: object) -> object:
            from peira.families.representations.metrics import Measure

            return Measure(float(next(self.values)))

    found = ContextSensitivityScore(Given()).compute_batch(L[:, None], [None] * 5, [None] * 5)
    assert found.css[0] == pytest.approx(0.2025)


def test_missing_contexts_are_left_out_of_their_cell_only() -> None:
    losses = np.stack([L, L], 1)
    losses[2, 1] = np.nan
    found = columns.sensitivity(losses, PHI[:, None])
    assert found.n[0].tolist() == [5, 4]
    assert found.css[0, 0] == pytest.approx(0.2025)
    alone = columns.sensitivity(np.delete(L, 2)[:, None], np.delete(PHI, 2)[:, None])
    assert found.css[0, 1] == pytest.approx(alone.css[0, 0])


def test_constant_losses_have_no_sensitivity() -> None:
    found = columns.sensitivity(np.ones((6, 1)), np.arange(6.0)[:, None])
    assert np.isnan(found.css[0, 0]) and np.isnan(found.p[0, 0])


def test_means_leave_missing_contexts_out_and_say_n() -> None:
    found = columns.means(np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]]))
    assert found.mean.tolist() == [2, 5]
    assert found.n.tolist() == [2, 1]
    assert np.isnan(found.low[1])
    told = found.estimate(1)
    assert told.reason == "single_unit" and told.low is None


def test_few_contexts_are_flagged() -> None:
    assert columns.means(np.random.default_rng(0).random(19)).estimate(()).flags == (
        "interval_unreliable",
    )
    assert columns.means(np.random.default_rng(0).random(20)).estimate(()).flags == ()


def test_half_length_is_linear_in_log_n() -> None:
    assert inference.half_length([1, 1, 3], 1.0, [10, 20, 80]) == pytest.approx(40)
    assert np.isnan(inference.half_length([1, 1, 1], 1.0, [10, 20, 80]))


def test_emergence_is_not_claimed_for_noise() -> None:
    rng = np.random.default_rng(3)
    noise = 1 + 0.1 * rng.standard_normal((30, 4))
    assert inference.emergence(noise, 1.0, [10, 20, 40, 80], rng, "F").reason == NOT_REACHED
    rising = noise + np.array([0, 0.1, 1, 2])
    found = inference.emergence(rising, 1.0, [10, 20, 40, 80], rng, "F")
    assert found.defined and 20 < (found.estimate or 0) < 60


def test_order_of_emergence_recovers_which_comes_first() -> None:
    rng = np.random.default_rng(4)
    base = 1 + 0.05 * rng.standard_normal((40, 5))
    early, late = base + np.array([0, 1, 1.9, 2, 2]), base + np.array([0, 0, 0.1, 1, 2])
    found = inference.order_of(early, late, (1.0, 1.0), [10, 20, 40, 80, 160], rng, "order")
    assert found.high is not None and found.high < 0


def test_partial_losses_are_uncorrelated_with_the_rest_of_the_context() -> None:
    rng = np.random.default_rng(5)
    losses = rng.standard_normal((40, 1)) + 0.1 * rng.standard_normal((40, 6))
    left = columns.partial_losses(losses)
    elsewhere = (losses.sum(1, keepdims=True) - losses) / 5
    for t in range(6):
        assert abs(np.corrcoef(left[:, t], elsewhere[:, t])[0, 1]) < 1e-8


def test_sensitivity_is_numpys_covariance_and_the_jackknife_a_loop() -> None:
    from scipy.stats import pearsonr

    rng = np.random.default_rng(2)
    losses, phi = rng.standard_normal((2, 12))
    found = columns.sensitivity(losses[:, None], phi[:, None])
    covariance = lambda a, b: -np.cov(a, b)[0, 1]  # noqa: E731
    left = [covariance(np.delete(losses, i), np.delete(phi, i)) for i in range(12)]
    se = np.sqrt(11 / 12 * ((left - np.mean(left)) ** 2).sum())
    assert found.css[0, 0] == pytest.approx(covariance(losses, phi))
    assert found.se[0, 0] == pytest.approx(se)
    library = pearsonr(-losses, phi)
    limits = library.confidence_interval()
    assert (found.r[0, 0], found.p[0, 0]) == pytest.approx((library.statistic, library.pvalue))
    assert (found.r_low[0, 0], found.r_high[0, 0]) == pytest.approx((limits.low, limits.high))


def _sized(size: int, transition: float, seed: int) -> Any:
    record = SimpleNamespace(seed=seed)
    data = {"diagnostics": {"transition": {"estimate": transition}}, "model": "m",
            "graph": f"ring:{size}", "curves": {"graph": {"clusters": [0] * size}}}  # fmt: skip
    return record, data


def test_seeds_of_one_size_are_one_point_of_the_power_law() -> None:
    whole = [_sized(n, n**1.5 * np.exp(e), s)
             for n in (5, 8, 12, 20) for s, e in enumerate((0.3, -0.3))]  # fmt: skip
    (found,) = size_findings(whole)
    assert (found.unit, found.estimate.n) == ("graph size", 4)
    assert found.estimate.estimate == pytest.approx(1.5)
    assert size_findings(whole[:6]) == []
    other = [(record, data | {"model": "other"}) for record, data in whole]
    names = [finding.name for finding in size_findings([*whole, *other])]
    assert names == ["transition_power_law, m, ring", "transition_power_law, other, ring"]


def test_means_over_seeds_say_so() -> None:
    found = columns.means([1.0, 2.0, 4.0]).estimate(method="t over seeds")
    assert (found.method, found.n) == ("t over seeds", 3)


def test_points_that_do_not_vary_have_that_reason_for_every_field() -> None:
    ring = graphs.draw("ring:5", 0)
    record = {"a/gram": np.zeros((1, 1, 5, 5)), "a/visits": np.ones((1, 5)), "a/finite": [True],
              "a/mass": np.ones((3, 5)) / 5, "a/nodes": np.array([0, 1, 2]), "a/losses": np.ones(3)}  # fmt: skip
    found = fields.values([record], ring, "a", (3,), None)
    reasons = {found.why(name) for name in ("dirichlet_energy", "dirichlet_position", "overlap_2")}
    assert reasons == {"zero_variance"}
