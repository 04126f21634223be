"""`peira fork` from Python: go on from a turn of a finished trial with something changed.

Invariant: a fork is a trial of its own, outside the run's counts; the same call again finds the
forks that are there and buys nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from peira import api
from peira.api.checks import limited, open_all, workplace
from peira.engine.fork import Branch, ForkDriver, ForkPlan, before, register_forks
from peira.engine.journal import Journal
from peira.errors import InputError
from peira.families import load_family
from peira.store.records import Filter, Record, RunView
from peira.store.rundir import RunDir, write_file
from peira.study.study import canonical, trial_id


@dataclass(frozen=True, slots=True)
class Forked:
    """The forks of one trial: those with the change, and the unchanged ones. `compared` names the
    numbers of an outcome."""

    compared: Callable[[Mapping[str, Any]], Iterable[tuple[str, Any]]]
    source: Record
    changed: tuple[Record, ...]
    control: tuple[Record, ...]

    @property
    def done(self) -> bool:
        """True when every fork is complete."""
        return all(record.done for record in (*self.changed, *self.control))


def fork(run: RunDir, slug: str, branch: Branch, options: api.Options | None = None) -> Forked:
    """Make and run the forks. Raises InputError when the trial is not done, the turn is not one of
    its turns, or its family cannot fork."""
    with RunView(run) as view:
        source, study = view.record(slug), view.study
        reference, simulated = view.family, bool(view.meta.get("simulated"))
    if not source.done:
        raise InputError(f"{source.slug}: {source.state}, not done\n  remedy: finish the run first")
    family = load_family(reference)
    settings = family.Settings.model_validate(source.settings)
    arms = ["changed"] + (["control"] if branch.control else [])
    made = {
        arm: [family.forked(settings, source, branch, arm, k + 1) for k in range(branch.samples)]
        for arm in arms
    }
    question = api.Question(study, None, reference, family, Path.cwd())
    chosen = options or api.Options(simulated=simulated)
    with run.locked():
        numbers = _run(question, chosen, run, source, branch, made)
    return _read(run, family, source, numbers)


def _run(
    question: api.Question, options: api.Options, run: RunDir, source: Record, branch: Branch,
    made: Mapping[str, list[Any]],
) -> dict[str, list[int]]:  # fmt: skip
    family = question.family
    study = limited(question.study, options)
    place = workplace(question, study, options)
    opened = open_all(question, options, [s for arm in made.values() for s in arm])
    journal = Journal(run.database, costly=any(route.durable for route in opened))
    try:
        numbers = {
            arm: register_forks(journal, source.slug, [_plan(family, s, source) for s in settings],
                                before(branch.turn))
            for arm, settings in made.items()
        }  # fmt: skip
        session = api.Session(question, study, options, place, journal)
        driver = ForkDriver(journal, session.ledger, session.driver.selection)
        driver.numbers = [number for arm in numbers.values() for number in arm]
        session.driver = driver
        api.drive(session)
    finally:
        journal.close()
    return numbers


def _plan(family: Any, settings: Any, source: Record) -> ForkPlan:
    identity = canonical(family.identity(settings))
    return ForkPlan(
        trial_id(family.name, family.version, identity, source.seed), identity,
        orjson.dumps(settings.model_dump(mode="json")), orjson.dumps(dict(source.cell)),
    )  # fmt: skip


def _read(run: RunDir, family: Any, source: Record, numbers: Mapping[str, list[int]]) -> Forked:
    wanted = {number for arm in numbers.values() for number in arm}
    with RunView(run) as view:
        known = {
            r.number: r for r in view.records(Filter(retired=True)) if r.number in wanted
        }  # fmt: skip
        for record in known.values():
            folder = run.trial_folder(family.folder, record.slug)
            for name, data in family.files(view.view(record)):
                write_file(folder / name, data)
    arms = {arm: tuple(known[n] for n in found) for arm, found in numbers.items()}
    return Forked(family.compared, source, arms.get("changed", ()), arms.get("control", ()))
