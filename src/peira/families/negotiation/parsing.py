"""From a reply's text to a proposal, votes or a plan, by the shared ladder.

Invariant: nothing is invented on a seat's behalf. A proposal counts only if it gives every item
exactly once to a known agent; a vote only if it is said. What cannot be read has its fault named in
words that can be sent back to the seat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peira.engine.parsing import Parsed, Rung, read_json
from peira.families.negotiation.game import Allocation

ACCEPT = frozenset({"accept", "accepted", "accepts", "yes", "agree", "approve", "true"})
NO_DIGIT = re.compile(r"[^0-9]+")
REJECT = frozenset({"reject", "rejected", "rejects", "no", "disagree", "decline", "false"})


@dataclass(frozen=True)
class Names:
    """How items and agents may be called in a reply, folded to lower case -> index."""

    agents: Mapping[str, int]
    items: Mapping[str, int]
    agent_labels: tuple[str, ...]
    item_names: tuple[str, ...]

    @classmethod
    def of(cls, agent_labels: Sequence[str], item_names: Sequence[str]) -> Names:
        """Labels as shown, with `agent_1`, `agent1`; items by name, by number or as `0: Apple`."""
        agents: dict[str, int] = {}
        for k, label in enumerate(agent_labels):
            low = label.lower()
            for form in (low, low.replace(" ", "_"), low.replace(" ", "")):
                agents[form] = k
        items: dict[str, int] = {}
        for j, name in enumerate(item_names):
            low = name.lower()
            for form in (low, f"the {low}", str(j), f"{j}: {low}", f"{j}:{low}", f"{low} ({j})",
                         f"{low} (item {j})", f"item {j}"):  # fmt: skip
                items[form] = j
        return cls(agents, items, tuple(agent_labels), tuple(item_names))


class Offer(NamedTuple):
    """A parsed proposal; `allocation` is None when it is illegal, and `fault` says why."""

    allocation: Allocation | None
    reasoning: str
    rung: Rung
    fault: str = ""


class Ballot(NamedTuple):
    """A parsed vote on each proposal in order; None where it is missing."""

    votes: tuple[bool | None, ...]
    reasoning: str
    rung: Rung
    fault: str = ""


class Plan(NamedTuple):
    """Private thinking. Text that is no JSON is kept whole as `reasoning` (rung `none`)."""

    reasoning: str
    strategy: str
    key_priorities: tuple[str, ...]
    potential_concessions: tuple[str, ...]
    rung: Rung


# -- proposals -------------------------------------------------------------------------------
def read_offer(text: str, names: Names) -> Offer:
    """Read a proposal: `{"allocation": {agent: [items]}}`, or `{item: agent}`."""
    parsed = read_json(text, required=("allocation",))
    if parsed.value is None:
        return Offer(None, "", parsed.rung, parsed.fault)
    reasoning = _text(parsed.value.get("reasoning", ""))
    owners, fault = allocation_of(parsed.value["allocation"], names)
    return Offer(owners, reasoning, parsed.rung, fault)


def allocation_of(value: Any, names: Names) -> tuple[Allocation | None, str]:
    """Owner of each item, or the first fault in words."""
    if not isinstance(value, dict) or not value:
        return None, "`allocation` must map each agent to a list of items"
    keys = [_folded(key) for key in value]
    if all(key in names.items and key not in names.agents for key in keys):
        bundles: Iterable[tuple[Any, Sequence[Any]]] = [
            (owner, [item]) for item, owner in value.items()
        ]
    else:
        bundles = [
            (owner, given if isinstance(given, (list, tuple)) else _split(given))
            for owner, given in value.items()
        ]
    try:
        owners = _owners(bundles, names)
    except ValueError as fault:
        return None, str(fault)
    known = zip(value, keys, strict=True)
    stray = [key for key, low in known if low not in names.agents and low not in names.items]
    return (None, _unknown(stray[0], names)) if stray else (owners, "")


def _folded(name: Any) -> str:
    return str(name).strip().lower()


def _unknown(agent: Any, names: Names) -> str:
    known = ", ".join(names.agent_labels)
    return f"unknown agent {str(agent)[:60]!r}; the agents are {known}"


def _split(given: Any) -> list[Any]:
    if given is None or given == "":
        return []
    return (
        [part for part in given.split(",") if part.strip()] if isinstance(given, str) else [given]
    )


def _owners(bundles: Iterable[tuple[Any, Sequence[Any]]], names: Names) -> Allocation:
    """Owner of each item. Raises ValueError with the first fault in words."""
    owners = [-1] * len(names.item_names)
    for agent, given in bundles:
        k = names.agents.get(_folded(agent))
        for item in given:
            if k is None:
                raise ValueError(_unknown(agent, names))
            j = names.items.get(_folded(item))
            if j is None:
                raise ValueError(f"unknown item {str(item)[:60]!r}; use the item names as listed")
            if owners[j] != -1:
                raise ValueError(f"the item {names.item_names[j]} is given twice")
            owners[j] = k
    if -1 in owners:
        missing = [n for n, owner in zip(names.item_names, owners, strict=True) if owner < 0]
        raise ValueError(f"not given to any agent: {', '.join(missing)}")
    return tuple(owners)


# -- votes -----------------------------------------------------------------------------------
def read_ballot(text: str, numbers: Sequence[int]) -> Ballot:
    """Read votes on the proposals of these numbers: `{"votes": {"1": "accept"}}` or a list of
    `{"proposal": 1, "vote": "accept"}`; `{"vote": …}` alone when there is one proposal."""
    parsed = read_json(text, required=("votes",))
    if parsed.value is not None:
        said = _votes(parsed.value["votes"])
    else:
        parsed, said = _single(text, numbers)
    votes = tuple(decision(said.get(number)) for number in numbers)
    missing = [str(n) for n, vote in zip(numbers, votes, strict=True) if vote is None]
    fault = ""
    if missing:
        fault = parsed.fault or f"no accept or reject for proposal {', '.join(missing)}"
    return Ballot(votes, _text((parsed.value or {}).get("reasoning", "")), parsed.rung, fault)


def _single(text: str, numbers: Sequence[int]) -> tuple[Parsed, dict[int, Any]]:
    """`{"vote": …}` or `{"vote_decision": …}`: means something only if there is one proposal."""
    parsed = read_json(text, required=("vote",))
    if parsed.value is None:
        other = read_json(text, required=("vote_decision",))
        parsed = other if other.value is not None else parsed
    if parsed.value is None or len(numbers) != 1:
        return parsed, {}
    return parsed, {numbers[0]: parsed.value.get("vote", parsed.value.get("vote_decision"))}


def _votes(value: Any) -> dict[int, Any]:
    if isinstance(value, dict):
        return {n: vote for key, vote in value.items() if (n := _number(key)) is not None}
    if not isinstance(value, list):
        return {}
    found: dict[int, Any] = {}
    for position, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            found[position] = entry
            continue
        keys = ("proposal", "proposal_number", "number", "id")
        n = next((n for key in keys if (n := _number(entry.get(key))) is not None), position)
        found[n] = next(
            (entry[k] for k in ("vote", "vote_decision", "decision") if k in entry), None
        )
    return found


def _number(key: Any) -> int | None:
    digits = NO_DIGIT.sub("", str(key))
    return int(digits) if digits and len(digits) < 6 else None


def decision(word: Any) -> bool | None:
    """True for accept, False for reject, None for anything else."""
    if isinstance(word, dict):
        word = next((word[k] for k in ("vote", "decision") if k in word), None)
    folded = _folded(word).strip(".!")
    return True if folded in ACCEPT else False if folded in REJECT else None


# -- thinking --------------------------------------------------------------------------------
def read_plan(text: str) -> Plan:
    """Read private thinking; unreadable JSON is kept as text, since nothing depends on it."""
    parsed = read_json(text, required=("reasoning",))
    if parsed.value is None:
        return Plan(text.strip(), "", (), (), "none")
    get = parsed.value.get
    return Plan(
        _text(get("reasoning", "")),
        _text(get("strategy", "")),
        _list(get("key_priorities", get("target_items"))),
        _list(get("potential_concessions", get("concessions"))),
        parsed.rung,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(_text(part) for part in value) if isinstance(value, list) else ()
