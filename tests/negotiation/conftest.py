"""Games played in memory: a lab over simulated or scripted subjects, no store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from peira.engine.lab import Bench, Lab, TrialTask
from peira.engine.ledger import Sharing
from peira.families.negotiation.outcome import NegotiationOutcome
from peira.families.negotiation.settings import NegotiationSettings
from peira.families.negotiation.simulated import KINDS
from peira.families.negotiation.trial import play
from peira.subjects.route import Routes
from peira.subjects.subject import Wire


class NoLedger:
    """A ledger that keeps nothing, for free subjects."""

    def check(self) -> None:
        return None

    def keep(self, trial: int, replies: Any) -> None:
        return None


Played = tuple[NegotiationOutcome, list[dict[str, Any]]]


def play_game(
    settings: Mapping[str, Any], seed: int = 1, wires: Mapping[str, Wire] | None = None
) -> Played:
    """(outcome, events) of one game."""
    checked = NegotiationSettings.model_validate(dict(settings))
    routes = Routes(kinds=KINDS, wires=wires or {})
    lab = Lab(
        TrialTask(1, "id", "slug", seed, 1, 1, {}, {}),
        Bench(routes, NoLedger(), Sharing(), 0),  # type: ignore[arg-type]
    )
    outcome = asyncio.run(play(checked, lab))
    return outcome, lab.events


@pytest.fixture
def game() -> Callable[..., Played]:
    """Play one game and return (outcome, events)."""
    return play_game
