"""What a trial will cost before it is run: nobody talks, some talk, all talk.

Invariant: low <= expected <= high, and what a simulated trial really asks lies between low and high.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peira.families.family import Forecast
from peira.families.scenarios.checks import estimated_tokens
from peira.families.scenarios.parse import FORMS, as_text
from peira.families.scenarios.prompts import profile
from peira.families.scenarios.settings import DEFAULT_TOKENS, Scenario

Range = tuple[float, float, float]
FILL = 0.4  # share of its token limit that an answer is expected to use
TALK = 0.3  # private talks expected of an actor in a turn
REASKED = 0.25  # share of calls that are asked again, at the most, at twice the tokens
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
    totals: dict[str, tuple[Range, Range, Range]] = {}
    nothing: tuple[Range, Range, Range] = ((0, 0, 0), (0, 0, 0), (0, 0, 0))
    for load in loads(scenario):
        model = scenario.models.get(load.seat)
        if model is None:  # a person's seat
            continue
        calls, prompt, answer = totals.get(model, nothing)
        totals[model] = (
            _plus(calls, load.calls),
            _plus(prompt, _times(load.calls, _prompt_tokens(scenario, load))),
            _plus(answer, _times(load.calls, _answer_tokens(scenario, load))),
        )
    return [Forecast(model, *rows) for model, rows in totals.items()]


def loads(scenario: Scenario) -> Iterator[Load]:
    """Every kind of call of a trial: how often, at the least, as expected, at the most."""
    most = scenario.turns
    least = 1 if scenario.end_conditions else most
    turns: Range = (least, most, most)  # that a condition ends it early is nothing to count on
    people = len(scenario.actors)
    for short in scenario.shorts:
        yield Load(short, "decision", _asked(turns))
        yield from _talk(scenario, short, turns, people)
    yield Load("world", "world", _asked(turns))
    yield from _offices(scenario, turns, people)


def _talk(scenario: Scenario, short: str, turns: Range, people: int) -> Iterator[Load]:
    if scenario.bilateral:
        yield Load(short, "offer", _asked(turns))
        rounds = scenario.communication.exchanges
        share = (0.0, TALK * rounds, float(rounds * (people - 1)))
        yield Load(short, "answer", _asked(_times(turns, share)))
    if scenario.coalitions:
        yield Load(short, "proposal", _asked(turns))
        sets = float(people)  # at most one proposal each, so at most as many coalitions
        yield Load(short, "response", _asked(_times(turns, (0.0, TALK, sets - 1))))
        yield Load(short, "post", _asked(_times(turns, (0.0, TALK, sets))))


def _offices(scenario: Scenario, turns: Range, people: int) -> Iterator[Load]:
    window = scenario.context_window_size
    folds: Range = tuple(max(0.0, t - 1 - window) for t in turns)  # type: ignore[assignment]
    private = scenario.bilateral or scenario.coalitions or scenario.events
    each = (1.0, 1.0 + (TALK * people if private else 0.0), 1.0 + (people if private else 0.0))
    yield Load("summary", "summary", _asked(_times(folds, each)))
    if "metrics" in scenario.models:
        yield Load("metrics", "metrics", _asked((turns[0], turns[1] + 1, turns[2] + 1)), False)
    rules = scenario.quality
    if rules is not None and "quality" in scenario.models:
        checks = sum(
            1 if name == "world_state_coherence" else people
            for name, check in rules.checks.items()
            if check.enabled
        )
        often: Range = turns if rules.run_after_each_turn else (1, 1, 1)
        yield Load("quality", "verdict", _asked(_times(often, (checks, checks, checks))), False)


def _asked(calls: Range) -> Range:
    return calls[0], calls[1], (1 + REASKED) * calls[2]


def _times(a: Range, b: Range) -> Range:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


def _plus(a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _limit(scenario: Scenario, kind: str) -> int:
    return (DEFAULT_TOKENS | dict(scenario.sampling.max_tokens))[FORMS[kind].tokens]


def _answer_tokens(scenario: Scenario, load: Load) -> Range:
    limit = _limit(scenario, load.kind)
    return 1.0, FILL * limit, limit * (1 + 2 * REASKED) / (1 + REASKED)


def _prompt_tokens(scenario: Scenario, load: Load) -> Range:
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
