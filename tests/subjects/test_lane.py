"""The fast lane and aiohttp's session, over the same scripted servers: what one says, the other says."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from peira.errors import PeiraError, TransientError
from peira.subjects.wire import lane as lanes
from peira.subjects.wire.client import HttpClient
from peira.subjects.wire.lane import Lane

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer secret"}


@dataclass
class Script:
    """A server that answers each request with the next of `answers`; None closes the connection."""

    answers: list[bytes | None]
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    deaf: bool = False  # answers without listening to the body
    connections: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[Any] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        try:
            while (answer := await self._next(reader)) is not None:
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer or b"torn" in answer:
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> bytes | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
        self.seen.append((head, b"" if self.deaf else await reader.readexactly(length)))
        self.heard.set()
        return self.answers.pop(0) if self.answers else await asyncio.Event().wait()


@pytest.fixture(params=["fast", "session"])
def post(request, monkeypatch) -> Callable[..., object]:
    """Runs a conversation with a scripted server over one of the two ways."""
    if request.param == "session":
        monkeypatch.setattr(lanes, "TESTED", "none")

    @asynccontextmanager
    async def talking(script: Script) -> AsyncIterator[Lane]:
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        client = HttpClient()
        port = server.sockets[0].getsockname()[1]
        try:
            yield Lane(client, f"http://127.0.0.1:{port}/v1/chat?x=1", HEADERS)
        finally:
            await client.close()
            server.close()
            for task in script.tasks:
                task.cancel()
            await asyncio.gather(*script.tasks, return_exceptions=True)

    return talking


async def test_calls_share_a_connection_and_say_all_that_is_needed(post) -> None:
    script = Script([OK, OK])
    async with post(script) as lane:
        for body in (b"{}", b'{"a":1}'):
            answer = await lane.post(body, 10)
            assert (answer.status, answer.body) == (200, b"ok")
    assert script.connections == 1 and [body for _, body in script.seen] == [b"{}", b'{"a":1}']
    for head, _ in script.seen:
        lines = head.split("\r\n")
        assert lines[0] == "POST /v1/chat?x=1 HTTP/1.1"
        assert "Authorization: Bearer secret" in lines and "User-Agent: peira" in lines
        assert sum(line.startswith("Host: 127.0.0.1:") for line in lines) == 1


@pytest.mark.parametrize("post", ["fast"], indirect=True)
async def test_the_length_is_said_once_whatever_a_study_says_of_it(post) -> None:
    script = Script([OK])
    async with post(script) as lane:
        stated = Lane(lane.client, lane.url, HEADERS | {"content-length": "7"})
        assert (await stated.post(b"{}", 10)).body == b"ok"
    assert script.seen[0][0].lower().count("content-length") == 1 and script.seen[0][1] == b"{}"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
         % (len(gzip.compress(b"ok" * 99, mtime=0)), gzip.compress(b"ok" * 99, mtime=0)), b"ok" * 99),
    ],
    ids=["continue", "chunked", "closing", "refused", "gzip"],
)  # fmt: skip
async def test_answers_of_every_form_are_read_and_the_next_call_goes_through(
    post, answer, body
) -> None:
    async with post(Script([answer, OK])) as lane:
        assert (await lane.post(b"{}", 10)).body == body
        assert (await lane.post(b"{}", 10)).body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntorn",
        b"torn: this is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ntorn",
    ],
    ids=["dropped", "half", "no http", "bad chunk"],
)
async def test_an_answer_that_does_not_arrive_whole_is_lost(post, answer) -> None:
    async with post(Script([answer, OK])) as lane:
        with pytest.raises(TransientError, match="connection broken") as caught:
            await lane.post(b"{}", 10)
        assert caught.value.lost
        assert (await lane.post(b"{}", 10)).body == b"ok"


async def test_what_is_no_http_is_told_in_one_line(post) -> None:
    async with post(Script([b"torn: this is no HTTP\r\n\r\n"])) as lane:
        with pytest.raises(TransientError) as caught:
            await lane.post(b"{}", 10)
    assert str(caught.value).startswith("connection broken: Bad status line: Expected HTTP/")
    assert "\n" not in str(caught.value)


async def test_after_a_switch_of_protocols_no_answer_is_waited_for(post) -> None:
    switch = b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    script = Script([switch, OK])
    async with post(script) as lane:
        assert (await lane.post(b"{}", 10)).status == 101
        assert (await lane.post(b"{}", 10)).body == b"ok"
    assert script.connections == 2


async def test_a_connection_that_is_not_made_in_time_was_asked_nothing(post, monkeypatch) -> None:
    async with post(Script([])) as lane:

        async def too_long(*_: Any) -> None:
            raise TimeoutError

        monkeypatch.setattr(lane.client.session.connector, "_create_connection", too_long)
        with pytest.raises(TransientError, match=r"^cannot connect to \S+ in time$") as caught:
            await lane.post(b"{}", 600)
        assert not caught.value.lost


async def test_a_certificate_that_nobody_vouches_for_may_be_mended(post, monkeypatch) -> None:
    from ssl import SSLCertVerificationError

    from aiohttp import ClientConnectorCertificateError

    async with post(Script([])) as lane:

        async def refuse(request: Any, *_: Any) -> None:
            fault = SSLCertVerificationError(1, "self-signed certificate")
            raise ClientConnectorCertificateError(request.connection_key, fault)

        monkeypatch.setattr(lane.client.session.connector, "_create_connection", refuse)
        with pytest.raises(TransientError, match=r"cannot connect to .*self-signed") as caught:
            await lane.post(b"{}", 10)
        assert not caught.value.lost


async def test_silence_is_lost_after_the_timeout_and_a_call_may_be_cancelled(post) -> None:
    script = Script([OK])
    async with post(script) as lane:
        await lane.post(b"{}", 10)
        with pytest.raises(TransientError, match=r"timed out after 0.01 s") as caught:
            await lane.post(b"{}", 0.01)
        assert caught.value.lost and isinstance(caught.value.__cause__, TimeoutError)
        script.heard.clear()
        call = asyncio.create_task(lane.post(b"{}", 10))
        await script.heard.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_server_that_is_not_there_was_asked_nothing(post) -> None:
    async with post(Script([])) as lane:
        nowhere = Lane(lane.client, "http://127.0.0.1:9/v1", HEADERS)
        with pytest.raises(TransientError, match=r"cannot connect to 127\.0\.0\.1:9: ") as caught:
            await nowhere.post(b"{}", 10)
        assert not caught.value.lost


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url", "not a usable address"),
        ("ftp://127.0.0.1/v1", "not a usable address"),
        ("http://[::1/v1", "not a usable address"),
        ("http://127.0.0.1:port/v1", "not a usable address"),
        (f"http://{'a' * 70}.test/v1", "not a usable address"),
        (
            "http://user:secret@127.0.0.1:9/v1",
            r"cannot connect to 127\.0\.0\.1:9: Connection refused",
        ),
    ],
)
async def test_a_wrong_address_is_told_without_what_is_secret_in_it(post, url, words) -> None:
    async with post(Script([])) as lane:
        with pytest.raises(PeiraError, match=words):
            await Lane(lane.client, url, {}).post(b"{}", 10)


async def test_a_redirect_is_followed(post) -> None:
    there = b"HTTP/1.1 307 Over there\r\nLocation: /v2/chat\r\nContent-Length: 0\r\n\r\n"
    script = Script([there, there, OK])
    async with post(script) as lane:
        assert (await lane.post(b"{}", 10)).body == b"ok"
    assert script.seen[-1][0].startswith("POST /v2/chat") and script.seen[-1][1] == b"{}"


@pytest.mark.parametrize("post", ["fast"], indirect=True)
async def test_a_connection_whose_server_did_not_hear_us_out_is_not_used_again(post) -> None:
    full = b"HTTP/1.1 413 Enough\r\nContent-Length: 2\r\n\r\nno"
    script = Script([full, OK], deaf=True)
    async with post(script) as lane:
        assert (await lane.post(b"x" * (16 << 20), 10)).status == 413
        assert (await lane.post(b"", 10)).body == b"ok"
    assert script.connections == 2
