"""The closed lists of states and causes.

pending → running → done | failed | halted. Done means complete; every summary prints
planned = done + failed + halted + pending (a trial in flight counts as pending).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from peira.errors import EXIT_BUDGET, EXIT_INCOMPLETE, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_OK


class State(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    HALTED = "halted"


class Cause(StrEnum):
    """Why a trial failed or halted."""

    PROVIDER = "provider"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    ILLEGAL = "illegal"
    QUALITY = "quality"
    ROWS_FAILED = "rows_failed"
    CONTEXT = "context"
    CODE = "code"
    DIVERGED = "replay diverged"
    BUDGET = "budget"
    TRIAL_LIMIT = "trial limit"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    INPUT = "bad input"


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of trials by state. Invariant: planned = done + failed + halted + pending."""

    done: int = 0
    failed: int = 0
    halted: int = 0
    pending: int = 0

    @property
    def planned(self) -> int:
        return self.done + self.failed + self.halted + self.pending

    def exit_code(self, causes: set[str]) -> int:
        """0 all done, 130 interrupted, 2 bad input, 4 a budget or cost limit, 3 anything else unfinished."""
        if self.done == self.planned:
            return EXIT_OK
        if Cause.INTERRUPTED in causes:
            return EXIT_INTERRUPTED
        if Cause.INPUT in causes:
            return EXIT_INPUT
        if causes & {Cause.BUDGET, Cause.TRIAL_LIMIT}:
            return EXIT_BUDGET
        return EXIT_INCOMPLETE

    def __str__(self) -> str:
        return (
            f"planned {self.planned} = done {self.done} + failed {self.failed}"
            f" + halted {self.halted} + pending {self.pending}"
        )
