"""How one negotiation runs: setup, then rounds of discussion, thinking, proposal, vote, reflection.

Every step is an event, and every prompt is built from the events alone. Invariant: the order of
events does not depend on which of the simultaneous replies came first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from peira.engine.lab import Lab
from peira.engine.parsing import without_thinking
from peira.errors import TrialFailed
from peira.families.negotiation import context
from peira.families.negotiation.context import GameLog
from peira.families.negotiation.outcome import Book, NegotiationOutcome, conclude
from peira.families.negotiation.parsing import Ballot, Names, read_ballot, read_offer, read_plan
from peira.families.negotiation.preferences import draw_game
from peira.families.negotiation.protocol import (
    Proposal,
    Tally,
    passed,
    speaking_order,
    tabulate,
    votes_needed,
)
from peira.families.negotiation.settings import Fork, NegotiationSettings, Phase, seat_name
from peira.families.negotiation.view import Observation, SeatView
from peira.subjects.subject import Message, Reply, Sampling, Subject

OFFER_REASKS, VOTE_REASKS = 2, 1
CUT = {
    "length": "the reply was cut off before it was complete",
    "refusal": "the reply declined to answer",
    "empty": "the reply is empty",
}
T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """One call as asked and answered, with what the parser made of it."""

    round: int
    phase: Phase
    lap: int
    ask: int
    reply: Reply
    rung: str = ""
    fault: str = ""


async def play(settings: NegotiationSettings, lab: Lab) -> NegotiationOutcome:
    """Play one game to its end, and have it judged if the settings ask for it."""
    played = Play(settings, lab)
    outcome = await played.run()
    if settings.judge is None:
        return outcome
    from peira.families.negotiation.judging import judged

    return outcome.model_copy(update={"ratings": await judged(played)})


class Play:
    """One game in progress."""

    def __init__(self, settings: NegotiationSettings, lab: Lab) -> None:
        self.settings = settings
        self.lab = lab
        self.seed = lab.seed if settings.random_seed is None else settings.random_seed
        self.game = draw_game(settings, lab.seed)
        self.log = GameLog(settings, self.game)
        self.names = Names.of(settings.seats, self.game.items)
        self.book = Book()
        self.models = list(settings.models)
        self.subjects = [lab.subject(m, seat_name(k)) for k, m in enumerate(self.models)]
        self.samplings = [settings.samplings(model) for model in settings.models]
        self.rooms = [
            _room(s, sampling) for s, sampling in zip(self.subjects, self.samplings, strict=True)
        ]
        self.views = [SeatView.of(settings, self.game, k) for k in range(self.game.n)]
        self.together = not all(subject.simulated for subject in self.subjects)

    async def run(self) -> NegotiationOutcome:
        """All rounds, until a deal or the last."""
        self.emit(
            "game", items=self.game.items, values=self.game.values, labels=self.settings.seats,
            cooperation=self.game.cooperation, cosines=self.game.cosines(), seed=self.seed,
        )  # fmt: skip
        last = self.settings.max_rounds
        for number in range(1, last + 1):
            deal = await self.round(number)
            if deal is not None:
                self.emit("deal", round=number, number=deal.number, allocation=deal.allocation)
                return conclude(self.settings, self.game, self.book, deal.allocation, number)
            if self.settings.reflection and number < last:
                await self.reflect(number)
        self.emit("no_deal", round=last)
        return conclude(self.settings, self.game, self.book, None, last)

    async def round(self, number: int) -> Proposal | None:
        """One round; the deal, or None."""
        fork = self.settings.fork
        if fork is not None and number == fork.turn:
            self.branch(fork)
        order = speaking_order(self.settings, number, self.seed)
        self.emit("round", round=number, order=order)
        for lap in range(1, self.settings.discussion_turns + 1):
            self.tell("discussion")
            for seat in order:
                await self.speak(number, seat, lap)
        if self.settings.thinking:
            await self.think(number)
        proposals = await self.propose(number, order)
        votes = await self.vote(number, proposals)
        tallies = tabulate(proposals, votes)
        self.emit("votes", round=number, votes=votes)
        self.emit("tally", round=number, counts=[(t.number, t.accepts, t.rejects) for t in tallies])
        self.book.close_round(order, proposals, tallies, votes)
        return self._deal(proposals, tallies)

    def _deal(self, proposals: Sequence[Proposal], tallies: Sequence[Tally]) -> Proposal | None:
        won = passed(tallies, votes_needed(self.settings.acceptance, self.game.n))
        return next((p for p in proposals if won and p.number == won.number), None)

    def branch(self, fork: Fork) -> None:
        """From here on other subjects where the fork says so, and chances of its own."""
        self.lab.stream = f"fork {fork.arm} {fork.sample}|"
        for seat, model in enumerate(fork.models or ()):
            if model == self.models[seat]:
                continue
            self.models[seat] = model
            self.lab.seats.pop(seat_name(seat), None)
            subject = self.lab.subject(model, seat_name(seat))
            self.samplings[seat] = self.settings.samplings(model)
            self.subjects[seat], self.rooms[seat] = subject, _room(subject, self.samplings[seat])
        self.emit("fork", round=fork.turn, source=fork.source, arm=fork.arm, models=self.models)

    # -- phases -------------------------------------------------------------------------------
    async def speak(self, number: int, seat: int, lap: int) -> None:
        """One public statement; in a fork its words may be stated."""
        fork = self.settings.fork
        if fork is not None and number == fork.turn and lap == 1 and seat in fork.say:
            self.emit("statement", round=number, seat=seat, text=fork.say[seat], finish="stated")
            return
        call = await self.ask(seat, "discussion", lap)
        self.keep(seat, call)
        text = without_thinking(call.reply.text).strip()
        self.emit("statement", round=number, seat=seat, text=text, finish=call.reply.finish)

    async def think(self, number: int) -> None:
        """Private planning, all seats at once."""
        for seat, call in enumerate(await self.each("thinking", self.ask)):
            plan = read_plan(call.reply.text)
            call.rung = plan.rung
            self.keep(seat, call)
            text = _plan_text(plan.reasoning, plan.strategy, plan.key_priorities,
                              plan.potential_concessions)  # fmt: skip
            self.emit(
                "thinking", round=number, seat=seat, text=text,
                key_priorities=plan.key_priorities, concessions=plan.potential_concessions,
            )  # fmt: skip

    async def propose(self, number: int, order: Sequence[int]) -> list[Proposal]:
        """Simultaneous proposals, numbered in speaking order; illegal ones are left out."""
        answers = await self.each("proposal", self._offer)
        proposals: list[Proposal] = []
        for seat in order:
            calls, allocation, reasoning = answers[seat]
            for call in calls:
                self.keep(seat, call)
                if call.fault:
                    self.book.count(seat_name(seat), "illegal_offers")
                    self.emit("illegal_offer", round=number, seat=seat, fault=call.fault)
            if allocation is not None:
                proposals.append(Proposal(len(proposals) + 1, seat, allocation, reasoning))
        self.emit("proposals", round=number, proposals=[p.told() for p in proposals])
        return proposals

    async def _offer(
        self, seat: int, phase: Phase
    ) -> tuple[list[Call], tuple[int, ...] | None, str]:
        calls: list[Call] = []
        asked: tuple[Message, ...] = self.prompt(seat, phase)
        for ask in range(OFFER_REASKS + 1):
            call = await self.ask(seat, phase, ask=ask, asked=asked)
            offer = read_offer(call.reply.text, self.names)
            call.rung, call.fault = offer.rung, CUT.get(call.reply.finish, "") or offer.fault
            calls.append(call)
            if not call.fault:
                return calls, offer.allocation, offer.reasoning
            asked = context.reasked(asked, call.reply.text, call.fault)
        return calls, None, ""

    async def vote(self, number: int, proposals: Sequence[Proposal]) -> list[list[bool]]:
        """Private votes, all seats at once; what is missing after a re-ask is a rejection."""
        if not proposals:
            return [[] for _ in range(self.game.n)]
        numbers = [p.number for p in proposals]
        votes = []
        answers = await self.each("vote", lambda k, phase: self._ballot(k, phase, numbers))
        for seat, (calls, ballot) in enumerate(answers):
            for call in calls:
                self.keep(seat, call)
            for index in [i for i, vote in enumerate(ballot.votes) if vote is None]:
                self.book.count(seat_name(seat), "missing_votes")
                self.emit("missing_vote", round=number, seat=seat, number=numbers[index])
            votes.append([bool(vote) for vote in ballot.votes])
        return votes

    async def _ballot(
        self, seat: int, phase: Phase, numbers: Sequence[int]
    ) -> tuple[list[Call], Ballot]:
        calls: list[Call] = []
        asked: tuple[Message, ...] = self.prompt(seat, phase)
        ballot = Ballot((None,) * len(numbers), "", "none")
        for ask in range(VOTE_REASKS + 1):
            call = await self.ask(seat, phase, ask=ask, asked=asked)
            if call.reply.finish == "stop":
                ballot = read_ballot(call.reply.text, numbers)
            call.rung, call.fault = ballot.rung, CUT.get(call.reply.finish, "") or ballot.fault
            calls.append(call)
            if not call.fault:
                break
            asked = context.reasked(asked, call.reply.text, call.fault)
        return calls, ballot

    async def reflect(self, number: int) -> None:
        """Private reflection after a round without a deal, all seats at once."""
        for seat, call in enumerate(await self.each("reflection", self.ask)):
            self.keep(seat, call)
            text = without_thinking(call.reply.text).strip()
            self.emit("reflection", round=number, seat=seat, text=text)

    # -- calls --------------------------------------------------------------------------------
    async def each(self, phase: Phase, ask: Callable[[int, Phase], Awaitable[T]]) -> list[T]:
        """Ask all seats at once; one after the other where no seat ever has to wait."""
        self.tell(phase)
        if self.together:
            return list(await asyncio.gather(*(ask(k, phase) for k in range(self.game.n))))
        return [await ask(k, phase) for k in range(self.game.n)]

    def tell(self, phase: Phase) -> None:
        """What the trial is at, for whoever watches the run."""
        self.lab.progress(f"round {self.log.current.number} of {self.settings.max_rounds}: {phase}")

    def prompt(self, seat: int, phase: Phase, lap: int = 1) -> tuple[Message, Message]:
        """The messages of a call. Raises TrialFailed when they cannot fit, before paying."""
        try:
            return context.messages(self.log, seat, phase, lap, self.rooms[seat])
        except context.ContextTooLong as error:
            raise TrialFailed("context", f"{self.models[seat]}: {error}") from error

    async def ask(
        self,
        seat: int,
        phase: Phase,
        lap: int = 1,
        ask: int = 0,
        asked: Sequence[Message] | None = None,
    ) -> Call:
        """One call. The prompt is not kept: it can be rebuilt from the events."""
        now = self.log.current
        number = now.number
        seen = Observation(
            self.views[seat], self.log.offers, now.proposals, phase, number, lap, ask
        )
        reply = await self.subjects[seat].reply(
            asked or self.prompt(seat, phase, lap), self.samplings[seat][phase], seen,
            label=label_of(number, phase), record=False,
        )  # fmt: skip
        return Call(number, phase, lap, ask, reply)

    def keep(self, seat: int, call: Call) -> None:
        """Put a call into the transcript and the book. The prompt is left out of the transcript,
        since the events before it give it."""
        reply, name = call.reply, seat_name(seat)
        self.lab.emit(
            "call", seat=name, label=label_of(call.round, call.phase), round=call.round,
            phase=call.phase, lap=call.lap, ask=call.ask, model=self.models[seat],
            served_model=reply.served_model, reply=reply.text, reasoning=reply.reasoning,
            finish=reply.finish, rung=call.rung, fault=call.fault, usage=reply.usage, cost=reply.cost,
            seconds=reply.seconds, asked_at=reply.asked_at, request_id=reply.request_id,
        )  # fmt: skip
        if (room := self.rooms[seat]) is not None:
            # What the prompt had to fit into, so that the same prompt can be built again.
            self.lab.events[-1]["room"] = room
        self.book.calls.append((call.phase, name, reply))
        if reply.finish != "stop":
            self.book.count(name, "truncated" if reply.finish == "length" else "refusals")
        if call.rung in ("repaired", "labelled"):
            self.book.count(name, "repairs")
        if call.ask:
            self.book.count(name, "reasks")

    def emit(self, kind: str, **data: Any) -> None:
        """One event: into the transcript, and into the log that prompts are built from."""
        self.lab.emit(kind, **data)
        self.log.add(self.lab.events[-1])


@lru_cache(maxsize=8192)
def label_of(number: int, phase: Phase) -> str:
    """What a call is called in the ledger, in cost tables and in scripts: `round 3/vote`."""
    return f"round {number}/{phase}"


def _room(subject: Subject, samplings: dict[Phase, Sampling]) -> int | None:
    """Prompt tokens that leave place for the longest answer; None where no window is known."""
    window = getattr(getattr(subject, "route", None), "context_window", None)
    if window is None:
        return None
    return int(window) - max(sampling.max_tokens or 0 for sampling in samplings.values())


def _plan_text(
    reasoning: str, strategy: str, priorities: Sequence[str], concessions: Sequence[str]
) -> str:
    parts = [reasoning, strategy and f"Strategy: {strategy}"]
    parts.append(f"Priorities: {', '.join(priorities)}" if priorities else "")
    parts.append(f"Possible concessions: {', '.join(concessions)}" if concessions else "")
    return " ".join(part for part in parts if part)
