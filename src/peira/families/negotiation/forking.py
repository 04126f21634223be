"""A game's settings from a round on: another subject in a seat, or stated words.

Invariant: rounds before the fork are played from the source's replies, word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peira.engine.fork import Branch
from peira.errors import InputError
from peira.families.negotiation.settings import Fork, NegotiationSettings, seat_name

if TYPE_CHECKING:
    from peira.store.records import Record


def forked(
    settings: NegotiationSettings, source: Record, branch: Branch, arm: str, sample: int
) -> NegotiationSettings:
    """The settings of one fork. Raises InputError for a round the source never played, an unknown
    seat, or a change a negotiation does not know."""
    played = int((source.outcome or {}).get("final_round", 0))
    fork = branch.told(source.slug, arm, sample, played=played, what="round")
    if branch.world is not None:
        raise InputError("--world: a negotiation has no world\n  allowed: --seat, --set say.SEAT=…")
    models = _models(settings, branch.seats)
    say = _say(settings, branch.changes)
    if arm == "changed":
        fork |= {"models": models, "say": say}
    return settings.model_copy(update={"fork": Fork.model_validate(fork)})


def _models(settings: NegotiationSettings, seats: Mapping[str, str]) -> tuple[str, ...] | None:
    models = list(settings.models)
    for name, model in seats.items():
        models[_seat(settings, name, "--seat")] = model
    return tuple(models) if seats else None


def _say(settings: NegotiationSettings, changes: Mapping[str, Any]) -> dict[int, str]:
    say = {}
    for path, text in changes.items():
        head, _, seat = path.partition(".")
        if head != "say" or not seat:
            raise InputError(
                f"--set {path}: unknown\n  allowed: say.SEAT=WORDS, its first statement of the round"
            )
        say[_seat(settings, seat, "--set say")] = str(text)
    if say and not settings.discussion_turns:
        raise InputError("--set say: this game has no discussion\n  allowed: --seat SEAT=MODEL")
    return say


def _seat(settings: NegotiationSettings, name: str, flag: str) -> int:
    """A seat by `Agent k`, by its label in the prompts, or by a model that sits once."""
    known = [seat_name(k) for k in range(len(settings.models))]
    for names in (known, list(settings.seats), list(settings.models)):
        if names.count(name) == 1:
            return names.index(name)
    raise InputError(f"{flag} {name}: no such seat\n  allowed: {', '.join(known)}")
