"""A trial's settings from a turn on: another model in a seat, another rule, another world.

Invariant: turns before the fork are told exactly as in the source, so its replies replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from peira.engine.fork import Branch
from peira.errors import InputError
from peira.families.scenarios.checks import RULES, nearest
from peira.families.scenarios.settings import Scenario, ScenarioSettings
from peira.families.scenarios.variations import OFFICES

if TYPE_CHECKING:
    from peira.store.records import Record


def forked(
    settings: ScenarioSettings, source: Record, branch: Branch, arm: str, sample: int
) -> ScenarioSettings:
    """The settings of one fork. Raises InputError for a turn the source never played, an unknown
    seat or a change that makes no scenario."""
    played = (source.outcome or {}).get("turns", 0)
    fork = branch.told(source.slug, arm, sample, played=played, what="turn")
    fork |= {"scenario": None, "world": None}
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
