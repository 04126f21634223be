"""Games per CPU-second, prompt building by round, preference draws and yardsticks.

    python benchmarks/bench_negotiation.py

One core. Targets of the specification are printed beside the numbers; nothing is asserted. A full
game is two agents, five items, all phases, to round 10 (two that never concede).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from peira.engine.attempt import attempt
from peira.engine.lab import Bench, TrialTask
from peira.engine.ledger import Sharing
from peira.families.negotiation import Negotiation
from peira.families.negotiation.context import GameLog, messages
from peira.families.negotiation.game import Game
from peira.families.negotiation.preferences import value_vectors
from peira.families.negotiation.settings import NegotiationSettings
from peira.families.negotiation.yardsticks import measure
from peira.subjects.route import Routes


class NoLedger:
    """Keeps nothing."""

    def check(self) -> None:
        return None

    def keep(self, *_: object) -> None:
        return None


def cpu(work: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU seconds over repeats."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def games(models: list[str], count: int) -> float:
    """Games per CPU-second, transcript packed as it is stored: the best of many small batches,
    since whatever else the machine does can only slow one down."""
    family = Negotiation()
    bench = Bench(Routes(kinds=family.simulated), NoLedger(), Sharing())  # type: ignore[arg-type]
    settings = NegotiationSettings.model_validate({"models": models}).model_dump(mode="json")

    async def play_all() -> None:
        for seed in range(count):
            task = TrialTask(seed, str(seed), str(seed), seed, 1, 1, settings, {})
            result = await attempt(family, task, bench, None)
            assert result.state == "done", result.message

    asyncio.run(play_all())  # warm caches: templates, settings
    return count / cpu(lambda: asyncio.run(play_all()), repeats=50)


def prompt_growth() -> tuple[float, float]:
    """CPU seconds to build every prompt of a game of 50 and of 100 rounds."""

    def build(rounds: int) -> None:
        settings = NegotiationSettings(models=("a", "b"), max_rounds=rounds)
        game = Game(tuple("abcde"), ((20.0,) * 5,) * 2)
        log = GameLog(settings, game)
        offer = {"number": 1, "seat": 0, "allocation": (0, 0, 1, 1, 1), "reasoning": "fair"}
        for number in range(1, rounds + 1):
            log.add({"kind": "round", "round": number, "order": (0, 1)})
            for seat in (0, 1):
                messages(log, seat, "discussion")
                log.add({"kind": "statement", "seat": seat, "text": "I need the b. " * 8})
            log.add({"kind": "proposals", "proposals": [offer]})
            messages(log, 0, "vote")
            log.add({"kind": "tally", "counts": [(1, 1, 1)]})

    return cpu(lambda: build(50)), cpu(lambda: build(100))


def drawn(n: int, m: int, count: int) -> float:
    """CPU seconds of one draw of value vectors."""
    return (
        cpu(lambda: [value_vectors(np.random.default_rng(s), n, m, 0.5) for s in range(count)])
        / count
    )


def measured(n: int, m: int, count: int) -> float:
    """CPU seconds of all yardsticks of one deal in a fresh instance."""
    fresh = []
    for repeat in range(3):
        instances = []
        for seed in range(count):
            values = value_vectors(np.random.default_rng((repeat, seed)), n, m, 0.5).astype(float)
            rows = tuple(tuple(row) for row in values.tolist())
            instances.append(Game(tuple(map(str, range(m))), rows))
        start = time.process_time()
        for game in instances:
            measure(game, (0,) * m, 0.9, 10)
        fresh.append((time.process_time() - start) / count)
    return min(fresh)


def main() -> None:
    """Print everything."""
    full = games(["sim:tough", "sim:tough"], 5)
    calls = 118
    print(f"full games to round 10      {full:8.1f} per CPU-second (target 100)")
    print(f"  one call, all in          {1e6 / full / calls:8.1f} us")
    skilled = games(["sim:skill=0.9", "sim:skill=0.4"], 5)
    print(f"games of skilled agents     {skilled:8.1f} per CPU-second")
    half, whole = prompt_growth()
    print(f"prompts, 100 / 50 rounds    {whole / half:8.2f} times (2 is linear)")
    print(f"preferences n=2 m=5         {1e3 * drawn(2, 5, 200):8.2f} ms (target 5)")
    print(f"preferences n=6 m=15        {1e3 * drawn(6, 15, 20):8.2f} ms (target 300)")
    print(f"yardsticks n=2 m=5          {1e3 * measured(2, 5, 100):8.2f} ms (target 1)")
    print(f"yardsticks n=3 m=15         {1e3 * measured(3, 15, 5):8.2f} ms (target 50)")


if __name__ == "__main__":
    main()
