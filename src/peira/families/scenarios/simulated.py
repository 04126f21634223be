"""Simulated actors, world and judge, with a planted truth (specs: scenarios §8).

The actor says its concession in its action; the world reads concessions from the actions it is
shown, so an action that was lost loses its effect; metrics read the level from the world's text.
Invariant: every answer is text, read by the same parser as a model's.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from peira.subjects.simulated import Answerer, SimSpec, parse_sim
from peira.subjects.subject import Request

OFFICES = ("world", "summary", "metrics", "quality")
OURS = re.compile(r"sim:(actor|world|anyone)\b")
WORLD = ("base", "sd", "block_sd", "interaction")
CONCESSION = re.compile(r"concession of (-?\d+(?:\.\d+)?)")
LEVEL = re.compile(r"cooperation level: (-?\d+(?:\.\d+)?)")


class Actor:
    """`sim:actor,lift=0,talk=0`: concedes `lift`; opens private talk with probability `talk`."""

    def __init__(self, spec: SimSpec) -> None:
        spec.only("lift", "talk")
        self.lift, self.talk = spec.number("lift", 0.0), spec.number("talk", 0.0)

    def answer(self, request: Request) -> str:
        seen = request.observation or {}
        make = getattr(self, f"_{seen.get('ask', 'decision')}", self._message)
        return json.dumps(make(seen, random.Random(request.seed)))

    def _decision(self, seen: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
        tone = dice.choice(["after weighing the options", "as planned", "with some caution"])
        return {
            "goals": ["reach a workable agreement"],
            "priorities": [f"turn {seen.get('turn', 0)}: keep the talks going"],
            "reasoning": f"A steady course serves me best, {tone}.",
            "action": f"I hold my course, {tone}, with a concession of {self.lift:g}.",
        }

    def _offer(self, seen: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
        if dice.random() >= self.talk or not seen.get("others"):
            return {"target": None}
        target = seen["others"][0]
        return {"target": target, "message": "Shall we compare notes?", "note": "see what they say"}

    def _proposal(self, seen: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
        if dice.random() >= self.talk or len(seen.get("others", ())) < 2:
            return {"partners": []}
        partners = list(seen["others"])
        return {"partners": partners, "purpose": "a common line", "message": "Join us."}

    def _response(self, seen: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
        return {"accept": True, "message": "I am in."}

    def _message(self, seen: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
        return {"message": "Understood.", "note": ""}


class World:
    """`sim:world,base=4,sd=1,block_sd=0.5,interaction=0`: states the cooperation level
    y_t = base + (t/T)(sum of lifts + interaction if all are positive) + block(seed) + noise(trial),
    clipped to 0-10, one decimal."""

    def __init__(self, spec: SimSpec) -> None:
        spec.only(*WORLD)
        self.base, self.sd = spec.number("base", 4.0), spec.number("sd", 1.0)
        self.block_sd = spec.number("block_sd", 0.5)
        self.interaction = spec.number("interaction", 0.0)

    def answer(self, request: Request) -> str:
        seen = request.observation or {}
        if seen.get("ask") == "summary":
            return json.dumps({"summary": "The talks went on, turn after turn, without a break."})
        lifts = [concession(text) for text in seen.get("actions", {}).values()]
        level = self.level(lifts, seen.get("turn", 1) / seen.get("turns", 1))
        level += random.Random(seen.get("block", 0)).gauss(0.0, self.block_sd)
        level += random.Random(seen.get("trial", 0)).gauss(0.0, self.sd)
        text = f"{min(10.0, max(0.0, level)):.1f}"
        return json.dumps({
            "narrative": f"The parties take stock. The cooperation level: {text}.",
            "changes": ["positions were restated"], "consequences": ["the talks continue"],
            "measures": {name: float(text) for name in seen.get("measures", ())},
        })  # fmt: skip

    def level(self, lifts: list[float], share: float) -> float:
        """The expected level before block, noise and clipping, at `share` of all turns."""
        bonus = self.interaction if lifts and all(lift > 0 for lift in lifts) else 0.0
        return self.base + share * (sum(lifts) + bonus)


class Judge:
    """`sim:judge`: reads the level where a number is wanted; verdict yes."""

    def __init__(self, spec: SimSpec) -> None:
        spec.only()

    def answer(self, request: Request) -> str:
        seen = request.observation or {}
        if seen.get("ask") == "verdict":
            return json.dumps({"verdict": "yes", "issues": [], "severity": "low",
                               "explanation": "nothing stands against it"})  # fmt: skip
        if seen.get("ask") == "summary":
            return json.dumps({"summary": "The talks went on, turn after turn, without a break."})
        found = LEVEL.findall("\n".join(seen.get("texts", ())))
        names = seen.get("names", {})
        return json.dumps({"metrics": {n: _reading(found, limits) for n, limits in names.items()}})


def _reading(found: list[str], limits: Any) -> dict[str, Any]:
    if not found:
        return {"value": None, "quote": ""}
    value = float(found[-1])
    inside = limits is None or limits[0] <= value <= limits[1]
    return {
        "value": value if inside else None,
        "quote": f"cooperation level: {found[-1]}",
    }


class Anyone:
    """`sim:anyone,…`: actor, world or judge, by what it is asked; stands in for a real model, which
    may hold several seats of one scenario."""

    def __init__(self, spec: SimSpec) -> None:
        spec.only("lift", "talk", *WORLD)
        own = [{k: v for k, v in spec.options.items() if k in part}
               for part in (("lift", "talk"), WORLD)]  # fmt: skip
        self.actor = Actor(SimSpec("actor", None, own[0]))
        self.world = World(SimSpec("world", None, own[1]))
        self.judge = Judge(SimSpec("judge"))

    def answer(self, request: Request) -> str:
        ask = (request.observation or {}).get("ask")
        if ask in ("world", "summary"):
            return self.world.answer(request)
        return (self.judge if ask in ("verdict", "metrics") else self.actor).answer(request)


KINDS: Mapping[str, Callable[[SimSpec], Answerer]] = {
    "actor": Actor,
    "world": World,
    "judge": Judge,
    "anyone": Anyone,
}


def concession(action: str) -> float:
    """The concession an action states; 0 when it states none."""
    found = CONCESSION.search(action)
    return float(found[1]) if found else 0.0


def expected_level(seats: Mapping[str, str], share: float = 1.0) -> float | None:
    """The planted cooperation level at `share` of the turns, clipping and noise aside.

    `seats`: seat -> the simulated name that served it. None when a seat is not one of ours.
    """
    names = {seat: name for seat, name in seats.items() if seat not in OFFICES or seat == "world"}
    if "world" not in names or not all(OURS.match(name) for name in names.values()):
        return None
    writer = names.pop("world")
    lifts = [parse_sim(name).number("lift", 0.0) for name in names.values()]
    options = {k: v for k, v in parse_sim(writer).options.items() if k in WORLD}
    return World(SimSpec("world", None, options)).level(lifts, share)


def planted_lift(capability: Mapping[str, float]) -> float:
    """The lift of a model's stand-in: 0 to 1 over the registry's range of Elo ratings."""
    elo = capability.get("elo", capability.get("chatbot_arena_elo", 1200.0))
    return round(min(1.0, max(0.0, (elo - 1000.0) / 500.0)), 2)
