"""A run against its own ledger: which outcomes come out otherwise than they are recorded.

Every trial that ended by itself (done, or failed by what the model said or the code did) is run again
offline. Invariant: the run directory is only read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from peira.engine.attempt import Runner, TrialResult
from peira.engine.executors.local import LocalExecutor
from peira.engine.lab import Bench, TrialTask
from peira.engine.ledger import Sharing
from peira.engine.loops import loop_factory
from peira.engine.replay import ReplayLedger, ReplayRoutes, Silence
from peira.engine.states import Cause, State
from peira.engine.workplace import Workplace
from peira.store.records import Filter, Record, RunView

LOST = {Cause.PROVIDER, Cause.TIMEOUT, Cause.INTERRUPTED, Cause.BUDGET, Cause.TRIAL_LIMIT}
ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that a replay gives otherwise."""

    slug: str
    path: str
    recorded: Any
    replayed: Any


@dataclass(slots=True)
class Replayed:
    """What a replay found. `skipped`: trials that ended for reasons no replay can repeat."""

    same: int = 0
    skipped: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)


def replay(
    run: RunView, family: Runner, *, parallel: int = 16, only: str | None = None, most: int = 200
) -> Replayed:
    """Run every trial again from its replies. `most`: differences that are kept to be shown."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_replay(run, family, parallel, only, most))


async def _replay(
    run: RunView, family: Runner, parallel: int, only: str | None, most: int
) -> Replayed:
    found = Replayed()
    under_way: dict[int, Record] = {}
    ledger = ReplayLedger(run.query)
    place = Workplace(
        run.family, overrides=run.study.subjects, stand_ins=bool(run.meta.get("simulated"))
    )
    subjects = run.meta.get("manifest", {}).get("subjects", {})
    given = {n: Silence() for n, each in subjects.items() if each.get("provider") == "given"}
    bench = Bench(place.routes(given, ReplayRoutes), ledger, Sharing(), retries=0)

    async def tasks() -> AsyncIterator[TrialTask]:
        for record in run.records(Filter(slug=only)):
            if not repeatable(record):
                found.skipped += 1
                continue
            under_way[record.number] = record
            yield TrialTask(
                record.number, record.id, record.slug, record.seed, record.replicate,
                record.cell_number, record.settings, record.cell, memory=ledger.memory(record.number),
            )  # fmt: skip

    def report(result: TrialResult) -> None:
        record = under_way.pop(result.number)
        differences = list(compare(record, result))
        found.same += not differences
        found.differing += bool(differences)
        found.differences += differences[: most - len(found.differences)]

    await LocalExecutor(family, bench, parallel=parallel, trial_seconds=None).run(tasks(), report)
    await bench.routes.close()
    return found


def repeatable(record: Record) -> bool:
    """True for a trial whose ending follows from its settings, seed and replies."""
    return record.state == State.DONE or (record.state == State.FAILED and record.cause not in LOST)


def compare(record: Record, result: TrialResult) -> Iterator[Difference]:
    """Every value in which a replayed trial differs from its record."""
    if (record.state, record.cause) != (result.state, result.cause):
        before = f"{record.state} {record.cause or ''}".strip()
        now = f"{result.state} {result.cause or ''}: {result.message or ''}".strip(": ")
        yield Difference(record.slug, "state", before, now)
        return
    outcome = None if result.outcome is None else orjson.loads(result.outcome)
    for path, before, now in differing(record.outcome, outcome, "outcome"):
        yield Difference(record.slug, path, before, now)


def differing(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """(path, left, right) of every leaf at which two JSON values differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from differing(a.get(key, ABSENT), b.get(key, ABSENT), f"{path}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for place, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differing(one, other, f"{path}[{place}]")
    elif a != b or type(a) is not type(b):
        yield path, a, b
