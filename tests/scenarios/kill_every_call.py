"""Run in a process of its own: kill a trial after each of its calls, resume it, report.

Prints one JSON object per kill point (0: never killed): replies in the ledger, calls really made,
calls left unsettled, and the trial's files with times taken out.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

from peira import api
from peira.families.scenarios.simulated import KINDS
from peira.store.records import RunView
from peira.subjects.simulated import SimulatedWire
from tests.scenarios.conftest import Bench

TIMES = re.compile(r'"(seconds|attempts|unsettled)": [^,\n}]+')


class KillingWire:
    """A paid wire that logs each reply and kills its own process after reply `at`."""

    free = False

    def __init__(self, log: Path, at: int) -> None:
        self.inner = SimulatedWire("sim:anyone,lift=1,talk=0", KINDS)
        self.log, self.at, self.calls = log, at, 0

    async def send(self, request):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        self.calls += 1
        mine = self.calls
        with self.log.open("a") as handle:
            handle.write(f"{request.label}\n")
        seen = _observation(request)
        reply = await self.inner.send(replace(request, observation=seen))
        if mine == self.at + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    async def close(self) -> None:
        return None


def _observation(request):  # type: ignore[no-untyped-def]
    """What a simulated subject would see, read back from the prompt."""
    kind = "offer" if "offer" in request.label else request.label.split("/")[1]
    actions = re.findall(r"action of (.+?)\]\n(.+?)\n\[", request.messages[1].content, re.DOTALL)
    turn = int(request.label.split("/")[0].removeprefix("turn "))
    return {"ask": kind, "turn": turn, "turns": 3, "others": [], "actions": dict(actions)}


def drive(bench: Bench, log: Path, at: int) -> int:
    """Run the batch in a child process; returns its wait status."""
    config = bench.config(max_parallel=1)
    child = os.fork()
    if child == 0:
        wire = KillingWire(log, at)
        report = api.run(config, api.Options(wires={"model": wire}))
        os._exit(report.exit_code)
    return os.waitpid(child, 0)[1]


def one(base: Path, at: int) -> dict[str, object]:
    """Kill after reply `at` (0: not at all), go on, and say what there is."""
    bench = Bench(base / f"kill-{at:02d}")
    bench.root.mkdir()
    seats = {"a": {"llm_model": "model"}, "b": {"llm_model": "model"}}
    bench.scenario(actors=seats, world_state_model="model")
    log = bench.root / "calls.log"
    status = drive(bench, log, at or 99)
    killed = os.WIFSIGNALED(status)
    if killed:
        status = drive(bench, log, 99)
    with RunView(bench.run) as run:
        states = dict(run.query("SELECT state, COUNT(*) FROM replies GROUP BY state"))
    folder = bench.run / "runs" / "var-001-run-001"
    files = {
        path.name: TIMES.sub("", path.read_text()) for path in sorted(folder.iterdir())
    }  # fmt: skip
    return {
        "at": at, "killed": killed, "code": os.waitstatus_to_exitcode(status),
        "replies": states.get("done", 0), "unsettled": states.get("unsettled", 0),
        "bought": len(log.read_text().splitlines()), "files": files,
    }  # fmt: skip


def warm() -> None:
    """Import once, in the parent, what every child would import again."""
    import numpy.random  # noqa: F401

    from peira.families.scenarios import analysis, batch_files, files, trial  # noqa: F401
    from peira.subjects import prices, registry  # noqa: F401


def main() -> None:
    base = Path(sys.argv[1])
    warm()
    for at in range(15):
        print(json.dumps(one(base, at)), flush=True)


if __name__ == "__main__":
    main()
