"""A small family for tests of the engine: a few calls, a sum, an artifact."""

from peira.engine.lab import Lab
from peira.errors import TrialFailed
from peira.families.family import Family, Outcome, Settings
from peira.subjects.simulated import SimSpec
from peira.subjects.subject import Request, Sampling, user


class ToySettings(Settings):
    model: str = "sim:dice"
    calls: int = 3
    level: float = 0.0
    fail: str = ""


class ToyOutcome(Outcome):
    total: int
    draw: float


class Dice:
    def __init__(self, spec: SimSpec) -> None:
        spec.only()

    def answer(self, request: Request) -> str:
        return str(request.seed % 6 + 1)


class Toy(Family[ToySettings, ToyOutcome]):
    name = "toy"
    Settings = ToySettings
    Outcome = ToyOutcome
    simulated = {"dice": Dice}

    async def run(self, settings: ToySettings, lab: Lab) -> ToyOutcome:
        if settings.fail == "code":
            raise ValueError("planted bug")
        if settings.fail:
            raise TrialFailed(settings.fail, "planted failure")
        subject = lab.subject(settings.model, "roller")
        total = 0
        for number in range(settings.calls):
            reply = await subject.reply(
                [user(f"roll {number}, total {total}")], Sampling(max_tokens=5)
            )
            total += int(reply.text)
        lab.emit("sum", total=total)
        lab.save("total.txt", str(total))
        return ToyOutcome(total=total, draw=float(lab.rng("draw").random()))


class Unseated(Toy):
    """Does not tell whom it asks."""

    name = "unseated"

    def seats(self, settings: ToySettings) -> dict[str, str]:
        return {}
