"""What the engine costs per call and per trial, with a subject that does nothing.

    python benchmarks/bench_engine.py

CPU time of the driver, journal thread included, minimum over repeats: the machine may be shared.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from peira import api
from peira.study.study import Study

FAMILY = f"{Path(__file__).with_name('one_call.py')}:OneCall"
TARGETS = {"call_ms": 0.2, "trials_per_cpu_second": 1000.0}


def study(replicates: int, **fixed: object) -> Study:
    return Study(
        family=FAMILY, name="bench", fixed=fixed, replicates=replicates,
        save_individual_runs=False, aggregate_metrics=False, limits={"max_parallel": 32},
    )  # fmt: skip


def spent(the_study: Study, folder: Path, **options: object) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one run."""
    cpu, wall = time.process_time(), time.perf_counter()
    report = api.run(the_study, api.Options(run_dir=folder, **options))
    assert report.exit_code == 0, report
    return time.process_time() - cpu, time.perf_counter() - wall


def best(make: object, repeats: int = 3, **options: object) -> tuple[float, float]:
    """The cheapest of several fresh runs."""
    runs = []
    for _ in range(repeats):
        folder = Path(tempfile.mkdtemp(prefix="peira-bench-"))
        runs.append(spent(make(), folder / "run", **options))
        shutil.rmtree(folder)
    return min(runs)


def per_call() -> None:
    few, _ = best(lambda: study(100, calls=1))
    many, _ = best(lambda: study(100, calls=201))
    each = (many - few) / (100 * 200) * 1000
    print(f"engine per model call        {each:8.3f} ms CPU   (target < {TARGETS['call_ms']} ms)")


def per_trial() -> None:
    cpu, _ = best(lambda: study(5000))
    rate = 5000 / cpu
    goal = TARGETS["trials_per_cpu_second"]
    print(f"one-call trials              {rate:8.0f} per CPU-second   (target >= {goal:.0f})")


def paid_calls() -> None:
    """Through ledger, budget and fsync, as a real provider's replies go."""
    cpu, wall = best(lambda: study(200, calls=20, model="sim:noop,cost=0.000001"))
    print(f"paid calls, durable          {cpu / 4000 * 1000:8.3f} ms CPU, {4000 / wall:.0f}/s wall")


def resume() -> None:
    """From the command to the first new trial, when a hundredth of a run is missing."""
    folder = Path(tempfile.mkdtemp(prefix="peira-bench-"))
    count = 20_000
    spent(study(count), folder / "run")
    with sqlite3.connect(folder / "run" / "run.db") as db:
        db.execute("UPDATE trials SET state='pending' WHERE position % 100 = 0")
    first: list[float] = []
    start = time.process_time()

    def watch(session: api.Session) -> None:
        session.driver.listeners.append(lambda result: first.append(time.process_time() - start))

    report = api.run(study(count), api.Options(run_dir=folder / "run", on_start=watch))
    assert report.ran == count // 100
    print(f"resume of {count:,} trials      {first[0]:8.3f} s CPU to the first new trial")
    shutil.rmtree(folder)


def processes() -> None:
    """CPU-bound trials on one worker and on two."""
    work = {"work": 200_000}
    _, one = best(lambda: study(400, **work), 2, executor="processes",
                  executor_options={"workers": 1})  # fmt: skip
    _, two = best(lambda: study(400, **work), 2, executor="processes",
                  executor_options={"workers": 2})  # fmt: skip
    print(f"processes, two workers       {one / two:8.2f} x one worker (wall, start-up included)")


if __name__ == "__main__":
    for part in (per_call, per_trial, paid_calls, resume, processes):
        part()
