"""Which misfortune meets which request.

Invariant: drawn from the request's hash and how often it came before, never from time or order; and
after `most` faults in a row the same request is answered, so that patience always pays.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

# What can go wrong with an answer. `wait` asks for patience (Retry-After), `busy` does not say.
KINDS = ("wait", "busy", "error", "unavailable", "drop", "half", "garbled", "html", "drip")


@dataclass(frozen=True, slots=True)
class Faults:
    """`rate`: share of requests that meet a fault of `kinds`. `refuse`, `truncate`: share of
    replies (by request, not by attempt) that are refusals or cut. Times in seconds."""

    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    most: int = 3
    latency: float = 0.0
    jitter: float = 0.0
    retry_after: float = 0.01
    drip: float = 0.002
    refuse: float = 0.0
    truncate: float = 0.0
    status: int = 0
    status_from: int = 1
    message: str = ""
    seed: int = 0
    # batch jobs
    polls: int = 2
    batch_missing: float = 0.0
    batch_errors: float = 0.0
    batch_end: str = "completed"

    def fault(self, digest: str, attempt: int) -> str:
        """The fault of this attempt (1-based) at this request, or ""."""
        if attempt > self.most or self.rate <= 0:
            return ""
        dice = self._dice(digest, attempt)
        return dice.choice(self.kinds) if dice.random() < self.rate else ""

    def finish(self, digest: str) -> str:
        """stop, refusal or length."""
        draw = self._dice(digest, 0).random()
        if draw < self.refuse:
            return "refusal"
        return "length" if draw < self.refuse + self.truncate else "stop"

    def delay(self, digest: str, attempt: int) -> float:
        """Seconds before the answer."""
        if not self.jitter:
            return self.latency
        return self.latency + self.jitter * self._dice(digest, -attempt).random()

    def row(self, digest: str, tries: int) -> str:
        """What becomes of a batch row: "" delivered, "missing" or "error"."""
        if tries > 1:
            return ""
        draw = self._dice(digest, 10_000).random()
        if draw < self.batch_missing:
            return "missing"
        return "error" if draw < self.batch_missing + self.batch_errors else ""

    def _dice(self, digest: str, attempt: int) -> random.Random:
        return random.Random(f"{self.seed}|{digest}|{attempt}")
