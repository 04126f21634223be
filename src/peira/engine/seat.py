"""A subject in a seat: the layers around every call, in this order.

ledger (answer from the record if this exact call was already paid for) → pace (limits, retries) →
budget and intent (the worst case reserved and on disk, settled by the real cost) → wire. A free subject goes straight to its
wire; its replies are stored with the trial's result.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from peira.engine.batches import desk_of
from peira.engine.ledger import RUN_SCOPE, Purchase, pack, request_hash, storable
from peira.engine.states import Cause
from peira.errors import (
    InputError,
    ProviderFailure,
    ProviderStop,
    RateLimited,
    RunHalted,
    SubjectError,
    TransientError,
    TrialFailed,
    TrialHalted,
)
from peira.study.seeds import derive
from peira.subjects.route import Route
from peira.subjects.subject import Message, Reply, Request, Sampling

if TYPE_CHECKING:
    from peira.engine.lab import Lab

DEFAULT_SAMPLING = Sampling()
UNPACED_WAITS = 1000  # refusals that a call without a pace (a simulated one) puts up with


@contextlib.contextmanager
def bad_input() -> Iterator[None]:
    """What only a trial could tell of the study's faults stops the run: it is no trial's failure."""
    try:
        yield
    except InputError as error:
        raise RunHalted(Cause.INPUT, str(error)) from error


class Seat:
    """A subject in a seat of one trial. Implements `Subject`."""

    def __init__(self, lab: Lab, route: Route, seat: str, scope: Literal["trial", "run"]) -> None:
        self.lab = lab
        self.route = route
        self.seat = seat
        self.scope = scope
        self.name = route.name
        self.simulated = route.simulated
        self.served: str = ""
        self.calls = self.tokens_in = self.tokens_out = 0
        self._counts: dict[str, int] = {}

    async def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        observation: Any = None,
        *,
        label: str = "call",
        key: str | None = None,
        record: bool = True,
    ) -> Reply:
        """Ask once, through all layers. See `Subject.reply`."""
        request, key = self._request(messages, sampling, observation, label, key)
        self.lab.bench.ledger.check()
        digest = request_hash(request.model, request.messages, request.sampling)
        shared = self.scope == "run"
        if shared:
            reply = await self._shared(request, key, digest)
        else:
            reply = self.lab.task.memory.recall(key, digest) or await self._obtain(
                request, key, digest, self.lab.task.number
            )
        self.lab.last_key = key
        self.served = reply.served_model
        self._note(request, reply, record)
        return reply

    async def recall(
        self, messages: Sequence[Message], sampling: Sampling | None = None, *, key: str
    ) -> Reply | None:
        """What the run already has under a content key. See `Subject.recall`."""
        sampling = self.route.sampled(sampling or DEFAULT_SAMPLING)
        digest = request_hash(self.route.model, messages, sampling)
        bench = self.lab.bench
        known = await bench.ledger.recall_shared(key, digest)
        if known is None and bench.sharing.pending(key) is None:
            bench.sharing.give_back(key)
        return known

    def _request(
        self, messages: Sequence[Message], sampling: Sampling | None, observation: Any,
        label: str, key: str | None,
    ) -> tuple[Request, str]:  # fmt: skip
        n = self._counts.get(label, 0)
        self._counts[label] = n + 1
        with bad_input():
            sampling = self.route.sampled(sampling or DEFAULT_SAMPLING)
        name = key or f"{self.seat}|{label}|{n}"
        shared = self.scope == "run"
        seed = derive(name) if shared else derive(self.lab.seed, f"{self.lab.stream}{name}")
        seen = observation if self.simulated else None
        return Request(self.route.model, tuple(messages), sampling, seen, seed, label, n), name

    # -- run scope: one purchase for all who ask the same ------------------------------------
    async def _shared(self, request: Request, key: str, digest: bytes) -> Reply:
        bench = self.lab.bench
        while True:
            if (known := await bench.ledger.recall_shared(key, digest)) is not None:
                return known
            if (pending := bench.sharing.pending(key)) is None:
                return await self._lead(request, key, digest)
            try:
                return replace(await asyncio.shield(pending), source="ledger")
            except (asyncio.CancelledError, TrialHalted):
                # The trial that was buying it stopped for reasons of its own: buy it here.
                if not pending.done() or _cancelling():
                    raise

    async def _lead(self, request: Request, key: str, digest: bytes) -> Reply:
        """Buy for all who wait for this key."""
        sharing = self.lab.bench.sharing
        sharing.begin(key)
        reply: Reply | None = None
        error: BaseException | None = None
        try:
            reply = await self._obtain(request, key, digest, RUN_SCOPE)
            return reply
        except BaseException as caught:
            error = caught
            raise
        finally:
            sharing.end(key, reply, error)

    # -- buying -------------------------------------------------------------------------------
    async def _obtain(self, request: Request, key: str, digest: bytes, trial: int) -> Reply:
        if not self.route.durable:
            return await self._free(request, key, digest, trial)
        batch = self.route.batch
        price = self.route.price if batch is None else batch.price
        worst = price.worst(request) if price is not None else 0
        purchase = Purchase(trial, self.lab.task.number, key, digest, request.model, worst)
        if batch is not None:
            return await desk_of(self.lab.bench.ledger).buy(self.route, request, purchase)
        return await self._persist(request, purchase)

    async def _persist(self, request: Request, purchase: Purchase) -> Reply:
        """Buy, trying again after faults. Being asked to wait is no fault: where there is a pace,
        it decides how long that may go on."""
        faults = waits = 0
        while True:
            try:
                return await self._buy(request, purchase)
            except RateLimited as error:
                waits += 1
                if self.route.pace is None and waits > UNPACED_WAITS:
                    raise self._gave_up(error, waits) from error
                await self._wait(waits, error)
            except TransientError as error:
                faults += 1
                if faults > self.lab.bench.retries:
                    if self.route.pace is not None:
                        await self.route.pace.exhausted(error)
                    raise self._gave_up(error, faults) from error
                await self._wait(faults, error)

    def _gave_up(self, error: TransientError, tries: int) -> ProviderFailure:
        return ProviderFailure(f"{self.name}: {error} (gave up after {tries} tries)")

    async def _buy(self, request: Request, purchase: Purchase) -> Reply:
        """One attempt. Its place at the provider is given back with the answer, before that is on
        disk, so that as many calls are on the way as pace allows."""
        ledger, pace = self.lab.bench.ledger, self.route.pace
        ticket = await pace.admit(request) if pace is not None else None
        reply: Reply | None = None
        error: Exception | None = None
        try:
            intent = await ledger.open(purchase)
            try:
                reply = await self._send(request)
            except (SubjectError, InputError, TrialFailed) as caught:
                error = caught
                lost = isinstance(caught, TransientError) and caught.lost
                await (ledger.lose if lost else ledger.release)(intent, purchase)
                raise
            except BaseException:
                # Cancelled (timeout, Ctrl+C) or a fault of ours: it may have been charged.
                await ledger.lose(intent, purchase)
                raise
        except ProviderStop as stop:
            raise RunHalted("provider", f"{self.name}: {stop}") from stop
        finally:
            if pace is not None:
                pace.done(ticket, reply, error)
        await ledger.settle(intent, purchase, reply)
        return reply

    async def _send(self, request: Request) -> Reply:
        """One attempt, with what it cost and when it was asked."""
        asked, start = time.time(), time.perf_counter()
        reply = storable(await self.route.wire.send(request))
        seconds, price = time.perf_counter() - start, self.route.price
        cost = reply.cost if price is None else price.cost(reply, request)
        return reply.bought(asked, seconds, cost)

    async def _wait(self, attempt: int, error: TransientError) -> None:
        pace = self.route.pace
        delay = pace.delay(attempt, error) if pace is not None else 0.0
        await asyncio.sleep(delay)

    async def _free(self, request: Request, key: str, digest: bytes, trial: int) -> Reply:
        try:
            reply = storable(await self.route.wire.send(request))
        except TransientError as error:
            raise ProviderFailure(f"{self.name}: {error}") from error
        except ProviderStop as stop:
            raise RunHalted("provider", f"{self.name}: {stop}") from stop
        kept = (key, digest, request.model, pack(reply))
        if trial == RUN_SCOPE:
            self.lab.bench.ledger.keep(RUN_SCOPE, [kept])
        else:
            self.lab.keep(kept)
        return reply

    def _note(self, request: Request, reply: Reply, record: bool) -> None:
        usage = reply.usage
        self.tokens_in += usage.prompt_tokens
        self.tokens_out += usage.completion_tokens
        self.calls += 1
        if not record:
            return
        event: dict[str, Any] = {
            "n": len(self.lab.events), "kind": "call", "seat": self.seat, "label": request.label,
            "call": request.n, "model": self.name, "served_model": reply.served_model,
            "reply": reply.text, "reasoning": reply.reasoning, "finish": reply.finish,
            "usage": reply.usage, "cost": reply.cost, "seconds": reply.seconds,
            "asked_at": reply.asked_at, "request_id": reply.request_id, "messages": request.messages,
        }  # fmt: skip
        self.lab.events.append(event)


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
