"""`peira.load(run)`: a run as tidy pandas frames, and the same tables as files.

One row per trial, per event or per reply. Invariant: rows stream from run.db, in parts; only what a
frame holds is in memory. An integer that may be missing is Int64, a truth value boolean; None never
turns a number into text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peira.engine.ledger import unpack
from peira.store.exports import batched, flat, flattened, kinds
from peira.store.records import RunView
from peira.store.rundir import find_run

if TYPE_CHECKING:
    import pandas


def _trials(run: RunView) -> Iterator[dict[str, Any]]:
    yield from (flat(record) for record in run.records())


def _events(run: RunView) -> Iterator[dict[str, Any]]:
    for number, slug in run.stream(
        "SELECT number, slug FROM trials WHERE position IS NOT NULL ORDER BY position"
    ):
        for event in run.events(number):
            yield {"slug": slug, **dict(flattened(event))}


def _replies(run: RunView) -> Iterator[dict[str, Any]]:
    for number, slug, key, attempt, state, model, reply, cost, worst in run.stream(
        "SELECT r.number, t.slug, key, attempt, r.state, model, reply, cost, worst FROM replies r"
        " LEFT JOIN trials t ON t.number = r.buyer ORDER BY r.number"
    ):
        row = {
            "number": number, "slug": slug, "key": key, "attempt": attempt, "state": state,
            "model": model, "cost_usd": cost / 1e6, "unsettled_usd": worst / 1e6,
        }  # fmt: skip
        if reply is not None:
            said = unpack(reply, cost)
            row |= {
                "text": said.text, "reasoning": said.reasoning, "finish": said.finish,
                "served_model": said.served_model, "request_id": said.request_id,
                "tokens_in": said.usage.prompt_tokens, "tokens_out": said.usage.completion_tokens,
                "cached_tokens": said.usage.cached_tokens,
                "reasoning_tokens": said.usage.reasoning_tokens,
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


class LoadedRun:
    """A run for analysis in Python: `peira.load("experiments/quickstart").trials()`."""

    def __init__(self, run: str | Path) -> None:
        self.view = RunView(find_run(run))

    def __enter__(self) -> LoadedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.view.close()

    def trials(self) -> pandas.DataFrame:
        """One row a planned trial: identity, factors, flat outcome, cost in US dollars, tokens,
        seconds. Nested outcomes have dotted names; lists are JSON text."""
        return self._frame("trials")

    def events(self) -> pandas.DataFrame:
        """One row an event of every transcript, in order. Model calls are events of kind `call`."""
        return self._frame("events")

    def replies(self) -> pandas.DataFrame:
        """One row a reply ever bought, superseded and unsettled ones included. `asked_at` is Unix
        time in seconds; `slug` is the trial that paid."""
        return self._frame("replies")

    def _frame(self, what: str) -> pandas.DataFrame:
        return frame(rows_of(self.view, what))


def frame(rows: Iterator[dict[str, Any]]) -> pandas.DataFrame:
    """Rows as one frame, built in parts, each column of one type."""
    import pandas

    parts = [_part(part) for part in batched(rows)]
    if not parts:
        return pandas.DataFrame()
    whole = pandas.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    return whole.astype(
        {name: plain for name, column in whole.items() if (plain := _plain(column)) is not None}
    )


NULLABLE = {bool: "boolean", int: "Int64", float: "Float64"}


def _part(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    found = kinds(rows)
    empty = {name for name in found if all(row.get(name) is None for row in rows)}
    columns = {
        name: pandas.Series(
            [row.get(name) if kind is not str else _text(row.get(name)) for row in rows],
            dtype=NULLABLE.get(kind, "object"),
        )
        for name, kind in found.items()
        if name not in empty
    }
    return pandas.DataFrame(columns, index=range(len(rows))).reindex(columns=list(found))


def _text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else str(value)


def _plain(column: pandas.Series[Any]) -> str | None:
    """The numpy type of a column without missing values; floats always."""
    if str(column.dtype) == "Float64":
        return "float64"
    if str(column.dtype) in ("Int64", "boolean") and not column.hasnans:
        return {"Int64": "int64", "boolean": "bool"}[str(column.dtype)]
    return "str" if str(column.dtype) == "object" else None
