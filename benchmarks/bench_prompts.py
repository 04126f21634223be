"""What the prompts family costs and whether its statistics keep their word.

python benchmarks/bench_prompts.py end-to-end   25,000 items x 2 arms: rows, scores, report
python benchmarks/bench_prompts.py planted      500 seeds run: bias, coverage, false alarms
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
from typing import Any

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


def planted(seeds: int = 500) -> None:
    """Acceptance 10 on runs as a user makes them: 400 items, an arm that is better and one that has
    the control's own prompt, one trial a seed; estimates, intervals and tests are the product's."""
    with workspace() as here:
        (here / "s.txt").write_text((here / "c.txt").read_text())
        effect = f"""
prompt_sets: {{plain: {{control: c.txt, better: t.txt, same: s.txt}}}}
seeds: {list(range(seeds))}
simulated: {{effects: {{plain.better: {{accuracy: 0.8}}}}}}
"""
        write_config(here, "sim:respondent", 400, 0, effect)
        text = (here / "c.yaml").read_text().splitlines()
        (here / "c.yaml").write_text("\n".join(t for t in text if "treatment:" not in t))
        command = [sys.executable, "-m", "peira.cli.main", "evaluate", "--config", "c.yaml",
                   "--run-id", "planted", "--to-step", "poll"]  # fmt: skip
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": SRC})
        tell_planted(here / "experiments" / "run_planted")


def tell_planted(path: Path) -> None:
    """Bias, coverage and false alarms over the trials of a run."""
    from peira.families.prompts.effects import Comparison, estimate, sides
    from peira.families.prompts.evaluated import evaluate
    from peira.families.prompts.simulated import Effect, Parameters, expected
    from peira.store.records import RunView

    with RunView(path) as run:
        trials = evaluate(run).done
    items, dials = trials[0].items, Parameters()
    means = [expected(items, dials, Effect(accuracy=a))["em"] or 0.0 for a in (0.0, 0.8)]
    truth, seeds = means[1] - means[0], len(trials)
    found, covered, alarms = [], 0, 0
    for trial in trials:
        places = [Comparison(trial, 0.0, "closed", arm, "control", trial.of_type("closed"))
                  for arm in ("better", "same")]  # fmt: skip
        better, same = (estimate(at, "em", sides(at, "em"), at.clusters()) for at in places)
        found.append(better.estimate or 0.0)
        covered += (better.low or 0) <= truth <= (better.high or 0)
        alarms += (same.p or 1) <= 0.05
    mean = sum(found) / seeds
    error = math.sqrt(sum((x - mean) ** 2 for x in found) / (seeds - 1) / seeds)
    print(f"{seeds} seeds; expected em {means[0]:.6f} and {means[1]:.6f}")
    print(f"truth {truth:.6f}, mean estimate {mean:.6f}, {(mean - truth) / error:+.2f} errors off")
    print(f"intervals cover {covered / seeds:.1%} (wanted 92 to 98 %)")
    print(f"without effect {alarms / seeds:.1%} rejected (wanted at most 7 %)")
    print(f"  by calculation the test rejects {exact_size(items, dials):.2%} of such runs")


def exact_size(items: Any, dials: Any) -> float:
    """Chance of a false alarm of mid-p McNemar between two arms of one prompt: the number of
    discordant items is a sum of unequal coins, and each is a gain or a loss with equal chance."""
    import numpy as np
    from scipy.stats import binom, multivariate_normal, norm

    from peira.families.prompts.simulated import Effect, abstain_probability, correct_probability
    from peira.stats.mcnemar import mcnemar_mid_p

    def both(p: float) -> float:
        z = float(norm.ppf(p))
        return float(
            multivariate_normal.cdf([z, z], mean=[0, 0], cov=[[1, dials.rho], [dials.rho, 1]])
        )

    sizes = np.ones(1)
    for item in items:
        answered = 1 - abstain_probability(item, dials, Effect())
        right = correct_probability(item, dials, Effect())
        differ = 2 * (answered * right - both(answered) * both(right))
        sizes = np.convolve(sizes, [1 - differ, differ])
    return float(sum(
        share * sum(
            binom.pmf(b, m, 0.5) for b in range(m + 1) if mcnemar_mid_p(b, m - b) <= 0.05
        )
        for m, share in enumerate(sizes) if share > 1e-12
    ))  # fmt: skip


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
