"""Simulated negotiators: no network, ordinary text in and out, read by the same parser as any.

Scripted kinds come from the automated-negotiation literature: time-dependent concession (Faratin,
Sierra & Jennings 1998): `conceder`, `linear`, `boulware`, `tough`; behaviour-dependent `tit-for-tat`
(the same paper) and `micro` (MiCRO, de Jonge 2022); and `random`. `sim:skill=θ` is a bounded-rational
negotiator whose arithmetic, memory, inference and patience all improve with θ.
Invariant: an answer is a pure function of the request's observation and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from peira.errors import InputError
from peira.families.negotiation import bidding
from peira.families.negotiation.behaviour.judge import Rated, by_lexicon
from peira.families.negotiation.game import Allocation
from peira.families.negotiation.speech import Dice, claims, statement
from peira.families.negotiation.view import Observation
from peira.subjects.simulated import Answerer, SimSpec
from peira.subjects.subject import Request

TOTAL = 100.0


def aspiration(round_number: int, rounds: int, exponent: float, floor: float) -> float:
    """Wanted share of the best utility: 1 − (1−floor)·(r/t)^(1/e) (Faratin et al. 1998)."""
    return float(1.0 - (1.0 - floor) * (round_number / rounds) ** (1.0 / exponent))


@dataclass(frozen=True)
class Negotiator:
    """What all kinds share: turning decisions into text. Subclasses decide `target` and `bid`."""

    lie: float = 0.2
    floor: float = 0.2

    # -- what a kind decides ----------------------------------------------------------------
    def target(self, seen: Observation, dice: Dice) -> float:
        """Own utility wanted this round, 0..100."""
        raise NotImplementedError

    def estimates(self, seen: Observation, dice: Dice) -> list[tuple[float, ...] | None]:
        """What each other seat seems to value; None for oneself."""
        view = seen.view
        m = len(view.items)
        return [
            None if k == view.seat else bidding.kept_often(seen.offers[k], k, m)
            for k in range(len(view.labels))
        ]

    def bid(self, seen: Observation, dice: Dice) -> Allocation:
        """The proposal of this round: enough for me, as much as possible for the others."""
        view = seen.view
        guesses = self.estimates(seen, dice)
        others = [row for row in guesses if row is not None]
        m = len(view.items)
        pooled = others[0] if len(others) == 1 else tuple(
            max(row[j] for row in others) for j in range(m)
        )  # fmt: skip
        bundle = bidding.bundle_for(view.values, pooled, self.target(seen, dice))
        return bidding.share_out(bundle, view.seat, m, guesses)

    def accepts(self, seen: Observation, offer: Allocation, dice: Dice) -> bool:
        """Vote on one proposal of this round."""
        return seen.view.utility(offer) >= self.target(seen, dice) - 1e-9

    # -- how it is said -----------------------------------------------------------------------
    def answer(self, request: Request) -> str:
        """The reply to one call, as text."""
        seen = request.observation
        if isinstance(seen, Rated):
            return by_lexicon(seen.message)
        if not isinstance(seen, Observation):
            raise InputError(
                f"subject {request.model}: this simulated kind plays negotiations only\n"
                "  remedy: use a kind of the study's own family"
            )
        say: Callable[[Observation, Dice], str] = getattr(self, f"say_{seen.phase}")
        return say(seen, Dice(request.seed))

    def say_discussion(self, seen: Observation, dice: Dice) -> str:
        """A public statement with claims and a promise."""
        target = self.target(seen, dice)
        said = claims(seen.view.values, target, self.lie, dice)
        keeping: list[int] = []
        if seen.lap > 1 or dice.uniform() < 0.5:
            offer = self.bid(seen, dice)
            keeping = [j for j, owner in enumerate(offer) if owner == seen.view.seat]
        return statement(seen, said, keeping)

    def say_thinking(self, seen: Observation, dice: Dice) -> str:
        """Private plan as JSON."""
        values, items = seen.view.values, seen.view.items
        order = bidding.by_worth(values)
        plan = {
            "reasoning": f"In round {seen.round} I aim for {self.target(seen, dice):.0f} points.",
            "strategy": type(self).__name__,
            "key_priorities": [items[j] for j in order[:2]],
            "potential_concessions": [items[j] for j in order[-2:]] if len(order) > 2 else [],
        }
        return orjson.dumps(plan).decode()

    def say_proposal(self, seen: Observation, dice: Dice) -> str:
        """A proposal as JSON."""
        offer = self.bid(seen, dice)
        labels, items = seen.view.labels, seen.view.items
        given: dict[str, list[str]] = {label: [] for label in labels}
        for j, owner in enumerate(offer):
            given[labels[owner]].append(items[j])
        reasoning = "This gives every agent something it asked for."
        return orjson.dumps({"allocation": given, "reasoning": reasoning}).decode()

    def say_vote(self, seen: Observation, dice: Dice) -> str:
        """Votes as JSON. The own proposal is always accepted."""
        votes = {
            str(p.number): "accept"
            if p.seat == seen.view.seat or self.accepts(seen, p.allocation, dice)
            else "reject"
            for p in seen.listed
        }
        return orjson.dumps({"votes": votes, "reasoning": "By what it is worth to me."}).decode()

    def say_reflection(self, seen: Observation, dice: Dice) -> str:
        """A private note."""
        return f"No deal in round {seen.round}. I will adjust what I ask for."


@dataclass(frozen=True)
class TimeDependent(Negotiator):
    """Concedes with time alone; e > 1 early, e < 1 late."""

    exponent: float = 1.0

    def target(self, seen: Observation, dice: Dice) -> float:
        return TOTAL * aspiration(seen.round, seen.view.rounds, self.exponent, self.floor)


class Conceder(TimeDependent):
    """Concedes early (e = 3)."""


class Linear(TimeDependent):
    """Concedes evenly (e = 1)."""


class Boulware(TimeDependent):
    """Concedes late (e = 0.3)."""


@dataclass(frozen=True)
class Tough(Negotiator):
    """Never concedes: wants `floor` of everything in every round."""

    floor: float = 0.8

    def target(self, seen: Observation, dice: Dice) -> float:
        return TOTAL * self.floor


@dataclass(frozen=True)
class TitForTat(Negotiator):
    """Concedes what the others' latest proposals conceded since their first, in own utility."""

    def target(self, seen: Observation, dice: Dice) -> float:
        view = seen.view
        gains = []
        for k in range(len(view.labels)):
            offers = seen.offers[k] if k != view.seat else []
            if offers:
                gains.append(view.utility(offers[-1]) - view.utility(offers[0]))
        conceded = max(0.0, min(gains)) if gains else 0.0
        opening = TOTAL * 0.95
        return max(TOTAL * self.floor, opening - conceded - 2.0 * (seen.round - 1))


@dataclass(frozen=True)
class Random(Negotiator):
    """Proposes at random; accepts what beats a random proposal."""

    def target(self, seen: Observation, dice: Dice) -> float:
        return TOTAL / len(seen.view.labels)

    def bid(self, seen: Observation, dice: Dice) -> Allocation:
        n = len(seen.view.labels)
        return tuple(dice.below(n) for _ in seen.view.items)

    def accepts(self, seen: Observation, offer: Allocation, dice: Dice) -> bool:
        return seen.view.utility(offer) >= seen.view.utility(self.bid(seen, dice))


@dataclass(frozen=True)
class Micro(Negotiator):
    """MiCRO: a new, next-best proposal only in return for a new one from the others; accepts what
    is at least as good as the worst it is ready to propose (de Jonge, IJCAI 2022)."""

    def _rank(self, seen: Observation) -> int:
        """How many distinct own bundles it is ready to have proposed, this round's included."""
        view = seen.view
        received = [
            len({_bundle(offer, k) for offer in seen.offers[k]})
            for k in range(len(view.labels))
            if k != view.seat
        ]
        return min(received, default=0) + 1

    def _ready(self, seen: Observation) -> tuple[int, ...]:
        """Bundles ready to be proposed, best first; never below the floor."""
        values = seen.view.values
        ranked = bidding.ranked_bundles(values)[: self._rank(seen)]
        floor = TOTAL * self.floor
        fair = tuple(b for b in ranked if _worth(values, b) >= floor)
        return fair or ranked[:1]

    def target(self, seen: Observation, dice: Dice) -> float:
        return _worth(seen.view.values, self._ready(seen)[-1])

    def bid(self, seen: Observation, dice: Dice) -> Allocation:
        view = seen.view
        ready = self._ready(seen)
        made = {_bundle(offer, view.seat) for offer in seen.offers[view.seat]}
        fresh = [bundle for bundle in ready if bundle not in made]
        bundle = fresh[0] if fresh else ready[dice.below(len(ready))]
        return bidding.share_out(bundle, view.seat, len(view.items), self.estimates(seen, dice))


def _bundle(offer: Allocation, seat: int) -> int:
    return sum(1 << j for j, owner in enumerate(offer) if owner == seat)


def _worth(values: Sequence[float], bundle: int) -> float:
    return sum(value for j, value in enumerate(values) if bundle >> j & 1)


@dataclass(frozen=True)
class Skilled(Negotiator):
    """Bounded rationality graded by θ ∈ [0, 1].

    Arithmetic: its utility of a proposal is off by a normal error of (1−θ)·14 points. Memory: each
    earlier proposal is remembered with probability 0.3 + 0.7·θ. Inference: others' values are
    read from their proposals with weight θ, the rest is the belief that they are like its own.
    Patience: concedes as e = 0.35 + 2·(1−θ) down to a floor of 0.2 + 0.25·θ.
    """

    theta: float = 0.5

    def target(self, seen: Observation, dice: Dice) -> float:
        theta, view = self.theta, seen.view
        floor = self.floor + 0.25 * theta
        if seen.round == view.rounds:
            floor = self.floor  # the end is near: anything decent beats no deal
        return TOTAL * aspiration(seen.round, view.rounds, 0.35 + 2.0 * (1.0 - theta), floor)

    def estimates(self, seen: Observation, dice: Dice) -> list[tuple[float, ...] | None]:
        view, theta = seen.view, self.theta
        m, chance = len(view.items), 0.3 + 0.7 * theta
        guesses: list[tuple[float, ...] | None] = []
        for k in range(len(view.labels)):
            if k == view.seat:
                guesses.append(None)
                continue
            kept = [offer for offer in seen.offers[k] if dice.uniform() < chance]
            read = bidding.kept_often(kept, k, m)
            own = view.values
            guesses.append(
                tuple(theta * r + (1.0 - theta) * v for r, v in zip(read, own, strict=True))
            )
        return guesses

    def accepts(self, seen: Observation, offer: Allocation, dice: Dice) -> bool:
        felt = seen.view.utility(offer) + 14.0 * (1.0 - self.theta) * dice.normal()
        return felt >= self.target(seen, dice)


def _dials(spec: SimSpec, floor: float = 0.2) -> tuple[float, float]:
    spec.only("lie", "floor", "e")
    lie, low = spec.number("lie", 0.2), spec.number("floor", floor)
    for name, value in (("lie", lie), ("floor", low)):
        if not 0 <= value <= 1:
            raise InputError(f"subject sim:{spec.kind}: {name}={value}\n  allowed: 0 to 1")
    return lie, low


def _timed(kind: type[TimeDependent], exponent: float) -> Callable[[SimSpec], Answerer]:
    def make(spec: SimSpec) -> Answerer:
        lie, floor = _dials(spec)
        e = spec.number("e", exponent)
        if e <= 0:
            raise InputError(f"subject sim:{spec.kind}: e={e}\n  allowed: above 0")
        return kind(lie=lie, floor=floor, exponent=e)

    return make


def _plain(kind: type[Negotiator], floor: float = 0.2) -> Callable[[SimSpec], Answerer]:
    def make(spec: SimSpec) -> Answerer:
        lie, low = _dials(spec, floor)
        return kind(lie=lie, floor=low)

    return make


def _skilled(spec: SimSpec) -> Answerer:
    lie, floor = _dials(spec)
    theta = spec.level(0.5)
    if not 0 <= theta <= 1:
        raise InputError(f"subject sim:skill={spec.value}: {theta:g}\n  allowed: 0 to 1")
    return Skilled(lie=lie, floor=floor, theta=theta)


KINDS: Mapping[str, Callable[[SimSpec], Answerer]] = {
    "random": _plain(Random),
    "conceder": _timed(Conceder, 3.0),
    "linear": _timed(Linear, 1.0),
    "boulware": _timed(Boulware, 0.3),
    "tough": _plain(Tough, 0.8),
    "tit-for-tat": _plain(TitForTat),
    "micro": _plain(Micro, 0.0),
    "skill": _skilled,
    "judge": _plain(Random),
}
