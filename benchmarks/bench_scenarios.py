"""Scenarios: the statistical gates over 200 seeds, and the speed of turns, batches and analyses.

python benchmarks/bench_scenarios.py            # everything, some minutes
python benchmarks/bench_scenarios.py speed      # speed alone
python benchmarks/bench_scenarios.py statistics # success rates, coverage, power, false alarms
python benchmarks/bench_scenarios.py statistics --seeds 20
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.scenarios.conftest import Bench
from tests.scenarios.planted import planted

from peira import api
from peira.families.scenarios import patterns
from peira.families.scenarios.analysis import Results, analyse
from peira.families.scenarios.batch import from_run
from peira.store.records import RunView
from peira.study.study import Study

LEVELS = ["sim:actor,lift=0", "sim:actor,lift=2"]


def check(what: str, value: float, allowed: str, good: bool) -> None:
    print(f"{'ok  ' if good else 'FAIL'} {what}: {value:g} (allowed {allowed})")


# -- statistics ---
def shipped(name: str, seed: int) -> Results:
    """One shipped batch, played through the whole engine under another root seed."""
    with tempfile.TemporaryDirectory() as folder:
        question = api.ask(Path("studies/scenarios") / name)
        question.study = question.study.model_copy(
            update={"seed": seed, "save_individual_runs": False}
        )
        api.run(question, api.Options(run_dir=Path(folder)))
        with RunView(Path(folder)) as run:
            return Results(from_run(run))


def gate(what: str, hits: int, seeds: int, rate: float, at_least: bool) -> None:
    """One line per count: the allowed one is what a true `rate` passes but once in 250 tables."""
    from scipy.stats import binom

    bound = int(binom.ppf(0.004 if at_least else 0.996, seeds, rate))
    good = hits >= bound if at_least else hits <= bound
    check(f"{what}, of {seeds} seeds", hits, f"{'>=' if at_least else '<='} {bound}", good)


def planted_gate(seeds: int) -> None:
    """Coverage, power and false alarms of the shipped batches."""
    covered = found = false = nulls = empty = 0
    for seed in range(seeds):
        results = shipped("planted.yaml", seed)
        tests = {(e.outcome, e.factor): e for e in results.effects.confirmatory}
        regulator = tests["cooperation_level", "regulator"]
        low, high = regulator.estimate.low, regulator.estimate.high
        covered += low is not None and high is not None and low <= 1.5 <= high
        found += (regulator.p_adjusted or 1.0) < 0.05
        company = tests["cooperation_level", "tech-company"]
        false += (company.p_adjusted or 1.0) < 0.05
        null = shipped("null.yaml", 10_000 + seed)
        nulls += any(
            (e.p_adjusted or 1.0) < 0.05
            for e in null.effects.confirmatory if e.outcome == "cooperation_level"
        )  # fmt: skip
        empty += not null.patterns["success_factors"]
    gate("planted: regulator's interval covers 1.5", covered, seeds, 0.95, True)
    gate("planted: regulator rejected (Holm)", found, seeds, 0.999, True)
    gate("planted: tech-company rejected", false, seeds, 0.05, False)
    gate("null: any primary rejected", nulls, seeds, 0.05, False)
    gate("null: success_factors empty", empty, seeds, 0.993, True)


def success_gate() -> None:
    """Success by level: 1,000 trials a level, criterion >= 6, no block effect."""
    batch = planted(7, lift=2.0, replicates=500, block_sd=0.0)
    for level, expected, width in (("conceding", 0.520, 0.05), ("firm", 0.026, 0.015)):
        own = [t for t in batch.trials if t.factors["regulator"] == level]
        rate = sum(1 for t in own if t.success) / len(own)
        check(f"success of {level} (n {len(own)})", rate, f"{expected} ± {width}",
              abs(rate - expected) <= width)  # fmt: skip
    listed = [f["level"] for f in patterns.identify(batch)["success_factors"] if f["cause"]]
    check(
        "assigned levels listed as success factors", len(listed), "1: regulator", listed == ["firm"]
    )


# -- speed ---
def study(folder: Path, **fields: Any) -> Study:
    base = Bench(folder)
    if not (folder / "scenario").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        base.scenario(**fields.pop("scenario", {}))
    limits = {"max_parallel": fields.pop("parallel", 8)}
    return Study(family="scenarios", fixed={"base_scenario": str(folder / "scenario")},
                 limits=limits, output_dir=str(folder / "run"), **fields)  # fmt: skip


def thousand() -> None:
    """1,000 trials of 3 turns, run, filed and analysed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        start, cpu = time.perf_counter(), time.process_time()
        spec = [
            {"name": "regulator", "type": "actor_model", "actor": "regulator", "values": LEVELS}
        ]
        made = study(path, replicates=500, factors={"regulator": LEVELS}, parallel=64)
        made.fixed["variations"] = spec
        report = api.run(made)
        ran = time.process_time() - cpu
        with RunView(path / "run") as run:
            analyse(run)
        wall, total = time.perf_counter() - start, time.process_time() - cpu
        assert report.tally.done == 1000
        print(f"1,000 trials x 3 turns: {wall:.1f} s wall, {total:.1f} s CPU, run and filed at"
              f" {3000 / ran:.0f} turns per CPU second")  # fmt: skip
        check("1,000 trials run and analysed (s)", wall, "< 120", wall < 120)
        check("CPU per turn, files included (ms)", 1000 * ran / 3000, "< 10", ran / 3000 < 0.010)


def length() -> None:
    """Turns cost the same at the end of a trial as at its start."""
    spent = {}
    for turns in (10, 100):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            made = study(path, replicates=8, scenario={"turns": turns})
            cpu = time.process_time()
            api.run(made)
            spent[turns] = time.process_time() - cpu
    ratio = spent[100] / spent[10]
    check("100 turns against 10 (ratio of CPU)", ratio, "<= 11", ratio <= 11)


def parallel() -> None:
    """8 trials of 20 turns at 50 ms a call: parallel against one after another."""
    walls, results, peak = {}, {}, 0
    for trials in (1, 8):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            slow = {"llm_model": "sim:actor,latency=0.05"}
            seats = {"turns": 20, "actors": {"a": slow, "b": slow},
                     "world_state_model": "sim:world,latency=0.05"}  # fmt: skip
            made = study(path, replicates=8, parallel=trials, scenario=seats)
            counter = Peak()
            with counter:
                start = time.perf_counter()
                api.run(made)
                walls[trials] = time.perf_counter() - start
            peak = max(peak, counter.most)
            with RunView(path / "run") as run:
                results[trials] = [(t.run_id, t.by_turn) for t in from_run(run).trials]
    ratio = walls[1] / walls[8]
    check("8 trials at once against 1 (ratio of wall time)", ratio, ">= 6", ratio >= 6)
    check("peak calls in flight", peak, ">= 14", peak >= 14)
    check("identical results", float(results[1] == results[8]), "1", results[1] == results[8])


class Peak:
    """Counts simulated calls in flight while it is open."""

    def __enter__(self) -> Peak:
        from peira.subjects.simulated import SimulatedWire

        self.now = self.most = 0
        self._wire, self._send = SimulatedWire, SimulatedWire.send
        send = self._send

        async def counted(wire: Any, request: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await send(wire, request)
            finally:
                self.now -= 1

        SimulatedWire.send = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.send = self._send  # type: ignore[method-assign]


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("what", nargs="*", default=["speed", "statistics"])
    asked.add_argument("--seeds", type=int, default=200)
    options = asked.parse_args()
    if "speed" in options.what:
        for run in (thousand, length, parallel):
            run()
    if "statistics" in options.what:
        success_gate()
        planted_gate(options.seeds)


if __name__ == "__main__":
    main()
