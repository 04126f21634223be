"""A family whose every text is hostile: names, levels, replies, thoughts, events, failures."""

import asyncio
import threading
from typing import ClassVar

from peira.engine.lab import Lab
from peira.errors import TrialFailed
from peira.families.family import Family, Outcome, Settings
from peira.subjects.simulated import SimSpec
from peira.subjects.subject import Reply, Request, Sampling, Usage, system, user

PROBE = (
    "\"'><xss-probe onmouseover=pwn() style=color:red></xss-probe><script>window.pwned=1</script>"
    '<img src=x onerror="window.pwned=1">{{7*7}}${7*7}[a](javascript:pwn())\u202edrawkcab\x1b[31m'
)


class TalkSettings(Settings):
    model: str = "sim:talker"
    temperature: float = 0.5
    partner: str = "a"
    gated: bool = False


class TalkOutcome(Outcome):
    score: float
    won: bool
    depth: dict[str, float]
    note: str


class Talker:
    def __init__(self, spec: SimSpec) -> None:
        spec.only()

    def answer(self, request: Request) -> Reply:
        text = f"talk {request.seed % 97} {PROBE}"
        return Reply(
            text, reasoning=f"thought {PROBE}", usage=Usage(120, 40), served_model=f"m{PROBE}"
        )


class Talk(Family[TalkSettings, TalkOutcome]):
    name = "talk"
    Settings = TalkSettings
    Outcome = TalkOutcome
    simulated = {"talker": Talker}
    gate: ClassVar[threading.Semaphore] = threading.Semaphore(0)  # one release lets one trial end

    async def run(self, settings: TalkSettings, lab: Lab) -> TalkOutcome:
        seats = [lab.subject(settings.model, name) for name in ("Ada", f"Bob {PROBE}")]
        for number in (1, 2):
            for seat in seats:
                await seat.reply(
                    [system(f"rules {PROBE}"), user(f"round {number} {PROBE}")],
                    Sampling(max_tokens=9), label=f"round {number}/talk {PROBE}",
                )  # fmt: skip
            lab.emit(f"over {PROBE}", round=number, note=PROBE)
        lab.save("notes.txt", PROBE)
        while settings.gated and not self.gate.acquire(blocking=False):
            await asyncio.sleep(0.01)
        score = float(lab.rng("score").random()) + settings.temperature
        if score > 1.8 and not settings.gated:
            raise TrialFailed("unreadable", f"could not read {PROBE}")
        return TalkOutcome(score=score, won=score > 0.9, depth={f"deep {PROBE}": score}, note=PROBE)
