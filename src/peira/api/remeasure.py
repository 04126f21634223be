"""`peira analyse --remeasure`: read finished trials again under new definitions, from transcripts.

Nothing is played again. What needs a model is bought within the budget, through the ledger, so the
same command again buys nothing twice. Invariant: run.db's outcomes stay as they were; the new
readings lie beside them in remeasured.json, which the analysis prefers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from peira import api
from peira.api.checks import limited, workplace
from peira.engine.journal import Journal
from peira.engine.lab import Lab, TrialTask
from peira.engine.loops import loop_factory
from peira.families import load_family
from peira.store.records import Record, RunView
from peira.store.rundir import RunDir, dumps, write_file

FILE = "remeasured.json"


def remeasure(run: RunDir, options: api.Options | None = None) -> int:
    """Measure every done trial again. Returns how many; raises InputError where the family has
    nothing to measure again, Halt when the budget does not suffice."""
    with RunView(run) as view:
        reference, study = view.family, view.study
        chosen = options or api.Options(simulated=bool(view.meta.get("simulated")))
        done = [(record, view.events(record.number)) for record in view.done()]
    family = load_family(reference)
    question = api.Question(study, None, reference, family, run.path)
    study = limited(study, chosen)
    with run.locked():
        journal = Journal(run.database, costly=not chosen.simulated)
        try:
            session = api.Session(
                question, study, chosen, workplace(question, study, chosen), journal
            )
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                found = runner.run(_all(family, session, done))
        finally:
            journal.close()
    write_file(run.path / FILE, dumps(found))
    return len(found)


async def _all(
    family: Any, session: api.Session, done: list[tuple[Record, list[dict[str, Any]]]]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        for record, events in done:
            lab = Lab(_task(session, record), session.bench)
            settings = family.Settings.model_validate(record.settings)
            found[record.slug] = orjson.loads(
                orjson.dumps(await family.remeasure(session.study, settings, events, lab))
            )
            session.ledger.keep(record.number, lab.kept)
        session.journal.flush()
    finally:
        await session.bench.routes.close()
    return found


def _task(session: api.Session, record: Record) -> TrialTask:
    return TrialTask(
        record.number, record.id, record.slug, record.seed, record.replicate, record.cell_number,
        record.settings, record.cell, memory=session.ledger.memory(record.number),
    )  # fmt: skip
