"""A declared stop rule: no new trials once it is met.

The unit that is monitored is a block: one replicate (seed) over all cells of the design, its value
the mean of the declared outcome. Blocks count in their planned order and only as far as all before
them have ended, so neither fast trials nor parallelism select what is looked at. Invariants: the rule
is part of the study, hence of its hash; the interval that is reported is the one the rule keeps
honest (specs: statistics, section 7); trials in flight at the stop are finished and kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from peira.engine.attempt import TrialResult
from peira.engine.journal import Journal
from peira.engine.ledger import Ledger
from peira.engine.states import Cause, State
from peira.errors import InputError, RunHalted
from peira.stats.result import Estimate
from peira.study.study import StopRule, Study

LONG = 5000  # planned blocks beyond which the interval is the one that is cheap to follow
ESTIMAND = "mean over blocks (one replicate of every cell)"


class Typed(Protocol):
    """What is needed of a family."""

    Outcome: Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule is met, why ("precision", "null excluded"), after how many blocks, and the
    estimate with the rule's own interval."""

    met: bool
    why: str | None
    blocks: int
    estimate: Estimate


def check(study: Study, family: Typed, cells: int) -> None:
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
    if rule.half_width is None and rule.null is None:
        raise InputError(
            "stop: no aim\n  allowed: half_width (a precision), null (a value), or both"
        )
    if rule.rule == "group_sequential" and (rule.null is None or rule.half_width is not None):
        raise InputError(
            "stop: group_sequential tests a value\n  allowed: null, without half_width"
        )
    if rule.range[0] >= rule.range[1]:
        raise InputError(f"stop.range: {list(rule.range)}\n  allowed: [lowest, highest]")
    blocks = len(study.trial_seeds)
    if blocks < rule.minimum:
        raise InputError(
            f"stop.minimum: {rule.minimum}, but the study has {blocks} replicates of its {cells}"
            " cells\n  allowed: a stop looks at whole replicates\n  remedy: more replicates, or"
            " a lower minimum"
        )


def judge(rule: StopRule, values: list[float], planned: int) -> Verdict:
    """What the rule says of the blocks so far, in order. Pure."""
    if rule.rule == "group_sequential":
        return _by_looks(rule, values, planned)
    return _by_sequence(rule, values, planned)


def _by_looks(rule: StopRule, values: list[float], planned: int) -> Verdict:
    from peira.stats.sequential import StopRule as Looks
    from peira.stats.sequential import decide

    null = rule.null or 0.0
    looks = tuple((k + 1) / rule.looks for k in range(rule.looks))
    declared = Looks(
        "group-sequential", units=planned, alpha=rule.alpha, looks=looks, fewest=rule.minimum
    )
    decision = decide(declared, [value - null for value in values])
    met = decision.stop and decision.why == "efficacy" and decision.units >= rule.minimum
    estimate = _moved(decision.estimate, null)
    return Verdict(met, "null excluded" if met else None, decision.units, estimate)


def _moved(estimate: Estimate, by: float) -> Estimate:
    """An estimate of a difference from the null, as one of the mean itself."""
    shifted = {
        name: None if getattr(estimate, name) is None else getattr(estimate, name) + by
        for name in ("estimate", "low", "high")
    }
    return estimate.with_(**shifted, estimand=ESTIMAND)


def _by_sequence(rule: StopRule, values: list[float], planned: int) -> Verdict:
    import numpy as np

    from peira.stats.confidence_sequences import betting_sequence, empirical_bernstein_sequence

    follow = empirical_bernstein_sequence if planned > LONG else betting_sequence
    sequence = follow(values, rule.range, alpha=rule.alpha)
    late = np.arange(1, len(values) + 1) >= rule.minimum
    precise = np.zeros(len(values), dtype=bool)
    if rule.half_width is not None:
        precise = late & ((sequence.high - sequence.low) / 2 <= rule.half_width)
    excluded = np.zeros(len(values), dtype=bool)
    if rule.null is not None:
        excluded = late & ((sequence.low > rule.null) | (sequence.high < rule.null))
    stops = np.flatnonzero(precise | excluded)
    at = int(stops[0]) if stops.size else len(values) - 1
    low, high = float(sequence.low[at]), float(sequence.high[at])
    estimate = Estimate(
        float(np.mean(values[: at + 1])), low, high, 1 - rule.alpha, n=at + 1,
        method=f"confidence sequence ({sequence.method})", estimand=ESTIMAND,
        flags=("stopped_by_rule",) if stops.size else (),
        reason=None if low <= high else "not_identified",
    )  # fmt: skip
    why = None
    if stops.size:
        why = "null excluded" if excluded[at] else "precision"
    return Verdict(bool(stops.size), why, at + 1, estimate)


@dataclass(slots=True)
class Block:
    """One replicate: how many of its trials have still to end, and what the others said."""

    waiting: int
    values: list[float] = field(default_factory=list)
    failed: int = 0


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
        self._blocks = {
            replicate: Block(count)
            for replicate, count in journal.read(
                "SELECT replicate, COUNT(*) FROM trials WHERE position IS NOT NULL GROUP BY replicate"
                " ORDER BY replicate"
            )
        }
        self._order = iter(sorted(self._blocks))
        self._head = next(self._order, None)
        self._look_at = rule.minimum
        for replicate, state, outcome in self._ended_before():
            self._count(replicate, state, outcome)
        self._advance()

    @property
    def met(self) -> bool:
        """True once no new trial is needed."""
        return self.verdict is not None and self.verdict.met

    def __call__(self, result: TrialResult) -> None:
        """One more trial ended."""
        if self.met or result.state == State.HALTED:
            return
        rows = self.journal.read("SELECT replicate FROM trials WHERE number=?", (result.number,))
        try:
            self._count(rows[0][0], result.state, result.outcome)
            self._advance()
        except InputError as error:
            self.ledger.stop(RunHalted(Cause.STOPPED, str(error)))

    def describe(self) -> str:
        """What the rule says, in words; empty before the first look."""
        if self.verdict is None:
            return ""
        e = self.verdict.estimate
        interval = "" if e.low is None or e.high is None else f" [{e.low:.4g}, {e.high:.4g}]"
        found = f"{self.rule.outcome} {e.estimate:.4g}{interval} after {self.verdict.blocks}"
        met = f"stop rule met ({self.verdict.why})" if self.met else "stop rule not met"
        return f"{met}: {found} of {self.planned} blocks"

    def _ended_before(self) -> Iterator[tuple[int, str, bytes | None]]:
        yield from self.journal.read(
            "SELECT replicate, state, outcome FROM trials WHERE position IS NOT NULL"
            " AND state IN ('done', 'failed')"
        )

    def _count(self, replicate: int, state: str, outcome: bytes | None) -> None:
        block = self._blocks[replicate]
        block.waiting -= 1
        value = None if outcome is None or state != State.DONE else self._value(outcome)
        if value is None:
            block.failed += 1
        else:
            block.values.append(value)

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
                self._values.append(sum(block.values) / len(block.values))
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
        "outcome": monitor.rule.outcome, "rule": monitor.rule.rule, "met": verdict.met,
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
