"""Exogenous events: which happen in a turn.

Every random event draws for every turn from (trial seed, event, turn), whether it may happen or
not. Invariant: one seed has one schedule of draws, the same in every variation and after a resume.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from peira.families.scenarios.conditions import Value, all_hold
from peira.families.scenarios.settings import Event

TWO_64 = 2.0**64


def fired(
    events: Sequence[Event],
    turn: int,
    last: int,
    past: Collection[str],
    values: Mapping[str, Value | None],
    derive: Callable[[str], int],
) -> list[str]:
    """Names of the events of this turn, in the order of the file.

    `past`: names that fired before; `values`: the newest metrics; `derive`: `lab.derive`.
    """  # fmt: skip
    names = []
    for event in events:
        draw = derive(f"event|{event.name}|{turn}") / TWO_64 if event.type == "random" else 0.0
        if not event.enabled or (event.fires_once and event.name in past):
            continue
        first, end = event.turn_range or (1, last)
        if first <= turn <= end and _happens(event, turn, first, draw, values):
            names.append(event.name)
    return names


def _happens(
    event: Event, turn: int, first: int, draw: float, values: Mapping[str, Value | None]
) -> bool:
    if event.type == "trend":
        return (turn - first) % (event.frequency or 1) == 0
    if event.type == "random":
        return draw < (event.probability or 0.0)
    if event.type == "scheduled":
        return turn == event.turn
    return all_hold(event.conditions or {}, values)
