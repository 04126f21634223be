"""The projections of a run: every file that can be rebuilt from run.db.

`collect` writes them all; the driver calls it at the end of every run for the trials that changed.
Invariant: run.db is only read; each file is replaced whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import orjson

from peira.engine.states import State
from peira.store import exports
from peira.store.records import Filter, Record, RunView, TrialView
from peira.store.rundir import dumps, write_file, write_stream


class Projector(Protocol):
    """What projecting needs of a family."""

    folder: ClassVar[str]

    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]: ...
    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]: ...


def collect(run: RunView, family: Projector, *, since: float | None = None) -> int:
    """Write every projection; trial folders only of trials that ended after `since` or lack one.
    Returns the number of trial folders written."""
    written = 0
    if run.study.save_individual_runs:
        written = sum(1 for _ in _trial_folders(run, family, since))
    _write_results(run)
    write_file(run.path / "summary.json", dumps(summary(run)))
    write_file(run.path / "costs.json", dumps(costs(run)))
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


def _write_results(run: RunView) -> None:
    """all_results.json and results.csv, streamed so that a million trials fit in memory."""
    names = exports.columns(exports.flat(record) for record in run.records())
    path = run.path / "results.csv"
    write_stream(path, _csv_parts(run, names))
    write_stream(run.path / "all_results.json", _json_parts(run))


def _csv_parts(run: RunView, names: list[str]) -> Iterator[bytes]:
    header = exports.to_csv([], names)
    yield header
    for record in run.records():
        yield exports.to_csv([exports.flat(record)], names)[len(header) :]


def _json_parts(run: RunView) -> Iterator[bytes]:
    yield b"[\n"
    for number, record in enumerate(run.records()):
        yield (b",\n" if number else b"") + orjson.dumps(record.to_dict())
    yield b"\n]\n"


def summary(run: RunView) -> dict[str, Any]:
    """Counts by state, cause and factor level, spend and time: summary.json."""
    tally, (spent, unsettled) = run.tally, run.spend()
    levels: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(_zero))
    tokens_in = tokens_out = calls = 0
    seconds = 0.0
    for record in run.records():
        state = "pending" if record.state == State.RUNNING else str(record.state)
        for factor, value in record.cell.items():
            cell = levels[factor][str(value)]
            cell["planned"] += 1
            cell[state] += 1
        tokens_in, tokens_out = tokens_in + record.tokens[0], tokens_out + record.tokens[1]
        calls, seconds = calls + record.calls, seconds + (record.seconds or 0.0)
    return {
        "run_id": run.path.name, "name": run.name, "family": run.study.family,
        "simulated": run.simulated, "label": "simulated subjects" if run.simulated else None,
        "planned": tally.planned, "done": tally.done, "failed": tally.failed,
        "halted": tally.halted, "pending": tally.pending,
        "success_rate": tally.done / tally.planned if tally.planned else None,
        "causes": run.causes(), "by_factor": levels, "calls": calls, "tokens_in": tokens_in,
        "tokens_out": tokens_out, "spent_usd": spent / 1e6, "unsettled_usd": unsettled / 1e6,
        "trial_seconds": round(seconds, 3),
    }  # fmt: skip


def _zero() -> dict[str, int]:
    return {"planned": 0, "done": 0, "failed": 0, "halted": 0, "pending": 0}


def costs(run: RunView) -> dict[str, Any]:
    """Spend by model and by trial, settled and unsettled: costs.json."""
    spent, unsettled = run.spend()
    limits = run.study.limits
    return {
        "total_usd": spent / 1e6, "unsettled_usd": unsettled / 1e6,
        "budget_usd": limits.budget_usd, "trial_usd": limits.trial_usd,
        "simulated": run.simulated, "by_model": run.by_model(),
        "by_trial": [_trial_cost(r) for r in run.records() if r.cost or r.unsettled],
    }  # fmt: skip


def _trial_cost(record: Record) -> dict[str, Any]:
    return {
        "slug": record.slug, "state": str(record.state), "usd": record.cost / 1e6,
        "unsettled_usd": record.unsettled / 1e6,
    }  # fmt: skip


def study_yaml(run: RunView) -> bytes:
    """The study as run; `peira run study.yaml` is the same run again."""
    import yaml

    data = run.study.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return f"# The study of this run, resolved. sha256 {run.study.hash}\n{text}".encode()
