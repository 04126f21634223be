"""A trial's settings from a turn on: another model in a seat, another rule, another world.

Invariant: turns before the fork are told exactly as in the source, so its replies replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from peira.errors import InputError
from peira.families.scenarios.checks import nearest
from peira.families.scenarios.settings import Scenario, ScenarioSettings

if TYPE_CHECKING:
    from peira.store.records import Record

OFFICES = {"world": "world_state_model", "summary": "summary_model", "metrics": "metrics_model"}


class Branch(Protocol):
    """What a fork changes."""

    @property
    def turn(self) -> int: ...
    @property
    def seats(self) -> Mapping[str, str]: ...
    @property
    def changes(self) -> Mapping[str, Any]: ...
    @property
    def world(self) -> str | None: ...


def forked(
    settings: ScenarioSettings, source: Record, branch: Branch, arm: str, sample: int
) -> ScenarioSettings:
    """The settings of one fork. Raises InputError for a turn the source never played, an unknown
    seat or a change that makes no scenario."""
    played = (source.outcome or {}).get("turns", 0)
    if not 1 <= branch.turn <= played:
        raise InputError(
            f"--turn {branch.turn}: {source.slug} has no such turn\n  allowed: 1 to {played}"
        )
    fork: dict[str, Any] = {
        "from": source.slug, "turn": branch.turn, "arm": arm, "sample": sample, "scenario": None,
        "world": None,
    }  # fmt: skip
    if arm == "changed":
        changed = _changed(settings.scenario, branch)
        fork["scenario"] = changed.model_dump(mode="json", exclude_defaults=True)
        fork["world"] = branch.world
    return settings.model_copy(update={"fork": fork})


def _changed(scenario: Scenario, branch: Branch) -> Scenario:
    data = scenario.model_dump(mode="json")
    for seat, model in branch.seats.items():
        _seat(data, scenario, seat, model)
    for path, value in branch.changes.items():
        _set(data, scenario, path, value)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"fork: {where}: {first['msg']}\n  remedy: correct --set") from None


def _seat(data: dict[str, Any], scenario: Scenario, seat: str, model: str) -> None:
    if seat in OFFICES:
        data[OFFICES[seat]] = model
    elif seat == "quality" and data["quality"]:
        data["quality"]["validation_model"] = model
    elif seat in scenario.shorts:
        data["actors"][scenario.shorts.index(seat)] |= {"llm_model": model, "control": "ai"}
    else:
        known = [*scenario.shorts, *OFFICES]
        raise InputError(
            f"--seat {seat}: no such seat\n  allowed: {', '.join(known)}\n"
            f"  remedy: {nearest(seat, known)}"
        )


def _set(data: dict[str, Any], scenario: Scenario, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    target: Any = data
    if parents[:1] == ["actors"] and len(parents) >= 2 and parents[1] in scenario.shorts:
        target = data["actors"][scenario.shorts.index(parents[1])]
        parents = parents[2:]
    for part in parents:
        target = target.get(part) if isinstance(target, dict) else None
    if not isinstance(target, dict) or last not in target:
        known = ", ".join(target) if isinstance(target, dict) else "a field of the scenario"
        raise InputError(f"--set {path}: unknown\n  allowed: {known}")
    target[last] = value
