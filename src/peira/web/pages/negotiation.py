"""A negotiation: the talk round by round, what was proposed and voted, what each seat would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peira.families.negotiation.game import Game, payoff
from peira.store.records import TrialView
from peira.web.charts import Chart, Line, draw
from peira.web.pages import Query
from peira.web.pages.conversation import SEATS, Said, call_facts, cut

PRIVATE = {"thinking": "private plan", "reflection": "private reflection"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One proposal: owner of each item, each seat's utility, who voted for it."""

    number: int
    proposer: str
    colour: int
    owners: tuple[tuple[str, int], ...]
    utilities: tuple[float, ...]
    votes: tuple[bool | None, ...]
    reasoning: str
    won: bool


@dataclass(slots=True)
class Round:
    """One round as it is shown."""

    number: int
    order: tuple[str, ...] = ()
    talk: list[Said] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def context(view: TrialView, query: Query) -> dict[str, Any]:
    """Rounds, the table of values, and the course of utilities."""
    events, settings = view.events, view.record.settings
    opening = next((e for e in events if e["kind"] == "game"), None)
    if opening is None:
        return {"game": None, "rounds": [], "seats": [], "chart": "", "deal": None}
    game = Game(tuple(opening["items"]), tuple(tuple(row) for row in opening["values"]),
                opening.get("cooperation") or 0.0)  # fmt: skip
    seats = _seats(view, game, opening)
    rounds = _Reader(game, seats, events).rounds()
    deal = next((e for e in events if e["kind"] == "deal"), None)
    gamma = float(settings.get("gamma_discount", 1.0))
    return {
        "game": game, "seats": seats, "rounds": rounds, "deal": deal,
        "values": [(item, [row[j] for row in game.values]) for j, item in enumerate(game.items)],
        "chart": _course(game, seats, rounds, gamma), "cosines": game.cosines(),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeatName:
    """A seat as the page names it."""

    label: str
    model: str
    colour: int


def _seats(view: TrialView, game: Game, opening: Mapping[str, Any]) -> list[SeatName]:
    models = view.record.settings.get("models") or [""] * game.n
    labels = opening.get("labels") or [f"Agent {k + 1}" for k in range(game.n)]
    return [
        SeatName(str(labels[k]), str(models[k]) if k < len(models) else "", k % SEATS)
        for k in range(game.n)
    ]


class _Reader:
    """Reads events into rounds."""

    def __init__(self, game: Game, seats: Sequence[SeatName], events: list[dict[str, Any]]) -> None:
        self.game, self.seats, self.events = game, seats, events
        self.found: list[Round] = []

    def rounds(self) -> list[Round]:
        for event in self.events:
            read = getattr(self, f"_{event['kind']}", None)
            if event["kind"] == "round":
                order = tuple(self.seats[k].label for k in event.get("order", ()))
                self.found.append(Round(event["round"], order))
            elif read is not None and self.found:
                read(event, self.found[-1])
        return self.found

    def _statement(self, event: Mapping[str, Any], into: Round) -> None:
        seat, private = self.seats[event["seat"]], event["kind"] in PRIVATE
        title, text = PRIVATE.get(event["kind"], "says"), cut(str(event.get("text", "")))
        into.talk.append(
            Said(event["n"], "call", seat.label, seat.colour, title, text, private=private)
        )

    _thinking = _reflection = _statement

    def _call(self, event: Mapping[str, Any], into: Round) -> None:
        """Reasoning a model kept to itself, and calls that went wrong."""
        name = str(event.get("seat", ""))
        number = name.rpartition(" ")[2]
        seat = int(number) - 1 if number.isdecimal() else 0
        label = self.seats[seat].label if 0 <= seat < len(self.seats) else name
        reasoning = str(event.get("reasoning") or "")
        if reasoning:
            into.talk.append(Said(
                event["n"], "call", label, seat % SEATS,
                f"reasoning before {event.get('phase', 'the reply')}", cut(reasoning),
                private=True, facts=tuple(call_facts(event)),
            ))  # fmt: skip
        if event.get("fault"):
            into.faults.append(f"{label}, {event.get('phase', '')}: {event['fault']}")

    def _illegal_offer(self, event: Mapping[str, Any], into: Round) -> None:
        into.faults.append(f"{self.seats[event['seat']].label}: illegal offer left out")

    def _missing_vote(self, event: Mapping[str, Any], into: Round) -> None:
        where = f"{self.seats[event['seat']].label} on proposal {event.get('number')}"
        into.faults.append(f"{where}: no readable vote, counted as a rejection")

    def _proposals(self, event: Mapping[str, Any], into: Round) -> None:
        into.offers += [self._offer(proposal) for proposal in event["proposals"]]

    def _offer(self, proposal: Mapping[str, Any]) -> Offer:
        seat, owners = self.seats[proposal["seat"]], proposal["allocation"]
        return Offer(
            proposal["number"], seat.label, seat.colour,
            tuple((self.seats[k].label if k >= 0 else "nobody", k % SEATS) for k in owners),
            self.game.utilities(owners), (None,) * self.game.n,
            str(proposal.get("reasoning") or ""), False,
        )  # fmt: skip

    def _votes(self, event: Mapping[str, Any], into: Round) -> None:
        votes = event["votes"]
        into.offers = [
            replace(offer, votes=tuple(bool(row[i]) if i < len(row) else None for row in votes))
            for i, offer in enumerate(into.offers)
        ]

    def _deal(self, event: Mapping[str, Any], into: Round) -> None:
        into.offers = [replace(o, won=o.number == event["number"]) for o in into.offers]


def _course(game: Game, seats: Sequence[SeatName], rounds: Sequence[Round], gamma: float) -> Any:
    """What each seat would get, discounted, from the offer of each round that had most votes."""
    best = [(r.number, max(r.offers, key=lambda o: (o.won, sum(v is True for v in o.votes))))
            for r in rounds if r.offers]  # fmt: skip
    lines = [
        Line(seat.label, [n for n, _ in best], [payoff(o.utilities[k], n, gamma) for n, o in best])
        for k, seat in enumerate(seats)
    ]
    title = "Payoff of each round's leading proposal"
    return draw(Chart(title, lines, "round", "discounted utility", zero=True)) if best else ""
