"""What runs there are below a directory, at a glance."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from peira.errors import PeiraError
from peira.store.records import RunView
from peira.store.rundir import RunDir, list_runs

LEFT = (
    ("significance.json", "complete (earlier tool)"),
    ("per_item_scores.csv", "complete (earlier tool)"),
    ("*batch_inputs*", "inputs only (earlier tool)"),
)


def entries(root: Path) -> list[dict[str, Any]]:
    """One row a run, newest first; a run that cannot be read is listed as damaged."""
    return [*(_entry(run) for run in list_runs(root)), *_foreign(root)]


def _foreign(root: Path) -> list[dict[str, Any]]:
    """Archives that earlier tools left: results without a run.db."""
    rows = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith(".") or next(folder.rglob("run.db"), None) is not None:
            continue
        state = next((word for name, word in LEFT if next(folder.rglob(name), None)), None)
        if state is not None:
            rows.append({"name": folder.name, "path": str(folder), "state": state})
    return rows


def _entry(run: RunDir) -> dict[str, Any]:
    row: dict[str, Any] = {"name": run.path.name, "path": str(run.path)}
    try:
        with RunView(run) as view:
            return row | _facts(view)
    except PeiraError as error:
        return row | {"state": "damaged", "message": str(error).splitlines()[0]}


def _facts(view: RunView) -> dict[str, Any]:
    tally, (spent, unsettled) = view.tally, view.spend()
    changed = view.dir.database.stat().st_mtime
    return {
        "family": view.study.family, "state": _state(view), "simulated": view.simulated,
        "planned": tally.planned, "done": tally.done, "failed": tally.failed,
        "halted": tally.halted, "pending": tally.pending, "usd": (spent + unsettled) / 1e6,
        "updated": time.strftime("%Y-%m-%d %H:%M", time.localtime(changed)),
        "models": sorted(view.meta.get("manifest", {}).get("subjects", {})),
        "factors": list(view.study.factors), "temps": _temperatures(view),
        "rows": _rows(view), "archived": "archived" in view.meta,
    }  # fmt: skip


def _rows(view: RunView) -> int | None:
    """Rows asked for by the finished trials of a prompt comparison."""
    if view.study.family != "prompts":
        return None
    planned = view.query(
        "SELECT SUM(json_extract(CAST(outcome AS TEXT), '$.planned')) FROM trials"
        " WHERE position IS NOT NULL AND outcome IS NOT NULL"
    )
    return next(iter(planned))[0] or 0


def _state(view: RunView) -> str:
    tally = view.tally
    label = "archived" if "archived" in view.meta else ""
    if tally.done == tally.planned:
        state = "done"
    elif tally.pending:
        state = "unfinished"
    else:
        state = "failures" if tally.failed else "halted"
    marks = [state, label, "simulated" if view.simulated else ""]
    return " ".join(mark for mark in marks if mark)


def _temperatures(view: RunView) -> list[Any]:
    values = view.study.factors.get("temps") or view.study.fixed.get("temps") or []
    return values if isinstance(values, list) else [values]
