"""The view as an application: its pages, and what every page gets.

Server-rendered pages (starlette, jinja2) that htmx brings to life: parts are fetched again when the
run says over server-sent events that something happened. Invariant: every route is behind `Guard`,
every handler reads only, except the desk's POST, and every text is escaped by the templates.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from peira.errors import InputError, PeiraError
from peira.web import compare, home, live, run, seats, shown, trial, trials
from peira.web.guard import Door, Guard
from peira.web.house import House, NoSuchRun
from peira.web.page import Memo, Pages

HERE = Path(__file__).parent


def make_app(root: Path, door: Door) -> Guard:
    """The guarded application over one directory."""
    app = Starlette(routes=_routes(), exception_handlers=_handlers())
    app.state.house = House(root)
    app.state.pages = Pages(HERE / "templates")
    app.state.memo = Memo()
    guard = Guard(app, door)
    app.state.closing = lambda: guard.closing()
    return guard


def _routes() -> list[Route | Mount]:
    return [
        Route("/", home.page),
        Route("/events", live.home_events),
        Route("/events/{key:path}", live.run_events),
        Route("/run/{key:path}", run.page),
        Route("/part/{part}/{key:path}", run.part),
        Route("/trials/{key:path}", trials.page),
        Route("/trial/{number:int}/{key:path}", trial.page),
        Route("/prompt/{number:int}/{event:int}/{key:path}", trial.prompt),
        Route("/figures/{key:path}", shown.figures),
        Route("/figure/{key:path}", shown.figure),
        Route("/plotly.js", shown.plotly),
        Route("/report/{key:path}", shown.report),
        Route("/study/{key:path}", shown.study),
        Route("/compare", compare.page),
        Route("/desk/{key:path}", seats.page, methods=["GET"]),
        Route("/desk/{key:path}", seats.answer_post, methods=["POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]


def _handlers() -> dict[Any, Callable[..., Response]]:
    return {NoSuchRun: _missing, PeiraError: _broken, HTTPException: _http, Exception: _bug}


def _message(request: Request, status: int, title: str, text: str) -> Response:
    pages: Pages = request.app.state.pages
    body = pages.render("message.html", request, title=title, text=text)
    return HTMLResponse(body, status_code=status)


def _missing(request: Request, error: Exception) -> Response:
    return _message(request, 404, "Not here", str(error))


def _broken(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, InputError) else 500
    return _message(request, status, "This cannot be shown", str(error))


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _message(request, status, "Not here", "There is no such page.")


def _bug(request: Request, error: Exception) -> Response:
    """A fault of ours; the traceback goes to the terminal, not to the page."""
    return _message(request, 500, "A fault in the view", type(error).__name__)
