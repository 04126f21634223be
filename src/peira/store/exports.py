"""Records as tables: flat rows, CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from peira.errors import InputError, MissingExtra
from peira.store.rundir import streamed

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

FIRST = ("id", "slug", "position", "replicate", "seed", "state", "cause", "simulated")
PLAIN = (str, float, int, bool, type(None))
LAST = ("calls", "tokens_in", "tokens_out", "cost_usd", "unsettled_usd", "seconds", "attempts")


def flat(record: Record) -> dict[str, Any]:
    """One record as a flat row: identity, factors, outcome (nested names dotted), usage."""
    tokens_in, tokens_out = record.tokens
    row: dict[str, Any] = {
        "id": record.id, "slug": record.slug, "position": record.position,
        "replicate": record.replicate, "seed": record.seed, "state": str(record.state),
        "cause": record.cause, "simulated": record.simulated,
    }  # fmt: skip
    row |= {name: _scalar(value) for name, value in record.cell.items()}
    row |= dict(flattened(record.outcome or {}))
    row |= {
        "calls": record.calls, "tokens_in": tokens_in, "tokens_out": tokens_out,
        "cost_usd": record.cost / 1e6, "unsettled_usd": record.unsettled / 1e6,
        "seconds": record.seconds, "attempts": record.attempts,
    }  # fmt: skip
    return row


def flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, scalar) of every leaf; lists become JSON text."""
    row: dict[str, Any] = {}
    _flatten(data, prefix, row)
    return iter(row.items())


def _flatten(data: Mapping[str, Any], prefix: str, row: dict[str, Any]) -> None:
    """Leaves into a row. Told by exact types first: a million outcomes pass here, all from JSON."""
    for key, value in data.items():
        kind = type(value)
        if kind is dict or (kind not in PLAIN and isinstance(value, Mapping)):
            _flatten(value, f"{prefix}{key}.", row)
        else:
            row[prefix + key] = value if kind in PLAIN else _scalar(value)


def _scalar(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, (list, dict)) else value


def _name(data: Mapping[str, Any], prefix: str, seen: dict[str, None]) -> None:
    """The names `_flatten` would give."""
    for key, value in data.items():
        if type(value) is dict:
            _name(value, f"{prefix}{key}.", seen)
        else:
            seen[prefix + key] = None


def columns_of(run: RunView) -> list[str]:
    """Column names of a run's flat records: identity first, usage last, between them factors and
    outcomes in order of appearance."""
    seen: dict[str, None] = {}
    for (factors,) in run.stream("SELECT factors FROM cells ORDER BY number"):
        seen.update(dict.fromkeys(orjson.loads(factors)))
    for (outcome,) in run.stream(
        "SELECT outcome FROM trials WHERE position IS NOT NULL AND outcome IS NOT NULL"
        " ORDER BY position"
    ):
        _name(orjson.loads(outcome), "", seen)
    middle = [name for name in seen if name not in FIRST and name not in LAST]
    return [*FIRST, *middle, *LAST]


class CsvLine:
    """RFC 4180 lines of one table; None is an empty field."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._out = io.StringIO(newline="")
        self._writer = csv.writer(self._out, lineterminator="\r\n")

    def header(self) -> bytes:
        """The names."""
        return self._line(self.names)

    def of(self, row: Mapping[str, Any]) -> bytes:
        """One row."""
        return self._line([row.get(name) for name in self.names])

    def _line(self, values: Sequence[Any]) -> bytes:
        self._writer.writerow(values)
        text = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return text.encode("utf-8", "replace")


# -- tables as files, streamed --------------------------------------------------------------------
Rows = Callable[[], Iterator[dict[str, Any]]]


def write_table(rows: Rows, target: Path) -> int:
    """Write a table to a .csv, .jsonl or .parquet file, whole or not at all; returns its rows.

    `rows` is asked twice where the columns have to be known first, so that memory stays flat.
    Raises InputError for another form, MissingExtra for Parquet without pyarrow.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if target.suffix not in writers:
        raise InputError(f"{target}: unknown form\n  allowed: {', '.join(writers)}")
    with streamed(target, then="") as handle:
        return writers[target.suffix](rows, handle)


def _write_jsonl(rows: Rows, handle: IO[bytes]) -> int:
    return _lines(handle, (orjson.dumps(row) + b"\n" for row in rows()))


def _write_csv(rows: Rows, handle: IO[bytes]) -> int:
    line = CsvLine(list(kinds(rows())))
    handle.write(line.header())
    return _lines(handle, map(line.of, rows()))


def _lines(handle: IO[bytes], lines: Iterable[bytes]) -> int:
    """Write them all; returns how many there were."""
    count = 0
    for line in lines:
        handle.write(line)
        count += 1
    return count


def _write_parquet(rows: Rows, handle: IO[bytes]) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Parquet export", "parquet") from None
    types = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    found = kinds(rows())
    schema = pyarrow.schema([(n, types.get(kind, pyarrow.string())) for n, kind in found.items()])
    count = 0
    with pyarrow.parquet.ParquetWriter(handle, schema) as writer:
        for part in batched(rows()):
            fitted = [
                {name: _fitted(row.get(name), kind) for name, kind in found.items()} for row in part
            ]
            writer.write_batch(pyarrow.RecordBatch.from_pylist(fitted, schema=schema))
            count += len(part)
    return count


def kinds(rows: Iterable[Mapping[str, Any]]) -> dict[str, type]:
    """Column -> bool, int, float or str, in order of appearance; str where values are mixed."""
    found: dict[str, type] = {}
    for row in rows:
        for name, value in row.items():
            seen = found.get(name)
            if value is None:
                found.setdefault(name, type(None))
            elif seen is not type(value):
                found[name] = _common(seen, type(value))
    return {name: str if kind is type(None) else kind for name, kind in found.items()}


def _common(seen: type | None, now: type) -> type:
    if seen is None or seen is type(None):
        return now if now in (bool, int, float) else str
    return float if {seen, now} == {int, float} else str


def _fitted(value: Any, kind: type) -> Any:
    return value if value is None or kind is bool else kind(value)


def batched(rows: Iterable[dict[str, Any]], size: int = 10_000) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists of at most `size`."""
    source = iter(rows)
    while part := list(islice(source, size)):
        yield part
