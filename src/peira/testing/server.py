"""The fault server: aiohttp on the loopback, in a thread of its own.

Invariant: it binds to this machine only, and its log keeps hashes of requests, never their keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from aiohttp import web

from peira.testing.asked import (
    Answerer,
    Asked,
    Entry,
    Said,
    answer_body,
    error_body,
    plain_answer,
    read_anthropic,
    read_google,
    read_openai,
    read_responses,
)
from peira.testing.faults import Faults

HOST = "127.0.0.1"
JSON = "application/json"


class FaultServer:
    """A provider with stated misfortunes. `answer` makes the text; `on_request` sees every request
    before it is handled, `on_answer` every batch request after (tests kill their victims there)."""

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        answer: Answerer = plain_answer,
        on_request: Callable[[str], None] | None = None,
        on_answer: Callable[[str], None] | None = None,
        port: int = 0,
    ) -> None:
        self.faults = faults or Faults()
        self.answer = answer
        self.on_request = on_request
        self.on_answer = on_answer
        self.port = port
        self.log: list[Entry] = []
        self.in_flight = self.peak = 0
        self.attempts: Counter[str] = Counter()
        from peira.testing.jobs import Jobs

        self.jobs = Jobs(self)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Without the /v1 that the OpenAI and Anthropic dialects add."""
        return f"http://{HOST}:{self.port}"

    def answered(self) -> list[Entry]:
        """Calls that were answered in full."""
        return [entry for entry in self.log if entry.status == 200 and entry.fault in ("", "drip")]

    # -- running ------------------------------------------------------------------------------
    @contextlib.contextmanager
    def running(self) -> Iterator[FaultServer]:
        """Serve from a thread until the block ends."""
        started = threading.Event()
        thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        thread.start()
        started.wait(10)
        try:
            yield self
        finally:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)

    def _serve(self, started: threading.Event) -> None:
        self._loop = loop = asyncio.new_event_loop()
        runner = loop.run_until_complete(self.start())
        started.set()
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(runner.cleanup())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def start(self) -> web.AppRunner:
        """Serve on the running loop; the runner's `cleanup` ends it."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, HOST, self.port, backlog=2048)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    # -- handling -----------------------------------------------------------------------------
    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if self.on_request is not None:
            self.on_request(f"{request.method} {path}")
        if request.method == "GET" and path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": "any", "object": "model"}]})
        if (job := await self.jobs.handle(request)) is not None:
            if self.on_answer is not None:
                self.on_answer(f"{request.method} {path}")
            return job
        body = await request.read()
        try:
            asked = self._read(path, orjson.loads(body))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            return self._error("openai", 400, f"not a request of any dialect: {error!r}", path)
        if asked is None:
            return self._error("openai", 404, f"no such path: {path}", path)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return await self._call(request, asked)
        finally:
            self.in_flight -= 1

    def _read(self, path: str, data: Any) -> Asked | None:
        if path.endswith("/chat/completions"):
            return read_openai(data)
        if path.endswith("/responses"):
            return read_responses(data)
        if path.endswith("/messages"):
            return read_anthropic(data)
        if path.endswith(":generateContent"):
            return read_google(data, path.rpartition("/")[2].removesuffix(":generateContent"))
        return None

    async def _call(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        digest = asked.digest
        self.attempts[digest] += 1
        attempt = self.attempts[digest]
        faults = self.faults
        fault = faults.fault(digest, attempt)
        if delay := faults.delay(digest, attempt):
            await asyncio.sleep(delay)
        if faults.status and len(self.log) + 1 >= faults.status_from:
            return self._stated(request, asked, attempt)
        if fault in ("wait", "busy", "error", "unavailable"):
            return self._refused(asked, attempt, fault)
        body = json.dumps(answer_body(asked, self.say(asked))).encode()  # carries lone surrogates
        self._note(request.path, digest, attempt, fault, 200)
        return await self._send(request, body, fault)

    def say(self, asked: Asked) -> Said:
        """The deterministic reply to a request."""
        text, finish = self.answer(asked), self.faults.finish(asked.digest)
        if finish == "refusal":
            text = "I can't help with that."
        elif finish == "length":
            text = text[: len(text) // 2]
        return Said(text, finish, len(text) // 4 + 1)

    def _stated(self, request: web.Request, asked: Asked, attempt: int) -> web.StreamResponse:
        """Always the same status; its message may echo the caller's key, as some servers do."""
        key = request.headers.get("Authorization") or request.headers.get("x-api-key") or ""
        message = (self.faults.message or "as asked").replace("{key}", key)
        status = self.faults.status
        self._note(request.path, asked.digest, attempt, "stated", status)
        return web.json_response(error_body(asked.dialect, status, message), status=status)

    def _refused(self, asked: Asked, attempt: int, fault: str) -> web.StreamResponse:
        status = {"wait": 429, "busy": 429, "error": 500, "unavailable": 503}[fault]
        headers = {"Retry-After": str(self.faults.retry_after)} if fault == "wait" else {}
        self._note("", asked.digest, attempt, fault, status)
        body = error_body(asked.dialect, status, f"injected: {fault}")
        return web.json_response(body, status=status, headers=headers)

    async def _send(self, request: web.Request, body: bytes, fault: str) -> web.StreamResponse:
        if fault == "drop":
            _hang_up(request)
        if fault == "garbled":
            body = body[: len(body) // 2] + b"\xff{"
        if fault == "html":
            return web.Response(body=b"<html>upstream</html>", content_type="text/html")
        if fault not in ("half", "drip"):
            return web.Response(body=body, content_type=JSON)
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.content_length = len(body)
        await response.prepare(request)
        if fault == "half":
            await response.write(body[: len(body) // 2])
            _hang_up(request)
            return response
        step = max(1, len(body) // 8)
        for start in range(0, len(body), step):
            await response.write(body[start : start + step])
            await asyncio.sleep(self.faults.drip)
        return response

    def _error(self, dialect: str, status: int, message: str, path: str) -> web.Response:
        self._note(path, "", 0, "stated", status)
        return web.json_response(error_body(dialect, status, message), status=status)

    def _note(self, path: str, digest: str, attempt: int, fault: str, status: int) -> None:
        n = len(self.log) + 1
        self.log.append(Entry(n, time.time(), path, digest, attempt, fault, status))


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
