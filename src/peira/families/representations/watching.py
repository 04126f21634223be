"""What a trial has done so far: tokens against the budget, and plain progress on stderr."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field

from peira.errors import RunHalted

EVERY = 30.0  # seconds between lines


@dataclass
class Meter:
    """Tokens that a run has forwarded over all its trials: what `--token-budget` is held against."""

    tokens: int = 0

    def room(self, limit: int | None) -> float:
        """Tokens left; RunHalted if none are."""
        if limit is not None and self.tokens >= limit:
            raise RunHalted("budget", f"token budget of {limit:,} reached ({self.tokens:,} forwarded)\n"
                            "  remedy: a larger --token-budget")  # fmt: skip
        return math.inf if limit is None else limit - self.tokens


@dataclass
class Progress:
    """Prints a line every thirty seconds while a trial works."""

    name: str
    planned: int
    already: int
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def tick(self, done: int, tokens: int) -> None:
        """Say where the work stands, if it is time."""
        now = time.monotonic()
        if now - self.last < EVERY:
            return
        self.last = now
        sys.stderr.write(self.line(done, tokens, now - self.started) + "\n")

    def line(self, done: int, tokens: int, seconds: float) -> str:
        """One line: contexts, tokens/s, ETA, GPU memory where there is one."""
        fresh = max(done - self.already, 1)
        left = seconds / fresh * (self.planned - done)
        return (f"{self.name}: {done}/{self.planned} contexts, {tokens / max(seconds, 1e-9):,.0f}"
                f" tokens/s, {left:,.0f} s left{gpu_memory()}")  # fmt: skip


def gpu_memory() -> str:
    """Allocated, reserved and peak GB, if torch holds a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    cuda = torch.cuda
    sizes = (cuda.memory_allocated(), cuda.memory_reserved(), cuda.max_memory_allocated())
    return ", GPU {:.2f} allocated, {:.2f} reserved, {:.2f} peak GB".format(
        *(s / 1e9 for s in sizes)
    )
