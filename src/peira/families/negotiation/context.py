"""What a seat is shown: one pure function of the event log.

`GameLog` folds public and private events into text, each rendered once when it happens, so that the
work of building prompts is linear in rounds; `messages` joins system prompt, public record, own
private notes and the phase's request. Nothing appears twice; the rules are always present.
Invariant: the same events give the same messages, in play and when a transcript is read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from peira.families.negotiation import prompts
from peira.families.negotiation.game import Allocation, Game
from peira.families.negotiation.protocol import Proposal, votes_needed, votes_said
from peira.families.negotiation.settings import NegotiationSettings, Phase
from peira.subjects.subject import Message, system, user

CHARACTERS_PER_TOKEN = 3  # low on purpose: prompts must fit whatever the tokenizer
MARKS = {"length": "cut off", "refusal": "declined to speak", "empty": "said nothing"}


class ContextTooLong(Exception):
    """Even with every finished round summarised, the prompt exceeds the subject's window."""


@dataclass(slots=True)
class RoundLog:
    """One round as played: order, statements, proposals, public counts."""

    number: int
    order: tuple[int, ...]
    statements: list[tuple[int, str]] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    tallies: list[tuple[int, int, int]] = field(default_factory=list)
    public: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class GameLog:
    """The game so far, folded from events. `rounds` is public; `notes` are each seat's own."""

    settings: NegotiationSettings
    game: Game
    rounds: list[RoundLog] = field(default_factory=list)
    past: str = ""
    past_notes: list[str] = field(default_factory=list)
    current: RoundLog = field(init=False)

    def __post_init__(self) -> None:
        self.labels = self.settings.seats
        seats = range(self.game.n)
        self.past_notes = [""] * self.game.n
        self.offers: list[list[Allocation]] = [[] for _ in seats]
        self.systems = tuple(system(_system_text(self.settings, self.game, k)) for k in seats)

    def add(self, event: Mapping[str, Any]) -> None:
        """Fold one event in; kinds that are not part of the game are ignored."""
        handler = _HANDLERS.get(event["kind"])
        if handler is not None:
            handler(self, event)

    # -- what happened ----------------------------------------------------------------------
    def _round(self, event: Mapping[str, Any]) -> None:
        if self.rounds:
            done = self.current
            self.past += done.public
            self.past_notes = [a + b for a, b in zip(self.past_notes, done.notes, strict=True)]
        number = event["round"]
        self.current = RoundLog(number, tuple(event["order"]), notes=[""] * self.game.n)
        self.rounds.append(self.current)
        self.current.public = f"\n== Round {number} of {self.settings.max_rounds} ==\n"

    def _statement(self, event: Mapping[str, Any]) -> None:
        seat, text = event["seat"], event["text"]
        mark = MARKS.get(event.get("finish", "stop"), "")
        self.current.statements.append((seat, text))
        self.current.public += prompts.told("statement", self.labels[seat], text, mark)

    def _proposals(self, event: Mapping[str, Any]) -> None:
        now = self.current
        for entry in event["proposals"]:
            offer = Proposal.of(entry)
            now.proposals.append(offer)
            self.offers[offer.seat].append(offer.allocation)
        now.public += "Proposals:\n" + self.listing(now)

    def _tally(self, event: Mapping[str, Any]) -> None:
        self.current.tallies = [tuple(row) for row in event["counts"]]
        lines = [prompts.told("tally", *row) for row in event["counts"]]
        self.current.public += "Votes:\n" + "".join(lines)

    def _note(self, event: Mapping[str, Any]) -> None:
        text = prompts.told("note", event["round"], event["kind"], event["text"])
        self.current.notes[event["seat"]] += text

    def _votes(self, event: Mapping[str, Any]) -> None:
        for seat, votes in enumerate(event["votes"]):
            said = votes_said(self.current.proposals, votes)
            self.current.notes[seat] += prompts.told("note", event["round"], "your votes", said)

    # -- how it is shown --------------------------------------------------------------------
    def bundles(self, allocation: Allocation) -> str:
        """`Agent 1: Apple, Quill; Agent 2: nothing`."""
        parts = []
        for k, label in enumerate(self.labels):
            own = [self.game.items[j] for j, owner in enumerate(allocation) if owner == k]
            parts.append(f"{label}: {', '.join(own) or 'nothing'}")
        return "; ".join(parts)

    def listing(self, now: RoundLog) -> str:
        """The numbered proposals of a round, and who made none."""
        tell, labels = prompts.told, self.labels
        lines = [
            tell("proposal", p.number, labels[p.seat], self.bundles(p.allocation), p.reasoning)
            for p in now.proposals
        ]
        made = {p.seat for p in now.proposals}
        lines += [tell("silent", labels[k]) for k in now.order if k not in made]
        return "".join(lines)


_HANDLERS = {
    "round": GameLog._round,
    "statement": GameLog._statement,
    "proposals": GameLog._proposals,
    "tally": GameLog._tally,
    "thinking": GameLog._note,
    "reflection": GameLog._note,
    "votes": GameLog._votes,
}


def messages(
    log: GameLog, seat: int, phase: Phase, lap: int = 1, room: int | None = None
) -> tuple[Message, Message]:
    """System prompt, and one user message: public record, own notes, request.

    `room` is the prompt tokens that may be used; when they do not suffice, the oldest rounds are
    replaced by a summary. Raises ContextTooLong.
    """
    now = log.current
    request = _request(log, phase, lap)
    first = log.systems[seat]
    notes = log.past_notes[seat] + now.notes[seat]
    body = _body(log.past + now.public, notes, request)
    if room is not None and len(first.content) + len(body) > room * CHARACTERS_PER_TOKEN:
        body = _shortened(log, seat, request, room * CHARACTERS_PER_TOKEN - len(first.content))
    return first, user(body)


def reasked(asked: Sequence[Message], reply: str, fault: str) -> tuple[Message, ...]:
    """The same prompt, the reply that could not be used, and the exact fault."""
    answer = reply or "(no answer)"
    return (*asked, Message("assistant", answer), user(prompts.render("reask", fault=fault)))


def _body(public: str, notes: str, request: str) -> str:
    own = f"\n# Your private notes\n{notes}" if notes else ""
    return f"# Public record\n{public}{own}\n# Now\n{request}"


def _shortened(log: GameLog, seat: int, request: str, characters: int) -> str:
    """Summarise as few of the oldest rounds as will do."""
    finished, now = log.rounds[:-1], log.current
    for cut in range(1, len(finished) + 1):
        public = "".join(_summary(log, r) for r in finished[:cut])
        public += "".join(r.public for r in finished[cut:]) + now.public
        notes = "".join(r.notes[seat] for r in [*finished[cut:], now])
        body = _body(public, notes, request)
        if len(body) <= characters:
            return body
    raise ContextTooLong(
        f"round {now.number}: the prompt does not fit the context window, even with every finished"
        f" round summarised\n  remedy: fewer discussion_turns, or a model with a larger window"
    )


def _summary(log: GameLog, past: RoundLog) -> str:
    counts = {number: (accepts, rejects) for number, accepts, rejects in past.tallies}
    offers = " ".join(
        f"{log.labels[p.seat]} proposed {log.bundles(p.allocation)} "
        f"({counts.get(p.number, (0, 0))[0]} accept)."
        for p in past.proposals
    )
    return prompts.told("summary", past.number, offers)


def _request(log: GameLog, phase: Phase, lap: int) -> str:
    settings, now = log.settings, log.current
    if phase == "vote":
        numbers = tuple(p.number for p in now.proposals)
        return _vote_request(now.number, settings.max_rounds, numbers)
    return _plain_request(
        phase, now.number, settings.max_rounds, lap, settings.discussion_turns, log.labels
    )


@lru_cache(maxsize=4096)
def _vote_request(number: int, rounds: int, numbers: tuple[int, ...]) -> str:
    """The proposals stand in the public record just above: named by number, not told twice."""
    listed = f"numbers {', '.join(map(str, numbers))}, as listed under this round above."
    shape = orjson.dumps({str(n): "accept or reject" for n in numbers}).decode()
    return prompts.render("vote", round=number, rounds=rounds, proposals=listed, shape=shape)


@lru_cache(maxsize=4096)
def _plain_request(
    phase: Phase, number: int, rounds: int, lap: int, laps: int, labels: tuple[str, ...]
) -> str:
    shape = orjson.dumps({label: ["item", "..."] for label in labels}).decode()
    return prompts.render(phase, round=number, rounds=rounds, lap=lap, laps=laps, shape=shape)


def _system_text(settings: NegotiationSettings, game: Game, seat: int) -> str:
    phases = [
        "public discussion" if settings.discussion_turns else "",
        "private thinking" if settings.thinking else "",
        "proposals", "vote",
        "private reflection if there is no deal" if settings.reflection else "",
    ]  # fmt: skip
    labels = settings.seats
    return prompts.render(
        "system",
        me=labels[seat], n=game.n, m=game.m, agents=", ".join(labels),
        items=", ".join(f"{j}: {name}" for j, name in enumerate(game.items)),
        values=[(i, f"{v:g}") for i, v in zip(game.items, game.values[seat], strict=True)],
        others=_others(game, seat, labels), rounds=settings.max_rounds,
        phases=", ".join(phase for phase in phases if phase),
        needed=votes_needed(settings.acceptance, game.n), gamma=f"{settings.gamma_discount:g}",
        disagreement=f"{game.disagreement:g}",
    )  # fmt: skip


def _others(game: Game, seat: int, labels: Sequence[str]) -> list[tuple[str, str]]:
    if not game.cooperation:
        return []
    rows = game.matrix[seat]
    return [
        (item, ", ".join(f"{rows[j, k]:+g} if {labels[k]} receives it"
                         for k in range(game.n) if k != seat))
        for j, item in enumerate(game.items)
    ]  # fmt: skip
