"""A family that is hard on its workers: it kills them, blocks them, fills them, shares with them."""

import os
import signal
import time
from pathlib import Path

from peira.engine.lab import Lab
from peira.families.family import Family, Outcome, Settings
from peira.subjects.subject import Sampling, user
from tests.engine.toy import Dice


class HardSettings(Settings):
    model: str = "sim:dice"
    number: int = 0
    calls: int = 3
    kill_before: int = -1
    kills: int = 0
    marks: str = ""
    block: float = 0.0
    size: int = 0
    shared: bool = False
    odd: bool = False


class HardOutcome(Outcome):
    total: int
    size: int = 0
    text: str = ""


class Hard(Family[HardSettings, HardOutcome]):
    name = "hard"
    Settings = HardSettings
    Outcome = HardOutcome
    simulated = {"dice": Dice}

    async def run(self, settings: HardSettings, lab: Lab) -> HardOutcome:
        subject = lab.subject(settings.model, "roller", scope="run" if settings.shared else "trial")
        total = 0
        for number in range(settings.calls):
            if number == settings.kill_before:
                self._die(settings, lab)
            key = f"roll {number}" if settings.shared else None
            reply = await subject.reply([user(f"roll {number}")], Sampling(max_tokens=5), key=key)
            total += int(reply.text)
        if settings.block:
            Path(settings.marks).touch()
            time.sleep(settings.block)
        lab.save("big.bin", os.urandom(settings.size) if settings.size else "")
        text = "\ud800" if settings.odd else ""  # half a character, which UTF-8 cannot hold
        return HardOutcome(total=total, size=settings.size, text=text)

    def _die(self, settings: HardSettings, lab: Lab) -> None:
        """Kill this worker, unless it has been done often enough; marks outlive the worker."""
        marks = Path(settings.marks)
        done = len(list(marks.glob(f"{lab.trial_id}.*")))
        if done < settings.kills:
            (marks / f"{lab.trial_id}.{done}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
