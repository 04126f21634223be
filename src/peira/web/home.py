"""The first page: every run below the opened directory."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from peira.web.house import HERE, Entry, House
from peira.web.page import answer, fragment, is_fragment

SORTS = {
    "updated": lambda e: -e.updated, "name": lambda e: e.name.lower(), "family": lambda e: e.family,
    "state": lambda e: e.state, "trials": lambda e: -e.tally.planned, "spent": lambda e: -e.spent,
}  # fmt: skip


def page(request: Request) -> Response:
    """All runs, filtered and sorted; a directory that is itself a run shows that run."""
    house: House = request.app.state.house
    if house.keys() == [HERE]:
        return RedirectResponse(f"/run/{HERE}", status_code=303)
    search, sort = request.query_params.get("q", ""), request.query_params.get("sort", "updated")
    runs = [entry for entry in house.runs() if _matches(entry, search.lower())]
    runs.sort(key=SORTS.get(sort, SORTS["updated"]))
    context = {"runs": runs, "search": search, "sort": sort, "root": house.root.name,
               "total": len(house.keys())}  # fmt: skip
    if is_fragment(request):
        return fragment(request, "home.html", "rows", **context)
    return answer(request, "home.html", **context)


def _matches(entry: Entry, words: str) -> bool:
    text = " ".join([entry.key, entry.name, entry.family, entry.state, *entry.models]).lower()
    return all(word in text for word in words.split())
