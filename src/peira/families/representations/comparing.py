"""What `peira compare` pairs between two runs: quantities by layer and context length, over contexts.

Invariant: a context of one run is paired only with the same context of the other, drawn from the same
seed by the same rules; runs whose contexts differ share no units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations.analysis import ENOUGH_SEEDS
from peira.families.representations.files import read_npz, trials_of
from peira.store.compare import Series

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

FIELDS = ("dirichlet_energy", "cluster_separation", "neighbour_mass", "loss")
DRAWN = ("graph", "walk", "condition", "experiment")
BY_SETTING = ("graphs", "branching", "vocabulary", "assignment")


def comparables(run: RunView) -> Iterator[Series]:
    """A series per field, layer and length of every condition, over contexts; from six seeds on the
    seed is the cluster."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    seeds: dict[str, int] = {}
    for record, data in trials_of(run):
        arrays = read_npz(run.artifact(record.number, "contexts.npz") or b"")
        for name in [name for name in FIELDS if f"natural.{name}" in arrays]:
            values = arrays[f"natural.{name}"].astype(float)
            units = [f"{_drawn(record, data)}, context {i}" for i in range(len(values))]
            seeds |= dict.fromkeys(units, record.seed)
            layers = list(data["results"]) if values.ndim == 3 else [""]
            by_layer = np.moveaxis(values, 1, 0) if values.ndim == 3 else values[None]
            for layer, part in zip(layers, by_layer, strict=True):
                for length, column in zip(data["lengths"], part.T, strict=True):
                    key = (name, data["condition"], layer, f"N {length}")
                    real = {u: v for u, v in zip(units, column.tolist(), strict=True) if v == v}
                    found.setdefault(key, {}).update(real)
    for (name, condition, layer, length), numbers in found.items():
        labels = {"trial": condition, "layer": layer.replace("_", " "), "length": length}
        cluster = {unit: seeds[unit] for unit in numbers}
        many = len(set(cluster.values())) >= ENOUGH_SEEDS
        yield Series(name, labels, numbers, cluster=cluster if many else {})


def _drawn(record: Record, data: Mapping[str, Any]) -> str:
    """What contexts were drawn from: equal contexts have it in common."""
    rules = [data.get(name) for name in DRAWN] + [data["config"].get(name) for name in BY_SETTING]
    return f"seed {record.seed}, N {data['lengths'][-1]}, {rules}"
