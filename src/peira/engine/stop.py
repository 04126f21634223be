"""A declared stop rule: no new trials once it is met.

The unit that is monitored is a block: one replicate (seed) over all cells of the design, its value
the mean of the declared outcome or the difference of two levels of a factor. Blocks count in their
planned order and only as far as all before them have ended, so neither fast trials nor parallelism
select what is looked at. Invariants: the rule is part of the study, hence of its hash; the interval
that is reported is the one the rule keeps honest (specs: statistics, section 7); trials in flight at
the stop are finished and kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from peira.engine.attempt import TrialResult
from peira.engine.journal import Journal
from peira.engine.ledger import Ledger
from peira.engine.plan import PlannedCell
from peira.engine.states import Cause, State
from peira.errors import InputError, RunHalted
from peira.stats.result import Estimate
from peira.study.study import StopRule, Study

METHODS = {
    "confidence_sequence": "confidence-sequence", "group_sequential": "group-sequential",
    "e_process": "e-process",
}  # fmt: skip
WORDS = {"efficacy": "null excluded", "planned end": None}
ALLOWED = {
    "confidence_sequence": "null or factor, half_width, margin",
    "group_sequential": "null or factor, looks, spending, futility, without half_width",
    "e_process": "null or factor",
}
ESTIMAND = "mean over blocks (one replicate of every cell)"
DIFFERENCE = "mean difference over blocks (replicates), treatment - control"


class Typed(Protocol):
    """What is needed of a family."""

    Outcome: Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule is met, why ("null excluded", "precision", "equivalence", "futility"), after
    how many blocks, and the estimate with the rule's own interval."""

    met: bool
    why: str | None
    blocks: int
    estimate: Estimate


def check(study: Study, family: Typed, cells: Sequence[PlannedCell]) -> None:
    """Refuse a rule that could never do what it says. Raises InputError."""
    rule = study.stop
    if rule is None:
        return
    name = rule.outcome.split(".")[0]
    known = list(getattr(family.Outcome, "model_fields", {}))
    if name not in known:
        from peira.study.reader import suggestion

        hint = suggestion(name, known)
        raise InputError(
            f"stop.outcome: {rule.outcome}\n  allowed: {', '.join(known)}"
            + (f"\n  remedy: {hint}" if hint else "")
        )
    _check_aim(rule)
    if rule.range[0] >= rule.range[1]:
        raise InputError(f"stop.range: {list(rule.range)}\n  allowed: [lowest, highest]")
    compared(rule, [cell.factors for cell in cells])
    blocks = len(study.trial_seeds)
    if blocks < rule.minimum:
        raise InputError(
            f"stop.minimum: {rule.minimum}, but the study has {blocks} replicates of its {len(cells)}"
            " cells\n  allowed: a stop looks at whole replicates\n  remedy: more replicates, or"
            " a lower minimum"
        )


def _check_aim(rule: StopRule) -> None:
    tests = rule.null is not None or rule.factor is not None
    if not tests and rule.half_width is None:
        raise InputError(
            "stop: no aim\n  allowed: half_width (a precision), null (a value), or factor (a"
            " difference from 0)"
        )
    if rule.rule == "confidence_sequence":
        only = {"futility": rule.futility}
    else:
        only = {"half_width": rule.half_width, "margin": rule.margin}
    wrong = [name for name, value in only.items() if value is not None]
    if rule.rule == "e_process" and rule.futility is not None:
        wrong.append("futility")
    if wrong:
        raise InputError(f"stop.{wrong[0]}: not for {rule.rule}\n  allowed: {ALLOWED[rule.rule]}")


def compared(rule: StopRule, cells: Sequence[Mapping[str, Any]]) -> tuple[Any, Any] | None:
    """(control, treatment) levels of the compared factor; None without one. Raises InputError."""
    if rule.factor is None:
        if rule.levels is not None:
            raise InputError("stop.levels: of which factor?\n  remedy: give stop.factor")
        return None
    names = list(dict.fromkeys(name for cell in cells for name in cell))
    if rule.factor not in names:
        raise InputError(f"stop.factor: {rule.factor}\n  allowed: {', '.join(names) or 'none'}")
    found = [cell.get(rule.factor) for cell in cells]
    known = [level for i, level in enumerate(found) if level not in found[:i]]
    levels = rule.levels if rule.levels is not None else tuple(known)
    if len(levels) != 2 or any(level not in known for level in levels):
        raise InputError(
            f"stop.levels: {list(levels)}\n  allowed: [control, treatment], two of {known}"
        )
    return levels[0], levels[1]


def declared(rule: StopRule, planned: int) -> Any:
    """The rule in the words of the statistics."""
    from peira.stats.sequential import StopRule as Declared

    width = rule.range[1] - rule.range[0]
    return Declared(
        METHODS[rule.rule], units=planned, alpha=rule.alpha, spending=rule.spending,
        looks=tuple((k + 1) / rule.looks for k in range(rule.looks)), fewest=rule.minimum,
        value_range=rule.range if rule.factor is None else (-width, width),
        null=0.0 if rule.null is None and rule.factor is not None else rule.null,
        half_width=rule.half_width, margin=rule.margin, futility=rule.futility,
    )  # fmt: skip


def judge(rule: StopRule, values: list[float], planned: int) -> Verdict:
    """What the rule says of the blocks so far, in order. Pure."""
    from peira.stats.sequential import decide

    decision = decide(declared(rule, planned), values)
    why = None if decision.why is None else WORDS.get(decision.why, decision.why)
    estimand = ESTIMAND if rule.factor is None else f"{DIFFERENCE} of {rule.factor}"
    return Verdict(why is not None, why, decision.units, decision.estimate.with_(estimand=estimand))


@dataclass(slots=True)
class Block:
    """One replicate: how many of its trials have still to end, and what the others said, by arm
    (one arm, 0, unless two levels are compared: control 0, treatment 1)."""

    waiting: int
    values: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    failed: int = 0

    def value(self) -> float:
        """Mean of the block, or treatment less control."""
        means = [sum(values) / len(values) for values in self.values if values]
        return means[0] if len(means) == 1 else means[1] - means[0]


class Monitor:
    """Follows a run and says when it has enough. A listener of the driver."""

    def __init__(self, rule: StopRule, planned: int, journal: Journal, ledger: Ledger) -> None:
        self.rule = rule
        self.planned = planned
        self.journal = journal
        self.ledger = ledger
        self.verdict: Verdict | None = None
        self.missing = 0
        self._values: list[float] = []
        self._arms = self._arms_of_cells()
        self._blocks: dict[int, Block] = {}
        for replicate, cell, count in journal.read(
            "SELECT replicate, cell, COUNT(*) FROM trials WHERE position IS NOT NULL"
            " GROUP BY replicate, cell"
        ):
            if cell in self._arms:
                self._blocks.setdefault(replicate, Block(0)).waiting += count
        self._order = iter(sorted(self._blocks))
        self._head = next(self._order, None)
        self._look_at = rule.minimum
        for replicate, cell, state, outcome in self._ended_before():
            self._count(replicate, cell, state, outcome)
        self._advance()

    def _arms_of_cells(self) -> dict[int, int]:
        """Arm of each planned cell: all in one, or control 0 and treatment 1 of what is compared."""
        cells = {
            number: orjson.loads(factors)
            for number, factors in self.journal.read(
                "SELECT number, factors FROM cells WHERE number IN"
                " (SELECT cell FROM trials WHERE position IS NOT NULL)"
            )
        }
        levels = compared(self.rule, list(cells.values()))
        if levels is None:
            return dict.fromkeys(cells, 0)
        at = {number: factors.get(self.rule.factor) for number, factors in cells.items()}
        return {number: levels.index(level) for number, level in at.items() if level in levels}

    @property
    def met(self) -> bool:
        """True once no new trial is needed."""
        return self.verdict is not None and self.verdict.met

    def __call__(self, result: TrialResult) -> None:
        """One more trial ended."""
        if self.met or result.state == State.HALTED:
            return
        rows = self.journal.read(
            "SELECT replicate, cell FROM trials WHERE number=?", (result.number,)
        )
        try:
            replicate, cell = rows[0]
            self._count(replicate, cell, result.state, result.outcome)
            self._advance()
        except InputError as error:
            self.ledger.stop(RunHalted(Cause.INPUT, str(error)))

    def describe(self) -> str:
        """What the rule says, in words; empty before the first look."""
        if self.verdict is None:
            return ""
        e = self.verdict.estimate
        interval = "" if e.low is None or e.high is None else f" [{e.low:.4g}, {e.high:.4g}]"
        found = f"{self.rule.outcome} {e.estimate:.4g}{interval} after {self.verdict.blocks}"
        met = f"stop rule met ({self.verdict.why})" if self.met else "stop rule not met"
        return f"{met}: {found} of {self.planned} blocks"

    def _ended_before(self) -> Iterator[tuple[int, int, str, bytes | None]]:
        yield from self.journal.read(
            "SELECT replicate, cell, state, outcome FROM trials WHERE position IS NOT NULL"
            " AND state IN ('done', 'failed')"
        )

    def _count(self, replicate: int, cell: int, state: str, outcome: bytes | None) -> None:
        if cell not in self._arms:
            return
        block = self._blocks[replicate]
        block.waiting -= 1
        value = None if outcome is None or state != State.DONE else self._value(outcome)
        if value is None:
            block.failed += 1
        else:
            block.values[self._arms[cell]].append(value)

    def _value(self, outcome: bytes) -> float | None:
        value: Any = orjson.loads(outcome)
        for name in self.rule.outcome.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return None
        if not isinstance(value, int | float):
            raise InputError(
                f"stop.outcome: {self.rule.outcome} is {value!r}\n  allowed: a number in each trial"
            )
        low, high = self.rule.range
        if not low <= value <= high:
            raise InputError(
                f"stop.range: an outcome of {value:g} lies outside the declared [{low:g}, {high:g}],"
                " so the rule cannot hold\n  remedy: declare the outcome's whole range"
            )
        return float(value)

    def _advance(self) -> None:
        """Take in blocks as far as all have ended; look at them when a look is due."""
        while self._head is not None and self._blocks[self._head].waiting == 0:
            block = self._blocks.pop(self._head)
            if block.failed:
                self.missing += 1
            else:
                self._values.append(block.value())
            self._head = next(self._order, None)
        count = len(self._values)
        if count >= self._look_at or (self._head is None and count >= 2):
            self.verdict = judge(self.rule, self._values, self.planned)
            # A sequence holds at every time, so looking ever more rarely costs validity nothing.
            self._look_at = max(count + 1, int(count * 1.02))


def record(journal: Journal, monitor: Monitor, *, complete: bool) -> dict[str, Any] | None:
    """At the end of a run: write down what the rule said; trials not needed leave the plan (they
    stay in run.db, without a position, outside all counts)."""
    verdict = monitor.verdict
    if verdict is None:
        return None
    spared = 0
    if verdict.met and complete:
        spared = journal.transaction(_unplan)
    note = {
        "outcome": monitor.rule.outcome, "factor": monitor.rule.factor,
        "rule": monitor.rule.rule, "met": verdict.met,
        "why": verdict.why, "blocks": verdict.blocks, "planned_blocks": monitor.planned,
        "missing_blocks": monitor.missing, "trials_not_needed": spared,
        "estimate": verdict.estimate.with_(missing=monitor.missing).to_dict(), "time": time.time(),
    }  # fmt: skip
    rows = journal.read("SELECT value FROM meta WHERE key='stopped'")
    if spared == 0 and rows and orjson.loads(rows[0][0]).get("met"):
        return None  # said already, when trials were spared
    for key, value in {"stopped": note, "manifest": _with_stop(journal, note)}.items():
        journal.put("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, orjson.dumps(value).decode()))
    journal.flush()
    return note


def _unplan(connection: Any) -> int:
    changed: int = connection.execute(
        "UPDATE trials SET position=NULL, message='not needed: the stop rule was met'"
        " WHERE position IS NOT NULL AND state='pending'"
    ).rowcount
    return changed


def _with_stop(journal: Journal, note: dict[str, Any]) -> dict[str, Any]:
    rows = journal.read("SELECT value FROM meta WHERE key='manifest'")
    manifest: dict[str, Any] = orjson.loads(rows[0][0]) if rows else {}
    return manifest | {"stopped": note}
