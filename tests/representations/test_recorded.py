"""Recorded activations of a large model give the specification's numbers; older results import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peira.cli.main import run as peira
from peira.errors import InputError
from peira.importers import icl_influence, iclr_induction
from peira.importers.base import Notes
from peira.store.records import RunView


def test_llama_on_a_grid(shared_data: Path) -> None:
    recording = iclr_induction.load(shared_data / "iclr_induction")
    data = iclr_induction.summary(recording)
    cell = data["results"]["layer_25"]
    assert data["diagnostics"]["valid_steps"] == 1
    assert cell["dirichlet_energy_per_variance"] == pytest.approx(2.59078, abs=2e-5)
    assert cell["dirichlet_energy"] == pytest.approx(0.80962, abs=1e-5)
    assert cell["plane_cosines"] == pytest.approx([0.98621, 0.98202], abs=2e-5)
    assert data["diagnostics"]["mass_190_209"] == pytest.approx(0.7637, abs=5e-5)
    assert cell["neighbour_mass"] == pytest.approx(0.9017, abs=5e-5)
    half = (cell["neighbour_mass_ci"][1] - cell["neighbour_mass_ci"][0]) / 2
    assert half == pytest.approx(0.0087, abs=5e-5)


def test_it_imports_as_a_run(shared_data: Path, tmp_path: Path) -> None:
    source = str(shared_data / "iclr_induction")
    assert peira(["import", "iclr-induction", source, "--output-dir", str(tmp_path / "r")]) == 0
    assert peira(["analyse", str(tmp_path / "r")]) == 0
    with RunView(tmp_path / "r") as run:
        assert run.tally.done == 1


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pca\.npz"):
        iclr_induction.load(tmp_path)


def test_older_results_become_strict(tmp_path: Path) -> None:
    folder = tmp_path / "old" / "exp1"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(
        '{"model": "gpt2", "config": {"n_contexts": 10, "layers": [0]}, "results": {"layer_0":'
        ' {"css_per_token": [0.1, NaN], "dirichlet_energy": Infinity, "cluster_separation": 2.3}}}'
    )
    (made,) = icl_influence.read(tmp_path / "old", Notes())
    data = json.loads(made.artifacts["summary.json"])
    assert data["results"]["layer_0"]["cluster_separation"] == 2.3
    assert data["results"]["layer_0"]["dirichlet_energy"] is None
    assert data["reasons"]["results.layer_0.dirichlet_energy"] == "nonfinite_in_source"
    assert (
        peira(
            ["import", "icl-influence", str(tmp_path / "old"), "--output-dir", str(tmp_path / "r")]
        )
        == 0
    )
    (folder / "results.json").write_text("[]")
    notes = Notes()
    assert list(icl_influence.read(tmp_path / "old", notes)) == []
    assert "no results.layer_<k>" in notes.warnings[0]
