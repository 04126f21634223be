"""The guide's files of a run: results.json, config.json, checkpoints, raw data, wide tables.

Invariant: strict JSON; what is undefined is null with its code in `reasons`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from peira.families.representations.fields import BLOCKS, unpack
from peira.families.representations.settings import FREE
from peira.store.rundir import dumps
from peira.study.study import canonical

if TYPE_CHECKING:
    from peira.store.records import Record, RunView, TrialView

Trial = tuple["Record", dict[str, Any]]


def contexts_npz(arrays: Mapping[str, tuple[tuple[str, ...], Any]]) -> bytes:
    """Per-context values; `<name>` the array (float32), `<name>:axes` its axes."""
    out, flat = io.BytesIO(), {}
    for name, (axes, values) in arrays.items():
        data = np.asarray(values)
        flat[name] = data.astype(np.float32) if data.dtype.kind == "f" else data
        flat[f"{name}:axes"] = np.array(axes)
    np.savez_compressed(out, allow_pickle=False, **flat)
    return out.getvalue()


def read_npz(data: bytes) -> dict[str, Any]:
    """Arrays by name."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


RAW = ("contexts.npz", "raw_data/gram.npz", "raw_data/activations.npz")


@lru_cache(maxsize=64)
def _parsed(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(data)
    return found


def summary_of(run: RunView, record: Record) -> dict[str, Any] | None:
    """A finished trial's summary, or None."""
    data = run.artifact(record.number, "summary.json") if record.done else None
    return _parsed(data) if data is not None else None


def trials_of(run: RunView) -> list[Trial]:
    """Finished trials with their summaries."""
    return [(r, s) for r in run.done() if (s := summary_of(run, r)) is not None]


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 (16 hex) of the settings that make a trial what it is, defaults filled in."""
    kept = {k: v for k, v in settings.items() if k not in FREE}
    return sha256(canonical(kept)).hexdigest()[:16]


def results_json(record: Record, data: Mapping[str, Any]) -> dict[str, Any]:
    """results.json of one trial: the guide's keys, and what they lacked."""
    return {
        "model": data["model"], "timestamp": stamp(record.finished),
        "config": {**data["config"], "layers": data["layers"]},
        "experiment": data["experiment"], "condition": data["condition"], "seed": record.seed,
        "label": data["label"], "states": {"done": 1}, "lengths": data["lengths"],
        "answer": data["answer"], "results": data["results"], "findings": data["findings"],
        "diagnostics": data["diagnostics"], "reasons": data["reasons"],
    }  # fmt: skip


def config_json(record: Record, data: Mapping[str, Any]) -> dict[str, Any]:
    """config.json: every resolved setting, versions, model and vocabulary."""
    return {
        **data["config"], "timestamp": stamp(record.started), "seed": record.seed,
        "trial": record.id, "settings_hash": settings_hash(record.settings),
        "resolved": {k: data[k] for k in ("layers", "lengths", "window", "graph", "walk", "null")},
        "details": data["details"], "versions": data["versions"],
    }  # fmt: skip


def stamp(seconds: float | None) -> str | None:
    """Unix time as the guide writes it: ISO 8601, UTC, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def trial_files(view: TrialView) -> Iterator[tuple[str, bytes]]:
    """results.json, config.json and layers.csv of a finished trial."""
    data = summary_of(view.run, view.record)
    if data is None:
        yield "results.json", dumps({"state": str(view.record.state), "cause": view.record.cause,
                                     "message": view.record.message, "results": None})  # fmt: skip
        return
    yield "results.json", dumps(results_json(view.record, data))
    yield "config.json", dumps(config_json(view.record, data))
    yield "layers.csv", layers_csv([(view.record, data)])


def run_files(run: RunView) -> Iterator[tuple[str, bytes]]:
    """The pair at the root (first condition, first model and seed), checkpoints, and raw data."""
    found = trials_of(run)
    yield from checkpoint_files(run)
    if not found:
        return
    first, data = found[0]
    root = results_json(first, data)
    states = ("planned", "done", "failed", "halted", "pending")
    root["states"] = {state: getattr(run.tally, state) for state in states}
    alike = (data["model"], first.seed)
    root["conditions"] = {
        s["condition"]: s["results"] for r, s in found if (s["model"], r.seed) == alike
    }
    yield "results.json", dumps(root)
    yield "config.json", dumps(config_json(first, data))
    yield "layers.csv", layers_csv(found)
    for name in RAW if len(found) == 1 else ():
        if (raw := run.artifact(first.number, name)) is not None:
            yield name, raw
    from peira.families.representations.animation import gif, html

    if len(data["curves"].get("evolution", {})) > 1:
        yield "figures/representation_evolution.html", html(data).encode()
        yield "figures/representation_evolution.gif", gif(data)


# -- checkpoints ----------------------------------------------------------------------------------


def checkpoint_files(run: RunView) -> Iterator[tuple[str, bytes]]:
    """checkpoint_layer_<k>.json for each layer of the first trial: a projection of run.db."""
    record = next(iter(run.records()), None)
    if record is None:
        return
    data = summary_of(run, record)
    done = data["n_contexts"] if data else contexts_done(run, record)
    results = data["results"] if data else dict.fromkeys(planned_layers(run, record))
    for key, found in results.items():
        name = key.removeprefix("layer_")
        yield f"checkpoint_{key}.json", dumps({
            "trial": record.id, "settings_hash": settings_hash(record.settings), "layer": name,
            "contexts_done": done, "contexts_planned": record.settings["n_contexts"],
            "state": str(record.state), "results": found,
        })  # fmt: skip


def planned_layers(run: RunView, record: Record) -> list[str]:
    """Layers of a trial that has no results yet: as resolved, or as its settings name them."""
    told = kept(run, record, "layers")
    layers = orjson.loads(told[0]) if told else record.settings.get("layers") or []
    return [f"layer_{k}" for k in layers]


def contexts_done(run: RunView, record: Record) -> int:
    """Contexts of an unfinished trial that are safe in run.db."""
    return sum(len(unpack(data)) for data in kept(run, record, f"{BLOCKS}%"))


def kept(run: RunView, record: Record, pattern: str) -> list[bytes]:
    """Checkpoints of a trial whose name is like `pattern`."""
    sql = "SELECT data FROM checkpoints WHERE trial=? AND name LIKE ?"
    return [data for (data,) in run.query(sql, (record.number, pattern))]


def layers_csv(found: Iterable[tuple[Record, Mapping[str, Any]]]) -> bytes:
    """One row per trial × layer × length: every field with its interval."""
    rows = []
    for record, data in found:
        for layer, cell in data["results"].items():
            for length, values in cell["by_length"].items():
                row = {"slug": record.slug, "experiment": data["experiment"], "model": data["model"],
                       "condition": data["condition"], "seed": record.seed,
                       "layer": layer.removeprefix("layer_"), "length": length}  # fmt: skip
                rows.append(row | {k: _cell(v) for k, v in values.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    return f"{value[0]} to {value[1]}" if isinstance(value, list) else value
