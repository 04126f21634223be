"""Messages between the driver and a worker over one socket.

A frame is a length and a pickled list of messages; what is sent in one turn of the event loop goes
out together. Invariants: sending never blocks, so two ends cannot wait for each other; nothing is
unpickled from a peer that has not shown the token it was given.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
import socket
import struct
from collections.abc import Callable
from typing import Any

HEAD = struct.Struct("!Q")
TOKEN = 32  # bytes


def new_token() -> bytes:
    """What a worker shows to be let in."""
    return secrets.token_bytes(TOKEN)


class Channel(asyncio.Protocol):
    """One end. `on_message` gets each message in order; `on_lost` is called once, at the end.

    With `admit`, the peer's first bytes are a token; `admit(channel, token)` says whether it may go
    on (and may set `on_message` and `on_lost`)."""

    def __init__(
        self,
        on_message: Callable[[Any], None] = lambda message: None,
        on_lost: Callable[[], None] = lambda: None,
        admit: Callable[[Channel, bytes], bool] | None = None,
    ) -> None:
        self.on_message = on_message
        self.on_lost = on_lost
        self._admit = admit
        self.greeting = b""  # what a peer wants to see before the first frame
        self.transport: Any = None
        self._incoming = bytearray()
        self._outgoing: list[Any] = []

    def send(self, *message: Any) -> None:
        """Queue a message. After the channel is lost it goes nowhere: `on_lost` has told."""
        self._outgoing.append(message)
        if len(self._outgoing) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def close(self) -> None:
        """Send what is queued, then close."""
        self._flush()
        if self.transport is not None:
            self.transport.close()

    def _flush(self) -> None:
        if self.transport is None:
            return
        messages, self._outgoing = self._outgoing, []
        if messages and not self.transport.is_closing():
            data = pickle.dumps(messages, protocol=5)
            self.transport.write(HEAD.pack(len(data)) + data)

    # -- asyncio.Protocol -------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self.greeting)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._incoming += data
        if self._admit is not None and not self._admitted():
            return
        while (frame := self._frame()) is not None:
            for message in pickle.loads(frame):
                self.on_message(message)

    def connection_lost(self, error: Exception | None) -> None:
        self.on_lost()

    def _admitted(self) -> bool:
        if len(self._incoming) < TOKEN:
            return False
        token = bytes(self._incoming[:TOKEN])
        del self._incoming[:TOKEN]
        admit, self._admit = self._admit, None
        if admit is None or not admit(self, token):
            self._incoming.clear()
            self._admit = lambda channel, token: False
            self.transport.abort()
            return False
        return True

    def _frame(self) -> bytes | None:
        if len(self._incoming) < HEAD.size:
            return None
        (length,) = HEAD.unpack_from(self._incoming)
        end = HEAD.size + length
        if len(self._incoming) < end:
            return None
        frame = bytes(self._incoming[HEAD.size : end])
        del self._incoming[:end]
        return frame


async def over(sock: socket.socket, channel: Channel) -> None:
    """Run a channel over a connected Unix socket."""
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)


async def dial(host: str, port: int, token: bytes, channel: Channel) -> None:
    """Connect a channel to a driver that listens, showing the token."""
    channel.greeting = token
    await asyncio.get_running_loop().create_connection(lambda: channel, host, port)
