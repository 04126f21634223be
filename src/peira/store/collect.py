"""The projections of a run: every file that can be rebuilt from run.db.

`collect` writes them all; the driver calls it at the end of every run for the trials that changed.
Invariant: run.db is only read; each file is replaced whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import orjson

from peira.engine.states import State
from peira.store import exports
from peira.store.records import Filter, Record, RunView, TrialView
from peira.store.rundir import dumps, streamed, write_file


class Projector(Protocol):
    """What projecting needs of a family."""

    folder: ClassVar[str]

    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]: ...
    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]: ...


def collect(run: RunView, family: Projector, *, since: float | None = None) -> int:
    """Write every projection; trial folders only of trials that ended after `since` or lack one.
    Returns the number of trial folders written."""
    run.dir.refuse_sealed()
    written = 0
    if run.study.save_individual_runs:
        written = sum(1 for _ in _trial_folders(run, family, since))
    sums = _write_results(run)
    write_file(run.path / "summary.json", dumps(sums.summary(run)))
    with streamed(run.path / "costs.json") as costs:
        costs.writelines(_costs_parts(run))
    write_file(run.path / "manifest.json", dumps(run.meta.get("manifest", {})))
    write_file(run.path / "study.yaml", study_yaml(run))
    for name, data in family.run_files(run):
        write_file(run.path / name, data)
    return written


def _trial_folders(run: RunView, family: Projector, since: float | None) -> Iterator[Path]:
    ended = Filter(states=(State.DONE, State.FAILED, State.HALTED))
    for record in run.records(ended):
        folder = run.dir.trial_folder(family.folder, record.slug)
        if since is not None and folder.is_dir() and (record.finished or 0) < since:
            continue
        view = run.view(record)
        for name, data in family.files(view):
            write_file(folder / name, data)
        for name, data in view.artifacts.items():
            write_file(folder / name, data)
        yield folder


def _write_results(run: RunView) -> Sums:
    """all_results.json and results.csv in one pass over the records, so that a million trials fit in
    memory; returns what summary.json needs."""
    sums, names = Sums(), exports.columns_of(run)
    line = exports.CsvLine(names)
    with (
        streamed(run.path / "results.csv") as table,
        streamed(run.path / "all_results.json") as whole,
    ):
        table.write(line.header())
        whole.write(b"[\n")
        for number, record in enumerate(run.records()):
            sums.add(record)
            table.write(line.of(exports.flat(record)))
            whole.write((b",\n" if number else b"") + orjson.dumps(record.to_dict()))
        whole.write(b"\n]\n")
    return sums


@dataclass(slots=True)
class Sums:
    """Sums over the records of a run."""

    levels: dict[str, dict[str, dict[str, int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(_zero))
    )
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    seconds: float = 0.0

    def add(self, record: Record) -> None:
        """One more record."""
        state = "pending" if record.state == State.RUNNING else str(record.state)
        for factor, value in record.cell.items():
            level = self.levels[factor][str(value)]
            level["planned"] += 1
            level[state] += 1
        tokens_in, tokens_out = record.tokens
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.calls += record.calls
        self.seconds += record.seconds or 0.0

    def summary(self, run: RunView) -> dict[str, Any]:
        """Counts by state, cause and factor level, spend and time: summary.json."""
        tally, (spent, unsettled) = run.tally, run.spend()
        return {
            "run_id": run.path.name, "name": run.name, "family": run.study.family,
            "simulated": run.simulated, "label": "simulated subjects" if run.simulated else None,
            "planned": tally.planned, "done": tally.done, "failed": tally.failed,
            "halted": tally.halted, "pending": tally.pending,
            "success_rate": tally.done / tally.planned if tally.planned else None,
            "causes": run.causes(), "by_factor": self.levels, "calls": self.calls,
            "tokens_in": self.tokens_in, "tokens_out": self.tokens_out, "spent_usd": spent / 1e6,
            "unsettled_usd": unsettled / 1e6, "trial_seconds": round(self.seconds, 3),
        }  # fmt: skip


def _zero() -> dict[str, int]:
    return {"planned": 0, "done": 0, "failed": 0, "halted": 0, "pending": 0}


def _costs_parts(run: RunView) -> Iterator[bytes]:
    """Spend by model and by trial, settled and unsettled: costs.json, trial by trial."""
    spent, unsettled = run.spend()
    limits = run.study.limits
    head = {
        "total_usd": spent / 1e6, "unsettled_usd": unsettled / 1e6,
        "budget_usd": limits.budget_usd, "trial_usd": limits.trial_usd,
        "simulated": run.simulated, "by_model": run.by_model(), "by_trial": [],
    }  # fmt: skip
    before, after = dumps(head).rsplit(b"[]", 1)
    yield before + b"["
    for number, row in enumerate(run.stream(TRIALS_THAT_COST)):
        yield (b",\n" if number else b"\n") + orjson.dumps(_trial_cost(*row))
    yield b"\n  ]" + after


TRIALS_THAT_COST = (
    "SELECT t.slug, t.state, SUM(r.cost), SUM(r.worst) FROM replies r JOIN trials t"
    " ON t.number = r.buyer WHERE (r.cost > 0 OR r.worst > 0) AND t.position IS NOT NULL"
    " GROUP BY r.buyer ORDER BY t.position"
)


def _trial_cost(slug: str, state: str, cost: int, unsettled: int) -> dict[str, Any]:
    return {"slug": slug, "state": state, "usd": cost / 1e6, "unsettled_usd": unsettled / 1e6}


def study_yaml(run: RunView) -> bytes:
    """The study as run; `peira run study.yaml` is the same run again."""
    import yaml

    data = run.study.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return f"# The study of this run, resolved. sha256 {run.study.hash}\n{text}".encode()
