"""`peira models` and `peira doctor`: what they show, what they ask, what they say to mend."""

import json

import pytest

from peira.cli import main as cli
from peira.testing import Faults, FaultServer


@pytest.fixture(autouse=True)
def own_registry(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "XAI_API_KEY", "OPENROUTER_API_KEY", "LAB_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PEIRA_MODELS", str(tmp_path / "models.yaml"))
    monkeypatch.setenv("PEIRA_NO_DOTENV", "1")
    (tmp_path / "models.yaml").write_text("models: {}\n")
    return tmp_path / "models.yaml"


def peira(capsys, *words: str) -> tuple[int, str]:
    code = cli.run(list(words))
    return code, capsys.readouterr().out


def test_models_lists_filters_and_sorts(capsys):
    code, text = peira(capsys, "models", "--json", "--scored", "mmlu_pro", "--sort", "mmlu_pro")
    cards = json.loads(text)
    values = [card["scores"]["mmlu_pro"]["value"] for card in cards]
    assert code == 0 and len(values) > 40 and values == sorted(values, reverse=True)
    _, text = peira(capsys, "models", "qwen2.5")
    assert "Qwen2.5-72B-Instruct" in text and "gpt-4o" not in text


def test_one_model_is_shown_with_the_sources_of_its_scores(capsys):
    code, text = peira(capsys, "models", "claude-3-opus")
    assert code == 0 and "LMArena" in text and "ANTHROPIC_API_KEY" in text and "$15" in text
    assert "checked 2026-11-29" in text and "https://github.com/" in text


@pytest.mark.parametrize(
    ("words", "remedy"),
    [(["--sort", "beauty"], "allowed"), (["--provider", "opennai"], "allowed: openai"),
     (["gpt4o"], "did you mean gpt-4o"), (["--ready", "--provider", "xai"], "peira models lists all")],
)  # fmt: skip
def test_what_finds_nothing_is_refused_with_a_remedy(capsys, words, remedy):
    assert cli.run(["models", *words]) == 2
    assert remedy in capsys.readouterr().err


def test_doctor_needs_no_network_to_look_at_this_machine(capsys):
    code, text = peira(capsys, "doctor", "--no-network", "--json")
    checks = {check["what"]: check for check in json.loads(text)}
    assert code == 0 and checks["peira"]["state"] == "ok"
    assert "Python" in checks["peira"]["words"] and "extra ray" in checks


@pytest.mark.parametrize(("status", "words"), [(0, "answers"), (401, "make a new one")])
def test_doctor_makes_one_small_call_to_each_subject(
    capsys, own_registry, monkeypatch, status, words
):
    key = "sk-planted-ABCDEFGHIJ0123456789"
    monkeypatch.setenv("LAB_KEY", key)
    faults = Faults(status=status, message="bad key {key}")
    with FaultServer(faults).running() as server:
        own_registry.write_text(
            f"providers: {{lab: {{base_url: '{server.url}/v1', keys: [LAB_KEY]}}}}\n"
            "models: {ours: {at: lab/ours-7b}}\n"
        )
        code, text = peira(capsys, "doctor", "ours", "--no-network")
        assert len(server.log) == 1
    assert code == (3 if status else 0) and words in text and key not in text


@pytest.mark.parametrize(
    ("status", "words"), [(401, "api_key_env"), (404, "base_url"), (None, "start the server")]
)
def test_doctor_tells_of_a_server_of_ones_own_what_to_mend(capsys, tmp_path, status, words):
    with FaultServer(Faults(status=status or 0)).running() as server:
        url = f"{server.url}/v1" if status else "http://127.0.0.1:1/v1"
        (tmp_path / "study.yaml").write_text(
            "family: negotiation\nfixed: {models: [a, a]}\nseeds: [1]\n"
            f"subjects: {{a: {{base_url: '{url}'}}}}\n"
        )
        code, text = peira(capsys, "doctor", str(tmp_path / "study.yaml"), "--no-network")
    assert code == 3 and words in text and "None" not in text


def test_without_the_network_only_what_is_on_this_machine_is_asked(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # restored after the test
    study = tmp_path / "study.yaml"
    head = "family: negotiation\nfixed: {models: [a, a], max_rounds: 1}\nseeds: [1]\n"
    study.write_text(head + "subjects: {a: {model: gpt-4o}}\n")
    flags = ["--no-network", "--output-dir", str(tmp_path / "run")]
    assert cli.run(["run", str(study), *flags]) == 2
    assert "not on this machine" in capsys.readouterr().err
    with FaultServer().running() as server:
        study.write_text(head + f"subjects: {{a: {{base_url: '{server.url}/v1'}}}}\n")
        cli.run(["run", str(study), *flags])
        assert server.log


def test_doctor_says_which_name_was_meant_and_which_key_is_missing(capsys):
    code, text = peira(capsys, "doctor", "gpt-4p", "gpt-4o", "--no-network")
    assert code == 3 and "did you mean" in text and "export OPENAI_API_KEY" in text
