"""Numbers that describe: each metric over trials and turns, each variation, its cost.

Invariant: every mean carries n, missing and an interval or the reason for having none; trials that
were lost are counted where they were lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from peira.families.scenarios.batch import Batch, Trial
from peira.families.scenarios.conditions import Value
from peira.families.scenarios.settings import Metric
from peira.stats.bootstrap import bootstrap_t_limits
from peira.stats.intervals import t_interval, wilson
from peira.stats.result import Estimate
from peira.study.seeds import derive

Numbers = Sequence[float | None]
BOOT_FROM = 20


def numeric(metric: Metric) -> bool:
    """True when a mean of the values makes sense (booleans as shares of true)."""
    return metric.numeric or metric.kind == "bool"


def as_number(value: Value | None) -> float | None:
    """The value as a number; None when missing."""
    return None if value is None else float(value)


# -- one metric ---
def metric_summary(
    name: str, metric: Metric, trials: Sequence[Trial], *, pooled: bool
) -> dict[str, Any]:
    """n, missing with reasons, and the distribution of a metric's run values over done trials.

    `pooled`: trials come from several variations, so the interval is over replicate means.
    """
    done = [trial for trial in trials if trial.done]
    values = [trial.final.get(name) for trial in done]
    known = [value for value in values if value is not None]
    reasons = Counter(
        t.reasons.get(name, "not_measured") for t in done if t.final.get(name) is None
    )
    summary: dict[str, Any] = {
        "type": metric.kind, "unit": metric.unit or None, "n": len(known),
        "missing": len(values) - len(known), "missing_reasons": dict(reasons),
    }  # fmt: skip
    empty = dict.fromkeys(("mean", "std", "median", "min", "max", "ci", "ci_boot", "reason"))
    if not numeric(metric):
        return summary | empty | {"levels": _levels(metric, known)}
    numbers = [float(value) for value in known]
    summary |= empty | _moments(numbers)
    units = _replicate_means(name, done) if pooled else numbers
    interval = t_interval(units)
    summary |= {"ci": interval.limits, "reason": interval.reason, "units": interval.n}
    if len(units) >= BOOT_FROM:
        found = bootstrap_t_limits(np.array(units), 0.95, derive("ci", name, len(units)))
        summary["ci_boot"] = list(found) if found else None
    if metric.kind == "bool":
        summary["levels"] = _levels(metric, known)
    if metric.range and len(trials) > len(known):
        summary["bounds"] = _bounds(metric, numbers, len(trials))
    return summary


def _moments(numbers: list[float]) -> dict[str, Any]:
    if not numbers:
        return {}
    array = np.array(numbers)
    return {
        "mean": float(array.mean()), "median": float(median(numbers)),
        "std": float(array.std(ddof=1)) if len(numbers) > 1 else None,
        "min": min(numbers), "max": max(numbers),
    }  # fmt: skip


def _replicate_means(name: str, trials: Iterable[Trial]) -> list[float]:
    groups: dict[int, list[float]] = {}
    for trial in trials:
        value = trial.final.get(name)
        if value is not None:
            groups.setdefault(trial.replicate, []).append(float(value))
    return [sum(values) / len(values) for _, values in sorted(groups.items())]


def _bounds(metric: Metric, numbers: list[float], planned: int) -> list[float]:
    """The mean if every lost value lay at either end of the range."""
    assert metric.range is not None
    lost = planned - len(numbers)
    return [(sum(numbers) + lost * end) / planned for end in metric.range]


def _levels(metric: Metric, known: Sequence[Value]) -> dict[str, Any]:
    names = ["true", "false"] if metric.kind == "bool" else list(metric.levels)
    words = [str(value).lower() if isinstance(value, bool) else str(value) for value in known]
    names += [word for word in dict.fromkeys(words) if word not in names]
    counts = Counter(words)
    return {name: _share(counts[name], len(words)) for name in names}


def _share(hits: int, n: int) -> dict[str, Any]:
    rate = wilson(hits, n)
    return {"n": hits, "share": rate.estimate, "ci": rate.limits}


# -- turns ---
def trajectory(name: str, metric: Metric, batch: Batch) -> dict[str, dict[str, Any]]:
    """Variation -> turn -> n, missing, ended, mean, pointwise interval."""
    if not numeric(metric):
        return {}
    groups = {n: [t for t in batch.of(n) if t.done] for n in batch.variations}
    return {
        str(n): {str(turn): _point(name, trials, turn) for turn in range(batch.length + 1)}
        for n, trials in groups.items()
    }


def _point(name: str, trials: Sequence[Trial], turn: int) -> dict[str, Any]:
    present = [t for t in trials if turn in t.by_turn]
    values = [as_number(t.by_turn[turn].get(name)) for t in present]
    interval = t_interval(values)
    return {
        "n": interval.n, "missing": interval.missing, "ended": len(trials) - len(present),
        "mean": interval.estimate, "ci": interval.limits,
    }  # fmt: skip


def slope(name: str, trial: Trial) -> float | None:
    """Least-squares slope per turn over turns 1 to the end; None with fewer than two values."""
    points = [(turn, as_number(v.get(name))) for turn, v in trial.by_turn.items() if turn > 0]
    known = [(turn, value) for turn, value in points if value is not None]
    if not trial.done or len(known) < 2:
        return None
    x, y = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    steepness = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return round(float(steepness), 12)  # a test would rank the rounding of equal slopes


def change(name: str, trial: Trial) -> float | None:
    """Last value minus the first of turns 0 to the end; None when either is missing."""
    turns = sorted(trial.by_turn)
    if not trial.done or len(turns) < 2:
        return None
    first, last = (as_number(trial.by_turn[turn].get(name)) for turn in (turns[0], turns[-1]))
    return None if first is None or last is None else last - first


# -- success ---
def success_rate(trials: Sequence[Trial], criteria: bool) -> Estimate:
    """Success over all planned trials (whatever was lost counts as not met); without criteria,
    completion over started trials."""
    if criteria:
        return wilson(sum(1 for t in trials if t.success), len(trials)).with_(
            estimand="success over planned trials"
        )
    started = [t for t in trials if t.started]
    return wilson(sum(1 for t in started if t.done), len(started)).with_(
        estimand="completion over started trials"
    )


def success_summary(trials: Sequence[Trial], criteria: bool) -> dict[str, Any]:
    """Rate, interval, the rate among done trials, and best and worst cases."""
    rate = success_rate(trials, criteria)
    base = {"success_rate": rate.estimate, "success_ci": rate.limits, "success_n": rate.n}
    if not criteria:
        return base | {"success_done": None, "success_bounds": None}
    met = sum(1 for t in trials if t.success)
    decided = [t for t in trials if t.done and t.success is not None]
    done = wilson(met, len(decided))
    open_ = len(trials) - len(decided)
    bounds = [met / len(trials), (met + open_) / len(trials)] if trials else None
    return base | {
        "success_done": {"n": done.n, "rate": done.estimate, "ci": done.limits},
        "success_bounds": bounds,
    }


# -- variations ---
def variation_summary(batch: Batch, number: int) -> dict[str, Any]:
    """One entry of variation-statistics.json."""
    trials = batch.of(number)
    return {
        "description": batch.variations[number], "factors": dict(trials[0].factors),
        **batch.counts(number),
        **success_summary(trials, bool(batch.criteria)),
        "metrics": {
            name: metric_summary(name, metric, trials, pooled=False)
            for name, metric in batch.metrics.items()
        },
        "cost": cost_summary(trials),
    }  # fmt: skip


def cost_summary(trials: Iterable[Trial]) -> dict[str, Any]:
    """What started trials cost, in US dollars."""
    costs = [t.cost for t in trials if t.started]
    interval = t_interval(costs)
    return {
        "total": round(sum(costs), 6), "n": len(costs), "mean": interval.estimate,
        "ci": interval.limits, "min": min(costs, default=None), "max": max(costs, default=None),
    }  # fmt: skip


def cost_efficiency(batch: Batch) -> list[dict[str, Any]]:
    """USD per done trial and per success, and who is on the Pareto line of cost and success."""
    rows = []
    for number in batch.variations:
        trials = [t for t in batch.of(number) if t.started]
        total, done, met = (
            sum(t.cost for t in trials),
            sum(t.done for t in trials),
            batch.met(trials),
        )
        free = total <= 0
        rows.append({
            "variation_id": number, "n": len(trials),
            "usd_per_run": None if free or not done else total / done,
            "runs_per_dollar": None if free else done / total,
            "usd_per_success": None if free or not met else total / met,
            "ci": None if free else _per_success(batch, trials),
            "rate": met / len(trials) if trials else None, "mean_cost": total / max(1, len(trials)),
            "reason": "free" if free else None if met else "no_success", "pareto": False,
        })  # fmt: skip
    for row in rows:
        row["pareto"] = row["rate"] is not None and not any(_dominates(r, row) for r in rows)
    return rows


def _dominates(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a["rate"] is None:
        return False
    at_least = a["rate"] >= b["rate"] and a["mean_cost"] <= b["mean_cost"]
    return bool(at_least and (a["rate"] > b["rate"] or a["mean_cost"] < b["mean_cost"]))


def _per_success(batch: Batch, trials: Sequence[Trial]) -> list[float] | None:
    """Percentile bootstrap of total cost over total successes; None when a resample of successes
    can be empty too often to say."""
    costs = np.array([t.cost for t in trials])
    met = np.array([batch.met([t]) for t in trials], dtype=float)
    if met.sum() < 2:
        return None
    rng = np.random.default_rng(derive(batch.name, "usd per success", trials[0].variation))
    index = rng.integers(0, len(trials), size=(4_000, len(trials)))
    hits = met[index].sum(axis=1)
    if (hits == 0).mean() > 0.01:
        return None
    ratios = costs[index].sum(axis=1)[hits > 0] / hits[hits > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return [float(low), float(high)] if high > low else None


# -- loss ---
def loss_warnings(batch: Batch) -> list[str]:
    """A warning when variations, or the levels of a factor, lose trials at different rates (Fisher's
    exact test, p < .05; each factor is asked, since few of a kind hide among many variations)."""
    groups = {"Variations": [str(t.variation) for t in batch.trials]}
    groups |= {f"Levels of {f}": [t.factors.get(f, "") for t in batch.trials] for f in batch.varied}
    if len(batch.varied) == 1:  # each variation is a level
        del groups["Variations"]
    return [said for what, names in groups.items() if (said := _uneven(batch, what, names))]


def _uneven(batch: Batch, what: str, names: Sequence[str]) -> str | None:
    planned = Counter(names)
    lost = Counter(n for n, trial in zip(names, batch.trials, strict=True) if not trial.done)
    if len(planned) < 2 or lost.total() in (0, len(names)):
        return None
    table = [[n - lost[name], lost[name]] for name, n in planned.items()]
    p = _fisher(table, derive(batch.name, "loss"))
    if p >= 0.05:
        return None
    worst = max(planned, key=lambda name: lost[name] / planned[name])
    return (
        f"{what} lost trials at different rates (Fisher p = {p:.3g}; most in {worst}: {lost[worst]}"
        f" of {planned[worst]}): means over done trials may be biased."
    )


def _fisher(table: list[list[int]], seed: int) -> float:
    from scipy import stats

    if len(table) == 2:
        return float(stats.fisher_exact(np.array(table)).pvalue)
    rng = np.random.default_rng(seed)
    method = stats.MonteCarloMethod(n_resamples=9_999, rng=rng)
    p = stats.fisher_exact(np.array(table), method=method).pvalue
    return float(np.mean(p))  # a table of single trials comes back as an array of one
