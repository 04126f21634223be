"""Reserve the worst case, settle the real cost: spend never exceeds the limit.

All amounts are integer micro-dollars. Invariant: spent + reserved <= limit, for the run and for each
trial, whatever the parallelism; a call that does not fit waits while other calls may still give
back what they reserved, and halts once none can.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from peira.engine.states import Cause
from peira.errors import RunHalted, TrialHalted

MICRO = 1_000_000


def micro(usd: float | None) -> int | None:
    """US dollars to whole micro-dollars."""
    return None if usd is None else round(usd * MICRO)


def usd(amount: int) -> float:
    """Micro-dollars to US dollars, for display and files."""
    return amount / MICRO


@dataclass(slots=True)
class Account:
    """What is spent and reserved against one limit."""

    limit: int | None = None
    spent: int = 0
    reserved: int = 0

    def fits(self, amount: int) -> bool:
        return self.limit is None or self.spent + self.reserved + amount <= self.limit


@dataclass(slots=True)
class Budget:
    """The run's account and one for each trial."""

    run: Account
    trial_limit: int | None = None
    trials: dict[int, Account] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def trial(self, number: int) -> Account:
        """The account of a trial, opened at first use."""
        if number not in self.trials:
            self.trials[number] = Account(self.trial_limit)
        return self.trials[number]

    async def reserve(self, trial: int, worst: int) -> None:
        """Set `worst` aside for one call. Raises TrialHalted or RunHalted when it cannot fit."""
        account = self.trial(trial)
        while not (account.fits(worst) and self.run.fits(worst)):
            if not account.fits(worst) and account.reserved == 0:
                raise TrialHalted(
                    Cause.TRIAL_LIMIT, _exceeds("Run cost exceeds limit", account, worst)
                )
            if account.fits(worst) and self.run.reserved == 0:
                raise RunHalted(Cause.BUDGET, _exceeds("Budget limit reached", self.run, worst))
            self._changed.clear()
            await self._changed.wait()
        for each in (account, self.run):
            each.reserved += worst

    def settle(self, trial: int, worst: int, cost: int) -> None:
        """Give back a reservation and charge the real cost (0 if nothing was charged)."""
        for each in (self.trial(trial), self.run):
            each.reserved -= worst
            each.spent += cost
        self._changed.set()

    def known(self, trial: int, spent: int) -> None:
        """What earlier attempts of a trial cost, unless its account says so already."""
        self.trials.setdefault(trial, Account(self.trial_limit, spent=spent))

    def forget(self, trial: int) -> None:
        """Drop a finished trial's account, so memory stays flat."""
        self.trials.pop(trial, None)


def _exceeds(words: str, account: Account, worst: int) -> str:
    return (
        f"{words}: {usd(account.spent):.4f} USD spent, the next call may cost"
        f" {usd(worst):.4f}, the limit is {usd(account.limit or 0):.4f}\n"
        "  remedy: raise the limit and run the same command again; nothing is lost"
    )
