"""What the prompts family costs and whether its statistics keep their word.

python benchmarks/bench_prompts.py end-to-end   25,000 items x 2 arms: rows, scores, report
python benchmarks/bench_prompts.py planted      500 seeds: bias, coverage, false alarms
python benchmarks/bench_prompts.py killed       11,000 items in batch mode, kill -9 at each step
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SRC = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SRC)

CONFIG = """
model_id: {model}
prompt_sets: {{plain: {{control: {here}/c.txt, treatment: {here}/t.txt}}}}
data: {{source: simulated}}
sizes: {{closed_book_max_items: {closed}, open_book_max_items: {opened}}}
top_k: null
{rest}
"""


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """An empty folder with two prompts, as the working directory."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "c.txt").write_text("You are a helpful assistant.")
        (here / "t.txt").write_text("Answer only what you know.")
        os.chdir(here)
        yield here
        os.chdir("/")


def write_config(here: Path, model: str, closed: int, opened: int, rest: str) -> None:
    text = CONFIG.format(model=model, here=here, closed=closed, opened=opened, rest=rest)
    (here / "c.yaml").write_text(text)


def end_to_end(items: int = 25_000) -> None:
    """One command, nothing prepared: seconds, CPU seconds and peak memory."""
    with workspace() as here:
        effect = "simulated: {effects: {plain.treatment: {accuracy: 0.2, abstain: 0.1}}}"
        write_config(here, "sim:respondent", items * 3 // 5, items * 2 // 5, effect)
        began = time.perf_counter()
        command = [sys.executable, "-m", "peira.cli.main", "evaluate", "--config", "c.yaml"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": SRC})
        wall = time.perf_counter() - began
        use = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = use.ru_utime + use.ru_stime
        rows = 2 * items
        print(f"{rows:,} rows: {wall:.1f} s wall, {cpu:.1f} CPU s ({rows / cpu:,.0f} rows a CPU s)")
        print(f"peak memory {use.ru_maxrss / 1024:,.0f} MiB; wanted: under 300 s and 2,048 MiB")


def planted(seeds: int = 2_000) -> None:
    """The planted truth of acceptance 10, and the same without an effect."""
    from peira.families.prompts import loaders
    from peira.families.prompts.scoring import exact_match
    from peira.families.prompts.simulated import (
        Effect,
        Observation,
        Parameters,
        expected,
        reply_text,
    )
    from peira.stats.mcnemar import paired_outcomes

    items = loaders.simulated(400, 0).items
    dials = Parameters()

    def said(seed: int, arm: str, effect: Effect) -> list[float]:
        return [
            exact_match(
                reply_text(Observation(i, f"{seed}|{arm}|{i.key}", seed), dials, effect), i.answers
            )
            for i in items
        ]

    means = [expected(items, dials, Effect(accuracy=a))["em"] or 0.0 for a in (0.0, 0.8)]
    truth = means[1] - means[0]
    found, covered, alarms = [], 0, 0
    for seed in range(seeds):
        control = said(seed, "control", Effect())
        effect = paired_outcomes(said(seed, "a", Effect(accuracy=0.8)), control)
        nothing = paired_outcomes(said(seed, "b", Effect()), control)
        found.append(effect.estimate or 0.0)
        covered += (effect.low or 0) <= truth <= (effect.high or 0)
        alarms += (nothing.p or 1) <= 0.05
    mean = sum(found) / seeds
    error = math.sqrt(sum((x - mean) ** 2 for x in found) / (seeds - 1) / seeds)
    print(f"truth {truth:.6f}, mean estimate {mean:.6f}, {(mean - truth) / error:+.2f} errors off")
    print(f"intervals cover {covered / seeds:.1%} (wanted 92 to 98 %)")
    print(f"without effect {alarms / seeds:.1%} rejected (wanted at most 7 %)")


def killed(items: int = 11_000) -> None:
    """Batch mode on the fault server, the driver killed at each request in turn, then resumed."""
    from peira.testing import Faults, FaultServer

    with workspace() as here, FaultServer(Faults(polls=1)).running() as server:
        rest = f"""
use_batch_api: true
provider:
  base_url: {server.url}/v1
  batch: {{kind: openai, gather_seconds: 0.2, poll_seconds: 0.05}}
pricing: {{input_per_million: 1, output_per_million: 2}}
"""
        write_config(here, "stub-model", items, 0, rest)
        lines: list[str] = []
        server.on_request = lines.append
        whole = finish(here, "whole")
        steps = len(lines)
        print(f"{steps} requests of the batch interface for {2 * items:,} rows")
        for step in range(1, steps + 1):
            server.jobs.rows.clear()
            kills = kill_at(step, server, here)
            scores = finish(here, f"k{step}")
            twice = sum(n > 1 for n in server.jobs.rows.values())
            print(
                f"  killed at {step:2d} ({lines[step - 1].split('/')[-1][:12]:12s}): {kills} kill,"
                f" bought {len(server.jobs.rows):,}, twice {twice},"
                f" scores {'identical' if scores == whole else 'DIFFER'}"
            )


def start(run_id: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "peira.cli.main", "evaluate", "--config", "c.yaml",
               "--run-id", run_id, "--skip-stats", "--skip-report", "--skip-costs"]  # fmt: skip
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": SRC})


def finish(here: Path, run_id: str) -> bytes:
    """Run to the end; the bytes of row_scores.csv."""
    assert start(run_id).wait() == 0
    (path,) = (here / "experiments" / f"run_{run_id}").glob("trials/*/results/row_scores.csv")
    assert len(path.with_name("predictions.csv").read_bytes().splitlines()) > 1
    return path.read_bytes()


def kill_at(step: int, server: object, here: Path) -> int:
    process = start(f"k{step}")
    seen: list[str] = []

    def count(line: str) -> None:
        seen.append(line)
        if len(seen) == step:
            process.send_signal(signal.SIGKILL)
            process.wait()

    server.on_request = count  # type: ignore[attr-defined]
    code = process.wait()
    server.on_request = None  # type: ignore[attr-defined]
    return int(code == -signal.SIGKILL)


if __name__ == "__main__":
    chosen = {"end-to-end": end_to_end, "planted": planted, "killed": killed}
    for name in sys.argv[1:] or list(chosen):
        print(f"-- {name}")
        chosen[name]()
