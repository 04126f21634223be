"""Every seat's prompt of turn 1, as `peira simulate --check` prints it.

Invariant: what is shown is assembled by the code that assembles the real prompts.
"""

from __future__ import annotations

from collections.abc import Iterator

from peira.families.scenarios.prompts import ASKS, Prompter
from peira.families.scenarios.settings import Scenario
from peira.families.scenarios.state import Turn, World
from peira.subjects.subject import Message


def preview(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """(seat, prompt) for each actor's decision in turn 1, then each office's system prompt."""
    prompter = Prompter(scenario, "0" * 16)
    prompter.turns.append(Turn(0, world=World(scenario.initial_world_state.strip())))
    for actor in scenario.actors:
        short = actor.short_name
        messages = prompter.actor_call(Turn(1), short, "decision", ASKS["decision"])
        yield f"{actor.name} ({short}): {actor.llm_model or 'a person'}", _text(messages)
    for seat, model in scenario.models.items():
        if seat not in scenario.shorts:
            yield f"{seat}: {model}", prompter.system(seat).content


def _text(messages: list[Message]) -> str:
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in messages)
