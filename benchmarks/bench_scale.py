"""How the engine grows: one-call simulated trials by the thousand, each size in a fresh process.

    python benchmarks/bench_scale.py [SIZE…]        default: 1000 10000 100000
    python benchmarks/bench_scale.py --cells SIZE   a grid of so many cells, planned and registered

Rate per CPU-second, peak memory, size of run.db, seconds from the command to the first new trial when
a hundredth of the trials is missing, CPU seconds of the default analysis. docs/scale.md holds the
table of record.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (1000, 10_000, 100_000)


def measure(count: int) -> dict[str, float]:
    """All figures of one size; run in a process of its own, so that memory is its own too."""
    from peira import api
    from peira.store.rundir import RunDir
    from peira.study.study import Study

    family = f"{Path(__file__).with_name('one_call.py')}:OneCall"
    study = Study(
        family=family, name="scale", factors={"level": [0, 1, 2, 3]}, replicates=count // 4,
        save_individual_runs=False, limits={"max_parallel": 32},
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="peira-scale-"))
    cpu, wall = time.process_time(), time.perf_counter()
    report = api.run(study, api.Options(run_dir=folder / "run"))
    assert report.tally.done == count
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    size = (folder / "run" / "run.db").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {
        "rate": count / cpu,
        "run_cpu": cpu,
        "run_wall": wall,
        "peak_mb": peak,
        "db_mb": size / 1e6,
    }
    found |= _resumed(folder / "run", study, count)
    cpu = time.process_time()
    api.analyse(RunDir(folder / "run"))
    found["analysis_cpu"] = time.process_time() - cpu
    found["peak_all_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shutil.rmtree(folder)
    return found


def cells(count: int) -> dict[str, float]:
    """Planning and registering a grid of `count` cells with one seed; one of them is run."""
    from peira import api
    from peira.study.study import Study

    family = f"{Path(__file__).with_name('one_call.py')}:OneCall"
    study = Study(
        family=family, name="cells", factors={"level": list(range(count // 100)),
                                              "work": list(range(100))},
        save_individual_runs=False,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="peira-scale-"))
    question, cpu = api.ask(study), time.process_time()
    assert len(question.cells()) == count
    planned = time.process_time() - cpu
    plan_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    driver: list[float] = []
    watch = lambda session: driver.append(time.process_time() - cpu)  # noqa: E731
    api.run(question, api.Options(run_dir=folder / "run", only=("0",), on_start=watch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shutil.rmtree(folder)
    return {"plan_cpu": planned, "plan_mb": plan_mb, "registered_cpu": driver[0], "peak_mb": peak}


def _resumed(run: Path, study: object, count: int) -> dict[str, float]:
    """A hundredth is missing, as after a kill; from the call to the first trial that ends."""
    from peira import api

    with sqlite3.connect(run / "run.db") as db:
        db.execute("UPDATE trials SET state='pending' WHERE position % 100 = 0")
    first: list[tuple[float, float]] = []

    def note(result: object) -> None:
        if not first:
            first.append((time.process_time(), time.perf_counter()))

    cpu, wall = time.process_time(), time.perf_counter()
    watch = lambda session: session.driver.listeners.append(note)  # noqa: E731
    report = api.run(study, api.Options(run_dir=run, on_start=watch))
    assert report.ran == count // 100
    return {"resume_cpu": first[0][0] - cpu, "resume_wall": first[0][1] - wall}


COLUMNS = (
    ("trials per CPU-s", "rate", ".0f"), ("CPU s", "run_cpu", ".1f"), ("peak MB", "peak_mb", ".0f"),
    ("run.db MB", "db_mb", ".1f"), ("resume CPU s", "resume_cpu", ".2f"),
    ("resume wall s", "resume_wall", ".2f"), ("analysis CPU s", "analysis_cpu", ".2f"),
    ("peak with analysis MB", "peak_all_mb", ".0f"),
)  # fmt: skip


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    print("| trials | " + " | ".join(label for label, _, _ in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for size in sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], capture_output=True, text=True,
            env=os.environ, check=True,
        )  # fmt: skip
        row = json.loads(done.stdout.splitlines()[-1])
        cells = (format(row[key], spec) for _, key, spec in COLUMNS)
        print(f"| {size:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(int(sys.argv[2]))))
    elif sys.argv[1:2] == ["--cells"]:
        print(json.dumps(cells(int(sys.argv[2]))))
    else:
        main()
