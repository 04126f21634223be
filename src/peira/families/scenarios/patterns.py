"""What goes with success: searched on odd replicates, confirmed on even ones.

Only assigned levels are called causes; a fired event or an early metric goes with success. All
p values come from one permutation of the success table (replicates as blocks, then variations within
a replicate), so the search is corrected for its own size (max T; Westfall and Young 1993).
Invariant: nothing is a success factor that was not found on one half and confirmed on the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.scenarios.batch import Batch, Trial
from peira.families.scenarios.conditions import missed_criteria
from peira.families.scenarios.summaries import (
    as_number,
    cost_efficiency,
    numeric,
    success_rate,
)  # fmt: skip
from peira.stats.intervals import wilson
from peira.stats.meta import shrunken_rates
from peira.stats.patterns import area_under_curve, rate_max_t
from peira.stats.permutation import PValue
from peira.stats.tables import mantel_haenszel as common_odds_ratio
from peira.study.seeds import derive

SUPPORT, DRAWS, ALPHA = 5, 9_999, 0.05
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something a trial has or has not; None where it cannot be said."""

    factor: str
    level: str
    kind: str
    has: tuple[bool | None, ...]


def identify(batch: Batch) -> dict[str, Any]:
    """patterns.json."""
    rate = success_rate(batch.trials, bool(batch.criteria))
    rows, auc = search(batch) if batch.criteria else ([], None)
    counts = batch.counts()
    return {
        "simulated": batch.simulated, "success_rate": rate.estimate, "success_ci": rate.limits,
        "success_basis": "criteria" if batch.criteria else "completion",
        "total_runs": counts["planned"], "successful_runs": batch.met(batch.trials),
        "failed_runs": counts["failed"], "tested": len(rows),
        "success_factors": [row for row in rows if row["confirmed"]],
        "candidates": [row for row in rows if not row["confirmed"]],
        "auc": auc, "failure_modes": failure_modes(batch),
        "cost_efficiency": cost_efficiency(batch), "best_variation": best_variation(batch),
    }  # fmt: skip


# -- candidates ---
def candidates(batch: Batch) -> list[Candidate]:
    """Each level, fired event and mid-run metric with enough trials on both sides."""
    found: list[Candidate] = []
    for factor, levels in batch.factors.items():
        for level in levels if len(levels) > 1 else ():
            has = tuple(trial.factors.get(factor) == level for trial in batch.trials)
            found.append(Candidate(factor, level, "assigned level", has))
        if len(levels) == 2:
            found.pop()  # the second of two levels says the same as the first
    for name in sorted({name for trial in batch.done for name in trial.events}):
        fired = tuple(bool(t.events.get(name)) if t.done else None for t in batch.trials)
        found.append(Candidate(name, "fired", "event", fired))
    found += _midway(batch)
    return [c for c in found if min(_sides(c.has)) >= SUPPORT]


def _midway(batch: Batch) -> list[Candidate]:
    turn = batch.length // 2
    if turn < 1 or batch.length < 2:
        return []
    found = []
    for name, metric in batch.metrics.items():
        if not numeric(metric):
            continue
        values = [as_number(t.by_turn.get(turn, {}).get(name)) for t in batch.trials]
        known = [value for value in values if value is not None]
        if known:
            middle = median(known)
            has = tuple(None if value is None else value > middle for value in values)
            found.append(Candidate(name, f"> {middle:g} at turn {turn}", "mid-run metric", has))
    return found


def _sides(has: Sequence[bool | None]) -> tuple[int, int]:
    return sum(1 for x in has if x), sum(1 for x in has if x is False)


# -- search and confirmation ---
def search(batch: Batch) -> tuple[list[dict[str, Any]], float | None]:
    """A row for each candidate, found on odd replicates and confirmed on even ones, and the AUC out
    of sample."""
    asked = candidates(batch)
    met = np.array([bool(trial.success) for trial in batch.trials], dtype=float)
    odd = np.array([trial.replicate % 2 == 1 for trial in batch.trials])
    seed = derive(batch.name, "patterns")
    p_found = _family_wise(batch, met, asked, odd, seed)
    chosen = [i for i, test in enumerate(p_found) if test and test.p < ALPHA]
    again = _family_wise(batch, met, [asked[i] for i in chosen], ~odd, seed + 1)
    p_again = dict(zip(chosen, again, strict=True))
    rows = [_row(batch, c, p_found[i], p_again.get(i), met) for i, c in enumerate(asked)]
    return rows, _auc(batch, met, odd)


def _family_wise(
    batch: Batch, met: Floats, asked: Sequence[Candidate], half: np.ndarray, seed: int
) -> list[PValue | None]:
    """p of each candidate on one half of the trials."""
    index = np.flatnonzero(half)
    has = np.array([[np.nan if x is None else x for x in c.has] for c in asked], dtype=float)
    blocks, cells = (np.array([getattr(t, name) for t in batch.trials])[index]
                     for name in ("replicate", "variation"))  # fmt: skip
    return rate_max_t(
        met[index],
        has.reshape(len(asked), met.size)[:, index],
        blocks,
        cells,
        seed=seed,
        draws=DRAWS,
    )


def _row(
    batch: Batch, candidate: Candidate, found: PValue | None, again: PValue | None, met: Floats
) -> dict[str, Any]:
    return {
        "factor": candidate.factor, "level": candidate.level, "kind": candidate.kind,
        "cause": candidate.kind == "assigned level", **mantel_haenszel(batch, candidate, met),
        "p_found": found.p if found else None, "p_confirmed": again.p if again else None,
        "n": sum(_sides(candidate.has)), "confirmed": bool(again and again.p < ALPHA),
        **{f"{name}_{what}": getattr(test, what) for name, test in (("found", found), ("confirmed", again))
           for what in ("mc_error", "seed") if test and test.mc_error is not None},
    }  # fmt: skip


# -- odds ratios ---
def mantel_haenszel(batch: Batch, candidate: Candidate, met: Floats) -> dict[str, Any]:
    """Common odds ratio over the strata of the other factors, its interval, and whether any
    stratum points the other way (Simpson)."""
    strata: dict[tuple[str, ...], list[float]] = {}
    for trial, has, success in zip(batch.trials, candidate.has, met, strict=True):
        if has is None:
            continue
        key = tuple(
            trial.factors.get(f, "")
            for f in batch.factors
            if not (candidate.kind == "assigned level" and f == candidate.factor)
        )
        table = strata.setdefault(key, [0.0, 0.0, 0.0, 0.0])
        table[(0 if has else 2) + (0 if success else 1)] += 1
    tables = np.array(list(strata.values()))
    crude = _log_odds(tables.sum(axis=0))
    signs = [_log_odds(table) for table in tables]
    simpson = crude is not None and any(s is not None and s * crude < 0 for s in signs)
    odds = common_odds_ratio(tables.reshape(-1, 2, 2))
    return {
        "odds_ratio": odds.estimate, "ci": odds.limits, "simpson": simpson, "reason": odds.reason
    }  # fmt: skip


def _log_odds(table: Floats) -> float | None:
    a, b, c, d = (float(x) for x in table)
    if min(a + b, c + d) == 0:
        return None
    return math.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))


def _auc(batch: Batch, met: Floats, odd: np.ndarray) -> float | None:
    """How well the variations' success on odd replicates ranks the trials of even ones."""
    if len(batch.variations) < 2:
        return None
    number = np.array([trial.variation for trial in batch.trials])
    hits, totals = np.bincount(number[odd], met[odd], 1 + number.max()), np.bincount(
        number[odd], minlength=1 + number.max())  # fmt: skip
    scores = (hits + 0.5) / (totals + 1)
    return area_under_curve(scores[number[~odd]], met[~odd])


# -- how trials fall short ---
def failure_modes(batch: Batch) -> list[dict[str, Any]]:
    """Causes of loss, missed criteria, end conditions: share of planned trials, interval."""
    modes: dict[tuple[str, str], list[Trial]] = {}
    for trial in batch.trials:
        for mode in _modes(batch, trial):
            modes.setdefault(mode, []).append(trial)
    planned = len(batch.trials)
    rows = []
    for (kind, name), trials in sorted(modes.items(), key=lambda item: -len(item[1])):
        share = wilson(len(trials), planned)
        by_variation = Counter(str(trial.variation) for trial in trials)
        rows.append({
            "mode": name, "kind": kind, "n": len(trials), "share": share.estimate,
            "ci": share.limits, "by_variation": dict(sorted(by_variation.items())),
        })  # fmt: skip
    return rows


def _modes(batch: Batch, trial: Trial) -> list[tuple[str, str]]:
    if not trial.done:
        return [(trial.state, trial.cause or "unknown")] if trial.state != "pending" else []
    if trial.success or not batch.criteria:
        return []
    modes = [("criterion", name) for name in missed_criteria(batch.criteria, trial.final)]
    return modes + ([("end condition", trial.ended_by)] if trial.ended_by else [])


def best_variation(batch: Batch) -> dict[str, Any] | None:
    """The variation with the highest rate, shrunken towards the mean, with an interval that holds
    for all variations at once. None when nothing succeeded."""
    groups = {number: batch.of(number) for number in batch.variations}
    rates = {number: (batch.met(trials), len(trials)) for number, trials in groups.items()}
    if not any(hits for hits, _ in rates.values()):
        return None
    highest = max(hits / n for hits, n in rates.values())
    number, *tied = [v for v, (hits, n) in rates.items() if hits / n == highest]
    hits, n = rates[number]
    together = wilson(hits, n, 1 - ALPHA / len(rates))
    return {
        "variation_id": number, "description": batch.variations[number], "success_rate": hits / n,
        "tied_with": tied, "shrunken": dict(zip(rates, shrunken_rates(rates.values()), strict=True))[number], "ci": together.limits,
        "interval": f"Wilson, simultaneous over {len(rates)} variations (Bonferroni)",
    }  # fmt: skip
