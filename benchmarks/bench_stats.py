"""Speed of the statistics: CPU seconds against the project's limits, and ratios to scipy.

Simulated data. Each line: what, CPU seconds, limit or ratio, work per CPU second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from peira.stats import (
    StopRule,
    cluster_mean,
    decide,
    hodges_lehmann,
    max_t,
    mcnemar_power,
    paired_difference,
    sign_flip,
    wilcoxon,
)
from peira.stats.bootstrap import bca_limits, bootstrap_t_limits


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of the quicker of two runs; the first one also pays the imports."""
    times = []
    for _ in range(2):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def line(what: str, seconds: float, limit: float | None, amount: float, unit: str) -> None:
    bar = "" if limit is None else f"limit {limit:g} s {'ok' if seconds < limit else 'MISSED'}"
    print(f"{what:58} {seconds:8.3f} s  {bar:16} {amount / max(seconds, 1e-9):12,.0f} {unit}/CPU-s")


def main() -> None:
    rng = np.random.default_rng(0)
    d5k, d25k, d200 = (rng.normal(0.1, 1, n) for n in (5_000, 25_000, 200))
    draws = 10_000 * 5_000
    line(
        "bootstrap-t, 10,000 x n=5,000",
        cpu(lambda: bootstrap_t_limits(d5k, 0.95, 1)),
        2,
        draws,
        "draws",
    )
    bca = cpu(lambda: bca_limits(d5k, None, 0.95, 1))
    line("BCa, 10,000 x n=5,000", bca, 2, draws, "draws")
    line(
        "Hodges-Lehmann with interval, n=25,000",
        cpu(lambda: hodges_lehmann(d25k)),
        2,
        25_000,
        "pairs",
    )
    line("Wilcoxon exact with ties, n=400", cpu(lambda: wilcoxon(d5k[:400])), None, 400, "pairs")
    line(
        "sign-flip, 9,999 x n=5,000",
        cpu(lambda: sign_flip(d5k * np.pi, seed=1)),
        None,
        9_999 * 5_000,
        "signs",
    )
    line(
        "paired_difference, n=200",
        cpu(lambda: paired_difference(d200, 0 * d200, seed=1)),
        None,
        1,
        "calls",
    )
    line(
        "paired_difference, n=25,000",
        cpu(lambda: paired_difference(d25k, 0 * d25k, seed=1)),
        None,
        1,
        "calls",
    )
    labels = np.repeat(np.arange(2_500), 10)
    line(
        "clustered mean CR2, 2,500 clusters",
        cpu(lambda: cluster_mean(d25k, labels)),
        None,
        25_000,
        "rows",
    )
    few = np.arange(200) % 8
    line(
        "wild bootstrap interval, 8 clusters, 6^8 patterns",
        cpu(lambda: cluster_mean(d200, few)),
        None,
        1,
        "calls",
    )
    metrics = {f"m{i}": rng.normal(size=1_000) for i in range(20)}
    line("max-T, 20 metrics x n=1,000", cpu(lambda: max_t(metrics, seed=1)), None, 20, "metrics")
    line(
        "McNemar exact power, n=10,000",
        cpu(lambda: mcnemar_power(0.1, 0.08, 10_000)),
        None,
        1,
        "calls",
    )
    for method in ("group-sequential", "e-process", "confidence-sequence"):
        rule = StopRule(method, 5_000, value_range=(-1.0, 1.0))
        signs = np.sign(rng.normal(size=5_000))
        line(
            f"stop rule, {method}, 5,000 pairs",
            cpu(lambda r=rule, s=signs: decide(r, s)),
            None,
            5_000,
            "pairs",
        )
    against_scipy(d5k)
    report_of_100k(rng)


def report_of_100k(rng: np.random.Generator) -> None:
    """100,000 records: 10 contrasts of 5,000 items x 2 arms, with every paired summary."""

    def analyse() -> None:
        for _ in range(10):
            t, c = rng.random(5_000), rng.random(5_000)
            paired_difference(t, c, seed=1)
            hodges_lehmann(t, c)
            wilcoxon(t, c)
            sign_flip(t, c, seed=1)
            bootstrap_t_limits(t - c, 0.95, 1)

    line("analysis of 100,000 records, 10 contrasts", cpu(analyse), 30, 100_000, "records")


def against_scipy(d: np.ndarray) -> None:
    from scipy.stats import bootstrap

    few = d[:1_000]
    ours = cpu(lambda: bca_limits(few, None, 0.95, 1))
    theirs = cpu(
        lambda: bootstrap((few,), np.mean, n_resamples=10_000, method="BCa", batch=100, rng=1)
    )
    print(f"BCa, 10,000 x n=1,000: {theirs / ours:.1f} times as fast as scipy.stats.bootstrap")


if __name__ == "__main__":
    main()
