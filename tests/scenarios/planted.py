"""Batches with a known truth, made in memory by the rule of the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from peira.families.scenarios.batch import Batch, Trial, judged
from peira.families.scenarios.settings import Metric
from tests.scenarios.conftest import LEVEL

METRIC = "cooperation_level"
CRITERIA = {"high": {METRIC: ">= 6"}}


def batch_of(
    rows: list[tuple[int, int, dict[str, Any] | None]],
    cost: Callable[[int, int], float] | None = None,
) -> Batch:
    """A batch of (variation, replicate, final values or None for a failed trial)."""
    trials = []
    for variation, replicate, final in rows:
        trial = Trial(
            f"var-{variation:03d}-run-{replicate:03d}", variation, replicate, replicate,
            "done" if final is not None else "failed", None if final is not None else "provider",
            None, {"seat": f"level {variation}"}, f"seat=level {variation}", final=final or {},
            cost=cost(variation, replicate) if cost else 0.0,
        )  # fmt: skip
        trials.append(judged(trial, CRITERIA))
    levels = tuple(dict.fromkeys(t.factors["seat"] for t in trials))
    spent = sum(t.cost for t in trials)
    return Batch("rows", "s", tuple(trials), {METRIC: Metric.model_validate(LEVEL)}, CRITERIA,
                 {"seat": levels}, length=1, spent=spent)  # fmt: skip


def planted(
    seed: int, lift: float, *, replicates: int = 20, block_sd: float = 0.5, sd: float = 1.0
) -> Batch:
    """planted.yaml's design: regulator firm or conceding (by `lift`), two names of the company."""
    rng = np.random.default_rng(seed)
    trials = []
    for replicate in range(1, replicates + 1):
        block = rng.normal(0, block_sd) if block_sd else 0.0
        for number, (a, b) in enumerate(
            [(a, b) for a in ("firm", "conceding") for b in ("north", "south")], start=1
        ):
            noise = rng.normal(0, sd)
            own = lift if a == "conceding" else 0.0
            by_turn = {
                t: {METRIC: round(min(10.0, max(0.0, 4 + own * t / 3 + block + noise)), 1)}
                for t in (1, 2, 3)
            }
            trial = Trial(
                f"var-{number:03d}-run-{replicate:03d}", number, replicate, replicate, "done", None,
                None, {"regulator": a, "tech-company": b}, f"regulator={a}, tech-company={b}",
                turns=3, final=by_turn[3], by_turn={0: {METRIC: 4.0}, **by_turn},
            )  # fmt: skip
            trials.append(judged(trial, CRITERIA))
    factors = {"regulator": ("firm", "conceding"), "tech-company": ("north", "south")}
    return Batch(f"planted {seed}", "s", tuple(trials), {METRIC: Metric.model_validate(LEVEL)},
                 CRITERIA, factors, length=3)  # fmt: skip
