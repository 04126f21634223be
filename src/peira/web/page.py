"""What all pages share: templates, their filters, and a small memory for parts that take long.

Invariant: autoescape is on everywhere; a remembered part is used only while run.db is unchanged.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from peira import __version__
from peira.report import tables
from peira.store.records import RunView
from peira.web import charts
from peira.web.house import House
from peira.web.queries import named

T = TypeVar("T")


def inert(value: Any) -> Any:
    """A text from outside, unable to disturb the text around it; escaping comes after."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return tables.harmless(value)
    return value


class Pages:
    """The templates."""

    def __init__(self, folder: Path) -> None:
        self.environment = Environment(
            loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False, finalize=inert,
        )  # fmt: skip
        self.environment.filters |= {
            "table": lambda table: Markup(tables.to_html(table)), "ago": ago, "usd": usd,
            "count": lambda value: f"{value:,}", "span": span, "shown": shown, "level": named, "clock": clock, "quoted": quote,
        }  # fmt: skip
        self.environment.globals |= {
            "url": address, "progress": charts.progress, "version": __version__,
        }  # fmt: skip

        self.environment.globals["parts"] = self.environment.get_template("parts.html").module

    def render(self, name: str, request: Request, /, **context: Any) -> str:
        """A page as text."""
        return self.environment.get_template(name).render(path=request.url.path, **context)

    def block(self, name: str, block: str, /, **context: Any) -> str:
        """One block of a template alone: what htmx puts into a page."""
        template = self.environment.get_template(name)
        return "".join(template.blocks[block](template.new_context(context)))


class Memo:
    """Remembers parts by name and by what they were made from."""

    def __init__(self, size: int = 256) -> None:
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        self._size = size
        self._lock = threading.Lock()

    def get(self, name: Hashable, stamp: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave for this stamp, made now if it was not yet."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and kept[0] == stamp:
                self._kept.move_to_end(name)
                value: T = kept[1]
                return value
        value = make()
        with self._lock:
            self._kept[name] = (stamp, value)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value


def answer(request: Request, template: str, /, **context: Any) -> HTMLResponse:
    """A whole page."""
    pages: Pages = request.app.state.pages
    return HTMLResponse(pages.render(template, request, **context))


def fragment(request: Request, template: str, block: str, /, **context: Any) -> HTMLResponse:
    """One block of a page."""
    pages: Pages = request.app.state.pages
    return HTMLResponse(pages.block(template, block, **context))


def opened(request: Request) -> tuple[str, RunView]:
    """The run a request names. Raises NoSuchRun. The caller closes it."""
    house: House = request.app.state.house
    key = request.path_params["key"]
    return key, RunView(house.find(key))


def is_fragment(request: Request) -> bool:
    """True if htmx asks for a part of the page it shows."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


# -- words ------------------------------------------------------------------------------------
def address(page: str, key: str = "", /, **query: Any) -> str:
    """The address of a page, with what is empty left out of its query."""
    kept = {name: value for name, value in query.items() if value not in ("", None, False)}
    path = f"/{page}/{quote(key)}" if key else f"/{page}"
    return path + (f"?{urlencode(kept, doseq=True)}" if kept else "")


def usd(value: float | None) -> str:
    """Money, with as many places as it needs."""
    if value is None:
        return ""
    return f"${value:,.2f}" if value >= 100 or value == 0 else f"${value:,.4f}"


def span(seconds: float | None) -> str:
    """A length of time as people say it."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ago(when: float | None) -> str:
    """How long ago."""
    if not when:
        return "never"
    seconds = max(0.0, time.time() - when)
    return f"{span(seconds)} ago" if seconds >= 5 else "just now"


def clock(when: float | None) -> str:
    """A time of day, UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when)) if when else ""


def shown(value: Any) -> str:
    """Any plain value as a short text."""
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return tables.number(value)
    return str(value)
