"""The smallest family there is: `calls` calls to one subject. For benchmarks of the engine."""

from __future__ import annotations

from peira.engine.lab import Lab
from peira.families.family import Family, Outcome, Settings
from peira.subjects.subject import Sampling, user


class OneCallSettings(Settings):
    model: str = "sim:noop"
    calls: int = 1
    work: int = 0
    level: float = 0.0


class OneCallOutcome(Outcome):
    score: float


class OneCall(Family[OneCallSettings, OneCallOutcome]):
    name = "one-call"
    Settings = OneCallSettings
    Outcome = OneCallOutcome

    async def run(self, settings: OneCallSettings, lab: Lab) -> OneCallOutcome:
        subject = lab.subject(settings.model, "respondent")
        for number in range(settings.calls):
            await subject.reply([user(f"question {number}")], Sampling(max_tokens=8))
        total = sum(k * k for k in range(settings.work))
        return OneCallOutcome(score=settings.level + (lab.seed + total) % 1000 / 1000)
