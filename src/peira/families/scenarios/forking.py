"""A trial's settings from a turn on: another model in a seat, another rule, action or world.

Invariant: turns before the fork are told exactly as in the source, so its replies replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from peira.engine.fork import Branch
from peira.errors import InputError
from peira.families.scenarios.checks import RULES, nearest
from peira.families.scenarios.settings import Scenario, ScenarioSettings
from peira.families.scenarios.variations import OFFICES

if TYPE_CHECKING:
    from peira.store.records import Record

ACTION = "action."  # --set action.SEAT=WORDS: what the actor does in the fork's first turn


def forked(
    settings: ScenarioSettings, source: Record, branch: Branch, arm: str, sample: int
) -> ScenarioSettings:
    """The settings of one fork. Raises InputError for a turn the source never played, an unknown
    seat or a change that makes no scenario."""
    played = (source.outcome or {}).get("turns", 0)
    fork = branch.told(source.slug, arm, sample, played=played, what="turn")
    fork |= {"scenario": None, "world": None, "actions": {}}
    if arm == "changed":
        fork["actions"] = _actions(settings.scenario, branch.changes)
        changed = _changed(settings.scenario, branch)
        fork["scenario"] = changed.model_dump(mode="json", exclude_defaults=True)
        fork["world"] = branch.world
    return settings.model_copy(update={"fork": fork})


def _actions(scenario: Scenario, changes: Mapping[str, Any]) -> dict[str, str]:
    """Actions stated in place of a decision: `action.SEAT` -> words. Raises InputError."""
    stated = {p.removeprefix(ACTION): str(v) for p, v in changes.items() if p.startswith(ACTION)}
    for short in stated:
        if short not in scenario.shorts:
            raise InputError(f"--set {ACTION}{short}: no such actor\n"
                             f"  allowed: {', '.join(scenario.shorts)}")  # fmt: skip
    return stated


def _changed(scenario: Scenario, branch: Branch) -> Scenario:
    data = scenario.model_dump(mode="json")
    for seat, model in branch.seats.items():
        _seat(data, scenario, seat, model)
    for path, value in branch.changes.items():
        if not path.startswith(ACTION):
            _set(data, scenario, path, value)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"fork: {where}: {first['msg']}\n  remedy: correct --set") from None


def _seat(data: dict[str, Any], scenario: Scenario, seat: str, model: str) -> None:
    file, key = OFFICES.get(seat, ("", ""))
    office = data["quality"] if file == RULES else data if file else None
    if office:
        office[key] = model
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
