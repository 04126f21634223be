"""One scenario trial: turn after turn, phase after phase.

The calls of a phase run at the same time on one frozen state and are merged in seat order.
Invariant: the trial is done only when every turn had all its decisions, its world and its metrics;
anything less raises.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from peira.engine.lab import Lab
from peira.families.scenarios import events, metrics, quality, readings, talk, world
from peira.families.scenarios.conditions import Value, all_hold
from peira.families.scenarios.outcome import ScenarioOutcome
from peira.families.scenarios.parse import as_list, as_text
from peira.families.scenarios.prompts import ASKS, Prompter
from peira.families.scenarios.remeasure import outcome_part
from peira.families.scenarios.seats import Ask, Seats, own_stream
from peira.families.scenarios.settings import Scenario, ScenarioSettings
from peira.families.scenarios.state import Answer, Decision, Turn, World
from peira.families.scenarios.talk import gathered

NO_ACTION = "takes no action"
SHARED = ("event|", "block", "fence")  # streams a fork shares with its source


async def play(settings: ScenarioSettings, lab: Lab) -> ScenarioOutcome:
    """Play the whole scenario. Raises TrialFailed when a turn cannot be completed."""
    game = Game(settings, lab)
    await game.start()
    ended_by: str | None = None
    for number in range(1, game.scenario.turns + 1):
        ended_by = await game.turn(number)
        if ended_by is not None:
            break
    return game.outcome(ended_by)


class Game:
    """The table at which one trial is played."""

    def __init__(self, settings: ScenarioSettings, lab: Lab) -> None:
        self.settings, self.lab = settings, lab
        self.scenario: Scenario = settings.scenario
        self.lab.stream = self._own = own_stream(settings)
        self.seats = Seats(self.scenario, lab)
        marker = f"{self.derive('fence'):016x}"
        self.prompter = Prompter(self.scenario, marker)
        self.turns = self.prompter.turns
        self.fired: Counter[str] = Counter()
        self._streaks: Counter[str] = Counter()
        self._noise = int(hashlib.sha256(lab.trial_id.encode()).hexdigest()[:12], 16)

    def derive(self, purpose: str) -> int:
        """`lab.derive` in this trial's stream; a fork shares what SHARED names with its source."""
        stream = self._own if purpose.startswith(SHARED) else self.lab.stream
        return self.lab.derive(f"{stream}{purpose}")

    # -- what a simulated subject may see -------------------------------------------------
    def look(self, kind: str, turn: Turn, actor: str, **more: Any) -> dict[str, Any]:
        """The structured state behind a call; real models never see it."""
        seen = {
            "ask": kind, "actor": actor, "turn": turn.number, "turns": self.scenario.turns,
            "others": [short for short in self.scenario.shorts if short != actor],
        }  # fmt: skip
        if kind == "world":
            seen["actions"] = {s: d.action for s, d in turn.decisions.items()}
            seen["block"], seen["trial"] = self.derive("block"), self._noise
            seen["measures"] = [n for n, m in self.scenario.metrics.items() if m.ask_writer]
        return seen | more

    # -- turns -----------------------------------------------------------------------------
    async def start(self) -> None:
        """Turn 0: the initial state, measured."""
        turn = Turn(0, world=World(self.scenario.initial_world_state.strip()))
        self.turns.append(turn)
        await self._measure(turn, None)
        self.lab.emit("turn", turn=turn.to_dict())

    def _branch(self, fork: Mapping[str, Any]) -> None:
        """From here on the fork's own scenario, world and streams; seats with another model anew."""
        self.lab.stream = f"fork {fork['arm']} {fork['sample']}|{self._own}"
        if fork["world"] is not None:
            self.turns[-1].world = World(fork["world"].strip())
        if fork["scenario"] is None:
            return
        before = self.scenario.models
        self.scenario = self.seats.scenario = Scenario.model_validate(fork["scenario"])
        self.prompter.recast(self.scenario)
        for seat, model in self.scenario.models.items():
            if before.get(seat) != model:
                self.lab.seats.pop(seat, None)

    async def turn(self, number: int) -> str | None:
        """Play one turn. Returns the end condition that now holds, if any."""
        if self.settings.fork and number == self.settings.fork["turn"]:
            self._branch(self.settings.fork)
        if number - 1 > self.scenario.context_window_size:
            self._at(number, "summaries")
            await world.fold(self, number)
        turn = Turn(number, events=self._events(number))
        if self.scenario.bilateral:
            self._at(number, "private talk")
            await talk.bilateral(self, turn)
        if self.scenario.coalitions:
            self._at(number, "coalitions")
            await talk.coalitions(self, turn)
        self._at(number, "decisions")
        turn.decisions = await self._decide(turn)
        self._at(number, "world")
        turn.world = await world.update(self, turn)
        self.turns.append(turn)
        self._at(number, "metrics and checks")
        await self._measure(turn, self.turns[number - 1])
        ended_by = self._ended(turn)
        last = ended_by is not None or number == self.scenario.turns
        turn.verdicts = await quality.check(self.seats, self.prompter, turn, last)
        self.lab.emit("turn", turn=turn.to_dict())
        quality.stop_if_told(self.seats, turn.verdicts, quality.keys(turn.verdicts, number))
        return ended_by

    def _at(self, number: int, phase: str) -> None:
        self.lab.progress(f"turn {number} of {self.scenario.turns}: {phase}")

    def _values(self) -> dict[str, Value | None]:
        return {name: measure.value for name, measure in self.turns[-1].metrics.items()}

    def _events(self, number: int) -> list[str]:
        names = events.fired(
            self.scenario.events, number, self.scenario.turns, self.fired, self._values(),
            self.derive,
        )  # fmt: skip
        self.fired.update(names)
        return names

    async def _measure(self, turn: Turn, before: Turn | None) -> None:
        answers = await readings.read(self.seats, self.prompter, turn)
        turn.metrics = metrics.measure(self.scenario, turn, before, answers)

    def _ended(self, turn: Turn) -> str | None:
        values = {name: measure.value for name, measure in turn.metrics.items()}
        ended: str | None = None
        for end in self.scenario.end_conditions:
            holds = all_hold(end.when, values)
            self._streaks[end.name] = self._streaks[end.name] + 1 if holds else 0
            if ended is None and self._streaks[end.name] >= end.for_turns:
                ended = end.name
        return ended

    # -- decisions -------------------------------------------------------------------------
    async def _decide(self, turn: Turn) -> dict[str, Decision]:
        stated = self._stated(turn.number)
        shorts = [short for short in self.scenario.shorts if short not in stated]
        asks = [
            Ask(
                short, "decision", f"turn {turn.number}/decision",
                self.prompter.actor_call(turn, short, "decision", ASKS["decision"]),
                self.look("decision", turn, short),
                lambda value: bool(as_text(value["action"])),
            )
            for short in shorts
        ]  # fmt: skip
        answers = await gathered([self.seats.answer(ask) for ask in asks])
        pairs = zip(shorts, answers, strict=True)
        decided = {short: self._decision(short, answer) for short, answer in pairs} | stated
        return {short: decided[short] for short in self.scenario.shorts}

    def _stated(self, number: int) -> dict[str, Decision]:
        """Actions that a fork states for its first turn, so that nobody is asked for them."""
        fork = self.settings.fork or {}
        told = fork.get("actions", {}) if fork.get("turn") == number else {}
        return {
            short: Decision(short, (), (), "", words, self.seats.model(short), "stated")
            for short, words in told.items()
        }

    def _decision(self, short: str, answer: Answer) -> Decision:
        if answer.fault == "truncated" or (
            answer.fault == "refused" and self.scenario.on_refusal == "fail"
        ):
            self.seats.must(answer, f"decision of {short}")
        value = answer.value or {"action": NO_ACTION}
        return Decision(
            short, tuple(as_list(value.get("goals"))), tuple(as_list(value.get("priorities"))),
            as_text(value.get("reasoning")), as_text(value["action"]),
            self.seats.model(short), answer.rung, answer.fault if answer.value is None else "",
        )  # fmt: skip

    # -- the end ---------------------------------------------------------------------------
    def outcome(self, ended_by: str | None) -> ScenarioOutcome:
        """What this trial leaves."""
        played = self.turns[1:]
        tally = self.seats.tally
        return ScenarioOutcome(
            turns=len(played), ended_by=ended_by,
            **outcome_part(self.scenario, self.turns),
            events={n: [t.number for t in played if n in t.events] for n in self.fired},
            parse_counts=tally.to_dict(), defaults=tally.defaults,
            quotes=tally.quotes, quotes_missing=tally.quotes_missing, quality=self._quality(),
            forked_from=(self.settings.fork or {}).get("source"),
        )  # fmt: skip

    def _quality(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for turn in self.turns:
            for verdict in turn.verdicts:
                word = {True: "passed", False: f"failed {verdict.severity}", None: "unknown"}
                counts[word[verdict.passed]] += 1
        return dict(counts)
