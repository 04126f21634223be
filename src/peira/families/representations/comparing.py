"""Two runs side by side: settings that differ, shared quantities paired over equal contexts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peira.errors import InputError
from peira.families.representations.files import Trial, read_npz, trials_of
from peira.report.analysis import Column, Table
from peira.stats.columns import means, q_values
from peira.stats.intervals import independent_difference
from peira.store.records import RunView

FIELDS = ("dirichlet_energy", "cluster_separation", "neighbour_mass", "loss")
# With the seed and the longest N, what makes contexts equal.
DRAWN_FROM = ("graph", "walk", "condition", "experiment")
SETTINGS = ("graphs", "branching", "vocabulary", "assignment")


def compare_runs(first: Path, second: Path) -> list[Table]:
    """Settings that differ; second − first by layer and length, BH over all cells."""
    (a, one), (b, two) = (_side(path) for path in (first, second))
    mine, other = one[1]["config"], two[1]["config"]
    settings = tuple({"path": k, "first": str(mine[k]), "second": str(other.get(k))}
                     for k in mine if mine[k] != other.get(k))  # fmt: skip
    columns = (Column("path", "setting", kind="text"), Column("first", first.name, kind="text"),
               Column("second", second.name, kind="text"))  # fmt: skip
    told = Table("settings", f"Settings that differ: {first.name} and {second.name}", columns,
                 settings, "" if settings else "none")  # fmt: skip
    return [told, _differences(a, b, one, two)]


def _side(path: Path) -> tuple[dict[str, Any], Trial]:
    with RunView(path) as run:
        found = trials_of(run)
        if not found:
            raise InputError(f"{path}: no finished trial to compare\n  remedy: finish the run")
        return read_npz(run.artifact(found[0][0].number, "contexts.npz") or b""), found[0]


def _same_contexts(one: Trial, two: Trial) -> bool:
    def drawn(trial: Trial) -> Any:
        record, data = trial
        more = [data["config"].get(name) for name in SETTINGS]
        return record.seed, data["lengths"][-1], [data.get(name) for name in DRAWN_FROM], more

    return bool(drawn(one) == drawn(two))


def _differences(a: Any, b: Any, one: Trial, two: Trial) -> Table:
    layers = [k for k in one[1]["results"] if k in two[1]["results"]]
    lengths = [n for n in one[1]["lengths"] if n in two[1]["lengths"]]
    equal, rows = _same_contexts(one, two), []
    for name in FIELDS:
        x, y = a[f"natural.{name}"].astype(float), b[f"natural.{name}"].astype(float)
        for key in layers if x.ndim == 3 else ["all"]:
            for n in lengths:
                gap = _gap(_column(x, one, key, n), _column(y, two, key, n), equal)
                rows.append({"quantity": name, "layer": key, "length": n, "difference": gap})
    q = q_values([np.nan if r["difference"].p is None else r["difference"].p for r in rows])
    for row, value in zip(rows, q, strict=True):
        row["q"] = float(value) if np.isfinite(value) else None
    columns = (
        Column("quantity", "quantity", kind="text"), Column("layer", "layer", kind="text"),
        Column("length", "N"), Column("difference", "second − first", 4, kind="estimate"),
        Column("q", "q", 3),
    )  # fmt: skip
    how = "paired over contexts" if equal else "contexts differ: independent means, Welch"
    return Table("differences", f"{two[0].slug} − {one[0].slug} ({how})", columns, tuple(rows),
                 "95 % t intervals; BH over all rows.")  # fmt: skip


def _column(values: Any, trial: Trial, key: str, length: int) -> Any:
    j = trial[1]["lengths"].index(length)
    return values[:, j] if values.ndim == 2 else values[:, list(trial[1]["results"]).index(key), j]


def _gap(u: Any, v: Any, equal: bool) -> Any:
    if equal:
        size = min(len(u), len(v))
        return means(v[:size] - u[:size]).estimate(estimand="second − first")
    return independent_difference(v, u).with_(estimand="second − first")
