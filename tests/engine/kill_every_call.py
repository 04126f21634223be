"""Run in a process of its own: kill a driver at every call of a small study, resume, report.

Prints one JSON object per kill point: calls bought twice, replies in the ledger, outcomes.
"""

import json
import os
import signal
import sys
from pathlib import Path

from peira import api
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.study import Study
from peira.subjects.simulated import SimulatedWire
from tests.engine.toy import Dice

STUDY = Study(
    family=f"{Path(__file__).with_name('toy.py')}:Toy",
    name="killed",
    fixed={"model": "dice"},
    factors={"level": [0, 1]},
    replicates=1,
    limits={"max_parallel": 1, "budget_usd": 1.0},
)


class KillingWire:
    """A paid wire that logs each call durably and kills its own process at call `at`."""

    free = False

    def __init__(self, log: Path, at: int, after_reply: bool) -> None:
        self.inner = SimulatedWire("sim:dice", {"dice": Dice})
        self.log, self.at, self.after_reply, self.calls = log, at, after_reply, 0

    async def send(self, request):
        self.calls += 1
        if self.calls == self.at and not self.after_reply:
            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a") as handle:
            handle.write(f"{request.label}|{request.n}|{request.seed}\n")
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return await self.inner.send(request)

    async def close(self) -> None:
        return None


def drive(folder: Path, log: Path, at: int, after_reply: bool) -> int:
    """Run the study in a child process; returns its wait status."""
    child = os.fork()
    if child == 0:
        wire = KillingWire(log, at, after_reply)
        report = api.run(STUDY, api.Options(run_dir=folder, wires={"dice": wire}))
        os._exit(report.exit_code)
    return os.waitpid(child, 0)[1]


def outcome(folder: Path) -> dict:
    with RunView(RunDir(folder)) as run:
        done = run.query("SELECT COUNT(*) FROM replies WHERE state='done'")[0][0]
        lost = run.query("SELECT COUNT(*) FROM replies WHERE state='unsettled'")[0][0]
        records = [(r.slug, r.state, r.outcome) for r in run.records()]
        files = {
            str(path.relative_to(folder)): path.read_text()
            for path in sorted(folder.glob("trials/**/total.txt"))
        }
    return {"done": done, "lost": lost, "records": records, "files": files}


def main() -> None:
    base = Path(sys.argv[1])
    drive(base / "whole", base / "whole.log", 0, False)
    print(json.dumps({"whole": outcome(base / "whole")}))
    for after in (False, True):
        for at in range(1, 7):
            name = f"{'after' if after else 'before'}_{at}"
            log = base / f"{name}.log"
            status = drive(base / name, log, at, after)
            killed = os.WIFSIGNALED(status)
            code = os.waitstatus_to_exitcode(drive(base / name, log, 0, after))
            calls = log.read_text().splitlines()
            print(json.dumps({"name": name, "killed": killed, "code": code, "calls": calls,
                              **outcome(base / name)}))  # fmt: skip


if __name__ == "__main__":
    main()
