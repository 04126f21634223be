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
    results, claims = data["results"], data["diagnostics"]["claims"]
    energies = {key: cell.get("dirichlet_energy") for key, cell in results.items()}
    able = {key: energy for key, energy in energies.items() if energy is not None}
    best = min(able, key=lambda key: able[key]) if able else None
    cell = results[best] if best else next(iter(results.values()))
    told = ("experiment", "condition", "model", "label", "n_contexts", "answer")
    headline = (
        "dirichlet_energy",
        "dirichlet_energy_shuffled",
        "cluster_separation",
        "neighbour_mass",
    )
    return RepresentationOutcome(
        **{name: data[name] for name in told}, **{name: cell.get(name) for name in headline},
        n_layers=len(results), longest=data["lengths"][-1], best_layer=best, claims=claims["cells"],
        claim_wording=claims["wording"], tokens_forwarded=data["details"]["tokens_forwarded"],
    )  # fmt: skip
