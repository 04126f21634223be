"""What a trial will cost before it is run: nobody talks, some talk, all talk.

Invariant: low <= expected <= high, and what a simulated trial really asks lies between low and high.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.family import Forecast
from peira.families.scenarios.checks import estimated_tokens
from peira.families.scenarios.parse import FORMS, as_text
from peira.families.scenarios.prompts import profile
from peira.families.scenarios.settings import DEFAULT_TOKENS, Scenario

Range = NDArray[Any]  # low, expected, high
Triple = tuple[float, float, float]
FILL = 0.4  # share of its token limit that an answer is expected to use
TALK = 0.3  # private talks expected of an actor in a turn
REASKED = 0.25  # share of calls that are asked again, at the most, at twice the tokens
AGAIN = np.array([1.0, 1.0, 1 + REASKED])
WORDING = 350  # tokens of headings, fences and the request for JSON


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of call to one seat over a whole trial."""

    seat: str
    kind: str
    calls: Range
    context: bool = True


def forecast(scenario: Scenario) -> list[Forecast]:
    """Calls and tokens of one trial, by model; `high` has full answers, all talk, and re-asks."""
    totals: dict[str, Range] = {}
    for load in loads(scenario):
        model = scenario.models.get(load.seat)
        if model is not None:  # else a person's seat
            tokens = [[1, 1, 1], _prompt_tokens(scenario, load), _answer_tokens(scenario, load)]
            totals[model] = totals.get(model, 0) + load.calls * AGAIN * np.array(tokens)
    return [Forecast(model, *map(tuple, rows.tolist())) for model, rows in totals.items()]


def loads(scenario: Scenario) -> Iterator[Load]:
    """Every kind of call of a trial: how often, at the least, as expected, at the most."""
    most = scenario.turns
    least = 1 if scenario.end_conditions else most
    turns = np.array([least, most, most])  # that a condition ends it early is nothing to count on
    people = len(scenario.actors)
    for short in scenario.shorts:
        yield Load(short, "decision", turns)
        yield from _talk(scenario, short, turns, people)
    yield Load("world", "world", turns)
    yield from _offices(scenario, turns, people)


def _talk(scenario: Scenario, short: str, turns: Range, people: int) -> Iterator[Load]:
    if scenario.bilateral:
        yield Load(short, "offer", turns)
        rounds = scenario.communication.exchanges
        yield Load(short, "answer", turns * [0.0, TALK * rounds, rounds * (people - 1)])
    if scenario.coalitions:
        yield Load(short, "proposal", turns)
        sets = people  # at most one proposal each, so at most as many coalitions
        yield Load(short, "response", turns * [0.0, TALK, sets - 1])
        yield Load(short, "post", turns * [0.0, TALK, sets])


def _offices(scenario: Scenario, turns: Range, people: int) -> Iterator[Load]:
    folds = np.maximum(0.0, turns - 1 - scenario.context_window_size)
    private = people if scenario.bilateral or scenario.coalitions or scenario.events else 0
    yield Load("summary", "summary", folds * [1.0, 1.0 + TALK * private, 1.0 + private])
    if "metrics" in scenario.models:
        yield Load("metrics", "metrics", np.add(turns, [0, 1, 1]), False)
    rules = scenario.quality
    if rules is not None and "quality" in scenario.models:
        checks = sum(
            1 if name == "world_state_coherence" else people
            for name, check in rules.checks.items()
            if check.enabled
        )
        often = turns if rules.run_after_each_turn else np.ones(3)
        yield Load("quality", "verdict", often * checks, False)


def _limit(scenario: Scenario, kind: str) -> int:
    return (DEFAULT_TOKENS | dict(scenario.sampling.max_tokens))[FORMS[kind].tokens]


def _answer_tokens(scenario: Scenario, load: Load) -> Triple:
    limit = _limit(scenario, load.kind)
    return 1.0, FILL * limit, limit * (1 + 2 * REASKED) / (1 + REASKED)


def _prompt_tokens(scenario: Scenario, load: Load) -> Triple:
    """From the bare system prompt to a full window of full answers."""
    fixed = _system_tokens(scenario, load.seat)
    people, world = len(scenario.actors), _limit(scenario, "world")
    per_turn = world + people * _limit(scenario, "decision")
    talk = 2 * people * scenario.communication.exchanges * _limit(scenario, "offer")
    events = sum(estimated_tokens(event.description) for event in scenario.events)
    start = estimated_tokens(scenario.initial_world_state)
    window = min(scenario.context_window_size, scenario.turns) if load.context else 1
    most = fixed + 2 * WORDING + start + _limit(scenario, "summary")
    most += (window + 1) * (per_turn + talk + events) + 2 * world
    expected = fixed + WORDING + start + FILL * window * per_turn / 2
    asked_again = _limit(scenario, load.kind)  # a re-ask quotes the reply that was no use
    return 0.3 * fixed, min(expected, most), most + asked_again


def _system_tokens(scenario: Scenario, seat: str) -> float:
    texts = [text.text for text in scenario.background if text.reaches(seat)]
    texts += [scenario.system_prompt, *(actor.role for actor in scenario.actors)]
    if seat in scenario.shorts:
        actor = scenario.actor(seat)
        texts += [profile(actor), as_text(actor.private_information)]
    return 60.0 + sum(estimated_tokens(text) for text in texts)
