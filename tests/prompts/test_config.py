"""eval_config.yaml, settings and names: spec prompts §2, acceptance 6."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira import api
from peira.engine.plan import plan
from peira.errors import InputError, StudyError
from peira.families.prompts import family
from peira.families.prompts.settings import PromptsSettings, StatsSettings
from peira.families.prompts.slugs import decimal_label
from peira.study.dialects_eval import Changes, changed

REPOSITORY = Path(__file__).parents[2]
Config = Callable[..., Path]


def slugs(path: Path) -> list[str]:
    question = api.ask(path)
    return [
        question.family.slug(cell.settings, trial)
        for cell, trial in plan(question.study, question.family, question.cells())
    ]


def settings(**changes: Any) -> PromptsSettings:
    base = {
        "model": "m", "prompt_set": "s", "prompt_sets": {"s": {"control": None, "a": None}},
    }  # fmt: skip
    return PromptsSettings.model_validate(base | changes)


def test_the_shipped_config_has_the_guides_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert slugs(Path("config/eval_config.yaml")) == [
        "gpt-oss-120b-operational_only-tp1-tk50-mx1024-1024"
    ]


def test_the_built_in_config_is_the_shipped_one() -> None:
    built_in = Path(family.__file__).parent / "builtin" / "config"
    shipped = REPOSITORY / "config"
    names = [str(p.relative_to(shipped)) for p in shipped.rglob("*") if p.is_file()]
    same, different, missing = filecmp.cmpfiles(built_in, shipped, names, shallow=False)
    assert len(same) == len(names) == 5, (different, missing)


def test_the_shipped_config_is_found_from_any_folder(folder: Path) -> None:
    assert slugs(REPOSITORY / "config" / "eval_config.yaml")


@pytest.mark.parametrize(
    ("value", "label"),
    [(1.0, "1"), (0.9, "09"), (0.999, "0999"), (0.0, "0"), (0.25, "025"), (2.0, "2")],
)
def test_labels_are_the_shortest_decimal_without_its_dot(value: float, label: str) -> None:
    assert decimal_label(value) == label


@given(*[st.floats(0, 10, exclude_max=True).map(lambda x: round(x, 6))] * 2)
def test_labels_differ_where_values_differ(a: float, b: float) -> None:
    assert (decimal_label(a) == decimal_label(b)) == (a == b)


def test_trials_that_share_a_name_get_two_folders(
    run_study: Callable[..., api.RunReport], folder: Path
) -> None:
    trials = [{"temps": [0.0]}, {"temps": [1.0]}, {"decoding": {"top_p": 0.999}}]
    run_study(trials=trials, sizes={"closed_book_max_items": 3, "open_book_max_items": 0})
    names = sorted(path.name for path in (folder / "run" / "trials").iterdir())
    assert len(names) == 3
    assert sum("-tp0999-" in name for name in names) == 1
    assert sum("-x" in name for name in names) == 1


def test_a_long_name_is_cut_and_carries_the_identity(config: Config) -> None:
    (name,) = slugs(config(model_aliases={"a" * 120: "sim:respondent"}, model_id="a" * 120))
    assert len(name) == 100
    assert name[-10:-8] == "-x"


def test_several_seeds_are_told_apart(config: Config) -> None:
    assert [name[-3:] for name in slugs(config(seeds=[4, 5]))] == ["-s4", "-s5"]


def test_factors_are_crossed_in_the_documented_order(config: Config) -> None:
    sweep = {"top_p": [1.0, 0.9], "max_new_tokens": {"closed_book": [8, 16], "open_book": 32}}
    study = api.ask(config(sweep=sweep)).study
    assert list(study.factors) == ["model", "prompt_set", "top_p", "max_new_tokens"]
    assert study.factors["max_new_tokens"] == [
        {"closed_book": 8, "open_book": 32}, {"closed_book": 16, "open_book": 32},
    ]  # fmt: skip


def test_aliases_of_one_model_collapse(config: Config) -> None:
    path = config(model_aliases={"one": "sim:respondent"}, models=["one", "sim:respondent"])
    assert api.ask(path).study.factors["model"] == ["one"]
    assert slugs(path)[0].startswith("one-plain")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"promt_sets": 1}, "did you mean `prompt_sets`"),
        ({"sweep": {"modles": []}}, "did you mean `models`"),
        ({"stats": {"alhpa": 0.1}}, "did you mean `alpha`"),
        ({"stats": {"alpha": 2}}, "less than 1"),
        ({"temps": [0.0, 0.0]}, "different numbers"),
        ({"temps": [3.0]}, "less than or equal to 2"),
        ({"default_prompt_set": "plian"}, "did you mean `plain`"),
        ({"prompt_sets": {"plain": {"control": "c.txt"}}}, "at least one other arm"),
        ({"prompt_sets": {"plain": {"control": "c.txt", "both": "t.txt"}}}, "reserved"),
        ({"prompt_sets": {"plain": {"control": "c.txt", "a": "nope.txt"}}}, "existing file"),
        ({"samples_per_item": {0.0: 2, 1.0: 3}, "temps": [0.5]}, "a value for temperature"),
        ({"unsupported": {"strategy": "nli"}}, "nli_scorer"),
        ({"trials": {"model": "m"}}, "a valid list"),
        ({"trials": [{"prompt_set": "plian"}]}, "c.yaml:13:3: trials.0.prompt_set: 'plian'"),
        ({"seeds": ["a"]}, "seeds.0: 'a'"),
        ({"models": 5}, "models: 5"),
        ({"limits": {"budget": 3}}, "did you mean `budget_usd`"),
        ({"backend": "nonsense"}, "'fireworks'"),
        ({"condition": "tretment"}, "did you mean `treatment`"),
        ({"stats": {"primary": "accuracy"}}, "stats.primary: 'accuracy'"),
        ({"samples_per_item": 0}, "samples_per_item: 0"),
        ({"max_new_tokens": {"closed_book": 8}}, "max_new_tokens.open_book: missing"),
    ],
)
def test_a_bad_config_is_refused_with_line_and_remedy(
    config: Config, change: dict[str, Any], said: str
) -> None:
    with pytest.raises((StudyError, InputError)) as caught:
        api.ask(config(**change)).cells()
    message = str(caught.value)
    assert said in message
    assert "c.yaml" in message
    assert all(len(fault.splitlines()) <= 3 for fault in getattr(caught.value, "faults", [message]))


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe\x00"])
def test_an_empty_or_unreadable_prompt_is_refused(
    config: Config, folder: Path, content: bytes
) -> None:
    (folder / "t.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.txt"):
        api.ask(config()).cells()


def test_samples_are_found_by_the_temperatures_number() -> None:
    assert settings(samples_per_item={"0": 2, "1.0": 5}, temps=[0.0, 1]).samples(1.0) == 5
    assert settings(samples_per_item={"0.0": 3}, temps=[0.7]).samples(0.7) == 3


def test_fewer_resamples_than_the_rule_are_raised() -> None:
    stats = StatsSettings(bootstrap_samples=10, permutation_samples=10)
    assert (stats.bootstrap_samples, stats.permutation_samples) == (10_000, 9_999)


def test_identity_is_of_bytes_not_of_paths(config: Config, folder: Path) -> None:
    question = api.ask(config())
    before = question.family.identity(question.cells()[0].settings)
    (folder / "copy.txt").write_bytes((folder / "t.txt").read_bytes())
    moved = api.ask(config(prompt_sets={"plain": {"control": "c.txt", "treatment": "copy.txt"}}))
    assert moved.family.identity(moved.cells()[0].settings) == before
    (folder / "copy.txt").write_text("Other words.")
    changed_bytes = api.ask(folder / "c.yaml")
    assert changed_bytes.family.identity(changed_bytes.cells()[0].settings) != before


def test_analysis_prices_paths_and_mode_are_outside_the_identity(config: Config) -> None:
    def identity(**changes: Any) -> Any:
        question = api.ask(config(**changes))
        return question.family.identity(question.cells()[0].settings)

    assert identity() == identity(
        stats={"alpha": 0.01}, pricing={"input_per_million": 3, "output_per_million": 4},
        condition="treatment", max_concurrent_requests=3, paths={"results_dir": "elsewhere"},
    )  # fmt: skip
    assert identity() != identity(top_p=0.5)
    assert identity() != identity(stop=["\n"])


def test_prices_and_provider_settings_reach_the_subject(config: Config) -> None:
    study = api.ask(
        config(
            model_id="m1", backend="openai",
            provider={"name": "openai", "allow_drop": ["top_k"], "batch": {"parts": 3}},
            pricing={"providers": {"openai": {"m1": {"input_per_mtok": 1, "output_per_mtok": 2}}}},
        )
    ).study  # fmt: skip
    assert study.subjects["m1"]["provider"] == "openai"
    assert study.subjects["m1"]["price"]["input_per_mtok"] == 1
    assert "batch" not in study.subjects["m1"]  # only in batch mode


def test_a_command_line_replaces_axes_and_filters_trials() -> None:
    data = {
        "model_id": "a", "prompt_sets": {"p": {}, "q": {}}, "sweep": {"models": ["a", "b"]},
    }  # fmt: skip
    new = changed(data, Changes(models=("c",), temps=(0.5,)))
    assert new["sweep"]["models"] == ["c"]
    assert new["temps"] == [0.5]
    assert "sweep" not in changed(data, Changes(no_sweep=True))
    listed = data | {"trials": [{"prompt_set": "p"}, {"prompt_set": "q", "temps": [1.0]}]}
    assert len(changed(listed, Changes(prompt_sets=("q",)))["trials"]) == 1
    assert len(changed(listed, Changes(temps=(1.0,)))["trials"]) == 1
