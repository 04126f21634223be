"""Limits that hold, pauses that push everybody back, and a provider that is down."""

import asyncio
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.errors import RateLimited, RunHalted, TransientError
from peira.subjects.pace import Breaker, Bucket, Concurrency, PaceOptions, SharedPace
from peira.subjects.subject import Message, Reply, Request, Sampling, Usage
from tests.subjects.clock import run_jumping

REQUEST = Request("m", (Message("user", "x" * 400),), Sampling(max_tokens=100))


def pace(**options) -> SharedPace:
    return SharedPace("acme", PaceOptions(**options))


@given(
    per_minute=st.floats(2, 5000),
    calls=st.lists(
        st.tuples(st.sampled_from([1.0, 0.1, 7.5, 40.0]), st.sampled_from([0, 0, 0.5, 20, 61])),
        max_size=60,
    ),
)
@settings(max_examples=100, deadline=None)
def test_no_minute_ever_holds_more_than_the_limit(per_minute, calls):
    bucket, now, taken = Bucket(per_minute), 0.0, deque()
    for amount, rest in calls:
        now += rest
        now += bucket.wait(now, amount) + 1e-9
        assert bucket.wait(now, amount) == 0
        bucket.take(now, amount)
        taken.append((now, amount))
        while taken[0][0] <= now - 60:
            taken.popleft()
        # A single request larger than a burst must be let through some time.
        largest = max(each for _, each in taken)
        room = per_minute + (largest if largest > bucket.burst else 0)
        assert sum(each for _, each in taken) <= room * (1 + 1e-6)


def test_requests_per_minute_hold_across_many_callers():
    async def main() -> list[float]:
        gate = pace(requests_per_minute=60)
        times: list[float] = []

        async def call() -> None:
            ticket = await gate.admit(REQUEST)
            times.append(asyncio.get_running_loop().time())
            gate.done(ticket, Reply("x"), None)

        await asyncio.gather(*(call() for _ in range(180)))
        return times

    times = run_jumping(main())
    for start in times:
        assert sum(start <= t < start + 60 for t in times) <= 60
    assert 120 <= times[-1] <= 190


def test_real_usage_corrects_the_estimate_of_tokens():
    async def main(used: int) -> float:
        gate = pace(tokens_per_minute=6000)
        for _ in range(30):
            ticket = await gate.admit(REQUEST)
            gate.done(ticket, Reply("x", usage=Usage(used, 0)), None)
        return asyncio.get_running_loop().time()

    assert run_jumping(main(20)) < run_jumping(main(200)) / 3


def test_retry_after_holds_every_waiter_back():
    async def main() -> list[float]:
        gate, times = pace(), []
        ticket = await gate.admit(REQUEST)
        gate.done(ticket, None, RateLimited("slow down", retry_after=30.0))

        async def call() -> None:
            mine = await gate.admit(REQUEST)
            times.append(asyncio.get_running_loop().time())
            gate.done(mine, Reply("x"), None)

        await asyncio.gather(*(call() for _ in range(20)))
        return times

    assert min(run_jumping(main())) >= 30.0


def test_concurrency_doubles_then_is_cut_once_per_burst():
    window = Concurrency(4, 64)
    for _ in range(4):
        for ticket in [window.enter() for _ in range(int(window.limit) - window.in_flight)]:
            window.grow()
            assert ticket > 0
        window.in_flight = 0
    assert 32 <= window.limit <= 64
    window.limit = window.in_flight = 40
    tickets = [window.enter() for _ in range(8)]
    for ticket in tickets:
        window.cut(ticket, 0.5)
    assert window.limit == pytest.approx(20)
    window.in_flight, before = 20, window.limit
    window.grow()
    assert window.limit == pytest.approx(before + 1 / before)


@given(st.lists(st.sampled_from(["ok", "limit", "fault", "cancel"]), max_size=300))
@settings(max_examples=60, deadline=None)
def test_places_are_never_lost_nor_exceeded(fates):
    async def main() -> None:
        gate = pace(max_concurrency=7, start_concurrency=3, backoff=0.1, patience=10**6)
        peak = 0

        async def call(fate: str) -> None:
            nonlocal peak
            ticket = await gate.admit(REQUEST)
            peak = max(peak, gate.concurrency.in_flight)
            error: BaseException | None = None
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError as caught:
                error = caught
                raise
            finally:
                if fate == "limit":
                    error = RateLimited("busy")
                elif fate == "fault":
                    error = TransientError("down")
                gate.done(ticket, Reply("x") if error is None else None, error)

        tasks = [asyncio.create_task(call(fate)) for fate in fates]
        await asyncio.sleep(0.01)
        for task, fate in zip(tasks, fates, strict=True):
            if fate == "cancel":
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.concurrency.in_flight == 0 and peak <= 7
        ticket = await gate.admit(REQUEST)
        gate.done(ticket, Reply("x"), None)

    run_jumping(main())


def test_a_provider_that_is_down_is_asked_by_one_call_at_a_time():
    async def main() -> None:
        gate = pace(breaker=3, start_concurrency=8)
        tickets = [await gate.admit(REQUEST) for _ in range(3)]
        for ticket in tickets:
            gate.done(ticket, None, TransientError("502"))
        assert gate.breaker.open and "provider down" in gate.describe()
        waiting = [asyncio.create_task(gate.admit(REQUEST)) for _ in range(5)]
        await asyncio.sleep(10)
        admitted = [task for task in waiting if task.done()]
        assert len(admitted) == 1
        gate.done(admitted[0].result(), Reply("x"), None)
        await asyncio.sleep(0)
        assert all(task.done() for task in waiting)

    run_jumping(main())


def test_calls_that_fail_together_open_the_circuit_once():
    async def main() -> None:
        gate = pace(breaker=3, start_concurrency=16)
        for ticket in [await gate.admit(REQUEST) for _ in range(16)]:
            gate.done(ticket, None, TransientError("refused"))
        assert gate.paused_until == 2.0

    run_jumping(main())


def test_breaker_pauses_grow_and_a_success_closes_it():
    breaker = Breaker(2)
    assert [breaker.fault() for _ in range(5)] == [0.0, 2.0, 4.0, 8.0, 16.0]
    breaker.success()
    assert breaker.fault() == 0.0


@pytest.mark.parametrize(
    ("error", "words", "after"),
    [(RateLimited("429"), "rate_limit", 600), (TransientError("502"), "down for 120 s", 120)],
)
def test_nothing_but_faults_stop_the_run_in_the_end(error, words, after):
    async def main() -> float:
        gate = pace()
        while True:
            ticket = await gate.admit(REQUEST)
            gate.done(ticket, None, error)
            await asyncio.sleep(gate.delay(1, error))

    async def timed() -> float:
        with pytest.raises(RunHalted, match=words) as caught:
            await main()
        assert caught.value.exit_code == 3
        return asyncio.get_running_loop().time()

    assert after <= run_jumping(timed()) < after * 1.2


def test_a_success_between_faults_starts_the_ten_minutes_again():
    async def main() -> None:
        gate = pace(backoff=1)
        for turn in range(60):
            ticket = await gate.admit(REQUEST)
            good = turn % 10 == 9
            gate.done(
                ticket, Reply("x") if good else None, None if good else RateLimited("429", 30)
            )
        assert gate.dead is None

    run_jumping(main())


def test_backoff_is_seeded_jittered_and_bounded():
    one, two = pace(), pace()
    delays = [one.delay(k, TransientError("x")) for k in range(1, 15)]
    assert delays == [two.delay(k, TransientError("x")) for k in range(1, 15)]
    assert all(0.25 <= delay <= 60 for delay in delays) and delays[-1] >= 30


def test_a_third_of_faults_never_opens_the_circuit_nor_ends_patience():
    async def main() -> int:
        gate, dice, opened = pace(), random.Random(7), 0
        for _ in range(3000):
            ticket = await gate.admit(REQUEST)
            error = TransientError("500") if dice.random() < 0.3 else None
            gate.done(ticket, None if error else Reply("x"), error)
            opened += gate.breaker.open
            await asyncio.sleep(1)
        assert gate.dead is None
        return opened

    assert run_jumping(main()) == 0


def test_a_call_out_of_tries_stops_the_run_only_if_nobody_is_answered():
    async def main() -> None:
        error = TransientError("502")
        gate, other = pace(), pace()
        gone, still = await gate.admit(REQUEST), await gate.admit(REQUEST)
        gate.done(gone, None, error)
        out = asyncio.create_task(gate.exhausted(error))
        await asyncio.sleep(1)
        assert not out.done()  # another call may yet be answered
        gate.done(still, None, error)
        with pytest.raises(RunHalted, match="acme has answered nobody: 502"):
            await out
        with pytest.raises(RunHalted):
            await gate.admit(REQUEST)
        first, second = await other.admit(REQUEST), await other.admit(REQUEST)
        other.done(first, None, error)
        out = asyncio.create_task(other.exhausted(error))
        await asyncio.sleep(1)
        other.done(second, Reply("x"), None)
        await out  # the provider answers: the call fails alone

    run_jumping(main())


def test_a_provider_that_comes_back_within_two_minutes_is_not_given_up():
    async def main() -> None:
        gate = pace()
        clock = asyncio.get_running_loop().time
        while clock() < 60:
            ticket = await gate.admit(REQUEST)
            gate.done(ticket, None, TransientError("503"))
        gate.done(await gate.admit(REQUEST), Reply("x"), None)
        assert gate.dead is None and not gate.breaker.open

    run_jumping(main())


def test_what_a_second_subject_states_of_its_provider_is_added_and_the_lower_limit_holds():
    gate = pace(requests_per_minute=50, max_concurrency=100, patience=5)
    gate.tighten(PaceOptions())
    assert gate.options == PaceOptions(requests_per_minute=50, max_concurrency=100, patience=5)
    gate.tighten(PaceOptions(requests_per_minute=90, max_concurrency=4, tokens_per_minute=7000))
    gate.tighten(PaceOptions(requests_per_minute=None, patience=900))
    assert gate.options == PaceOptions(
        requests_per_minute=50, max_concurrency=4, tokens_per_minute=7000, patience=5
    )
    assert gate.concurrency.limit == gate.concurrency.ceiling == 4
    assert (gate.request_bucket.per_minute, gate.token_bucket.per_minute) == (50, 7000)
