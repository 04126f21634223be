"""Metrics read again from a transcript, under the definitions now in metrics.yaml.

Invariant: metrics that steer keep the values they steered by; a reading by a model is bought once
for each wording of its question.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from peira.engine.lab import Lab
from peira.errors import ReplayDiverged
from peira.families.scenarios import metrics, readings
from peira.families.scenarios.load import load_scenario
from peira.families.scenarios.prompts import Prompter
from peira.families.scenarios.seats import Seats, own_stream
from peira.families.scenarios.settings import Scenario, ScenarioSettings
from peira.families.scenarios.state import Measure, Turn
from peira.study.study import Study

TURNS = TypeAdapter(list[Turn])  # from the transcript's JSON


def current(study: Study, scenario: Scenario) -> Scenario:
    """The scenario with the metrics its folder defines now; those that steer stay as played."""
    folder = Path(str(study.fixed.get("base_scenario", "")))
    if not (folder / "scenario.yaml").is_file():
        return scenario
    fresh = load_scenario(folder)
    steering = scenario.steering()
    kept = {name: metric for name, metric in scenario.metrics.items() if name in steering}
    merged = {name: kept.get(name, metric) for name, metric in fresh.metrics.items()} | kept
    return scenario.model_copy(update={"metrics": merged, "functions": fresh.functions})


async def remeasure(
    study: Study, settings: ScenarioSettings, events: list[dict[str, Any]], lab: Lab
) -> dict[str, Any]:
    """The metric part of the outcome, measured again."""
    scenario = current(study, settings.scenario)
    steering = scenario.steering()
    lab.stream = own_stream(settings)
    prompter = Prompter(scenario, f"{lab.derive(lab.stream + 'fence'):016x}")
    seats = Seats(scenario, lab)
    turns: list[Turn] = []
    for turn in TURNS.validate_python([e["turn"] for e in events if e["kind"] == "turn"]):
        played = turn.metrics
        answers = await _readings(seats, prompter, turn)
        turn.metrics = metrics.measure(scenario, turn, turns[-1] if turns else None, answers)
        turn.metrics |= {n: m for n, m in played.items() if n.partition("@")[0] in steering}
        turns.append(turn)
        prompter.turns.append(turn)
    return outcome_part(scenario, turns) | {
        "quotes": seats.tally.quotes, "quotes_missing": seats.tally.quotes_missing,
        "definitions": {n: m.model_dump(mode="json", exclude_defaults=True)
                        for n, m in scenario.metrics.items()},
    }  # fmt: skip


async def _readings(seats: Seats, prompter: Prompter, turn: Turn) -> dict[str, Measure]:
    try:
        return await readings.read(seats, prompter, turn)
    except ReplayDiverged:  # the question is another than the one that was paid for
        items = readings.wanted(prompter, turn)
        words = "".join(m.content for m in readings.prompt(prompter, turn, items))
        digest = hashlib.sha256(words.encode()).hexdigest()[:12]
        return await readings.read(seats, prompter, turn, wording=f" {digest}")


def outcome_part(scenario: Scenario, turns: list[Turn]) -> dict[str, Any]:
    """The fields of an outcome that come from metrics."""
    played = turns[1:]
    finals = {
        name: metrics.final(metric, [t.metrics[name] for t in played], turns[0].metrics[name])
        for name, (metric, _) in metrics.series(scenario).items()
    }
    reasons = {
        str(t.number): {n: m.reason for n, m in t.metrics.items() if m.reason is not None}
        for t in turns
    }
    return {
        "final": {name: value for name, (value, _) in finals.items()},
        "final_reasons": {n: why for n, (value, why) in finals.items() if value is None and why},
        "by_turn": {str(t.number): {n: m.value for n, m in t.metrics.items()} for t in turns},
        "reasons": {turn: found for turn, found in reasons.items() if found},
        "thresholds": metrics.crossings(scenario, turns),
    }
