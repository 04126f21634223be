"""Every error Peira raises on purpose, and the exit code each maps to.

PeiraError
├── InputError               the user's input is wrong: study, flag, file (exit 2)
│   ├── StudyError           one or more faults in a study file, all reported at once
│   └── MissingExtra         a feature needs an optional package; says what to install
├── RunLocked                another driver holds this run (exit 2)
├── StoreError               run.db or a projection cannot be read or written (exit 3)
├── SubjectError             a model did not give a usable reply
│   ├── TransientError       429, 5xx, timeout, dropped connection: the pace layer retries these
│   │   └── RateLimited      the same, with the provider's Retry-After
│   ├── ProviderFailure      retries exhausted: the trial fails with cause `provider`
│   └── ProviderStop         401, 402, 403, 404…: the run stops with the provider's own message
├── TrialFailed              a trial cannot be completed; carries a cause from `Cause`
├── Halt                     work stops, saved, to be resumed
│   ├── TrialHalted          this trial only: trial limit, timeout
│   ├── TrialPending         what was selected of a trial is done, the rest waits
│   └── RunHalted            the whole run: budget, provider, interrupted
├── ReplayDiverged           the ledger holds another request under the same key
└── ReportRefused            an analysis or figure would say more than its evidence (exit 1)

Catch `PeiraError` at the edge only; `cli.main` turns it into a message and an exit code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EXIT_OK, EXIT_BUG, EXIT_INPUT, EXIT_INCOMPLETE, EXIT_BUDGET, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


class PeiraError(Exception):
    """Base of all errors Peira raises on purpose. `exit_code` is what the command returns."""

    exit_code = EXIT_INCOMPLETE

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the message alone; ours may take other arguments.
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[PeiraError], args: tuple[Any, ...], state: dict[str, Any]) -> PeiraError:
    """An error that crossed to another process, whatever arguments its class takes."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(PeiraError):
    """The user's input is wrong. The message names path, value, what is allowed, remedy."""

    exit_code = EXIT_INPUT


class StudyError(InputError):
    """All faults found in one study file, each on its own lines. `draft` is the study that its
    sound parts make, if they make one, so that those too can be held against what they name."""

    def __init__(self, faults: list[str], draft: Any = None) -> None:
        self.faults, self.draft = faults, draft
        super().__init__("\n".join(_told_once(faults)))


def _told_once(faults: list[str]) -> list[str]:
    """The faults; those with the same remedy stand together, above it."""
    alike: dict[str, list[str]] = {}
    for fault in faults:
        first, _, rest = fault.partition("\n")
        alike.setdefault(rest, []).append(first)
    return [line for rest, firsts in alike.items() for line in (*firsts, rest) if line]


class MissingExtra(InputError):
    """A feature needs an optional package."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional package.\n  remedy: pip install 'peira[{extra}]'"
        )


class RunLocked(PeiraError):
    """Another driver is at work on this run directory."""

    exit_code = EXIT_INPUT


class StoreError(PeiraError):
    """The run directory, run.db or a projection cannot be read or written."""


class SubjectError(PeiraError):
    """A model did not give a usable reply."""


class TransientError(SubjectError):
    """Worth another try: 408, 429, 5xx, a timeout, a dropped connection, a broken body.

    `lost`: the request went out and may have been charged; it stays charged at its worst case.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        self.lost = lost
        super().__init__(message)


class RateLimited(TransientError):
    """The provider asked us to wait. `retry_after` is seconds, or None if it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ProviderFailure(SubjectError):
    """Retries are exhausted; the trial that asked fails with cause `provider`."""


class ProviderStop(SubjectError):
    """The provider refuses us (key, credit, model name…): the run stops with its message."""


class TrialFailed(PeiraError):
    """A trial cannot be completed. `cause` is one of `peira.engine.states.Cause`."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


class Halt(PeiraError):
    """Work stops, saved, and can be resumed. `cause` is one of `peira.engine.states.Cause`."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)
        if cause in ("budget", "trial limit"):
            self.exit_code = EXIT_BUDGET
        elif cause == "interrupted":
            self.exit_code = EXIT_INTERRUPTED


class TrialHalted(Halt):
    """This trial stops (its own limit or its timeout); others go on."""


class TrialPending(Halt):
    """All that was selected of this trial is done; the rest waits, and the trial stays pending."""

    def __init__(self, message: str) -> None:
        super().__init__("selection", message)


class RunHalted(Halt):
    """The whole run stops: budget, provider, interrupted."""


class ReplayDiverged(PeiraError):
    """The ledger holds a reply to a different request under the same key."""


class ReportRefused(PeiraError):
    """An analysis or figure would say more than its evidence (statistics §0, §11.4): a fault in
    the family's code, never in the user's study."""

    exit_code = EXIT_BUG


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of an input file, rendered in at most three lines."""

    where: str
    path: str
    value: str
    allowed: str
    remedy: str = ""

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.path}: {self.value}", f"  allowed: {self.allowed}"]
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)
