"""Records as tables: flat rows, CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from peira.errors import MissingExtra
from peira.store.records import Record

FIRST = ("id", "slug", "position", "replicate", "seed", "state", "cause", "simulated")
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
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        else:
            yield name, _scalar(value)


def _scalar(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, (list, dict)) else value


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """All column names: identity first, usage last, the rest in order of appearance."""
    seen: dict[str, None] = {}
    for row in rows:
        seen.update(dict.fromkeys(row))
    middle = [name for name in seen if name not in FIRST and name not in LAST]
    return [*FIRST, *middle, *LAST]


def to_csv(rows: Iterable[Mapping[str, Any]], names: list[str]) -> bytes:
    """RFC 4180 CSV; None is an empty field."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, restval="", extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def to_parquet(rows: list[Mapping[str, Any]], path: Path) -> None:
    """One Parquet file. Raises MissingExtra without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Parquet export", "parquet") from None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
