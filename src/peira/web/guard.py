"""Who may ask, from where, and what a page may do: the view's whole safety in one place.

Every request needs the token (once in the address, then as a cookie of this server), a host name
that is ours, and no foreign page behind it; a change needs a POST from our own pages. Every answer
carries a policy that lets no page run or load anything but our own files. Invariant: GET changes
nothing, and no route is reached around this guard.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # no-referrer would make our own posts come from "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
COOKIE_DAYS = 30


@dataclass(frozen=True, slots=True)
class Door:
    """What opens the view: its token, the host names it answers to, its cookie's name."""

    token: str
    hosts: tuple[str, ...] = LOOPBACK
    cookie: str = "peira-view"

    def opens(self, word: str | None) -> bool:
        """True if `word` is the token; compared in constant time."""
        return word is not None and hmac.compare_digest(word.encode(), self.token.encode())

    def knows(self, host: str) -> bool:
        """True if a Host header names this server: another name is a rebinding attack."""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return "*" in self.hosts or name in self.hosts


class Guard:
    """ASGI middleware around the whole view. `closing` says when streams should come to an end."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door
        self.closing: Callable[[], bool] = lambda: False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self._refuse(scope)
        await (answer or self.app)(scope, receive, _hardened(send, time.perf_counter()))

    def _refuse(self, scope: Scope) -> Response | None:
        """The answer that ends a request here, or None to let it through."""
        headers = Headers(scope=scope)
        if not self.door.knows(headers.get("host", "")):
            return _no(421, "this server does not answer to that host name")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _no(405, "the view knows GET and POST only")
        given = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["method"] == "GET" and self.door.opens(given.get("token")):
            return self._welcome(scope, given)
        cookies = cookie_parser(headers.get("cookie", ""))
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if not (self.door.opens(cookies.get(self.door.cookie)) or self.door.opens(bearer)):
            return _no(403, "this page needs its token: open the address that `peira view` printed")
        if _foreign(scope["method"], headers):
            return _no(403, "refused: another page asked for this")
        return None

    def _welcome(self, scope: Scope, given: dict[str, str]) -> Response:
        """Keep the token as a cookie and take it out of the address."""
        given.pop("token")
        path = scope["path"] if scope["path"].startswith("/") else "/"
        where = "/" + path.lstrip("/") + (f"?{urlencode(given)}" if given else "")
        answer = RedirectResponse(where, status_code=303)
        answer.set_cookie(
            self.door.cookie, self.door.token, max_age=COOKIE_DAYS * 86400, httponly=True,
            samesite="strict", path="/",
        )  # fmt: skip
        return answer


def _foreign(method: str, headers: Headers) -> bool:
    """True if a page of another origin is behind a request. Plain navigation to a page is allowed:
    a GET changes nothing and our pages cannot be framed."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = origin is None or origin.split("://", 1)[-1] == headers.get("host", "")
    if method == "POST":
        return not own or (origin is None and site != "same-origin")
    if site in (None, "same-origin", "none"):
        return not own
    return headers.get("sec-fetch-dest") != "document"


def _no(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)


def _hardened(send: Send, began: float) -> Send:
    """`send` with our headers on every answer; one that sets its own policy keeps it."""

    async def harden(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            spent = 1000 * (time.perf_counter() - began)
            headers.setdefault("Server-Timing", f"page;dur={spent:.1f}")
        await send(message)

    return harden
