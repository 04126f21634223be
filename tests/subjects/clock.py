"""An asyncio loop whose clock jumps to the next timer: waiting costs no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _JumpingSelector(selectors.SelectSelector):
    loop: "JumpingLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits for nothing")
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Only for code that waits for timers, never for sockets."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        self.now = 0.0
        selector.loop = self

    def time(self) -> float:
        return self.now


def run_jumping(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end under the jumping clock."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
