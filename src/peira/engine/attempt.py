"""One attempt of one trial: run the family's code in a lab and say how it ended.

Invariant: `done` only if the family returned a whole outcome; every other ending has a cause from
the fixed list, and what was gathered so far (events, replies, checkpoints) is kept.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import orjson
import zstandard

from peira.engine.lab import Bench, Lab, TrialTask
from peira.engine.ledger import Kept
from peira.engine.states import Cause, State
from peira.errors import (
    Halt,
    InputError,
    ProviderFailure,
    ReplayDiverged,
    RunHalted,
    StoreError,
    TrialFailed,
    TrialPending,
)
from peira.subjects.subject import whole

WORTH_COMPRESSING = 2048  # bytes; below it the compressor's set-up costs more than it saves


class Runner(Protocol):
    """What the engine needs of a family."""

    name: ClassVar[str]
    version: ClassVar[int]
    Settings: Any
    Outcome: Any

    async def run(self, settings: Any, lab: Lab) -> Any: ...


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How an attempt ended and what it left; picklable. Blobs are zstd-compressed JSON."""

    number: int
    attempt: int
    state: State
    cause: str | None
    message: str | None
    started: float
    finished: float
    seconds: float
    outcome: bytes | None = None
    usage: bytes = b"{}"
    subjects: bytes = b"{}"
    simulated: bool = False
    events: bytes = b""
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()
    failing_key: str | None = None
    halt: RunHalted | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """State, cause and message of an attempt, before packing."""

    state: State
    cause: str | None = None
    message: str | None = None
    outcome: bytes | None = None
    halt: RunHalted | None = None


async def attempt(
    runner: Runner, task: TrialTask, bench: Bench, seconds: float | None
) -> TrialResult:
    """Run one attempt. Never raises, except StoreError (nothing can be recorded any more)."""
    lab = Lab(task, bench)
    started, clock = time.time(), time.perf_counter()
    ending = await _ending(runner, lab, seconds)
    result = _packed(lab, ending, started, time.perf_counter() - clock)
    lab.seats.clear()  # seats and lab know each other: without this only the collector frees them
    return result


async def _ending(runner: Runner, lab: Lab, seconds: float | None) -> Ending:
    try:
        settings = _settings(runner, lab.task)
        async with asyncio.timeout(seconds) as deadline:
            lab.deadline = deadline
            outcome = await runner.run(settings, lab)
        return Ending(State.DONE, outcome=_whole(runner, outcome))
    except StoreError:
        raise
    except TimeoutError as error:
        if lab.deadline is not None and lab.deadline.expired():
            return Ending(State.HALTED, Cause.TIMEOUT, f"no end after {seconds:g} s")
        return _bug(lab, error)
    except asyncio.CancelledError:
        _stay_alive()
        return Ending(State.HALTED, Cause.INTERRUPTED, "interrupted")
    except TrialFailed as failure:
        return Ending(State.FAILED, failure.cause, str(failure))
    except TrialPending as pending:
        return Ending(State.PENDING, message=str(pending))
    except RunHalted as halt:
        return Ending(State.HALTED, halt.cause, str(halt), halt=halt)
    except Halt as halt:
        return Ending(State.HALTED, halt.cause, str(halt))
    except ProviderFailure as failure:
        return Ending(State.FAILED, Cause.PROVIDER, str(failure))
    except ReplayDiverged as diverged:
        return Ending(State.FAILED, Cause.DIVERGED, str(diverged))
    except InputError as error:
        return Ending(State.FAILED, Cause.CODE, str(error))
    except Exception as error:  # noqa: BLE001 - a family's bug fails its trial, not the run
        return _bug(lab, error)


def _stay_alive() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _bug(lab: Lab, error: BaseException) -> Ending:
    lab.emit("error", traceback="".join(traceback.format_exception(error))[-8000:])
    return Ending(State.FAILED, Cause.CODE, f"{type(error).__name__}: {error}"[:2000])


def _whole(runner: Runner, outcome: Any) -> bytes:
    if not isinstance(outcome, runner.Outcome):
        raise TypeError(
            f"{runner.name}: run() returned {type(outcome).__name__}, not {runner.Outcome.__name__}"
        )
    return bytes(outcome.model_dump_json().encode())


_validated: dict[tuple[str, int], Any] = {}


def _settings(runner: Runner, task: TrialTask) -> Any:
    """Settings of the task's cell, validated once per process."""
    key = (f"{runner.name}:{id(task.settings)}", task.cell)
    if key not in _validated:
        if len(_validated) > 512:
            _validated.clear()
        _validated[key] = (task.settings, runner.Settings.model_validate(task.settings))
    return _validated[key][1]


@lru_cache(maxsize=1)
def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=3)


def compress(data: bytes) -> bytes:
    """zstd where it pays; small data stay as they are, told apart by zstd's magic number."""
    if len(data) < WORTH_COMPRESSING and not data.startswith(zstandard.FRAME_HEADER):
        return data
    return _compressor().compress(data)


def decompress(data: bytes) -> bytes:
    """The inverse of `compress`."""
    if not data.startswith(zstandard.FRAME_HEADER):
        return data
    return zstandard.ZstdDecompressor().decompress(data)


def _packed(lab: Lab, ending: Ending, started: float, seconds: float) -> TrialResult:
    usage = {
        seat: {"calls": s.calls, "tokens_in": s.tokens_in, "tokens_out": s.tokens_out}
        for seat, s in lab.seats.items()
    }
    subjects = {
        seat: {"name": s.name, "served_model": s.served, "simulated": s.simulated}
        for seat, s in lab.seats.items()
    }
    return TrialResult(
        number=lab.task.number, attempt=lab.task.attempt, state=ending.state, cause=ending.cause,
        message=ending.message, started=started, finished=started + seconds, seconds=seconds,
        outcome=ending.outcome, usage=orjson.dumps(usage), subjects=orjson.dumps(subjects),
        simulated=any(s.simulated for s in lab.seats.values()),
        events=compress(_events(lab)) if lab.events else b"",
        artifacts={name: compress(data) for name, data in lab.artifacts.items()},
        kept=tuple(lab.kept), failing_key=lab.last_key, halt=ending.halt,
    )  # fmt: skip


def _events(lab: Lab) -> bytes:
    try:
        return orjson.dumps(lab.events, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return orjson.dumps(_printable(lab.events), default=repr)


def _printable(value: Any) -> Any:
    """Events as JSON-safe data: lone surrogates replaced, unknown objects by their repr."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {str(_printable(k)): _printable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    if hasattr(value, "__slots__") and hasattr(value, "__dataclass_fields__"):
        return {name: _printable(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
