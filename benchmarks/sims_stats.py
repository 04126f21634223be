"""The simulation gate of `peira.stats` (`make sims`): do the default paths keep their promises?

Type I error in [.04, .06] (exact tests at most .05), coverage of 95% intervals at least .93, FDR
at most .055, sequential rules at most alpha under continuous looks. All data here are simulated.
A row fails when it misses its bar by more than two Monte Carlo standard errors. A few minutes on
one core; `--scale 0.2` is a quick look. Prints the table of docs/statistics.md; exit code 1 if a
row fails.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from peira.stats import (
    StopRule,
    benjamini_hochberg,
    bootstrap_ratings,
    capability_slope,
    cluster_mean,
    crossed_slope,
    decide,
    fit_form,
    mcnemar_exact_p,
    mcnemar_mid_p,
    mixed_difference,
    paired_difference,
    spending_bounds,
    tango_limits,
    wild_mean_p,
)
from peira.stats.confidence_sequences import log_e_value


@dataclass(frozen=True)
class Row:
    """One promise: what, where, the figure, its Monte Carlo error (0 if exact), and the bar."""

    what: str
    where: str
    value: float
    error: float
    low: float
    high: float

    @property
    def ok(self) -> bool:
        return self.low - 2 * self.error <= self.value <= self.high + 2 * self.error


TYPE_I, EXACT, COVERAGE, FDR = (0.04, 0.06), (0.0, 0.05), (0.93, 1.0), (0.0, 0.055)


def rate(what: str, where: str, hits: int, runs: int, bar: tuple[float, float]) -> Row:
    smooth = (hits + 1) / (runs + 2)  # no run of luck has an error of zero
    return Row(what, where, hits / runs, math.sqrt(smooth * (1 - smooth) / runs), *bar)


def paired_scores(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """`paired_difference`: symmetric differences (type I), skewed zero-inflated ones (coverage)."""
    for n in (20, 50, 200):
        rejected = covered = skewed = 0
        for _ in range(runs):
            zero = paired_difference(rng.normal(0, 1, n), np.zeros(n), seed=rng, resamples=2000)
            rejected += zero.p is not None and zero.p <= 0.05
            covered += _covers(zero, 0.0)
            d = np.where(rng.random(n) < 0.6, 0.0, rng.beta(1, 3, n))
            skewed += _covers(paired_difference(d, np.zeros(n), seed=rng, resamples=2000), 0.1)
        yield rate("paired scores, sign-flip: type I", f"n={n}", rejected, runs, TYPE_I)
        yield rate(
            "paired scores, bootstrap-t: coverage", f"n={n}, normal", covered, runs, COVERAGE
        )
        yield rate("paired scores, bootstrap-t: coverage", f"n={n}, skewed", skewed, runs, COVERAGE)


def _covers(result: object, truth: float) -> bool:
    low, high = getattr(result, "low", None), getattr(result, "high", None)
    return low is not None and high is not None and low <= truth <= high


def small_skewed(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """Below 20 no interval keeps its level on skewed scores: every result must carry the flag."""
    flagged = 0
    for _ in range(runs):
        d = np.append(np.where(rng.random(9) < 0.6, 0.0, rng.beta(1, 3, 9)), 0.5)
        flagged += "interval_unreliable" in paired_difference(d, np.zeros(10), seed=rng).flags
    yield rate("paired scores below n=20: flagged", "n=10, skewed", flagged, runs, (1.0, 1.0))


def paired_pass_fail(_runs: int, _rng: np.random.Generator) -> Iterator[Row]:
    """McNemar and Tango by exact enumeration: no Monte Carlo error."""
    from scipy.stats import multinomial

    for n in (20, 50, 200):
        gain = loss = 0.1
        b, c = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
        fits = b + c <= n
        b, c = b[fits], c[fits]
        chance = multinomial.pmf(
            np.column_stack([b, c, n - b - c]), n, [gain, loss, 1 - gain - loss]
        )
        likely = chance > 1e-9
        tables = list(
            zip(b[likely].tolist(), c[likely].tolist(), chance[likely].tolist(), strict=True)
        )
        for name, test in (("exact", mcnemar_exact_p), ("mid-p", mcnemar_mid_p)):
            size = sum(p for x, y, p in tables if test(x, y) <= 0.05)
            yield Row(f"paired pass/fail, {name} McNemar: type I", f"n={n}", size, 0.0, *EXACT)
        inside = sum(p for x, y, p in tables if _between(tango_limits(x, y, n), gain - loss))
        yield Row("paired pass/fail, Tango: coverage", f"n={n}", inside, 0.0, *COVERAGE)


def _between(limits: tuple[float, float], value: float) -> bool:
    return limits[0] <= value <= limits[1]


def clusters(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """Cluster sizes 1-8, ICC .2. At 8 the wild bootstrap, whose interval inverts its p."""
    for g in (8, 15, 40):
        count = max(200, runs // 2) if g == 8 else 2 * runs
        rejected = 0
        for _ in range(count):
            labels = np.repeat(np.arange(g), rng.integers(1, 9, g))
            d = rng.normal(0, math.sqrt(0.2), g)[labels] + rng.normal(
                0, math.sqrt(0.8), labels.size
            )
            p = wild_mean_p(d, labels) if g < 12 else cluster_mean(d, labels).p
            rejected += p is not None and p <= 0.05
        method = "wild bootstrap-t" if g < 12 else "CR2"
        yield rate(f"clusters, {method}: type I", f"G={g}", rejected, count, TYPE_I)
        yield rate(f"clusters, {method}: coverage", f"G={g}", count - rejected, count, COVERAGE)


def round_robins(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """All ordered pairs x 4 seeds, latent model sd .4."""
    for m in (6, 10, 20):
        first, second = np.array([(i, j) for i in range(m) for j in range(m) if i != j] * 4).T
        x = np.linspace(-1, 1, m)
        capability = dict(enumerate(x.tolist()))
        missed = 0
        for _ in range(runs):
            skill = rng.normal(0, 0.4, m)
            y = skill[first] - skill[second] + 0.3 + rng.normal(0, 1, first.size)
            p = capability_slope(first.tolist(), second.tolist(), y, capability).p
            missed += p is not None and p <= 0.05
        yield rate("model scores, t(M-2): type I", f"M={m}", missed, runs, TYPE_I)
        yield rate("model scores, t(M-2): coverage", f"M={m}", runs - missed, runs, COVERAGE)


def scaling_slopes(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """Recovery of a planted slope over models."""
    from peira.stats import parameter_interval

    for m in (6, 14):
        x = np.linspace(-2, 2, m)
        hits = 0
        for _ in range(runs):
            y = 0.1 + 0.17 * x + rng.normal(0, 0.08, m)
            assert fit_form("linear", x, y).reason is None
            hits += _covers(parameter_interval("linear", "slope", x, y), 0.17)
        yield rate("scaling slope: coverage", f"M={m}", hits, runs, COVERAGE)


def false_discoveries(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """40 tests, 4 real: mean share of false rejections (BH, alpha .05)."""
    from scipy.special import ndtr

    shares = []
    for _ in range(4 * runs):
        z = rng.normal(0, 1, 40)
        z[:4] += 3
        rejected = np.array(benjamini_hochberg(2 * ndtr(-np.abs(z))).rejected)
        shares.append(rejected[4:].sum() / max(1, rejected.sum()))
    error = float(np.std(shares)) / math.sqrt(len(shares))
    yield Row("Benjamini-Hochberg: FDR", "40 tests, 4 real", float(np.mean(shares)), error, *FDR)


def mixed_models(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """Unbalanced replicates (item and item x condition random), and games of a round robin."""
    few, fits = max(100, runs // 20), max(100, 3 * runs // 8)
    rejected = 0
    for _ in range(fits):
        item, treated = np.repeat(np.arange(20), 6), np.tile([0.0, 1.0], 60)
        each = rng.normal(0, 0.5, (20, 2))[item, treated.astype(int)]
        y = rng.normal(0, 1, 20)[item] + each + rng.normal(0, 1, 120)
        keep = rng.random(120) < 0.7
        found = mixed_difference(y[keep], item[keep], treated[keep])
        rejected += found.p is not None and found.p <= 0.05
    yield rate("mixed model, Satterthwaite: type I", "20 items", rejected, fits, TYPE_I)
    for models in (6, 10):
        first, second = zip(*permutations(range(models), 2), strict=True)
        i, j = np.array(first), np.array(second)
        x = np.linspace(0, 1, models)
        covered = 0
        for _ in range(few):
            own = rng.normal(0, 0.4, models)
            y = (x[i] - x[j]) + own[i] - own[j] + rng.normal(0, 1, i.size)
            found = crossed_slope(first, second, y, dict(enumerate(x)))
            covered += found.defined and found.low <= 1.0 <= found.high
        yield rate("crossed slope: coverage", f"M={models}", covered, few, COVERAGE)


def ratings(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """Bradley-Terry abilities of equal models. Every pair has a taste of its own (models
    reweighted), or models do better in some scenarios than in others (scenarios reweighted)."""
    for models, scenarios in ((6, 0), (8, 0), (12, 0), (20, 0), (6, 8), (6, 20)):
        played = list(permutations(range(models), 2)) * (scenarios or 4)
        first, second = np.array(played).T
        scenario = np.arange(first.size) // (models * (models - 1))
        shares = []
        for _ in range(max(50, runs // 8)):
            taste = np.triu(rng.normal(0, 0.7, (models, models)), 1)
            knack = rng.normal(0, 0.5, (scenarios + 4, models))
            own = knack[scenario, first] - knack[scenario, second]
            lean = own if scenarios else (taste - taste.T)[first, second]
            won = (rng.random(first.size) < 1 / (1 + np.exp(-0.3 - lean))).astype(float)
            found = bootstrap_ratings(
                first, second, won, seed=rng, scenario=scenario if scenarios else None,
                reference=0, resamples=400,
            )  # fmt: skip
            inside = [low <= 0 <= high for low, high in found.limits()]
            shares.append((sum(inside) - 1) / (models - 1))  # the reference itself is no news
        error = float(np.std(shares)) / math.sqrt(len(shares))
        by, where = (
            ("scenarios", f"{scenarios} scenarios") if scenarios else ("models", f"M={models}")
        )
        name = f"ratings, {by} reweighted: coverage"
        yield Row(name, where, float(np.mean(shares)), error, *COVERAGE)


def continuous_looks(runs: int, rng: np.random.Generator) -> Iterator[Row]:
    """Sequential rules looked at after every pair."""
    count = 4 * runs
    signs = np.where(rng.random((count, 300)) < 0.5, 1, 0)
    log_e = log_e_value(np.cumsum(signs, axis=1), np.cumsum(1 - signs, axis=1))
    crossed = int((log_e.max(axis=1) >= math.log(20)).sum())
    yield rate("e-process, every pair: type I", "300 discordant pairs", crossed, count, EXACT)
    rule = StopRule("confidence-sequence", units=400, value_range=(-1.0, 1.0))
    few = max(100, runs // 4)
    stopped = 0
    for _ in range(few):
        d = rng.beta(2, 2, 400) - rng.beta(2, 2, 400)
        stopped += decide(rule, d).why == "efficacy"
    yield rate("confidence sequence (betting): type I", "400 pairs", stopped, few, EXACT)
    bounds = spending_bounds([0.25, 0.5, 0.75, 1.0])
    steps = rng.normal(0, 0.5, (10 * runs, 4)).cumsum(axis=1)
    z = np.abs(steps) / np.sqrt(bounds.fractions)
    hits = int((z >= np.array(bounds.critical)).any(axis=1).sum())
    yield rate("group sequential, 4 looks: type I", "Lan-DeMets OBF", hits, 10 * runs, TYPE_I)


GATES: tuple[Callable[[int, np.random.Generator], Iterator[Row]], ...] = (
    paired_scores,
    small_skewed,
    paired_pass_fail,
    clusters,
    round_robins,
    scaling_slopes,
    false_discoveries,
    mixed_models,
    continuous_looks,
    ratings,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of runs")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--only", choices=[gate.__name__ for gate in GATES], help="one part of it")
    args = parser.parse_args()
    runs, started, failed = max(50, round(4000 * args.scale)), time.process_time(), 0
    print("| promise | at | value | MC se | bar | |")
    print("|---|---|---|---|---|---|")
    for i, gate in enumerate(GATES):
        if args.only not in (None, gate.__name__):
            continue
        for row in gate(runs, np.random.default_rng([args.seed, i])):
            failed += not row.ok
            bar = f"{row.low:g} to {row.high:g}"
            mark = "ok" if row.ok else "**FAIL**"
            print(
                f"| {row.what} | {row.where} | {row.value:.4f} | {row.error:.4f} | {bar} | {mark} |",
                flush=True,
            )
    print(f"\n{runs} runs per row, seed {args.seed}, {time.process_time() - started:.0f} CPU s.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
