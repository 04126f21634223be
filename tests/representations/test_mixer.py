"""The simulated model's planted truths are recovered, and nothing is found where none was planted."""

from __future__ import annotations

import numpy as np
import pytest

from peira.families.representations import metrics
from peira.families.representations.experiments.hierarchical import class_losses
from peira.families.representations.experiments.superposition_collapse import (
    SuperpositionCollapse,
    aligned,
)
from peira.families.representations.fields import values
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.summary import claims, losses_of, potentials
from peira.families.representations.trial import Spec, record_arms, resolve
from peira.stats import columns


def spec_of(name: str, seed: int = 42, **settings: object) -> Spec:
    given = {"experiment": "css", "model": name, **settings}
    return resolve(RepresentationSettings.model_validate(given), seed, name)


@pytest.mark.parametrize(("alpha", "sigma"), [(1, 0), (0.5, 0), (1, 1)])
def test_energy_is_what_the_mixture_says(alpha: float, sigma: float) -> None:
    name = f"sim:mixer,alpha={alpha},sigma={sigma},d=4096,layers=2"
    spec = spec_of(name, graph="ring:10", lengths=(400,), layers=(1,), window=0, n_contexts=12)
    drawn = [spec.draw(i) for i in range(12)]
    records = record_arms(spec, drawn, lambda c: c.arms)
    found = values(records, spec.structure, "natural", spec.lengths, None).at_end(
        "dirichlet_energy"
    )
    lap = spec.structure.laplacian()
    gaps = []
    for context, record, energy in zip(drawn, records, found[:, 0], strict=True):
        counts = record["natural/visits"][0]
        # Sequence position 0 is in no mean, so the walk's first step counts from its second token.
        law = metrics.predecessor_law([int(n) for n in context.nodes], 10)
        mixed = np.eye(10) + alpha * law
        gram = metrics.centred(mixed @ mixed.T + sigma**2 * np.diag(1 / counts))
        gaps.append(abs(energy - float(metrics.energy_ratio(lap, gram))))
    assert max(gaps) < 0.015


def test_layer_zero_holds_nothing_and_nothing_is_claimed_there() -> None:
    claimed = 0
    for seed in range(20):
        spec = spec_of("sim:mixer,d=64,layers=2,sigma=1", seed, layers=(0,), n_contexts=8, null=("shuffled",))  # fmt: skip
        records = _with_nulls(spec, 8)
        arms = {n: values(records, spec.structure, n, spec.lengths, None)
                for n in ("natural", "shuffled")}  # fmt: skip
        claimed += bool(claims(arms)[0].any())
    assert claimed <= 3  # 6 of 200: benchmarks/sims_representations.py


def _with_nulls(spec: Spec, count: int) -> list[dict[str, object]]:
    from peira.families.representations.experiments.base import Experiment

    experiment = Experiment()
    return experiment.measure(spec, [experiment.draw(spec, i) for i in range(count)])


def test_mixing_is_claimed_as_structure_in_upper_layers() -> None:
    spec = spec_of("sim:mixer,d=128", n_contexts=12, null=("shuffled", "untrained"))
    records = _with_nulls(spec, 12)
    arms = {
        n: values(records, spec.structure, n, spec.lengths, None)
        for n in ("natural", "shuffled", "untrained")
    }
    claimed, wording = claims(arms)
    assert wording == "structure" and claimed[-1, -1] and not claimed[0, -1]


def _sensitivity(css: float, seed: int, contexts: int) -> columns.Sensitivity:
    spec = spec_of(f"sim:mixer,css={css},d=64,layers=2", seed, layers=(1,), n_contexts=contexts)
    records = record_arms(spec, [spec.draw(i) for i in range(contexts)], lambda c: c.arms)
    found = values(records, spec.structure, "natural", spec.lengths, None)
    return columns.sensitivity(losses_of(records, 50), potentials(found)["structure"])


def test_planted_sensitivity_is_found_at_its_tokens() -> None:
    found = _sensitivity(1.0, 42, 100)
    q = columns.q_values(found.p)[0]
    assert (q[10:20] < 0.05).all()
    others = np.delete(q, range(10, 20))
    assert (others[np.isfinite(others)] < 0.05).mean() <= 0.05


def test_no_sensitivity_is_found_where_none_is_planted() -> None:
    hits = sum(bool((columns.q_values(_sensitivity(0.0, s, 24).p) < 0.05).any()) for s in range(12))
    assert hits <= 3


@pytest.mark.parametrize(("commit", "covariance", "within"), [(0, 0.0, 0.03), (1, 0.25, 0.05)])
def test_secret_commitment_and_half_time(commit: int, covariance: float, within: float) -> None:
    name = f"sim:mixer,commit={commit},d=128,layers=2"
    spec = spec_of(
        name, 1, experiment="superposition_collapse", layers=(1,), n_contexts=40, lengths=(60,)
    )
    experiment = SuperpositionCollapse()
    records = experiment.measure(spec, [experiment.draw(spec, i) for i in range(40)])
    summary = experiment.summarise(spec, records)
    told = summary.results["layer_1"]
    assert told["commitment_covariance"]["estimate"] == pytest.approx(covariance, abs=within)
    if commit == 0:
        assert told["half_time"]["estimate"] == pytest.approx(4, abs=1)


def test_overflow_is_null_with_a_reason_and_counted() -> None:
    spec = spec_of("sim:mixer,overflow=0.3,d=32", n_contexts=20)
    records = _with_nulls(spec, 20)
    found = values(records, spec.structure, "natural", spec.lengths, None)
    energy = found.at_end("dirichlet_energy")
    bad = ~np.isfinite(energy[:, 1])
    assert 0 < bad.sum() < 20 and np.isfinite(energy[:, 0]).all()
    assert found.reasons["dirichlet_energy"]["nonfinite"] >= bad.sum()


def test_a_sink_at_position_zero_changes_no_geometry() -> None:
    plain, sunk = (spec_of(f"sim:mixer,d=64{x}", n_contexts=4) for x in ("", ",sink=500"))
    energies = [
        values(record_arms(s, [s.draw(i) for i in range(4)], lambda c: c.arms), s.structure, "natural",
               s.lengths, None).at_end("dirichlet_energy")[:, 0]
        for s in (plain, sunk)
    ]  # fmt: skip
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)


def test_the_twin_is_another_network_at_layer_zero_too() -> None:
    spec = spec_of("sim:mixer,d=64,layers=2,sigma=1", layers=(0,), n_contexts=2, null=("shuffled", "untrained"))  # fmt: skip
    records = _with_nulls(spec, 2)
    assert not np.allclose(records[0]["natural/gram"], records[0]["untrained/gram"])


def test_commitment_is_followed_from_each_contexts_own_deciding_step() -> None:
    values = np.zeros((2, 3, 40))
    values[0, :, 12:], values[1, :, 15:] = (
        1.0,
        1.0,
    )  # the second found its way out three words later
    followed = aligned(values, np.array([12, 15]))
    assert followed.shape == (2, 3, 21) and (followed == 1).all()
    assert np.isnan(aligned(values, np.array([30, 30]))[..., 10:]).all()


@pytest.mark.parametrize("length", [2, 6])
def test_a_deciding_step_fits_into_the_shortest_walk(length: int) -> None:
    spec = spec_of("sim:mixer,d=16,layers=2", experiment="superposition_collapse",
                   lengths=(length,), n_contexts=20)  # fmt: skip
    for index in range(20):
        context = SuperpositionCollapse().draw(spec, index)
        first, second = context.graphs
        for q in (0.25, 0.5, 0.75):
            arm = context.arms[f"switch-{q}"]
            assert arm.length == length and arm.decided is not None and arm.decided < length
            own, other = (first, second) if arm.truth > 0 else (second, first)
            step = tuple(arm.node_of[[arm.decided - 1, arm.decided]])
            assert own[step] == 1 and other[step] == 0


def test_without_bos_the_first_word_is_still_a_first_visit() -> None:
    spec = spec_of(
        "sim:mixer,d=16,layers=2", experiment="hierarchical", lengths=(20,), n_contexts=5
    )
    records = _with_nulls(spec, 5)
    found = class_losses(spec, records)
    for index, (record, row) in enumerate(zip(records, found, strict=True)):
        nodes, seen = spec.draw(index).nodes, set()
        first = [not (n in seen or seen.add(n)) for n in nodes.tolist()]  # type: ignore[func-returns-value]
        assert record["natural/nodes"][0] == -1 and first[1] == (nodes[1] != nodes[0])
        assert row[0] == pytest.approx(np.nanmean(record["natural/losses"][first]))
