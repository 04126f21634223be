"""What happens while one looks: server-sent events that tell a page when to fetch a part again.

An event carries no data but its name, so a page is right after any reconnection. Invariant: a look
is one short read of a heartbeat or a file's times, at most once a second; the run never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable

from starlette.requests import Request
from starlette.responses import StreamingResponse

from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.web.desk import Mailbox
from peira.web.house import House, stamp

LOOK_EVERY = 1.0  # seconds between looks
SLOWLY = 8  # looks between two `slow` events, for parts that take longer to make


def home_events(request: Request) -> StreamingResponse:
    """`changed` whenever any run below the directory does."""
    house: House = request.app.state.house
    return _stream(watch(house_state(house), request.app.state.closing))


def run_events(request: Request) -> StreamingResponse:
    """`changed` with every step of a run, `slow` now and then, `desk` for a person's questions: at
    once where they are not those that the page knew (`desk=…` in the address)."""
    house: House = request.app.state.house
    look, known = (
        run_state(house.find(request.path_params["key"])),
        request.query_params.get("desk"),
    )
    return _stream(watch(look, request.app.state.closing, known))


def house_state(house: House) -> Callable[[], tuple[Hashable, Hashable]]:
    """What to compare for the first page."""
    return lambda: (tuple(house.stamps().items()), None)


def run_state(run: RunDir) -> Callable[[], tuple[Hashable, Hashable]]:
    """What to compare for a run: its heartbeat while it is driven, its file's times otherwise."""

    def look() -> tuple[Hashable, Hashable]:
        with RunView(run) as view:
            live = view.live
        driven = run.driven(live)
        beat = (live["done"], live["failed"], live["halted"], live["in_flight"], live["spent_usd"],
                tuple((each["trial"], each["at"]) for each in live["active"])) if driven else stamp(run.path)  # fmt: skip
        return (beat, driven), Mailbox(run.path).stamp

    return look


async def watch(
    look: Callable[[], tuple[Hashable, Hashable]],
    closing: Callable[[], bool],
    known: str | None = None,
) -> AsyncIterator[str]:
    """Event names, for as long as somebody listens and the view is open."""
    seen, asked = await asyncio.to_thread(look)
    told, rounds = seen, 0
    yield "hello"
    if known not in (None, str(asked)):
        yield "desk"
    while not closing():
        await asyncio.sleep(LOOK_EVERY)
        now, questions = await asyncio.to_thread(look)
        rounds += 1
        if now != seen:
            seen = now
            yield "changed"
        if rounds % SLOWLY == 0 and seen != told:
            told = seen
            yield "slow"
        if questions != asked:
            asked = questions
            yield "desk"
        elif rounds % 15 == 0:
            yield ""  # a comment line: it keeps the connection, and notices when it is gone


def _stream(events: AsyncIterator[str]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async for name in events:
            yield f"event: {name}\ndata: .\n\n" if name else ": still here\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
