"""Names, keys and options: where a name leads, and what is refused with which remedy."""

import json
from importlib.util import find_spec

import pytest

from peira.errors import InputError, PeiraError, StudyError
from peira.subjects.catalogue import SCALES, catalogue
from peira.subjects.prices import listed_price
from peira.subjects.registry import capability, describe_model, open_model

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "XAI_API_KEY",
        "OPENROUTER_API_KEY", "FIREWORKS_API_KEY", "MISTRAL_API_KEY")  # fmt: skip
GUIDES = (
    "claude-3-5-sonnet", "claude-3-7-sonnet", "claude-3-opus", "claude-3-haiku",
    "claude-3-5-haiku", "gpt-4o", "gpt-4o-mini", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-4", "gpt-5",
    "gpt-5-nano", "gpt-5-mini", "o1", "o3", "gemini-1-5-pro", "gemini-2-0-flash",
    "gemini-2-5-pro", "grok-4-0709", "Qwen2.5-72B-Instruct", "Qwen2.5-32B-Instruct",
    "Qwen2.5-14B-Instruct", "Qwen2.5-3B-Instruct", "gpt-oss-120b", "claude-4-sonnet",
    "gemma-2-27b", "llama-3-1-405b",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_keys(monkeypatch, tmp_path):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PEIRA_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("name", GUIDES)
def test_every_model_the_guides_name_is_known_and_priced(name):
    card = describe_model(name)
    assert card.context_window and card.max_output
    if name not in ("Qwen2.5-32B-Instruct", "Qwen2.5-14B-Instruct", "Qwen2.5-3B-Instruct"):
        assert card.price is not None, name


def test_every_model_of_the_recorded_games_has_a_capability(shared_data):
    games = json.loads((shared_data / "bargain" / "index.json").read_text())
    names = {name for game in games for name in game["models"]}
    assert len(names) > 10
    assert {name for name in names if not capability(name)} == set()


def test_an_id_of_openrouter_finds_the_entry_with_or_without_its_prefix():
    for name in ("deepseek/deepseek-r1", "openrouter/deepseek/deepseek-r1", "deepseek-r1"):
        card = describe_model(name)
        assert (card.provider, card.model) == ("openrouter", "deepseek/deepseek-r1")
        assert card.allowance and card.scores


def test_a_score_from_memory_says_so_and_a_checked_one_says_when():
    remembered = catalogue().models["claude-3-haiku"].scores["mmlu_pro"]
    assert str(remembered).startswith("~") and remembered.remembered
    params = catalogue().models["gpt-oss-120b"].scores["params_b"]
    assert str(params) == "116.8" and params.checked == "2026-11-29"


def test_every_score_has_a_source_and_a_date():
    entries = catalogue().models.values()
    scores = [(scale, s) for entry in entries for scale, s in entry.scores.items()]
    assert len(scores) > 100
    for scale, score in scores:
        assert scale in SCALES and score.source and score.date, (scale, score)
        assert score.remembered or score.url.startswith("https://"), (scale, score)
        low, high = {"mmlu_pro": (10, 100), "arena_elo": (900, 1600), "params_b": (0.1, 2000)}[
            scale
        ]
        assert low <= score.value <= high
    assert sum(score.remembered for _, score in scores) <= 2


def test_most_entries_have_a_listed_price():
    priced = [
        listed_price(name, provider.prices, provider.prefix + entry.model) is not None
        for name, entry in catalogue().models.items()
        if (provider := catalogue().providers[entry.provider]).prices
    ]
    assert sum(priced) / len(priced) > 0.8


def test_without_the_makers_key_openrouters_is_used(monkeypatch):
    assert describe_model("claude-3-opus").provider == "anthropic"
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-0123456789abcdef0123")
    card = describe_model("claude-3-opus")
    assert (card.provider, card.model) == ("openrouter", "anthropic/claude-3-opus")
    assert describe_model("openai/gpt-4o-mini").model == "openai/gpt-4o-mini"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef0123")
    assert describe_model("claude-3-opus").model == "claude-3-opus-20240229"
    assert describe_model("anthropic/claude-3-opus").provider == "anthropic"


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [("meta-llama/llama-9", "openrouter", "meta-llama/llama-9"), ("ollama/llama3:8b", "local", "llama3:8b"),
     ("fireworks/qwen3-8b", "fireworks", "accounts/fireworks/models/qwen3-8b"),
     ("openrouter/x/y", "openrouter", "x/y"), ("GPT-4O", "openai", "gpt-4o-2024-08-06")],
)  # fmt: skip
def test_where_a_name_leads(name, provider, model):
    card = describe_model(name)
    assert (card.provider, card.model) == (provider, model)


def test_two_names_of_one_served_model_are_one_subject():
    assert describe_model("claude-4-sonnet").model == describe_model("claude-sonnet-4").model


def test_a_key_is_never_sent_to_another_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef0123456789")
    route = open_model("gpt-4o", {"base_url": "http://127.0.0.1:9/v1"})
    assert "Authorization" not in route.wire.headers
    named = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "OPENAI_API_KEY"}
    assert "Authorization" in open_model("gpt-4o", named).wire.headers
    assert "sk-0123" not in repr(open_model("gpt-4o", named))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("gpt-4p", {}, "did you mean gpt-4"), ("claude-3-opus", {}, "export ANTHROPIC_API_KEY"),
     ("x", {"base_url": "ftp://h"}, "http://HOST"), ("x", {"api_key": "sk-1"}, "api_key_env"),
     ("x", {"base_url": "http://u:p@h/v1"}, "without user and password"),
     ("x", {"headers": {"Authorization": "Bearer k"}}, "env:VARIABLE"),
     ("gpt-4o", {"provider": "nope"}, "allowed: openai"), ("gpt-4o", {"timeot": 3}, "unknown key"),
     ("gpt-4o", {"allow_drop": ["temprature"]}, "temperature"),
     ("gpt-4o", {"sampling": {"temp": 1}}, "temperature"), ("hf:./nowhere", {}, "config.json"),
     ("script:nowhere.json", {}, "a JSON file of answers"),
     ("pydantic-ai:cohere:command-r", {}, "peira[providers]")],
)  # fmt: skip
def test_wrong_names_and_options_say_what_to_do(name, options, words):
    if "providers" in words and find_spec("pydantic_ai"):
        pytest.skip("the extra `providers` is installed")
    with pytest.raises(PeiraError) as caught:
        open_model(name, options)
    assert isinstance(caught.value, InputError) and caught.value.exit_code == 2
    assert words in str(caught.value) and len(str(caught.value).splitlines()) <= 3


def test_all_faults_of_one_subject_are_reported_at_once():
    with pytest.raises(StudyError) as caught:
        open_model("gpt-4o", {"timeout": -1, "max_output": 0, "colour": "red"})
    assert len(caught.value.faults) == 3


def test_an_unknown_price_under_a_budget_is_refused(monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-0123456789abcdef0123")
    assert open_model("meta-llama/llama-9").price is None
    with pytest.raises(InputError, match="input_per_million"):
        open_model("meta-llama/llama-9", budgeted=True)
    stated = {"price": {"input_per_million": 1, "output_per_million": 2}}
    assert open_model("meta-llama/llama-9", stated, budgeted=True).price is not None


def test_a_users_file_adds_and_overrides(monkeypatch, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "providers: {lab: {base_url: 'http://lab.invalid/v1', keys: [LAB_KEY]}}\n"
        "models:\n  ours: {at: lab/ours-7b, scores: {params_b: 7}}\n"
        "  gpt-4o: {scores: {mmlu_pro: {value: 70, source: us, date: '2026-01'}}}\n"
    )
    monkeypatch.setenv("PEIRA_MODELS", str(file))
    assert describe_model("ours").keys == ("LAB_KEY",)
    assert capability("gpt-4o") == {"mmlu_pro": 70}
    assert describe_model("gpt-4o").model == "gpt-4o-2024-08-06"
    file.write_text("models: {bad: {at: openai/x, windw: 3}}\n")
    with pytest.raises(InputError, match=r"models\.bad\.windw"):
        describe_model("bad")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[1]", r"mine.yaml: \[1\]"),
        ("modles: {x: {at: openai/x}}", "'modles'"),
        ("models: [a]", "models: "),
        ("models: {gpt-4o: 3}", "models.gpt-4o: 3"),
        ("models: {1: {at: openai/x}}", "models.1: "),
        ("presets: {plain: 3}", "presets.plain: 3"),
        ("sources: {arena: text}", "sources.arena: 'text'"),
        ("models: {gpt-4o: {preset: [x]}}", "models.gpt-4o.preset: "),
        ("models: {gpt-4o: {scores: {mmlu_pro: [70, [x]]}}}", "models.gpt-4o.scores.mmlu_pro: "),
        ("models: {gpt-4o: {scores: {mmlu_pro: .nan}}}", "scores.mmlu_pro.value: "),
    ],
)
def test_a_users_file_of_any_shape_is_refused_by_file_and_path(monkeypatch, tmp_path, text, where):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    monkeypatch.setenv("PEIRA_MODELS", str(file))
    with pytest.raises(InputError, match=where) as caught:
        describe_model("gpt-4o")
    assert str(file) in str(caught.value)


def test_reasoning_models_fix_their_sampling_and_get_room_to_think(monkeypatch):
    from peira.subjects.subject import Sampling

    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef0123456789")
    route = open_model("o3")
    assert route.fit is not None
    assert route.fit(Sampling(temperature=1.0, max_tokens=600)).max_tokens == 600 + 8192
    with pytest.raises(InputError, match="allow_drop"):
        route.fit(Sampling(temperature=0.2))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"sampling": {"stop": 3}}, "stop: a valid list"),
        ({"sampling": {"temperature": "hot"}}, "temperature: a valid number"),
        ({"sampling": {"max_tokens": 1.5}}, "max_tokens: a valid integer"),
        ({"sampling": {"warmth": 1}}, "not 'warmth'"),
        ({"quirks": ["typo"]}, "completion_limit"),
        ({"scores": {"mmlu_pro": float("inf")}}, "finite"),
        ({"timeout": float("inf")}, "finite"),
        ({"price": "cheap"}, "price: 'cheap'\n  allowed: free, or {input_per_million"),
        ({"price": {"input": 1}}, "price.input: unknown key\n  allowed: input_per_million"),
        ({"batch": {"size": 1}}, "batch.size: unknown key\n  allowed: kind, parts"),
        ({"base_url": "http://h/v1?version=2"}, "paths can be added"),
        ({"headers": {"x": "a\r\nb: c"}}, "on one line"),
        ({"extra_body": {"stream": True}}, "not 'stream'"),
        ({"api_key_env": "sk-live-123"}, "not shown\n  allowed: the name of an environment"),
    ],
)
def test_an_option_that_could_not_work_is_refused_before_the_run(option, told):
    with pytest.raises(InputError) as refused:
        open_model("m", {"base_url": "http://h/v1", "price": "free", **option})
    text = str(refused.value)
    assert told in text and "sk-live" not in text and "literal" not in text and "bool" not in text


def test_one_stop_word_may_stand_alone():
    route = open_model("m", {"base_url": "http://h/v1", "sampling": {"stop": "END"}})
    assert route.sampling == {"stop": ("END",)}
