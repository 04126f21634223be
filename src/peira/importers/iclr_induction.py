"""`peira import iclr-induction DIR`: recorded activations of a large model on a 4×4 grid.

From the public project andyrdt/iclr_induction: `pca.npz` (activations of the last 200 words, class
means, plane), `sequence.json` (the words), `accuracies.npz` (mass on valid neighbours). The grid is
read off the walk itself. Invariant: the class means are recomputed and must agree with the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from peira.errors import InputError
from peira.families.representations import graphs, metrics
from peira.families.representations.files import contexts_npz
from peira.families.representations.outcome import outcome_of
from peira.families.representations.summary import plain
from peira.families.representations.walks import valid_share
from peira.importers.base import ImportedTrial, Notes
from peira.store.rundir import dumps

FAMILY = "representations"
ABOUT = "a folder with pca.npz, sequence.json and accuracies.npz"
LAYER = 25  # the input of layer 26 is the residual stream after block 25
SIDE = 4
MODEL = "meta-llama/Llama-3.1-8B"


@dataclass(frozen=True, eq=False)
class Recording:
    """What the files hold, in node order of the grid."""

    words: tuple[str, ...]
    nodes: Any
    activations: Any
    means: Any
    plane: Any
    mass: Any

    @property
    def geometry(self) -> metrics.Geometry:
        grid = graphs.lattice(SIDE, SIDE)
        return metrics.of_points(self.means, grid, grid.levels)


def read(directory: Path, notes: Notes) -> Iterator[ImportedTrial]:
    """The one context as a finished trial of `park`."""
    recording = load(directory)
    data = summary(recording)
    arrays = {"natural.dirichlet_energy": (("context", "layer", "length"), _cell(data, "dirichlet_energy")),
              "mass": (("context", "token"), recording.mass)}  # fmt: skip
    yield ImportedTrial(
        slug="park/Llama-3.1-8B/grid-4x4/recorded", seed=0,
        settings={"experiment": "park", "model": MODEL, "condition": "grid:4x4", "n_contexts": 2,
                  "layers": [LAYER], "lengths": [len(recording.nodes)], "window": 200},
        outcome=outcome_of(data), artifacts={"summary.json": dumps(data),
                                             "contexts.npz": contexts_npz(arrays)},
        subjects={"model": {"name": MODEL, "served_model": MODEL, "simulated": False}},
    )  # fmt: skip


def _cell(data: dict[str, Any], name: str) -> Any:
    return np.array([[[data["results"][f"layer_{LAYER}"][name]]]], dtype=float)


def load(directory: Path) -> Recording:
    """Read and check the files. Raises InputError naming what is missing or does not agree."""
    for name in ("pca.npz", "sequence.json", "accuracies.npz"):
        if not (directory / name).is_file():
            raise InputError(f"{directory / name}: no such file\n  allowed: {ABOUT}")
    try:
        words = [str(word) for word in json.loads((directory / "sequence.json").read_text("utf-8"))]
        with np.load(directory / "pca.npz", allow_pickle=False) as pca:
            activations, given, plane = (pca[k] for k in ("activations", "class_means", "pca_dirs"))
        with np.load(directory / "accuracies.npz", allow_pickle=False) as file:
            mass = file["all_accs"]
    except (OSError, ValueError, LookupError, TypeError, BadZipFile) as error:
        raise InputError(f"{directory}: cannot be read ({error})\n  allowed: {ABOUT}") from error
    order = grid_order(words)
    nodes = np.array([order.index(word) for word in words])
    recent = nodes[-len(activations) :]
    means = np.stack([activations[recent == n].mean(0) for n in range(len(order))])
    match = np.linalg.norm(means[:, None] - given[None], axis=-1).min(1)
    if match.max() > 1e-3 * np.linalg.norm(given, axis=1).max():
        raise InputError(f"{directory / 'pca.npz'}: class_means are not the means of activations")
    return Recording(tuple(order), nodes, activations, means, plane, mass)


def grid_order(words: list[str]) -> list[str]:
    """The words in row order of the 4×4 grid whose edges are the walk's steps."""
    names = sorted(set(words))
    index = {w: i for i, w in enumerate(names)}
    walked = np.zeros((len(names), len(names)))
    for a, b in pairwise(words):
        walked[index[a], index[b]] = walked[index[b], index[a]] = 1.0
    want = graphs.lattice(SIDE, SIDE).adjacency
    found = _match(walked, want, [])
    if found is None or len(names) != SIDE * SIDE:
        raise InputError("sequence.json: the walk is not one on a 4×4 grid")
    return [names[i] for i in found]


def _match(walked: Any, want: Any, placed: list[int]) -> list[int] | None:
    """Depth-first: the word at each cell such that every step walked is an edge of the grid."""
    cell = len(placed)
    if cell == len(want):
        return placed
    for word in range(len(walked)):
        fits = word not in placed and all(
            walked[word, other] <= want[cell, k] for k, other in enumerate(placed)
        )
        if fits and walked[word].sum() <= want[cell].sum():
            found = _match(walked, want, [*placed, word])
            if found is not None:
                return found
    return None


def summary(recording: Recording) -> dict[str, Any]:
    """The trial's summary: one context, so geometry without intervals; mass over 16 contexts."""
    from peira.stats.columns import means as over_contexts

    g, last = recording.geometry, recording.mass[:, -200:].mean(1)
    told = over_contexts(last)
    values: dict[str, Any] = {name: m.measure(g).value for name, m in metrics.FIELDS.items()}
    values |= {"dirichlet_energy_per_variance": values["dirichlet_energy_raw"] / g.trace,
               "plane_cosines": metrics.plane_cosines(g)}  # fmt: skip
    cell: dict[str, Any] = {**values, "neighbour_mass": told.mean,
                            "neighbour_mass_ci": [told.low, told.high], "neighbour_mass_n": told.n,
                            "css_per_token": [], "css_q": [], "css_r": []}  # fmt: skip
    for name in metrics.FIELDS:
        cell |= {f"{name}_ci": None, f"{name}_n": 1}
    early = recording.mass[:, 190:210].mean()
    steps = valid_share(recording.nodes, graphs.lattice(SIDE, SIDE).adjacency)
    curve = {"mean": [[values["dirichlet_energy"]]], "low": [[None]], "high": [[None]], "n": [[1]]}
    structure = graphs.lattice(SIDE, SIDE)
    whole: dict[str, Any] = plain({
        "experiment": "park", "question": "Do accuracy and graph geometry appear together?",
        "condition": "grid:4x4", "model": MODEL, "label": None, "n_contexts": 1, "layers": [LAYER],
        "lengths": [len(recording.nodes)], "window": 200, "graph": "grid:4x4", "walk": "uniform",
        "null": [], "config": {"model": MODEL, "n_contexts": 1},
        "answer": f"Recorded: on the 4×4 grid, layer {LAYER} of Llama-3.1-8B has energy R ="
                  f" {values['dirichlet_energy']:.3f} (one context, no interval) and puts"
                  f" {told.mean:.3f} [{told.low:.3f}, {told.high:.3f}] of its next-word probability on"
                  " true neighbours (n = 16 contexts).",
        "results": {f"layer_{LAYER}": {**cell, "by_length": {str(len(recording.nodes)): values}}},
        "findings": [], "reasons": {f"results.layer_{LAYER}.css_per_token": "single_unit"},
        "diagnostics": {"valid_steps": steps, "mass_190_209": early, "transition": {},
                        "claims": {"wording": "order-dependent", "cells": 0, "of": 0},
                        "nonfinite_contexts": {}},
        "curves": {"geometry": {"dirichlet_energy": {"null": 1.0, "natural": curve},
                                "overlap_2": {"natural": curve}},
                   "predictions": {n: {"natural": {"mean": [told.mean], "low": [told.low],
                                                   "high": [told.high]}}
                                   for n in ("neighbour_mass", "node_mass", "back_mass")},
                   "mixing": {"same": metrics.mixing(structure.steps(), structure.adjacency).value},
                   "population": {f"layer_{LAYER}": {"natural": g.gram / g.trace}},
                   "graph": {"name": "grid:4x4", "adjacency": structure.adjacency,
                             "clusters": structure.clusters, "layout": structure.layout}},
        "details": {"dtype": "recorded", "device": "recorded", "tokens_forwarded": 0},
        "versions": {},
    })  # fmt: skip
    return whole
