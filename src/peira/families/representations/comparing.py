"""Two runs side by side: settings that differ, shared quantities paired over equal contexts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peira.errors import InputError
from peira.families.representations.analysis import Trial, trials_of
from peira.families.representations.files import read_npz
from peira.families.representations.inference import means, q_values
from peira.report.analysis import Column, Table
from peira.stats.intervals import independent_difference
from peira.store.records import RunView

FIELDS = ("dirichlet_energy", "cluster_separation", "neighbour_mass", "loss")
DRAWN_FROM = (
    "graph",
    "walk",
    "condition",
    "experiment",
)  # with the seed, what makes contexts equal


def compare_runs(first: Path, second: Path) -> list[Table]:
    """Settings that differ; second − first by layer and length, BH over all cells."""
    sides = [_side(path) for path in (first, second)]
    (a, one), (b, two) = sides
    settings = [{"path": k, "first": str(one[1]["config"].get(k)), "second": str(two[1]["config"].get(k))}
                for k in one[1]["config"] if one[1]["config"].get(k) != two[1]["config"].get(k)]  # fmt: skip
    columns = (Column("path", "setting", kind="text"), Column("first", first.name, kind="text"),
               Column("second", second.name, kind="text"))  # fmt: skip
    out = [Table("settings", f"Settings that differ: {first.name} and {second.name}", columns,
                 tuple(settings), "" if settings else "none")]  # fmt: skip
    equal = one[0].seed == two[0].seed and all(one[1].get(k) == two[1].get(k) for k in DRAWN_FROM)
    equal = equal and one[1]["lengths"][-1] == two[1]["lengths"][-1]
    return [*out, _differences(a, b, one, two, equal)]


def _side(path: Path) -> tuple[dict[str, Any], Trial]:
    with RunView(path) as run:
        found = trials_of(run)
        if not found:
            raise InputError(f"{path}: no finished trial to compare\n  remedy: finish the run")
        return read_npz(run.artifacts(found[0][0].number)["contexts.npz"]), found[0]


def _differences(a: Any, b: Any, one: Trial, two: Trial, equal: bool) -> Table:
    layers = [k for k in one[1]["results"] if k in two[1]["results"]]
    lengths = [n for n in one[1]["lengths"] if n in two[1]["lengths"]]
    rows: list[dict[str, Any]] = []
    for name in FIELDS:
        x, y = a[f"natural.{name}"].astype(float), b[f"natural.{name}"].astype(float)
        geometry = x.ndim == 3
        for key in layers if geometry else ["all"]:
            for n in lengths:
                u, v = (_column(arr, trial, key, n) for arr, trial in ((x, one), (y, two)))
                rows.append(
                    {"quantity": name, "layer": key, "length": n, "difference": _gap(u, v, equal)}
                )
    q = q_values(
        np.array([np.nan if r["difference"].p is None else r["difference"].p for r in rows])
    )
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
        return means(v[:size] - u[:size]).estimate((), estimand="second − first")
    return independent_difference(v, u).with_(estimand="second − first")
