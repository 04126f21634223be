"""What goes with success: searched on odd replicates, confirmed on even ones.

Only assigned levels are called causes; a fired event or an early metric goes with success. All
p values come from one permutation of the success table (replicates as blocks, then variations within
a replicate), so the search is corrected for its own size (max T; Westfall and Young 1993).
Invariant: nothing is a success factor that was not found on one half and confirmed on the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from peira.families.scenarios.batch import Batch, Trial
from peira.families.scenarios.factorial import Floats
from peira.families.scenarios.success import missed_criteria
from peira.families.scenarios.summaries import (
    as_number,
    cost_efficiency,
    limits,
    numeric,
    success_rate,
)  # fmt: skip
from peira.stats.intervals import wilson
from peira.stats.patterns import area_under_curve
from peira.stats.tables import mantel_haenszel as common_odds_ratio
from peira.study.seeds import derive

SUPPORT, DRAWS, ALPHA = 5, 9_999, 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something a trial has or has not; None where it cannot be said."""

    factor: str
    level: str
    kind: str
    has: tuple[bool | None, ...]


def identify(batch: Batch) -> dict[str, Any]:
    """patterns.json."""
    trials = batch.trials
    rate = success_rate(trials, bool(batch.criteria))
    found = search(batch) if batch.criteria else Search((), (), (), None)
    counts = batch.counts()
    met = sum(1 for t in trials if t.success) if batch.criteria else counts["done"]
    return {
        "simulated": batch.simulated, "success_rate": rate.estimate, "success_ci": limits(rate),
        "success_basis": "criteria" if batch.criteria else "completion",
        "total_runs": counts["planned"], "successful_runs": met,
        "failed_runs": counts["failed"], "tested": len(found.candidates),
        "success_factors": [row for row in found.rows if row["confirmed"]],
        "candidates": [row for row in found.rows if not row["confirmed"]],
        "auc": found.auc, "failure_modes": failure_modes(batch),
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
@dataclass(frozen=True, slots=True)
class Search:
    """Candidates, their rows, which are confirmed, and the out-of-sample AUC."""

    candidates: Sequence[Candidate]
    rows: Sequence[dict[str, Any]]
    confirmed: Sequence[int]
    auc: float | None


def search(batch: Batch) -> Search:
    """Find on odd replicates, confirm on even ones."""
    asked = candidates(batch)
    met = np.array([bool(trial.success) for trial in batch.trials], dtype=float)
    odd = np.array([trial.replicate % 2 == 1 for trial in batch.trials])
    seed = derive(batch.name, "patterns")
    p_found = _max_t(batch.trials, met, asked, odd, seed)
    chosen = [i for i, p in enumerate(p_found) if p is not None and p < ALPHA]
    confirmed: dict[int, float | None] = {}
    if chosen:
        tested = [asked[i] for i in chosen]
        p_again = _max_t(batch.trials, met, tested, ~odd, seed + 1)
        confirmed = dict(zip(chosen, p_again, strict=True))
    rows = [
        _row(batch, candidate, p_found[i], confirmed.get(i), met)
        for i, candidate in enumerate(asked)
    ]
    good = [i for i, row in enumerate(rows) if row["confirmed"]]
    return Search(asked, rows, good, _auc(batch, met, odd))


def _max_t(
    trials: Sequence[Trial], met: Floats, asked: Sequence[Candidate], half: np.ndarray, seed: int
) -> list[float | None]:
    """Family-wise p of each candidate on one half of the trials."""
    index: list[int] = np.flatnonzero(half).tolist()
    if not index or not asked or met[index].min() == met[index].max():
        return [None] * len(asked)
    table = np.array([[c.has[i] is True for i in index] for c in asked], dtype=float)
    known = np.array([[c.has[i] is not None for i in index] for c in asked], dtype=float)
    usable = (table.sum(axis=1) > 0) & ((known - table).sum(axis=1) > 0)
    observed = _scores(met[index][None, :], table, known)[0]
    hits = np.zeros(len(asked))
    rng = np.random.default_rng(seed)
    done = 0
    while done < DRAWS:
        size = min(500, DRAWS - done)
        drawn = _shuffled([trials[i] for i in index], met[index], size, rng)
        largest = _scores(drawn, table[usable], known[usable]).max(axis=1, initial=0.0)
        hits += (largest[:, None] >= observed[None, :] - 1e-9).sum(axis=0)
        done += size
    return [
        float((1 + h) / (1 + DRAWS)) if ok else None for h, ok in zip(hits, usable, strict=True)
    ]


def _scores(met: Floats, table: Floats, known: Floats) -> Floats:
    """|difference of success rates| in null standard errors, per draw and candidate."""
    n1, n0 = table.sum(axis=1), (known - table).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate1, rate0 = met @ table.T / n1, met @ (known - table).T / n0
        pooled = met @ known.T / (n1 + n0)
        spread = np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
        scores = np.abs(rate1 - rate0) / spread
    return np.where(np.isfinite(scores), scores, 0.0)


def _shuffled(trials: Sequence[Trial], met: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Success under permutation: whole replicates first, then variations within each."""
    replicates = sorted({trial.replicate for trial in trials})
    variations = sorted({trial.variation for trial in trials})
    grid = np.full((len(replicates), len(variations)), np.nan)
    rows = np.array([replicates.index(trial.replicate) for trial in trials])
    columns = np.array([variations.index(trial.variation) for trial in trials])
    grid[rows, columns] = met
    if np.isnan(grid).any():  # an unbalanced plan: one exchangeable lot
        return rng.permuted(np.tile(met, (size, 1)), axis=1)
    order = np.argsort(rng.random((size, len(replicates))), axis=1)
    drawn = rng.permuted(grid[order], axis=2)
    return np.asarray(drawn[:, rows, columns])


def _row(
    batch: Batch, candidate: Candidate, p_found: float | None, p_again: float | None, met: Floats
) -> dict[str, Any]:
    chosen = p_again is not None and p_again < ALPHA
    pooled = mantel_haenszel(batch, candidate, met)
    return {
        "factor": candidate.factor, "level": candidate.level, "kind": candidate.kind,
        "cause": candidate.kind == "assigned level", **pooled,
        "p_found": p_found, "p_confirmed": p_again, "n": sum(_sides(candidate.has)),
        "confirmed": chosen,
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
        "odds_ratio": odds.estimate, "ci": limits(odds), "simpson": simpson, "reason": odds.reason
    }  # fmt: skip


def _log_odds(table: Floats) -> float | None:
    a, b, c, d = (float(x) for x in table)
    if min(a + b, c + d) == 0:
        return None
    return math.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))


def _auc(batch: Batch, met: Floats, odd: np.ndarray) -> float | None:
    """How well the variations' success on odd replicates ranks the trials of even ones."""
    hits: Counter[int] = Counter()
    totals: Counter[int] = Counter()
    for trial, success, found in zip(batch.trials, met, odd, strict=True):
        if found:
            hits[trial.variation] += int(success)
            totals[trial.variation] += 1
    scores = [(hits[t.variation] + 0.5) / (totals[t.variation] + 1) for t in batch.trials]
    if len(batch.variations) < 2:
        return None
    return area_under_curve(np.array(scores)[~odd], met[~odd])


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
            "ci": limits(share), "by_variation": dict(sorted(by_variation.items())),
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
    rates: dict[int, tuple[int, int]] = {}
    for number in batch.variations:
        trials = [t for t in batch.trials if t.variation == number]
        rates[number] = (
            sum(1 for t in trials if (t.success if batch.criteria else t.done)),
            len(trials),
        )
    if not any(hits for hits, _ in rates.values()):
        return None
    highest = max(hits / n for hits, n in rates.values())
    number, *tied = [v for v, (hits, n) in rates.items() if hits / n == highest]
    hits, n = rates[number]
    together = wilson(hits, n, 1 - ALPHA / len(rates))
    return {
        "variation_id": number, "description": batch.variations[number], "success_rate": hits / n,
        "tied_with": tied, "shrunken": shrunken(rates)[number], "ci": limits(together),
        "interval": f"Wilson, simultaneous over {len(rates)} variations (Bonferroni)",
    }  # fmt: skip


def shrunken(rates: Mapping[int, tuple[int, int]]) -> dict[int, float]:
    """Rates drawn towards their mean by the share of their variance that is sampling error
    (empirical Bayes, moments)."""
    p = {key: hits / n for key, (hits, n) in rates.items()}
    if len(p) < 2:
        return p
    mean = sum(p.values()) / len(p)
    within = {key: max(mean * (1 - mean), 1e-12) / rates[key][1] for key in p}
    spread = float(np.var(list(p.values()), ddof=1))
    between = max(0.0, spread - sum(within.values()) / len(within))
    return {key: mean + between / (between + within[key]) * (p[key] - mean) for key in p}
