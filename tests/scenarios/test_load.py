"""Scenario folders: strict, every fault at once, each with its line and the nearest known key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peira.errors import InputError, StudyError
from peira.families.scenarios.examples import FOLDER, names, write_scenario
from peira.families.scenarios.load import load_scenario
from tests.scenarios.conftest import LEVEL, QUALITY
from tests.scenarios.conftest import write_scenario as write

METRIC = {"description": "d", "type": "int", "extraction_method": "regex", "pattern": r"(\d+)"}


def faults(folder: Path) -> list[str]:
    with pytest.raises(StudyError) as raised:
        load_scenario(folder)
    return raised.value.faults


def test_every_example_loads() -> None:
    for name in names():
        assert load_scenario(FOLDER / name).actors
    assert len(names()) == 5


def test_five_errors_in_three_files_give_five_messages(tmp_path: Path) -> None:
    write(tmp_path, turn=4, actors={"a": {"gaols": "x"}, "b": {"control": "robot"}},
          metrics={"x": METRIC | {"patern": "y"}}, context_window_size="3")  # fmt: skip
    found = faults(tmp_path)
    assert len(found) == 5
    text = "\n".join(found)
    assert "did you mean goals?" in text and "did you mean pattern?" in text
    assert "did you mean turns?" in text and "scenario.yaml:6: turn" in text
    assert "scenario.yaml:7: context_window_size" in text and "a whole number" in text
    assert "actors/b.yaml:3: control" in text


def test_what_is_sound_is_checked_beside_what_is_wrong(tmp_path: Path) -> None:
    write(
        tmp_path, turns=None, turn=4, name="",
        success_criteria={"a": {"levle": ">> 1"}, "b": {"cooperation_level": "=> 1"}},
        end_conditions=[{"name": "e", "when": {"cooperation_level": "high"}}],
        communication={"bilateral": True}, enable_coalition_formation=False,
    )  # fmt: skip
    told = sorted(line.split("\n")[0].split(": ", 1)[1] for line in faults(tmp_path))
    assert told == [
        'communication: {"bilateral": true}', "end_conditions[0].when.cooperation_level: high",
        'name: ""', "success_criteria.a.levle: >> 1", "success_criteria.a.levle: levle",
        "success_criteria.b.cooperation_level: => 1", "turn: unknown key",
    ]  # fmt: skip


def test_a_wrong_key_may_hold_anything_that_divides_a_path(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "scenario.yaml").write_text('{"sim:skill=0.5": null, "a[0].b": 1, "outcome": {}}')
    text = "\n".join(faults(tmp_path))
    assert all(f"{key}: unknown key" in text for key in ("sim:skill=0.5", "a[0].b", "outcome"))


def test_a_fault_is_not_told_again_by_those_who_name_what_it_broke(tmp_path: Path) -> None:
    write(
        tmp_path, actors={"a": {"short_name": "../x"}, "b": {}}, metrics={"x": LEVEL | {"type": "real"}},
        background={"t.md": "---\nfor: [a, b]\n---\ntext"}, success_criteria={"s": {"x": ">= 1"}},
        events=[{"name": "e", "description": "d", "type": "scheduled", "turn": 1, "visible_to": ["a"]}],
    )  # fmt: skip
    assert [line.split(": ")[1] for line in faults(tmp_path)] == ["short_name", "metrics.x.type"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"schema_version": "2.0"}, "'1.0'"),
    ({"turns": None}, "scenario_length"),
    ({"turns": 0}, ">= 1"),
    ({"turns": True}, "whole number"),
    ({"turn_duration": "a while"}, "'2 weeks'"),
    ({"actors": {"a": {"short_name": "../x"}}}, "a-z, 0-9"),
    ({"actors": {"world": {}}}, "any name but world"),
    ({"actors": {"a": {"llm_model": None}}}, "llm_model"),
    ({"metrics": {"x": LEVEL | {"pattern": "("}}}, "regular expression"),
    ({"metrics": {"x": {**LEVEL, "actor": "nobody", "actor_specific": True}}}, "regulator"),
    ({"metrics": {"x": LEVEL | {"range": [5, 1]}}}, "low <= high"),
    ({"metrics": {"x": LEVEL | {"thresholds": {"warning": "hot"}}}}, "<op> value"),
    ({"end_conditions": [{"name": "e", "when": {"levle": ">= 1"}}]}, "cooperation_level"),
    ({"success_criteria": {"s": {"cooperation_level": ">= calm"}}}, "a number"),
    ({"events": [{"name": "e", "description": "d", "type": "trend"}]}, "`frequency`"),
    ({"events": [{"name": "e", "description": "d", "type": "random", "probability": 2}]}, "<= 1"),
    ({"events": [{"name": "e", "description": "d", "type": "random", "probability": 0.5,
                  "visible_to": ["nobody"]}]}, "regulator"),
    ({"background": {"x.md": "---\nfor: [nowhere]\n---\ntext"}}, "regulator"),
    ({"background": {"x.md": "word " * 9000}}, "at most 6000"),
    ({"quality": QUALITY | {"include_in_costs": False}}, "True"),
    ({"quality": {"validation_model": "m", "checks": {"world_state_coherence": {
        "prompt_template": "{nonsense}"}}}}, "actor_actions"),
    ({"metrics": {"x": {"description": "d", "type": "int", "extraction_method": "python",
                        "function": "gone.py:f"}}}, "a file of the scenario folder"),
    ({"communication": {"bilateral": True}, "enable_coalition_formation": False}, "not both"),
])  # fmt: skip
def test_each_fault_says_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in "\n".join(faults(write(tmp_path, **changes)))


def test_a_manual_metric_cannot_steer(tmp_path: Path) -> None:
    manual = {"description": "d", "type": "int", "extraction_method": "manual"}
    ends = [{"name": "e", "when": {"m": ">= 1"}}]
    write(tmp_path, metrics={"m": manual}, end_conditions=ends)
    assert "measured while the trial runs" in "\n".join(faults(tmp_path))


def test_duplicate_keys_and_broken_yaml_name_their_lines(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "scenario.yaml"
    path.write_text(path.read_text() + "turns: 5\n")
    assert "given twice (first on line 3)" in faults(tmp_path)[0]
    path.write_text("name: [unclosed\n")
    assert "scenario.yaml:" in faults(tmp_path)[0]


def test_yes_and_on_stay_text(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "scenario.yaml"
    path.write_text(path.read_text() + "description: on\n")
    assert load_scenario(tmp_path).description == "on"


def test_a_folder_without_a_scenario_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scenario"):
        load_scenario(tmp_path)


def test_older_spellings_mean_the_same(tmp_path: Path) -> None:
    write(tmp_path, turns=None, enable_bilateral_communication=False,
          scenario_length={"type": "condition", "turns": 7,
                           "condition": {"cooperation_level": ">= 9"}},
          actors={"a": {"llm_model": None, "model": "m", "decision_making_style": "slow"},
                  "b": {}})  # fmt: skip
    path = tmp_path / "actors" / "a.yaml"
    path.write_text(path.read_text().replace("llm_model: null\n", ""))
    scenario = load_scenario(tmp_path)
    assert scenario.turns == 7 and not scenario.bilateral
    assert scenario.end_conditions[0].when == {"cooperation_level": ">= 9"}
    assert scenario.actor("a").llm_model == "m"
    assert scenario.actor("a").decision_style == "slow"


def test_a_new_scenario_is_a_copy_that_loads(tmp_path: Path) -> None:
    made = write_scenario("my-own", tmp_path)
    assert made == tmp_path / "scenarios" / "my-own" and load_scenario(made).shorts
    with pytest.raises(InputError, match="exists already"):
        write_scenario("my-own", tmp_path)
    with pytest.raises(InputError, match="not a name"):
        write_scenario("../out", tmp_path)
