"""Spend never exceeds the limit, whatever the parallelism, the usage and the faults."""

import asyncio
import random

import pytest

from peira.engine.budget import Account, Budget
from peira.engine.journal import Journal
from peira.engine.lab import Bench, Lab, TrialTask
from peira.engine.ledger import Ledger, Sharing
from peira.errors import Halt, ProviderFailure, RateLimited, TransientError
from peira.subjects.prices import PriceOptions, stated_price
from peira.subjects.route import Route, Routes
from peira.subjects.subject import Reply, Request, Sampling, Usage, user

PRICE = stated_price("m", PriceOptions(input_per_million=3.0, output_per_million=15.0), "test")


class Erratic:
    """Random usage within what was asked, random order of arrival, some faults of every kind."""

    free = False

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    async def send(self, request: Request) -> Reply:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)
        fate = self.dice.random()
        if fate < 0.08:
            raise TransientError("dropped", lost=True)
        if fate < 0.2:
            raise RateLimited("busy") if fate < 0.12 else TransientError("502")
        prompt = self.dice.randrange(PRICE.prompt_bound(request))
        return Reply("ok", usage=Usage(prompt, self.dice.randrange(request.sampling.max_tokens)))

    async def close(self) -> None:
        return None


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    made = Journal(tmp_path_factory.mktemp("money") / "run.db", costly=False)
    yield made
    made.close()


async def spend(journal: Journal, seed: int) -> tuple[Budget, int, int]:
    """500 calls of 25 trials at once under random limits; (budget, answered, stopped)."""
    dice = random.Random(seed)
    limit = dice.randrange(20_000, 400_000)
    trial_limit = dice.choice([None, limit // dice.randrange(2, 30)])
    budget = Budget(Account(limit), trial_limit)
    ledger = Ledger(journal, budget)
    routes = Routes(wires={})
    routes._open["m"] = Route("m", Erratic(seed), "m", "acme", price=PRICE, durable=True)
    bench = Bench(routes, ledger, Sharing(), retries=3)
    labs = [Lab(TrialTask(seed * 1000 + k, f"{seed}-{k}", "t", k, 1, 0, {}, {}), bench)
            for k in range(25)]  # fmt: skip
    ends = {"answered": 0, "stopped": 0}

    async def call(lab: Lab, number: int) -> None:
        sampling = Sampling(max_tokens=dice.randrange(20, 400))
        subject = lab.subject("m", "seat")
        try:
            await subject.reply([user("x" * dice.randrange(800))], sampling, label=f"call {number}")
            ends["answered"] += 1
        except (Halt, ProviderFailure):
            ends["stopped"] += 1
        account = budget.run
        assert account.spent + account.reserved <= limit

    await asyncio.wait_for(
        asyncio.gather(*(call(lab, number) for lab in labs for number in range(20))), 60
    )
    for account in budget.trials.values():
        assert trial_limit is None or account.spent <= trial_limit
    return budget, ends["answered"], ends["stopped"]


@pytest.mark.parametrize("seed", range(40))
async def test_500_parallel_calls_never_exceed_the_limit(journal, seed):
    budget, answered, stopped = await spend(journal, seed)
    assert answered + stopped == 500 and answered > 0
    assert 0 < budget.run.spent <= budget.run.limit
    assert budget.run.reserved == 0
    stored = journal.read(
        "SELECT COALESCE(SUM(cost + worst), 0) FROM replies WHERE buyer / 1000 = ?", (seed,)
    )
    journal.flush()
    assert stored[0][0] <= budget.run.limit


async def test_a_worst_case_that_is_too_low_would_be_noticed(journal, monkeypatch):
    monkeypatch.setattr(type(PRICE), "worst", lambda self, request: 1)
    with pytest.raises(AssertionError):
        for seed in range(100, 110):
            await spend(journal, seed)
