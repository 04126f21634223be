"""The fast lane: POSTs to one address, without what aiohttp's session does anew for each of them.

A session makes a URL, headers, a request, a task that writes the body, a timer and a response of
every call: two thirds of its CPU. Here the head is made once; connections, TLS, the pool and the
parser stay aiohttp's. This uses parts of aiohttp that it does not document, so only of versions it
was tested with: with others, behind a proxy, and for redirects, the session is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from peira.subjects.wire.client import CONNECT_SECONDS, Answer, HttpClient, misfortune, proxy_of

if TYPE_CHECKING:
    import aiohttp

TESTED = "3.14."  # version of aiohttp
READ_BUFFER = 1 << 16
LENGTH = "Content-Length"
SWITCHED = 101  # the last HTTP of its connection: no other answer follows


class Lane:
    """Where a wire posts its calls."""

    def __init__(self, client: HttpClient, url: str, headers: Mapping[str, str]) -> None:
        self.client = client
        self.url = url
        self.headers = headers
        self._session: aiohttp.ClientSession | None = None
        self._request: aiohttp.ClientRequest | None = None
        self._head = b""

    async def post(self, body: bytes, timeout: float) -> Answer:
        """One exchange, as `HttpClient.send`."""
        session = self.client.session
        if session is not self._session:
            self._prepare(session)
        if self._request is not None:
            answer = await self._exchange(session, self._request, body, timeout)
            if not 300 <= answer.status < 400:
                return answer
        return await self.client.send(
            "POST", self.url, headers=self.headers, data=body, timeout=timeout
        )

    def _prepare(self, session: aiohttp.ClientSession) -> None:
        self._session, self._request = session, None
        with suppress(ValueError):  # the session says what is wrong with the address
            self._make_head(session)

    def _make_head(self, session: aiohttp.ClientSession) -> None:
        import aiohttp
        from yarl import URL

        if not aiohttp.__version__.startswith(TESTED) or proxy_of(self.url) is not None:
            return
        url = URL(self.url)
        if url.scheme not in ("http", "https") or not url.host or url.user or url.password:
            return  # so it does with these
        headers = session.headers.copy()
        headers.update(self.headers)
        loop = asyncio.get_running_loop()
        request = aiohttp.ClientRequest("POST", url, headers=headers, loop=loop, session=session)
        lines = [f"{name}: {value}" for name, value in request.headers.items()
                 if name.lower() != LENGTH.lower()]  # fmt: skip
        if any(sign in line for line in lines for sign in "\r\n\0"):
            return
        head = [f"POST {url.raw_path_qs} HTTP/1.1", *lines, f"{LENGTH}: "]
        self._head, self._request = "\r\n".join(head).encode(), request

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Any, body: bytes, timeout: float
    ) -> Answer:
        import aiohttp
        from aiohttp.http import HttpProcessingError

        connector: Any = session.connector
        connection: Any = None
        try:
            async with asyncio.timeout(timeout):
                connection = await connector.connect(request, traces=[], timeout=_limits())
                answer = await self._talk(connection.protocol, body)
            connection.release()
            return answer
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            sent = connection is not None
            raise misfortune(self.url, timeout, error, sent=sent) from error
        finally:
            if connection is not None:
                connection.close()  # nothing, once released

    async def _talk(self, protocol: Any, body: bytes) -> Answer:
        protocol.set_response_params(read_until_eof=True, read_bufsize=READ_BUFFER)
        transport = protocol.transport
        transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != SWITCHED:
            message, payload = await protocol.read()
        read = await payload.read()
        if transport.get_write_buffer_size():
            protocol.force_close()  # it answered before it had heard us out
        return Answer(message.code, message.headers, read)


@lru_cache(maxsize=1)
def _limits() -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
