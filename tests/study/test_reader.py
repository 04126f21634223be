"""A bad study is refused before the first trial, every fault with its line and remedy."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira import api
from peira.errors import InputError, StudyError
from peira.study.reader import read_study

TOY = Path(__file__).parents[1] / "engine" / "toy.py"


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(StudyError) as caught:
        api.ask(write(folder, text)).cells()
    return caught.value.faults


def test_every_fault_is_reported_at_once_with_line_and_remedy(tmp_path):
    found = faults(
        tmp_path,
        "family: negotiation\nreplicate: 3\nlimits:\n  max_paralel: 2\n  retries: many\n",
    )
    text = "\n".join(found)
    assert len(found) == 3
    assert "study.yaml:2:1: replicate: unknown key" in text
    assert "did you mean `replicates`?" in text
    assert "study.yaml:4:3" in text
    assert "study.yaml:5:3" in text
    assert all(len(fault.splitlines()) <= 3 for fault in found)


def test_settings_of_the_family_point_at_the_study_line(tmp_path):
    found = faults(
        tmp_path,
        f"family: {TOY}:Toy\nfixed:\n  calls: lots\n  colour: red\nfactors:\n  level: [0, high]\n",
    )
    text = "\n".join(found)
    assert "study.yaml:3:3: fixed.calls: 'lots'" in text
    assert "study.yaml:4:3: fixed.colour: unknown key" in text
    assert "study.yaml:6:14: factors.level.1: 'high'" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("family: [unclosed", "not valid YAML"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("- just\n- a list\n", "not a study"),
        ("family: nonesuch\n", "unknown"),
        ("family: missing.py:Thing\n", "no such file"),
        ("", "not a study"),
    ],
)
def test_unreadable_files_are_refused_in_words(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        api.ask(write(tmp_path, text))


def test_missing_file_names_the_nearest_one(tmp_path):
    write(tmp_path, "family: negotiation\n", "scaling.yaml")
    with pytest.raises(InputError, match=r"did you mean `scaling\.yaml`"):
        read_study(tmp_path / "scalling.yaml")


def test_the_guides_config_is_read_as_it_stands(tmp_path):
    config = {
        "experiment_id": 0, "weak_model": "gemini-1-5-pro", "strong_model": "grok-4-0709",
        "models": ["gemini-1-5-pro", "grok-4-0709"], "model_order": "weak_first",
        "competition_level": 0.5, "run_number": 1, "num_items": 5, "max_rounds": 10,
        "random_seed": 42, "output_dir": "experiments/results/x/run_1",
    }  # fmt: skip
    study, _ = read_study(write(tmp_path, json.dumps(config, indent=4), "config_0.json"))
    assert (study.family, study.name, study.trial_seeds) == ("negotiation", "config_0", [42])
    assert study.fixed["models"] == ["gemini-1-5-pro", "grok-4-0709"]
    with pytest.raises(StudyError, match=r"(?s)config_1\.json:\d+.*did you mean `num_items`"):
        read_study(write(tmp_path, json.dumps(config | {"num_item": 5}, indent=4), "config_1.json"))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_text_crashes_the_reader(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "study.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_study(path)
    except InputError as error:
        assert str(error)
