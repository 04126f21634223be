"""`peira.load(run)`: a run as tidy pandas frames, and the same tables as files.

One row per trial, per event or per reply. Invariant: rows stream from run.db; only what a frame
needs is held in memory.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from peira.engine.ledger import unpack
from peira.errors import InputError
from peira.store.exports import columns, flat, flattened, to_parquet
from peira.store.records import Filter, RunView
from peira.store.rundir import find_run

if TYPE_CHECKING:
    import pandas


def _trials(run: RunView) -> Iterator[dict[str, Any]]:
    yield from (flat(record) for record in run.records())


def _events(run: RunView) -> Iterator[dict[str, Any]]:
    for record in run.records():
        for event in run.events(record.number):
            yield {"slug": record.slug, **dict(flattened(event))}


def _replies(run: RunView) -> Iterator[dict[str, Any]]:
    slugs = {record.number: record.slug for record in run.records(Filter(retired=True))}
    for number, key, attempt, state, model, reply, cost, worst, buyer in run.query(
        "SELECT number, key, attempt, state, model, reply, cost, worst, buyer FROM replies"
        " ORDER BY number"
    ):
        row = {
            "number": number, "slug": slugs.get(buyer), "key": key, "attempt": attempt,
            "state": state, "model": model, "cost_usd": cost / 1e6, "unsettled_usd": worst / 1e6,
        }  # fmt: skip
        if reply is not None:
            said = unpack(reply, cost)
            row |= {
                "text": said.text, "finish": said.finish, "served_model": said.served_model,
                "tokens_in": said.usage.prompt_tokens, "tokens_out": said.usage.completion_tokens,
                "seconds": said.seconds, "asked_at": said.asked_at,
            }  # fmt: skip
        yield row


TABLES: Mapping[str, Callable[[RunView], Iterator[dict[str, Any]]]] = {
    "trials": _trials,
    "events": _events,
    "replies": _replies,
}


def rows_of(run: RunView, what: str) -> Iterator[dict[str, Any]]:
    """Rows of one of the `TABLES`."""
    return TABLES[what](run)


def write(rows: Iterator[dict[str, Any]], target: Path) -> int:
    """Write rows to a .csv, .jsonl or .parquet file; returns how many."""
    data = list(rows)
    if target.suffix == ".parquet":
        to_parquet(list(data), target)
    elif target.suffix == ".jsonl":
        target.write_bytes(b"\n".join(orjson.dumps(row) for row in data) + b"\n")
    elif target.suffix == ".csv":
        names = list(dict.fromkeys(name for row in data for name in row)) or columns([])
        with target.open("w", newline="", encoding="utf-8", errors="replace") as handle:
            writer = csv.DictWriter(handle, names, restval="")
            writer.writeheader()
            writer.writerows(data)
    else:
        raise InputError(f"{target}: unknown form\n  allowed: .csv, .jsonl, .parquet")
    return len(data)


class LoadedRun:
    """A run for analysis in Python: `peira.load("experiments/quickstart").trials()`."""

    def __init__(self, run: str | Path) -> None:
        self.view = RunView(find_run(run))

    def __enter__(self) -> LoadedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.view.close()

    def trials(self) -> pandas.DataFrame:
        """One row a planned trial: identity, factors, flat outcome, cost, tokens, seconds."""
        return self._frame("trials")

    def events(self) -> pandas.DataFrame:
        """One row an event of every transcript, in order."""
        return self._frame("events")

    def replies(self) -> pandas.DataFrame:
        """One row a reply ever bought, superseded and unsettled ones included."""
        return self._frame("replies")

    def _frame(self, what: str) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame(list(rows_of(self.view, what)))
