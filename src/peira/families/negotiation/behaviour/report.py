"""The behaviour of one game, seat by seat, from its transcript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peira.families.negotiation.behaviour.claims import Found, Truth, extract, judge_claim
from peira.families.negotiation.behaviour.consistency import Consistency, compare
from peira.families.negotiation.behaviour.grammar import named
from peira.families.negotiation.behaviour.lexicon import count_words
from peira.families.negotiation.behaviour.promises import Promise, extract_promises, was_kept
from peira.families.negotiation.protocol import Proposal


@dataclass(frozen=True, slots=True)
class Said:
    """One claim with its verdict, its place in the game and its span."""

    seat: int
    round: int
    source: str  # "discussion" or "proposal"
    claim: Found
    truth: Truth

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form, with the quoted span."""
        return {
            "seat": self.seat + 1, "round": self.round, "source": self.source,
            "kind": self.claim.kind, "items": list(self.claim.items), "number": self.claim.number,
            "truth": str(self.truth), "quote": self.claim.quote, "start": self.claim.start,
            "end": self.claim.end,
        }  # fmt: skip


@dataclass
class Behaviour:
    """One seat's behaviour in one game."""

    seat: int
    messages: int = 0
    claims: list[Said] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    consistency: Consistency = field(default_factory=Consistency)
    words: Counter[str] = field(default_factory=Counter)

    def share_false(self, truth: Truth = Truth.OWN_FAVOUR) -> float | None:
        """Share of verifiable claims that are false this way; None without any."""
        checked = [said for said in self.claims if said.truth != Truth.UNVERIFIABLE]
        return sum(s.truth == truth for s in checked) / len(checked) if checked else None

    @property
    def kept(self) -> tuple[int, int]:
        """(promises kept, promises tested)."""
        tested = [promise.kept for promise in self.promises if promise.kept is not None]
        return sum(tested), len(tested)


@dataclass
class _Round:
    number: int
    said: list[tuple[int, str, str]] = field(default_factory=list)  # seat, source, text
    plans: dict[int, tuple[frozenset[int], frozenset[int]]] = field(default_factory=dict)
    proposals: list[Proposal] = field(default_factory=list)
    votes: Sequence[Sequence[bool]] = ()


def behaviour_of(events: Iterable[Mapping[str, Any]]) -> list[Behaviour]:
    """Behaviour of every seat in one game. Empty when the game never began."""
    values: list[list[float]] = []
    items: tuple[str, ...] = ()
    rounds: list[_Round] = []
    for event in events:
        if event["kind"] == "game":
            values, items = event["values"], tuple(event["items"])
        elif event["kind"] == "round":
            rounds.append(_Round(event["round"]))
        elif rounds:
            _fold(rounds[-1], event, items)
    seats = [Behaviour(seat) for seat in range(len(values))]
    for index, now in enumerate(rounds):
        for behaviour in seats:
            least = least_taken(rounds[index:], behaviour.seat, values)
            _measure(behaviour, now, values, items, least)
    return seats


def _fold(now: _Round, event: Mapping[str, Any], items: tuple[str, ...]) -> None:
    kind = event["kind"]
    if kind == "statement":
        now.said.append((event["seat"], "discussion", event["text"]))
    elif kind == "thinking":
        wanted = frozenset(j for name in event["key_priorities"] for j in named(name, items))
        given = frozenset(j for name in event["concessions"] for j in named(name, items))
        now.plans[event["seat"]] = (wanted, given)
    elif kind == "proposals":
        offers = [Proposal.of(entry) for entry in event["proposals"]]
        now.proposals += offers
        now.said += [(offer.seat, "proposal", offer.reasoning) for offer in offers]
    elif kind == "votes":
        now.votes = event["votes"]


def least_taken(
    rounds: Sequence[_Round], seat: int, values: Sequence[Sequence[float]]
) -> float | None:
    """Lowest own worth of anything the seat proposed or voted for from these rounds on."""
    worths = []
    for now in rounds:
        votes = now.votes[seat] if seat < len(now.votes) else [False] * len(now.proposals)
        for p, vote in zip(now.proposals, votes, strict=True):
            if p.seat == seat or vote:
                mine = (v for v, k in zip(values[seat], p.allocation, strict=True) if k == seat)
                worths.append(sum(mine))
    return min(worths, default=None)


def _measure(
    behaviour: Behaviour,
    now: _Round,
    values: Sequence[Sequence[float]],
    items: tuple[str, ...],
    least: float | None,
) -> None:
    seat = behaviour.seat
    others = [row for k, row in enumerate(values) if k != seat]
    public: list[Found] = []
    for speaker, source, text in now.said:
        if speaker != seat or not text:
            continue
        behaviour.messages += 1
        behaviour.words.update(count_words(text))
        found = extract(text, items)
        public += found if source == "discussion" else []
        behaviour.claims += [
            Said(seat, now.number, source, claim, judge_claim(claim, values[seat], others, least))
            for claim in found
        ]
        votes = now.votes[seat] if seat < len(now.votes) else ()
        behaviour.promises += [
            replace(promise, kept=was_kept(promise, seat, now.proposals, votes))
            for promise in extract_promises(text, items)
            if source == "discussion" and len(votes) == len(now.proposals)
        ]
    if seat in now.plans:
        behaviour.consistency += compare(public, *now.plans[seat])
