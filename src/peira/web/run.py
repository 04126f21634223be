"""One run: how far it is, what it shows so far, what failed, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from peira.engine.states import Tally
from peira.report.story import failures_by_cause, progress_by_cell
from peira.store.records import RunView
from peira.store.rundir import loads_or_none
from peira.web import charts, queries
from peira.web.desk import Mailbox
from peira.web.heat import heat
from peira.web.house import House, is_simulated, stamp
from peira.web.page import Memo, answer, fragment, opened

CELLS_SHOWN = 200


def frame(key: str, view: RunView) -> dict[str, Any]:
    """What every page of a run says above its own matter."""
    live, counts, box = view.live, queries.counts(view), Mailbox(view.path)
    return {
        "key": key, "name": view.name, "family": view.study.family, "live": live,
        "simulated": is_simulated(view.meta), "driven": view.dir.driven(live), "counts": counts,
        "tally": _tally(counts), "asked": str(box.stamp), "waiting": len(box.waiting()),
    }  # fmt: skip


def _tally(counts: Mapping[str, int]) -> Tally:
    pending = counts["pending"] + counts["running"]
    return Tally(counts["done"], counts["failed"], counts["halted"], pending)


def page(request: Request) -> HTMLResponse:
    """The overview of a run; its slower parts are fetched by the page."""
    house: House = request.app.state.house
    key = request.path_params["key"]
    if key == "this" and not (house.root / "run.db").is_file():
        return answer(request, "waiting.html")
    key, view = opened(request)
    with view:
        found, known = queries.cells(view), queries.outcomes(view)
        context = frame(key, view) | _progress(view) | {
            "answer": _answer(view), "study": view.study, "factors": queries.levels(found),
            "chosen": _axes(request, list(queries.levels(found)), list(known)),
            "outcomes": list(known), "path_on_disk": str(view.path),
            "has_report": (view.path / "report.html").is_file(),
        }  # fmt: skip
    return answer(request, "run.html", **context)


def part(request: Request) -> HTMLResponse:
    """One part of the overview."""
    name = request.path_params["part"]
    if name not in PARTS:
        raise HTTPException(404)
    key, view = opened(request)
    memo: Memo = request.app.state.memo
    with view:
        query = tuple(sorted(request.query_params.items()))
        made = memo.get((key, name, query), stamp(view.path), lambda: PARTS[name](request, view))
        return fragment(request, "run.html", name, **frame(key, view), **made)


# -- parts ------------------------------------------------------------------------------------
def _progress(view: RunView) -> dict[str, Any]:
    live = view.live
    spent, unsettled = (live["spent_usd"], 0.0) if "spent_usd" in live else _spend(view)
    return {
        "spent": spent, "unsettled": unsettled, "budget": view.study.limits.budget_usd,
        "eta": _eta(live) if view.dir.driven(live) else None,
    }  # fmt: skip


def _spend(view: RunView) -> tuple[float, float]:
    spent, unsettled = view.spend()
    return spent / 1e6, unsettled / 1e6


def _eta(live: Mapping[str, Any]) -> float | None:
    here, elapsed = live["finished_here"], live["time"] - live["started"]
    return elapsed / here * live["pending"] if here and live["pending"] else None


def _answer(view: RunView) -> str:
    found = loads_or_none(view.path / "analysis" / "findings.json")
    return str(found.get("answer", "")) if isinstance(found, dict) else ""


def _cells(request: Request, view: RunView) -> dict[str, Any]:
    cells = progress_by_cell(view)
    for cell in cells:
        cell["waiting"] = cell["pending"] - cell["running"]
        cell["query"] = {f"f.{n}": queries.level(v) for n, v in cell["factors"].items()}
    split = list(dict.fromkeys(name for cell in cells for name in cell["factors"]))
    return {"split": split, "cells": cells[:CELLS_SHOWN], "more": max(0, len(cells) - CELLS_SHOWN)}


def _failures(request: Request, view: RunView) -> dict[str, Any]:
    return {"failures": failures_by_cause(view)}


def _axes(request: Request, factors: list[str], outcomes: list[str]) -> dict[str, str]:
    """What the map shows: as asked for, else the first two factors and the first outcome."""
    asked = request.query_params
    chosen = {
        "outcome": asked.get("outcome", ""), "rows": asked.get("rows"), "columns": asked.get("columns")
    }  # fmt: skip
    if chosen["outcome"] not in outcomes:
        chosen["outcome"] = next(iter(outcomes), "")
    if chosen["rows"] not in (*factors, ""):
        chosen["rows"] = factors[0] if factors else ""
    if chosen["columns"] not in (*factors, ""):
        chosen["columns"] = factors[1] if len(factors) > 1 else ""
    return {name: value or "" for name, value in chosen.items()}


def _heat(request: Request, view: RunView) -> dict[str, Any]:
    found, known = queries.cells(view), queries.outcomes(view)
    chosen = _axes(request, list(queries.levels(found)), list(known))
    name = chosen["outcome"]
    if name not in known:
        return {"heat": None, "chosen": chosen, "meaning": ""}
    seen = queries.observed(view, name, known[name])
    made = heat(seen, found, (chosen["rows"], chosen["columns"]))
    return {"heat": made, "chosen": chosen, "meaning": _meaning(view, name)}


def _meaning(view: RunView, name: str) -> str:
    """What an outcome is, where its family says so."""
    known = queries.headlines(view).items()
    return next((words for head, words in known if name.startswith(head)), "")


def _time(request: Request, view: RunView) -> dict[str, Any]:
    moments = queries.over_time(view)
    if moments is None:
        return {"finished": "", "spend": ""}
    unit, size = _unit(moments.seconds[-1])
    times = [second / size for second in moments.seconds]
    lines = [charts.Line("trials", times, moments.finished, dots=False, step=True)]
    finished = charts.draw(charts.Chart("Trials that ended", lines, unit, "trials", zero=True))
    if not moments.spent[-1]:
        return {"finished": finished, "spend": ""}
    money = [charts.Line("spent", times, moments.spent, dots=False, step=True)]
    budget = view.study.limits.budget_usd
    title = "Spend" if budget is None else f"Spend (budget ${budget:,.2f})"
    spend = charts.draw(charts.Chart(title, money, unit, "US dollars", zero=True))
    return {"finished": finished, "spend": spend}


def _unit(seconds: float) -> tuple[str, float]:
    """The unit in which so long a time reads well."""
    if seconds < 120:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 7200 else ("hours", 3600.0)


PARTS: Mapping[str, Callable[[Request, RunView], dict[str, Any]]] = {
    "progress": lambda request, view: _progress(view),
    "cells": _cells,
    "failures": _failures,
    "heat": _heat,
    "time": _time,
}
