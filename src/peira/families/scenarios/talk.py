"""Private talk before decisions: pairs, then coalitions, each phase on one frozen state.

Invariant: an actor reads only channels it belongs to, and answers in one channel without having
seen what another says at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, TypeVar

from peira.errors import Halt
from peira.families.scenarios.parse import as_list, as_text, as_truth
from peira.families.scenarios.prompts import ASKS, Prompter
from peira.families.scenarios.seats import Ask, Seats
from peira.families.scenarios.state import Channel, Coalition, Said, Turn

T = TypeVar("T")


class Table(Protocol):
    """What the phases of a turn share."""

    seats: Seats
    prompter: Prompter

    def look(self, kind: str, turn: Turn, actor: str, **more: Any) -> dict[str, Any]: ...


async def gathered(tasks: Sequence[Awaitable[T]]) -> list[T]:
    """All results, in order. On errors every call still ends first, so that none in flight is
    lost; then a halt is raised before a failure, since a halted trial will meet the failure again.
    """
    results = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(errors, key=lambda error: not isinstance(error, Halt)):
        raise error
    return results  # type: ignore[return-value]


def resolve(name: Any, prompter: Prompter, speaker: str) -> str | None:
    """The short name someone means, or None for nobody (and for oneself)."""
    text = as_text(name).strip().lower()
    for short, display in prompter.names.items():
        if text in (short, display.lower()) and short != speaker:
            return short
    return None


NOBODY = ("", "none", "null", "nobody", "no one", "no", "n/a")


# -- pairs -----------------------------------------------------------------------------
async def bilateral(table: Table, turn: Turn) -> None:
    """Offers, one channel a pair, answers, further rounds."""
    shorts = table.seats.scenario.shorts
    offers = await gathered([_offer(table, turn, short) for short in shorts])
    channels: dict[tuple[str, str], Channel] = {}
    for short, (target, said) in zip(shorts, offers, strict=True):
        if target is None:
            continue
        pair = _ordered(short, target, shorts)
        channel = channels.setdefault(pair, Channel(pair))
        channel.crossing = bool(channel.said)
        channel.said.append(said)
    rounds = await gathered([_converse(table, turn, channel) for channel in channels.values()])
    turn.channels = rounds


def _ordered(a: str, b: str, shorts: Sequence[str]) -> tuple[str, str]:
    return (a, b) if shorts.index(a) < shorts.index(b) else (b, a)


async def _offer(table: Table, turn: Turn, actor: str) -> tuple[str | None, Said]:
    prompter = table.prompter
    ask = Ask(
        actor, "offer", f"turn {turn.number}/bilateral offer",
        prompter.actor_call(turn, actor, "offer", ASKS["offer"]),
        table.look("offer", turn, actor),
        lambda value: as_text(value["target"]).strip().lower() in NOBODY
        or resolve(value["target"], prompter, actor) is not None,
    )  # fmt: skip
    answer = await table.seats.answer(ask)
    value = answer.value or {}
    target = resolve(value.get("target"), prompter, actor)
    text = as_text(value.get("message"))
    return (target if text else None), Said(actor, text, as_text(value.get("note")))


async def _converse(table: Table, turn: Turn, channel: Channel) -> Channel:
    """The rest of a channel: the target answers (unless offers crossed), then further rounds."""
    opener = channel.said[0].author
    other = next(short for short in channel.pair if short != opener)
    said = list(channel.said)
    speakers = [] if channel.crossing else [other]
    speakers += [opener, other] * (table.seats.scenario.communication.exchanges - 1)
    for index, speaker in enumerate(speakers, start=1):
        view = Channel(channel.pair, said, channel.crossing)
        reply = await _reply(table, turn, view, speaker, index)
        said = [*said, reply]
    return Channel(channel.pair, [s for s in said if s.text or s.note], channel.crossing)


async def _reply(table: Table, turn: Turn, channel: Channel, speaker: str, index: int) -> Said:
    frozen = Turn(turn.number, turn.events, channels=[channel])
    label = f"turn {turn.number}/bilateral {'~'.join(channel.pair)} {index}"
    ask = Ask(
        speaker, "answer", label,
        table.prompter.actor_call(frozen, speaker, "answer", ASKS["answer"]),
        table.look("answer", turn, speaker),
    )  # fmt: skip
    value = (await table.seats.answer(ask)).value or {}
    return Said(speaker, as_text(value.get("message")), as_text(value.get("note")))


# -- coalitions ------------------------------------------------------------------------
async def coalitions(table: Table, turn: Turn) -> None:
    """Proposals, merged by members; all invited answer; unanimity forms; members post in order."""
    shorts = table.seats.scenario.shorts
    proposals = await gathered([_propose(table, turn, short) for short in shorts])
    merged: dict[tuple[str, ...], Coalition] = {}
    for short, found in zip(shorts, proposals, strict=True):
        if found is None:
            continue
        members, purpose, message = found
        known = merged.get(members) or Coalition(members, (), ())
        purposes = (*known.purposes, purpose) if purpose else known.purposes
        invitations = [*known.invitations, *([Said(short, message)] if message else [])]
        merged[members] = Coalition(members, (*known.proposers, short), purposes, invitations)
    turn.coalitions = await gathered([_assemble(table, turn, c) for c in merged.values()])


async def _propose(table: Table, turn: Turn, actor: str) -> tuple[tuple[str, ...], str, str] | None:
    ask = Ask(
        actor, "proposal", f"turn {turn.number}/coalition proposal",
        table.prompter.actor_call(turn, actor, "proposal", ASKS["proposal"]),
        table.look("proposal", turn, actor),
        lambda value: _partners(table, value, actor) is not None,
    )  # fmt: skip
    value = (await table.seats.answer(ask)).value
    partners = _partners(table, value, actor) if value else None
    if not value or not partners:
        return None
    order = table.seats.scenario.shorts
    members = tuple(sorted((actor, *partners), key=order.index))
    return members, as_text(value.get("purpose")), as_text(value.get("message"))


def _partners(table: Table, value: dict[str, Any], actor: str) -> set[str] | None:
    """Who is invited: nobody, or two or more others; None when the answer means neither."""
    named = [n for n in as_list(value.get("partners")) if n.strip().lower() not in NOBODY]
    found = {resolve(name.removeprefix("- "), table.prompter, actor) for name in named}
    if None in found or len(found) == 1:
        return None
    return {short for short in found if short is not None}


async def _assemble(table: Table, turn: Turn, coalition: Coalition) -> Coalition:
    invited = [short for short in coalition.members if short not in coalition.proposers]
    answers = await gathered([_respond(table, turn, coalition, short) for short in invited])
    coalition.responses = dict(zip(invited, answers, strict=True))
    coalition.formed = all(accepted for accepted, _ in answers)
    if coalition.formed:
        for member in coalition.members:
            value = await _coalition_call(table, turn, coalition, member, "post")
            if text := as_text(value.get("message")):
                coalition.posts = [*coalition.posts, Said(member, text)]
    return coalition


async def _respond(table: Table, turn: Turn, coalition: Coalition, actor: str) -> tuple[bool, str]:
    view = Coalition(
        coalition.members, coalition.proposers, coalition.purposes, coalition.invitations
    )
    value = await _coalition_call(table, turn, view, actor, "response")
    return as_truth(value.get("accept")) is True, as_text(value.get("message"))


async def _coalition_call(
    table: Table, turn: Turn, view: Coalition, actor: str, kind: str
) -> dict[str, Any]:
    def valid(value: dict[str, Any]) -> bool:
        return kind == "post" or as_truth(value.get("accept")) is not None

    label = f"turn {turn.number}/coalition {kind} {'~'.join(view.members)}"
    frozen = Turn(turn.number, turn.events, turn.channels, coalitions=[view])
    prompt = table.prompter.actor_call(frozen, actor, kind, ASKS[kind])
    ask = Ask(actor, kind, label, prompt, table.look(kind, turn, actor), valid)
    return (await table.seats.answer(ask)).value or {}
