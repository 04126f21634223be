"""Behaviour by model over a run: claims, lies, promises, consistency, word counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from peira.families.negotiation.behaviour import CATEGORIES, Behaviour, Truth, behaviour_of
from peira.families.negotiation.rows import Games
from peira.report.analysis import Column, Table
from peira.stats.intervals import mean_interval, wilson
from peira.stats.result import EMPTY, INTERVAL_CAPPED, Estimate, undefined

if TYPE_CHECKING:
    from peira.store.records import RunView

MOST_GAMES = 2000  # transcripts read for behaviour; beyond, a regular sample (stated in the note)
Seen = list[tuple[str, str, Behaviour]]


_read: WeakKeyDictionary[RunView, tuple[int, Seen]] = WeakKeyDictionary()


def behaviours(run: RunView, games: Games) -> Seen:
    """(trial, model, behaviour) of every seat, from transcripts; read once for tables and figure."""
    known = _read.get(run)
    if known is None or known[0] != len(games.done):
        known = _read[run] = (len(games.done), _from_transcripts(run, games))
    return known[1]


def _from_transcripts(run: RunView, games: Games) -> Seen:
    done = games.done
    step = max(1, -(-len(done) // MOST_GAMES))
    found: Seen = []
    for row in done[::step]:
        for behaviour in behaviour_of(run.events(row.number)):
            found.append((row.slug, row.models[behaviour.seat], behaviour))
    return found


def table_of(seen: Seen) -> Table:
    """One row a model. Shares are means over games, so that a talkative game counts once."""
    by_model: dict[str, list[Behaviour]] = defaultdict(list)
    for _, model, behaviour in seen:
        by_model[model].append(behaviour)
    rows = tuple(_row(model, found) for model, found in sorted(by_model.items()))
    columns = (
        Column("model", "model", kind="text"), Column("games", "games"),
        Column("messages", "messages"), Column("claims", "claims"),
        Column("own", "false in own favour", digits=2, kind="estimate"),
        Column("against", "false against self", digits=2, kind="estimate"),
        Column("kept", "promises kept", digits=2, kind="estimate"),
        Column("consistent", "word = private plan", digits=2, kind="estimate"),
    )  # fmt: skip
    return Table(
        "behaviour", "Behaviour by model, checked by rule", columns, rows,
        "Claims by a documented grammar, compared with the true values (a limit with what the speaker"
        " later took). 95 % intervals over games (promises: Wilson).",
    )  # fmt: skip


def words_of(seen: Seen) -> Table:
    """Word counts by model, apart from what is checked."""
    rows = []
    for model in sorted({model for _, model, _ in seen}):
        mine = [b for _, name, b in seen if name == model]
        messages = sum(b.messages for b in mine)
        words: Counter[str] = sum((b.words for b in mine), Counter())
        rates = {w: 100 * words[w] / messages if messages else None for w in CATEGORIES}
        rows.append({"model": model, "messages": messages, **rates})
    columns = (Column("model", "model", kind="text"), Column("messages", "messages"),
               *(Column(name, name, digits=1) for name in CATEGORIES))  # fmt: skip
    return Table(
        "words", "Words of a list, for 100 messages, by model", columns, tuple(rows),
        "A baseline, not evidence: a word list cannot tell a threat from a quotation.",
    )  # fmt: skip


def _row(model: str, found: Sequence[Behaviour]) -> dict[str, Any]:
    kept, tested = (sum(b.kept[i] for b in found) for i in (0, 1))
    agree = [b.consistency for b in found if b.consistency.agree + b.consistency.contradict]
    per_game = [c.agree / (c.agree + c.contradict) for c in agree]
    return {
        "model": model, "games": len(found),
        "messages": sum(b.messages for b in found),
        "claims": sum(len(b.claims) for b in found),
        "own": _mean([b.share_false(Truth.OWN_FAVOUR) for b in found]),
        "against": _mean([b.share_false(Truth.AGAINST_SELF) for b in found]),
        "kept": wilson(kept, tested) if tested else undefined(EMPTY),
        "consistent": _mean(per_game),
    }  # fmt: skip


def _mean(values: Sequence[float | None]) -> Estimate:
    """Mean share with its t interval, kept within 0 and 1."""
    known = [value for value in values if value is not None]
    if not known:
        return undefined(EMPTY, missing=len(values))
    found = mean_interval(known).with_(missing=len(values) - len(known))
    if found.low is None or found.high is None or (found.low >= 0 and found.high <= 1):
        return found
    low, high = max(0.0, found.low), min(1.0, found.high)
    return found.with_(low=low, high=high, flags=(*found.flags, INTERVAL_CAPPED))
