"""Metrics: what was not found is missing, with its reason, and never zero."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.families.scenarios import metrics
from peira.families.scenarios.settings import Actor, Metric, Scenario
from peira.families.scenarios.state import REASONS, Decision, Measure, Turn, World


def metric(**fields: Any) -> Metric:
    base = {"description": "d", "type": "int", "extraction_method": "regex"}
    return Metric.model_validate(base | fields)


def turn(action: str = "", world: str = "", number: int = 1) -> Turn:
    decision = Decision("a", (), (), "because", action, "m", "strict")
    return Turn(number, decisions={"a": decision}, world=World(world))


def scenario(functions: dict[str, str] | None = None, **defined: Metric) -> Scenario:
    return Scenario(
        name="s", initial_world_state="w", turns=3, turn_duration="1 day", world_state_model="m",
        actors=(Actor(name="A", short_name="a", llm_model="m"),), metrics=defined,
        functions=functions or {},
    )  # fmt: skip


def read(defined: Metric, action: str = "", world: str = "", **more: Any) -> Measure:
    return metrics.measure(scenario(x=defined, **more), turn(action, world), None, {})["x"]


def test_the_guides_pattern_reads_the_world_after_the_actions() -> None:
    found = read(metric(pattern=r"cooperation.*?(\d+)"), "cooperation 4", "cooperation at 6")
    assert found.value == 6 and found.source == "world"


def test_no_match_is_missing_and_not_zero() -> None:
    found = read(metric(pattern=r"cooperation.*?(\d+)"), "nothing")
    assert found.value is None and found.reason == "no_match"


def test_whole_words_only() -> None:
    keywords = metric(extraction_method="keyword", keywords=["race"])
    assert read(keywords, "we embrace the Race").value == 1


def test_the_group_that_took_part_is_the_value() -> None:
    either = metric(pattern=r"(\d+)% agree|agree (\d+)%")
    assert read(either, "40% agree").value == 40
    assert read(either, "agree 55%").value == 55


def test_match_first_template_and_named_group() -> None:
    assert read(metric(pattern=r"n (\d+)", match="first"), "n 1 n 2", "n 3").value == 1
    power = metric(type="float", pattern=r"(\d+) times ten to (\d+)", template="{1}e{2}")
    assert read(power, "2 times ten to 3").value == 2000.0
    assert read(metric(pattern=r"(\w+) (?P<value>\d+)"), "of 12").value == 12


@pytest.mark.parametrize(("raw", "value"), [
    ("1,000", 1000), ("6.0", 6), ("6.5", None), ("10^3", 1000), ("x", None), ("-3", -3),
])  # fmt: skip
def test_integers_must_be_integral(raw: str, value: int | None) -> None:
    found = metrics.converted(metric(pattern="x"), raw, "world", "")
    assert found.value == value
    assert found.reason == (None if value is not None else "bad_type")


def test_floats_read_powers_of_ten() -> None:
    assert metrics.number("10^25") == 1e25 and metrics.number("2 x 10^3") == 2000.0
    assert metrics.number("nan") is None
    assert metrics.number("inf") is None


def test_out_of_range_is_missing() -> None:
    limited = metric(type="float", pattern=r"(\d+)", range=[0, 10])
    found = read(limited, "11")
    assert found.value is None and found.reason == "out_of_range"


def test_booleans_are_not_always_true() -> None:
    bare = metric(type="bool", pattern="signed")
    assert read(bare, "it was signed").value is True
    assert read(bare, "it was not").value is False
    grouped = metric(type="bool", pattern=r"audit: (\w+)")
    assert read(grouped, "audit: disabled").value is False
    assert read(grouped, "audit: enabled").value is True
    assert read(grouped, "audit: perhaps").reason == "bad_type"
    assert read(grouped, "none").reason == "no_match"


def test_a_tie_between_categories_is_missing() -> None:
    tone = metric(type="categorical", extraction_method="keyword",
                  keywords={"soft": ["agree"], "hard": ["refuse"]})  # fmt: skip
    assert read(tone, "agree and refuse").reason == "tie"
    assert read(tone, "agree, agree, refuse").value == "soft"
    assert read(tone, "silence").reason == "no_match"


def test_density_is_per_thousand_words() -> None:
    dense = metric(type="float", extraction_method="keyword", source=["actions"], keywords=["a"],
                   scoring="density")  # fmt: skip
    assert read(dense, "a b c d").value == 250.0


def test_a_slow_pattern_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TIME_LIMIT", 0.02)
    found = read(metric(pattern=r"^(a|aa)+$"), "a" * 60 + "b")
    assert found.reason == "regex_timeout"


def test_a_function_that_raises_is_an_error_and_no_crash() -> None:
    code = "def bad(turn):\n    return 1 / 0\ndef good(turn):\n    return len(turn.actions)\n"
    wrong = metric(extraction_method="python", function="f.py:bad")
    found = metrics.measure(scenario({"f.py": code}, x=wrong), turn("hi"), None, {})["x"]
    assert found.reason == "error" and "ZeroDivisionError" in found.evidence
    right = metric(extraction_method="python", function="f.py:good")
    assert metrics.measure(scenario({"f.py": code}, x=right), turn("hi"), None, {})["x"].value == 1


def test_the_writers_entry_is_read_first() -> None:
    asked = metric(type="float", pattern=r"level (\d+)", ask_writer=True, range=[0, 10])
    told = Turn(1, world=World("level 3", measures={"x": "4.5"}))
    assert metrics.measure(scenario(x=asked), told, None, {})["x"].value == 4.5
    beyond = Turn(1, world=World("level 3", measures={"x": 99}))
    assert metrics.measure(scenario(x=asked), beyond, None, {})["x"].value == 3.0


def test_a_gap_is_carried_with_its_age_or_stays_a_gap() -> None:
    forward = scenario(x=metric(pattern=r"(\d+)", carry="forward"))
    first = turn("7")
    first.metrics = metrics.measure(forward, first, None, {})
    second = turn("none", number=2)
    second.metrics = metrics.measure(forward, second, first, {})
    third = turn("none", number=3)
    third.metrics = metrics.measure(forward, third, second, {})
    assert (third.metrics["x"].value, third.metrics["x"].age) == (7, 2)
    assert third.metrics["x"].carried and third.metrics["x"].reason == "no_match"
    plain = scenario(x=metric(pattern=r"(\d+)"))
    assert metrics.measure(plain, third, second, {})["x"].value is None


def test_one_series_for_each_actor() -> None:
    own = metric(pattern=r"(\d+)", actor_specific=True)
    found = metrics.measure(scenario(x=own), turn("5", "9"), None, {})
    assert {name: m.value for name, m in found.items()} == {"x@a": 5}


def test_the_initial_value_is_turn_zeros() -> None:
    given_ = scenario(x=metric(pattern=r"(\d+)", initial=3))
    assert metrics.measure(given_, turn("9", number=0), None, {})["x"].value == 3


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=6),
       st.sampled_from(["last", "first", "min", "max", "mean", "sum", "change"]))  # fmt: skip
def test_run_values_are_missing_only_with_a_reason(values: list[int | None], how: str) -> None:
    measures = [Measure(v, None if v is not None else "no_match") for v in values]
    value, reason = metrics.final(metric(pattern="x", aggregate=how), measures, None)
    assert (value is None) == (reason is not None)
    assert reason is None or reason in REASONS
    known = [v for v in values if v is not None]
    if how == "last":
        assert value == values[-1]
    if known and how in ("min", "max", "sum"):
        assert value == {"min": min, "max": max, "sum": sum}[how](known)
