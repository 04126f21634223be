"""One provider's limits, shared by all trials of a run.

Adaptive concurrency (doubling per round trip at first, halved on a 429, then one more per round),
requests and tokens per minute (GCRA), pauses that push every waiter back (Retry-After), a circuit
breaker while a provider is down. Invariants: in no minute are more requests admitted than the limit,
nor more tokens than the limit and one request; after Retry-After nobody asks before its time; waiters are served in order. Times are in
seconds of the event loop's clock, so tests can run it under a clock of their own.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from peira.errors import Halt, RateLimited, RunHalted, SubjectError, TransientError
from peira.study.seeds import derive
from peira.subjects.subject import Reply, Request

BURST_SHARE = 0.05  # of a minute's limit may go at once; the steady rate makes room for it
GUESSED_OUTPUT = 256  # tokens assumed when a request states no maximum
LONGEST_BACKOFF = 60.0
LONGEST_PAUSE = 30.0  # between two tries whether a provider is back
CLOCK_STEP = 1e-6  # seconds; less is rounding, and a timer for it would never end


class PaceOptions(BaseModel):
    """A provider's limits. None: no limit known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    max_concurrency: int = Field(1024, ge=1, description="calls in flight, at most")
    start_concurrency: int = Field(16, ge=1, description="calls in flight to begin with")
    backoff: float = Field(0.5, gt=0, description="seconds before the first retry; doubles")
    patience: float = Field(600.0, gt=0, description="seconds of nothing but 429, then halt")
    outage: float = Field(120.0, gt=0, description="seconds with the circuit open, then halt")
    breaker: int = Field(20, ge=1, description="faults in a row that open the circuit")


LIMITS = PaceOptions.model_fields


@dataclass(slots=True)
class Bucket:
    """A generic cell rate limit: `per_minute` units in any minute, some of them at once."""

    per_minute: float
    due: float = 0.0  # when the bucket will be empty again

    @property
    def burst(self) -> float:
        return max(1.0, self.per_minute * BURST_SHARE)

    @property
    def rate(self) -> float:
        """Units a second; with the burst it never exceeds the limit in any minute."""
        steady = self.per_minute - self.burst if self.per_minute >= 2 else self.per_minute
        return steady / 60

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` fits; more than a burst waits for an empty bucket."""
        fill = max(self.due - now, 0.0) * self.rate
        wait = (fill + min(amount, self.burst) - self.burst) / self.rate
        return wait if wait > CLOCK_STEP else 0.0

    def take(self, now: float, amount: float) -> None:
        self.due = max(self.due, now) + amount / self.rate

    def settle(self, difference: float) -> None:
        """Correct an estimate by what was really used."""
        self.due += difference / self.rate


def _bucket(bucket: Bucket | None, per_minute: float | None) -> Bucket | None:
    """A bucket for the limit, as full as the one before it."""
    return Bucket(per_minute, bucket.due if bucket else 0.0) if per_minute else None


@dataclass(slots=True)
class Concurrency:
    """Calls in flight: doubles per round trip until the first 429, then additive."""

    limit: float
    ceiling: int
    in_flight: int = 0
    doubling: bool = True
    admitted: int = 0
    cut_at: int = 0

    @property
    def room(self) -> bool:
        return self.in_flight < int(self.limit)

    def enter(self) -> int:
        self.in_flight += 1
        self.admitted += 1
        return self.admitted

    def grow(self) -> None:
        """A success: raise the limit, but only while it is being used."""
        if self.in_flight * 2 >= self.limit:
            self.limit = min(self.ceiling, self.limit + (1.0 if self.doubling else 1 / self.limit))

    def cut(self, ticket: int, factor: float) -> None:
        """A 429 or overload: shrink once for all calls admitted before the last cut."""
        if ticket <= self.cut_at:
            return
        self.limit = max(1.0, min(self.limit, self.in_flight + 1) * factor)
        self.doubling = False
        self.cut_at = self.admitted


@dataclass(slots=True)
class Breaker:
    """Opens after `threshold` faults in a row; then one call at a time tries whether it is over."""

    threshold: int
    faults: int = 0
    opened: int = 0

    @property
    def open(self) -> bool:
        return self.opened > 0

    def fault(self) -> float:
        """Seconds to pause everybody, 0 while closed."""
        self.faults += 1
        if self.faults < self.threshold and not self.open:
            return 0.0
        self.opened += 1
        return float(min(LONGEST_PAUSE, 2.0**self.opened))

    def success(self) -> None:
        self.faults = self.opened = 0


@dataclass(slots=True)
class Ticket:
    """A place in flight. `tokens` is the estimate that `done` corrects."""

    number: int
    tokens: float


@dataclass(slots=True)
class _Waiter:
    future: asyncio.Future[Ticket]
    tokens: float


@dataclass(slots=True)
class Patience:
    """How long there has been nothing but faults."""

    since: float | None = None
    only_limits: bool = True

    def fault(self, now: float, error: TransientError) -> None:
        if self.since is None:
            self.since, self.only_limits = now, True
        self.only_limits = self.only_limits and isinstance(error, RateLimited)

    def over(self, now: float, seconds: float) -> bool:
        return self.since is not None and now - self.since >= seconds


class SharedPace:
    """Implements `Pace` for one provider and key."""

    def __init__(self, name: str, options: PaceOptions) -> None:
        self.name = name
        self.concurrency = Concurrency(float(options.start_concurrency), options.max_concurrency)
        self.breaker = Breaker(options.breaker)
        self.patience = Patience()
        self.request_bucket: Bucket | None = None
        self.token_bucket: Bucket | None = None
        self.limit(options)
        self.paused_until = 0.0
        self.paused_why = ""
        self.limits_in_a_row = 0
        self.answered = False
        self.dead: Halt | None = None
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._left: asyncio.Future[None] | None = None  # done when the next call ends
        self._jitter = random.Random(derive("pace", name))

    def tighten(self, options: PaceOptions) -> None:
        """What a further subject of this provider states holds too; of two limits the lower."""
        stated = [
            {name: getattr(each, name) for name in each.model_fields_set & LIMITS.keys()}
            for each in (self.options, options)
        ]
        for name in stated[0].keys() & stated[1].keys():
            values = [each[name] for each in stated if each[name] is not None]
            stated[1][name] = min(values, default=None)
        self.limit(PaceOptions(**stated[0] | stated[1]))

    def limit(self, options: PaceOptions) -> None:
        """Hold to these limits from now on."""
        self.options = options
        ceiling = self.concurrency.ceiling = options.max_concurrency
        self.concurrency.limit = min(self.concurrency.limit, float(ceiling))
        self.breaker.threshold = options.breaker
        self.request_bucket = _bucket(self.request_bucket, options.requests_per_minute)
        self.token_bucket = _bucket(self.token_bucket, options.tokens_per_minute)

    # -- the protocol -------------------------------------------------------------------------
    async def admit(self, request: Request) -> Ticket:
        """Wait for a place. Raises RunHalted once patience with the provider has run out."""
        if self.dead is not None:
            raise self.dead
        loop = asyncio.get_running_loop()
        now, tokens = loop.time(), self._estimate(request)
        if not self._waiters and self._delay(now, tokens) == 0.0:
            return self._enter(now, tokens)
        waiter = _Waiter(loop.create_future(), tokens)
        self._waiters.append(waiter)
        self._drain()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def done(self, ticket: Ticket, reply: Reply | None, error: BaseException | None) -> None:
        """Give the place back and learn from what happened."""
        self.concurrency.in_flight -= 1
        if self.token_bucket is not None:
            used = reply.usage.total_tokens if reply is not None else 0
            self.token_bucket.settle(used - ticket.tokens)
        if isinstance(error, TransientError):
            self._fault(asyncio.get_running_loop().time(), ticket, error)
        elif reply is not None or isinstance(error, SubjectError):
            self._success()
        if self._left is not None:
            self._left.set_result(None)
            self._left = None
        if self._waiters:
            self._drain()

    def delay(self, attempt: int, error: TransientError) -> float:
        """Seconds before this call's next try. Raises RunHalted when patience has run out."""
        if self.dead is not None:
            raise self.dead
        if isinstance(error, RateLimited):
            return 0.0  # the pause holds everybody, this call too
        return self._backoff(attempt)

    async def exhausted(self, error: TransientError) -> None:
        """A call is out of tries. Raises RunHalted if the provider has answered nobody so far, nor
        answers those on their way: that is its fault, not the call's, and the run is told once."""
        while self.dead is None and not self.answered:
            if self.concurrency.in_flight:
                self._left = self._left or asyncio.get_running_loop().create_future()
                await asyncio.shield(self._left)
            else:
                self._give_up(RunHalted("provider", f"{self.name} has answered nobody: {error}"))
        if self.dead is not None:
            raise self.dead

    def describe(self) -> str:
        """One line for the progress display."""
        text = f"{self.name} {self.concurrency.in_flight}/{int(self.concurrency.limit)} in flight"
        if self._waiters:
            text += f", {len(self._waiters)} waiting"
        left = self.paused_until - _now()
        return f"{text}, paused {left:.0f} s ({self.paused_why})" if left > 0 else text

    # -- learning -----------------------------------------------------------------------------
    def _success(self) -> None:
        self.answered = True
        self.limits_in_a_row = 0
        self.breaker.success()
        self.patience.since = None
        self.concurrency.grow()

    def _fault(self, now: float, ticket: Ticket, error: TransientError) -> None:
        self.patience.fault(now, error)
        if isinstance(error, RateLimited):
            self.concurrency.cut(ticket.number, 0.5)
            pause = self._limit_pause(error)
            self._pause(now + pause, "rate limit")
            self._judge(now, error, error.retry_after or 0.0)
            return
        if isinstance(error.__cause__, TimeoutError):
            self.concurrency.cut(ticket.number, 0.8)
        # Calls that were out when the circuit opened tell no more than the one that opened it.
        old = self.breaker.open and now < self.paused_until
        if not old and (pause := self.breaker.fault()) > 0:
            self._pause(now + pause, "provider down")
        self._judge(now, error)

    def _limit_pause(self, error: RateLimited) -> float:
        self.limits_in_a_row += 1
        if error.retry_after is not None:
            return error.retry_after
        # Several calls of one burst are refused together: that is one refusal, not many.
        rounds = 1 + self.limits_in_a_row // max(1, int(self.concurrency.limit))
        return self._backoff(min(rounds, 8))

    def _judge(self, now: float, error: TransientError, wait: float = 0.0) -> None:
        down = self.breaker.open and not isinstance(error, RateLimited)
        seconds = self.options.outage if down else self.options.patience
        if not self.patience.over(now + wait, seconds):
            return
        # Cause `provider` (exit 3), not `interrupted` (130): nobody pressed Ctrl+C.
        if self.patience.only_limits:
            lasting = f" for {seconds:g} s" if wait < seconds else ""
            words = f"rate_limit: {self.name} answered nothing but 429{lasting}"
            halt = RunHalted("provider", f"{words}: {error}")
        else:
            halt = RunHalted("provider", f"{self.name} has been down for {seconds:g} s: {error}")
        self._give_up(halt)

    def _give_up(self, halt: Halt) -> None:
        self.dead = halt
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.future.done():
                waiter.future.set_exception(halt)

    def _backoff(self, attempt: int) -> float:
        longest = min(LONGEST_BACKOFF, self.options.backoff * 2.0 ** (attempt - 1))
        return longest * self._jitter.uniform(0.5, 1.0)

    def _pause(self, until: float, why: str) -> None:
        if until > self.paused_until:
            self.paused_until, self.paused_why = until, why

    # -- admitting ----------------------------------------------------------------------------
    def _estimate(self, request: Request) -> float:
        if self.token_bucket is None:
            return 0.0
        return request.prompt_bytes / 4 + (request.sampling.max_tokens or GUESSED_OUTPUT)

    def _delay(self, now: float, tokens: float) -> float | None:
        """Seconds until a place is free by the clock; None: only when a call ends."""
        if not self.concurrency.room or (self.breaker.open and self.concurrency.in_flight):
            return None
        wait = max(self.paused_until - now, 0.0)
        if self.request_bucket is not None:
            wait = max(wait, self.request_bucket.wait(now, 1.0))
        if self.token_bucket is not None:
            wait = max(wait, self.token_bucket.wait(now, tokens))
        return wait

    def _enter(self, now: float, tokens: float) -> Ticket:
        if self.request_bucket is not None:
            self.request_bucket.take(now, 1.0)
        if self.token_bucket is not None:
            self.token_bucket.take(now, tokens)
        return Ticket(self.concurrency.enter(), tokens)

    def _drain(self) -> None:
        """Admit waiters in order, as far as there is room; set a timer for the next."""
        if not self._waiters:
            return
        loop = asyncio.get_running_loop()
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.future.done():
                self._waiters.popleft()
                continue
            wait = self._delay(loop.time(), waiter.tokens)
            if wait is None:
                return
            if wait > 0:
                self._set_timer(loop, wait)
                return
            self._waiters.popleft()
            waiter.future.set_result(self._enter(loop.time(), waiter.tokens))

    def _set_timer(self, loop: asyncio.AbstractEventLoop, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(wait, self._drain)

    def _withdraw(self, waiter: _Waiter) -> None:
        """A waiter was cancelled; if it had just been admitted, its place goes to the next."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.concurrency.in_flight -= 1
            self._drain()


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0
