"""A small family for tests of real models: a few dependent turns, some side by side."""

import asyncio
from hashlib import blake2b

from peira.engine.lab import Lab
from peira.errors import TrialFailed
from peira.families.family import Family, Outcome, Settings
from peira.subjects.subject import Sampling, system, user


class ChatSettings(Settings):
    model: str = "served"
    turns: int = 3
    side_by_side: int = 2
    topic: str = "weather"
    scope: str = "trial"
    unwanted: str = "no such words"


class ChatOutcome(Outcome):
    digest: str
    turns: int
    finishes: dict[str, int]


class Chat(Family[ChatSettings, ChatOutcome]):
    name = "chat"
    Settings = ChatSettings
    Outcome = ChatOutcome

    async def run(self, settings: ChatSettings, lab: Lab) -> ChatOutcome:
        subject = lab.subject(settings.model, "talker", scope=settings.scope)
        said, finishes = [f"seed {lab.seed}" if settings.scope == "trial" else "start"], {}
        for turn in range(settings.turns):
            head = [system(f"Talk about {settings.topic}."), user(f"{turn}: {said[-1]}")]
            replies = await asyncio.gather(
                *(
                    subject.reply(
                        [*head, user(f"voice {k}")],
                        Sampling(max_tokens=40, temperature=0.5),
                        label=f"turn {turn}/voice {k}",
                        key=self._key(settings, turn, k, said[-1]),
                    )
                    for k in range(settings.side_by_side)
                )
            )
            for reply in replies:
                if settings.unwanted in reply.text:
                    raise TrialFailed("unreadable", f"the reply holds {settings.unwanted!r}")
                finishes[reply.finish] = finishes.get(reply.finish, 0) + 1
            said.append(" / ".join(reply.text for reply in replies))
        digest = blake2b("\n".join(said).encode(), digest_size=8).hexdigest()
        return ChatOutcome(digest=digest, turns=settings.turns, finishes=finishes)

    def _key(self, settings: ChatSettings, turn: int, k: int, last: str) -> str | None:
        if settings.scope == "trial":
            return None
        return blake2b(f"{settings.topic}|{turn}|{k}|{last}".encode()).hexdigest()
