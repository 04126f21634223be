"""The event loop that driver and workers run on (uvloop where it is installed), and how the
interpreter is set while they do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Iterator


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """For `asyncio.Runner`; None is Python's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@contextlib.contextmanager
def driving() -> Iterator[None]:
    """The interpreter as a driver of many calls needs it. The journal's thread gets its turn after
    1 ms, not 5, since trials wait for its commits; and the collector, which finds next to no cycles
    here, looks less often and not at what was there before (a tenth of the CPU of a call)."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(min(interval, 0.001))
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(interval)
