"""The shipped tiny model meets its table; networks that were never trained meet nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peira.errors import InputError
from peira.families.representations import metrics
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.fields import values
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.summary import claims, whole_grams
from peira.families.representations.tiny import NAME, folder
from peira.families.representations.trial import Spec, resolve

torch = pytest.importorskip("torch", reason="the extra `local` (torch) is not installed")
pytest.importorskip("transformers", reason="the extra `local` is not installed")
pytestmark = pytest.mark.torch

TABLE = {  # mass, R of the best layer, R − shuffled's, population overlap
    "ring:10": (0.80, 0.70, -0.25, 0.95),
    "grid:4x4": (0.73, 0.78, -0.16, 0.93),
    "hex:3x4": (0.77, 0.73, -0.18, 0.90),
}


def _records(spec: Spec, count: int) -> list[dict[str, Any]]:
    experiment = Experiment()
    found: list[dict[str, Any]] = []
    for start in range(0, count, 32):
        found += experiment.measure(
            spec, [experiment.draw(spec, i) for i in range(start, min(start + 32, count))]
        )
    return found


@pytest.mark.parametrize("graph", list(TABLE))
def test_the_shipped_model_meets_its_table(graph: str) -> None:
    mass, energy, gap, overlap = TABLE[graph]
    settings = RepresentationSettings(
        experiment="css", model=NAME, graph=graph, walk="uniform", lengths=(20, 200), n_contexts=128
    )
    spec = resolve(settings, 42)
    records = _records(spec, 128)
    arms = {
        n: values(records, spec.structure, n, spec.lengths, None) for n in ("natural", "shuffled")
    }
    told = arms["natural"].predictions["neighbour_mass"].mean(0)
    assert told[1] >= mass and told[1] > told[0] + 0.2
    mean = {n: np.nanmean(v.at_end("dirichlet_energy"), 0) for n, v in arms.items()}
    best = int(mean["natural"].argmin())
    assert mean["natural"][best] <= energy
    assert mean["natural"][best] - mean["shuffled"][best] <= gap
    target = metrics.eigenspace(spec.structure.laplacian(), 2)
    assert target is not None
    found = [
        float(metrics.overlap_with(target, whole_grams(records, "natural", k).mean(0)))
        for k in range(4)
    ]
    assert max(found) >= overlap


def test_it_is_small_and_in_hugging_face_form() -> None:
    weights = folder() / "model.safetensors"
    assert weights.stat().st_size < 8_000_000
    assert {"config.json", "tokenizer.json", "training.json"} <= {
        p.name for p in folder().iterdir()
    }


def test_untrained_networks_show_no_structure() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from peira.families.representations.models import HookedLLM

    settings = RepresentationSettings(
        experiment="css", model=NAME, n_contexts=10, null=("shuffled", "untrained")
    )
    config = GPT2Config(vocab_size=167, n_embd=48, n_layer=3, n_head=4, n_positions=128,
                        bos_token_id=1, eos_token_id=None, pad_token_id=0)  # fmt: skip
    claimed = 0
    for seed in range(20):
        spec = resolve(settings, seed)
        torch.manual_seed(seed)
        spec.model = HookedLLM(GPT2LMHeadModel(config), spec.model.tokenizer, "untrained")
        spec.layers = (0, 1, 2)
        records = _records(spec, 10)
        arms = {n: values(records, spec.structure, n, spec.lengths, None)
                for n in ("natural", "shuffled", "untrained")}  # fmt: skip
        claimed += bool(claims(arms)[0].any())
    assert claimed <= 3


def _short_recipe() -> Any:
    from peira.families.representations.tiny.train import Recipe, Stage

    return Recipe(
        stages=(Stage(12, 4, 24, (0.0, 0.0)), Stage(4, 4, 24, (0.1, 0.5), rate=0.4)), warmup=4
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training in one go."""
    from peira.families.representations.tiny.train import train

    out = tmp_path_factory.mktemp("whole")
    train(0, out, _short_recipe(), keep=(6,))
    return out


@pytest.mark.parametrize("left_after", [12, 14])  # where one cycle ends, and within the next
def test_a_training_broken_off_goes_on_to_the_same_weights(
    left_after: int, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peira.families.representations.tiny.train import Training, train

    begun = Training(0, _short_recipe())
    for _ in range(left_after):
        begun.step()
    begun.keep(tmp_path / "training.pt")
    capsys.readouterr()
    train(0, tmp_path, _short_recipe(), every=0)
    told = capsys.readouterr().err
    assert f"goes on where it was left: step {left_after} of 16" in told
    assert "step 15 of 16, loss" in told and "done: step 16 of 16" in told
    made = [folder / "model.safetensors" for folder in (whole, tmp_path)]
    assert made[0].read_bytes() == made[1].read_bytes()
    curves = [
        json.loads((folder / "training.json").read_text())["loss_every_25_steps"]
        for folder in (whole, tmp_path)
    ]
    assert curves[0] == curves[1]
    assert (whole / "checkpoints" / "step_6" / "model.safetensors").is_file()
    assert not (tmp_path / "training.pt").exists()


def test_a_training_begun_with_another_seed_is_not_gone_on_with(tmp_path: Path) -> None:
    from peira.families.representations.tiny.train import Training, train

    begun = Training(1, _short_recipe())
    begun.step()
    begun.keep(tmp_path / "training.pt")
    with pytest.raises(InputError, match=r"training\.pt: a training begun with another seed"):
        train(0, tmp_path, _short_recipe())
