"""The trials of a run as a table: filtered, sorted and searched by the database."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from peira.web import queries
from peira.web.page import address, answer, fragment, is_fragment, opened
from peira.web.queries import STATES, Wish
from peira.web.run import frame

OUTCOMES_SHOWN = 4


def page(request: Request) -> HTMLResponse:
    """One page of the table; htmx fetches its rows alone."""
    key, view = opened(request)
    with view:
        found, known = queries.cells(view), queries.outcomes(view)
        levels, wish = queries.levels(found), wished(request)
        table = queries.trials(view, wish, found, known)
        columns = _columns(request, list(known))
        context = frame(key, view) | {
            "table": table, "wish": wish, "levels": levels, "states": STATES, "known": list(known),
            "columns": columns, "link": _linker(key, wish, columns, request),
            "causes": sorted(filter(None, view.causes())),
        }  # fmt: skip
    if is_fragment(request):
        return fragment(request, "trials.html", "results", **context)
    return answer(request, "trials.html", **context)


def wished(request: Request) -> Wish:
    """What the address asks for; what it does not know how to ask is ignored."""
    query = request.query_params
    page = query.get("page", "1")
    factors = {n[2:]: v for n, v in query.items() if n.startswith("f.") and v}
    return Wish(
        state=query.get("state", ""), cause=query.get("cause", ""),
        search=query.get("q", "").strip(), factors=factors, sort=query.get("sort", "position"),
        down="down" in query, page=int(page) if page.isdecimal() and len(page) < 9 else 1,
    )  # fmt: skip


def _columns(request: Request, known: list[str]) -> list[str]:
    asked = [name for name in request.query_params.getlist("show") if name in known]
    return asked or known[:OUTCOMES_SHOWN]


def _linker(key: str, wish: Wish, columns: list[str], request: Request) -> Any:
    """Addresses of the same table with something changed."""
    now: dict[str, Any] = {
        "state": wish.state, "cause": wish.cause, "q": wish.search, "sort": wish.sort,
        "down": "1" if wish.down else "", "page": wish.page,
        "show": columns if "show" in request.query_params else "",
        **{f"f.{name}": value for name, value in wish.factors.items()},
    }  # fmt: skip

    def link(**changes: Any) -> str:
        query = now | {"page": 1} | changes
        if query["page"] == 1:
            query["page"] = ""
        if query["sort"] == "position" and not query["down"]:
            query["sort"] = ""
        return address("trials", key, **query)

    def sorted_by(name: str) -> str:
        down = "1" if wish.sort == name and not wish.down else ""
        return link(sort=name, down=down)

    link.sorted_by = sorted_by  # type: ignore[attr-defined]
    return link
