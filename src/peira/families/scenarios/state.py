"""What has happened so far in a trial, as plain data.

Invariant: a `Turn` is filled phase by phase and never changed once its phase is over; everything a
prompt quotes comes from here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from peira.families.scenarios.conditions import Value

REASONS = (
    "no_match", "tie", "bad_type", "out_of_range", "null_answer", "refused", "truncated",
    "unreadable", "not_coded", "regex_timeout", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ladder made of a call. `value` is None when the default was taken, for `fault`;
    `key` is the ledger's key of the last reply, which a retry would buy afresh."""

    value: dict[str, Any] | None
    rung: str
    fault: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """One private message; `note` is for its author alone."""

    author: str
    text: str
    note: str = ""


@dataclass(slots=True)
class Channel:
    """A private talk of two. `said` is in order; silence leaves no entry."""

    pair: tuple[str, str]
    said: list[Said] = field(default_factory=list)
    crossing: bool = False


@dataclass(slots=True)
class Coalition:
    """A proposal to a set of members and what became of it."""

    members: tuple[str, ...]
    proposers: tuple[str, ...]
    purposes: tuple[str, ...]
    invitations: list[Said] = field(default_factory=list)
    responses: dict[str, tuple[bool, str]] = field(default_factory=dict)
    formed: bool = False
    posts: list[Said] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decision:
    """What an actor did in a turn. `marked` is why it is a default, or empty."""

    actor: str
    goals: tuple[str, ...]
    priorities: tuple[str, ...]
    reasoning: str
    action: str
    model: str
    rung: str
    marked: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """The state of the world after a turn, all of it public."""

    narrative: str
    changes: tuple[str, ...] = ()
    consequences: tuple[str, ...] = ()
    measures: dict[str, Any] = field(default_factory=dict)
    rung: str = ""

    def text(self) -> str:
        """Narrative, changes and consequences as one text."""
        parts = [self.narrative]
        for title, items in (("Changes", self.changes), ("Consequences", self.consequences)):
            if items:
                parts.append(f"{title}:\n" + "\n".join(f"- {item}" for item in items))
        return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class Measure:
    """One value of a metric. `age` counts turns since it was measured; null has a reason."""

    value: Value | None
    reason: str | None = None
    carried: bool = False
    age: int = 0
    source: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One quality finding. `passed` is None when the verdict is unknown."""

    check: str
    subject: str
    passed: bool | None
    severity: str
    issues: tuple[str, ...]
    explanation: str
    action: str


@dataclass(slots=True)
class Turn:
    """Everything of one turn; turn 0 has only a world and metrics."""

    number: int
    events: list[str] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    coalitions: list[Coalition] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    world: World | None = None
    metrics: dict[str, Measure] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form, as it goes into the transcript."""
        return asdict(self)


@dataclass(slots=True)
class Tally:
    """Rungs, defaults and quotes, counted by seat and kind of call."""

    rungs: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    quotes: int = 0
    quotes_missing: int = 0

    def note(self, seat: str, kind: str, rung: str) -> None:
        """Count one answer."""
        self.rungs[seat, kind, rung] += 1

    @property
    def defaults(self) -> int:
        """How many answers are defaults."""
        return sum(n for (_, _, rung), n in self.rungs.items() if rung.startswith("default"))

    def to_dict(self) -> dict[str, dict[str, dict[str, int]]]:
        """seat -> kind -> rung -> count."""
        nested: dict[str, dict[str, dict[str, int]]] = {}
        for (seat, kind, rung), n in sorted(self.rungs.items()):
            nested.setdefault(seat, {}).setdefault(kind, {})[rung] = n
        return nested
