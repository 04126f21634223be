"""One comparison that every executor has to stand: the same study, run locally."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from peira import api
from peira.store.records import RunView
from peira.study.study import Study

ROOT = Path(__file__).parents[2]
HARD = f"{ROOT / 'tests' / 'engine' / 'hard.py'}:Hard"
PAID = "sim:dice,cost=0.01,worst=0.02"


def study(**changes) -> Study:
    """Paid simulated trials of the family that is hard on its workers."""
    base = {
        "family": HARD, "name": "scale", "factors": {"number": list(range(6))},
        "fixed": {"model": PAID}, "save_individual_runs": False,
    }  # fmt: skip
    return Study.model_validate(base | changes)


def facts(folder: Path) -> dict:
    """What must not depend on where a trial ran."""
    with RunView(folder) as run:
        return {r.slug: (str(r.state), r.cause, r.outcome, r.seed, r.cost) for r in run.records()}


def replies(folder: Path) -> dict[str, int]:
    """Replies by state."""
    with RunView(folder) as run:
        return dict(run.query("SELECT state, COUNT(*) FROM replies GROUP BY state"))


@pytest.fixture
def local(tmp_path) -> Callable[[Study], dict]:
    """The facts of a study run on this loop."""

    def run(the_study: Study) -> dict:
        assert api.run(the_study, api.Options(run_dir=tmp_path / "local")).exit_code == 0
        return facts(tmp_path / "local")

    return run


@pytest.fixture
def after_first() -> Callable[[Callable[[], None]], Callable[[api.Session], None]]:
    """An `on_start` that calls a function, in a thread, once the first trial has ended."""

    def make(act: Callable[[], None]) -> Callable[[api.Session], None]:
        def start(session: api.Session) -> None:
            first = asyncio.Event()
            session.driver.listeners.append(lambda result: first.set())

            async def wait() -> None:
                await first.wait()
                await asyncio.to_thread(act)

            session.watch = asyncio.get_running_loop().create_task(wait())

        return start

    return make
