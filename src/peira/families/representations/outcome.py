"""What one trial leaves: headline numbers here; everything else in its artifacts.

Artifacts: `summary.json` (results, findings, diagnostics, reasons, curves), `contexts.npz`
(per-context values, named axes), `raw_data/gram.npz` (records: new metrics need no model).
"""

from __future__ import annotations

from typing import Any

from peira.families.family import Outcome


class RepresentationOutcome(Outcome):
    """Headline numbers, at the longest N, of the layer with the lowest energy."""

    experiment: str
    condition: str
    model: str
    label: str | None
    n_contexts: int
    n_layers: int
    longest: int
    best_layer: str | None
    dirichlet_energy: float | None
    dirichlet_energy_shuffled: float | None
    cluster_separation: float | None
    neighbour_mass: float | None
    claims: int
    claim_wording: str
    tokens_forwarded: int
    answer: str


def outcome_of(data: dict[str, Any]) -> RepresentationOutcome:
    """The headline of a trial's summary."""
    results = data["results"]
    able = {
        k: v["dirichlet_energy"]
        for k, v in results.items()
        if v.get("dirichlet_energy") is not None
    }
    best = min(able, key=lambda k: able[k]) if able else None
    cell = results[best] if best else next(iter(results.values()))
    claims = data["diagnostics"]["claims"]
    return RepresentationOutcome(
        experiment=data["experiment"], condition=data["condition"], model=data["model"],
        label=data["label"], n_contexts=data["n_contexts"], n_layers=len(results),
        longest=data["lengths"][-1], best_layer=best, dirichlet_energy=cell.get("dirichlet_energy"),
        dirichlet_energy_shuffled=cell.get("dirichlet_energy_shuffled"),
        cluster_separation=cell.get("cluster_separation"), neighbour_mass=cell.get("neighbour_mass"),
        claims=claims["cells"], claim_wording=claims["wording"],
        tokens_forwarded=data["details"]["tokens_forwarded"], answer=data["answer"],
    )  # fmt: skip
