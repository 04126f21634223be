"""One HTTP client for all wires: an exchange, and what the network did to it as one of our errors.

aiohttp: 0.2 ms of CPU a request, flat in the number of connections. Invariants: one attempt per
`send` (the engine retries); a request that may have been charged and whose answer did not arrive
whole is marked `lost`; no error text holds a key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from ssl import SSLError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from peira.errors import ProviderStop, SubjectError, TransientError
from peira.subjects.keys import scrub

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 15.0
EXCERPT = 400


class HttpClient:
    """The shared session, opened at first use inside the running loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """Unlimited connections: pace decides how many calls are in flight."""
        if self._closed:
            raise TransientError("the run is over: its connections are closed")
        if self._session is None or self._session.closed:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, ttl_dns_cache=300),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "peira"},
            )
        return self._session

    async def close(self) -> None:
        """For good: what still runs must not open another session behind the run's back."""
        self._closed = True
        if self._session is not None and not self._session.closed:
            await self._session.close()
        self._session = None

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], data: Any = None, timeout: float
    ) -> Answer:
        """One exchange, read to its last byte. Raises TransientError for anything the network
        does; `lost` unless it failed before the request went out."""
        import aiohttp

        try:
            response = await self.session.request(
                method,
                url,
                headers=headers,
                data=data,
                timeout=_limits(timeout),
                proxy=proxy_of(url),
            )
            try:
                return Answer(response.status, response.headers, await response.read())
            finally:
                response.release()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            out = not isinstance(error, aiohttp.ConnectionTimeoutError)
            raise misfortune(url, timeout, error, sent=out) from error


def misfortune(url: str, timeout: float, error: Exception, *, sent: bool) -> SubjectError:
    """What the network did, as our error; ProviderStop if the address cannot be used. `sent`: the
    request may have gone out."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorError):  # first: of a certificate, a ValueError too
        return TransientError(f"cannot connect to {_why(url, error)}")
    if isinstance(error, TimeoutError):
        words = (
            f"timed out after {timeout:g} s" if sent else f"cannot connect to {_host(url)} in time"
        )
        return TransientError(words, lost=sent)
    if isinstance(error, (ValueError, aiohttp.NonHttpUrlClientError)):
        return ProviderStop(f"not a usable address: {scrub(str(error))}")
    told = str(getattr(error, "message", error))  # a parser's, over several lines
    name = excerpt(" ".join(told.split())) or type(error).__name__
    return TransientError(f"connection broken: {name}", lost=sent)


def _why(url: str, error: OSError) -> str:
    """Host and reason, without aiohttp's own phrase around them."""
    found = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    number = 0 if isinstance(found, SSLError) else getattr(found, "errno", None) or 0
    reason = os.strerror(number) if number > 0 else getattr(found, "verify_message", str(found))
    return scrub(f"{_host(url)}: {reason}")


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


@lru_cache(maxsize=64)
def _limits(timeout: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_SECONDS, timeout))


@lru_cache(maxsize=64)
def proxy_of(url: str) -> str | None:
    """The proxy of the environment (HTTPS_PROXY, NO_PROXY). Once for each address: aiohttp's own
    `trust_env` looks it up in a thread at every call."""
    parts = urlsplit(url)
    proxies = getproxies()
    if not proxies or proxy_bypass(parts.hostname or ""):
        return None
    return proxies.get(parts.scheme)


def _loads(body: bytes) -> Any:
    """A body as JSON. A model may utter half of a surrogate pair, which only the standard library
    reads; the ledger replaces it. Raises ValueError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if b"\\u" not in body:
            raise
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Answer:
    """A whole HTTP answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body as JSON. Raises TransientError (lost: it was charged) if it is not."""
        try:
            return _loads(self.body)
        except ValueError as error:
            kind = self.headers.get("Content-Type", "no content type")
            raise TransientError(
                f"HTTP {self.status} with a body that is not JSON ({kind}): {self.excerpt()}",
                lost=self.status < 300,
            ) from error

    def excerpt(self) -> str:
        return excerpt(self.body[: 4 * EXCERPT].decode("utf-8", "replace"))


def excerpt(text: str) -> str:
    """The head of a text without keys: hidden first, cut then, so that no cut leaves half a key."""
    return scrub(text).strip()[:EXCERPT]
