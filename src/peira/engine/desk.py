"""Where people in seats are asked: the seam between a family that asks and whatever they answer at.

Invariant: a desk is chosen before a run starts and holds for that run's trials only (a context
variable), so two runs in one process never share a desk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol


class Desk(Protocol):
    """A terminal, a browser page, a script."""

    async def ask(self, question: Any) -> dict[str, Any]:
        """Wait until a person has filled the form. A question has `trial`, `seat`, `label`,
        `messages` and a `form` with its `fields` (name, hint, many), the name of the one that is
        `required`, and `request()`: the words in which a model is asked for it."""
        ...


class Screen(Protocol):
    """A live display on the terminal."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


screens: list[Screen] = []  # those now on the terminal


@contextlib.contextmanager
def terminal_alone() -> Iterator[None]:
    """While a person reads and types there, live displays leave the terminal."""
    hidden = list(screens)
    for screen in hidden:
        screen.stop()
    try:
        yield
    finally:
        for screen in hidden:
            if screen in screens:
                screen.start()


_chosen: ContextVar[Desk | None] = ContextVar("peira-desk", default=None)


def use_desk(desk: Desk | None) -> None:
    """Let this desk ask the people of every trial started from here on; None: nobody chose."""
    _chosen.set(desk)


def chosen_desk() -> Desk | None:
    """The desk in use, or None."""
    return _chosen.get()
