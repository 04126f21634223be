"""The phases of an evaluation, as views on one run.

prepare → items; build → planned rows; submit, poll → replies in the ledger; parse, score, stats,
costs, report → files. Invariant: a phase only decides what is asked for and which files are
written; what a file says never depends on the phases chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from peira.errors import InputError
from peira.study.reader import suggestion

PHASES = ("prepare", "build", "submit", "poll", "parse", "score", "stats", "costs", "report")
VIEWS = frozenset(PHASES[4:])
ASKING = frozenset(("submit", "poll"))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a command line says of phases."""

    only: str | None = None
    first: str | None = None
    last: str | None = None
    skipped: frozenset[str] = frozenset()

    @property
    def phases(self) -> frozenset[str]:
        """The phases to go through. Raises InputError for an unknown or empty choice."""
        for flag, name in (("--only-step", self.only), ("--from-step", self.first),
                           ("--to-step", self.last)):  # fmt: skip
            if name is not None and name not in PHASES:
                hint = suggestion(name, PHASES)
                remedy = f"\n  remedy: {hint}" if hint else ""
                raise InputError(
                    f"{flag} {name}: no such step\n  allowed: {', '.join(PHASES)}{remedy}"
                )
        if self.only is not None and (self.first or self.last):
            raise InputError(
                "--only-step with --from-step or --to-step\n  remedy: give one of them"
            )
        start = PHASES.index(self.only or self.first or PHASES[0])
        stop = PHASES.index(self.only or self.last or PHASES[-1])
        if start > stop:
            raise InputError(
                f"--from-step {self.first} comes after --to-step {self.last}\n"
                f"  allowed: in this order: {', '.join(PHASES)}"
            )
        return frozenset(PHASES[start : stop + 1]) - self.skipped
