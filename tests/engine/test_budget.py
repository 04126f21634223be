"""Spend never exceeds a limit, whatever the parallelism."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.engine.budget import Account, Budget
from peira.errors import RunHalted, TrialHalted


async def spend(budget: Budget, trial: int, worst: int, cost: int) -> bool:
    try:
        await budget.reserve(trial, worst)
    except (RunHalted, TrialHalted):
        return False
    assert budget.run.limit is None or budget.run.spent + budget.run.reserved <= budget.run.limit
    await asyncio.sleep(0)
    budget.settle(trial, worst, cost)
    return True


@given(st.integers(0, 2**32), st.integers(0, 50_000), st.integers(100, 20_000))
@settings(max_examples=60, deadline=None)
def test_500_parallel_calls_never_exceed_the_limits(seed, limit, trial_limit):
    dice = random.Random(seed)
    budget = Budget(Account(limit), trial_limit)

    async def all_calls():
        calls = []
        for _ in range(500):
            worst = dice.randint(1, 1000)
            calls.append(spend(budget, dice.randint(1, 10), worst, dice.randint(0, worst)))
        return await asyncio.gather(*calls)

    made = asyncio.run(all_calls())
    assert budget.run.reserved == 0
    assert budget.run.spent <= limit
    assert all(account.spent <= trial_limit for account in budget.trials.values())
    assert not all(made) or budget.run.spent <= limit


async def test_a_call_waits_while_another_may_give_back_what_it_reserved():
    budget = Budget(Account(100))
    await budget.reserve(1, 80)
    second = asyncio.create_task(budget.reserve(2, 50))
    await asyncio.sleep(0)
    assert not second.done()
    budget.settle(1, 80, 10)
    await second
    assert budget.run.reserved == 50


async def test_the_run_halts_when_nothing_can_be_given_back():
    budget = Budget(Account(100, spent=60))
    with pytest.raises(RunHalted, match="Budget limit reached"):
        await budget.reserve(1, 50)


async def test_a_trial_halts_at_its_own_limit_and_says_so():
    budget = Budget(Account(None), trial_limit=40)
    with pytest.raises(TrialHalted, match="Run cost exceeds limit"):
        await budget.reserve(1, 50)
