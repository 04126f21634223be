"""`BatchAnalyzer`: a batch directory analysed from Python, from its files alone.

    from peira import BatchAnalyzer
    analyzer = BatchAnalyzer("experiments/my-experiment")
    print(analyzer.calculate_metric_statistics()["cooperation_level"]["mean"])

Invariant: the numbers are those of `peira analyse`; where JSON has null Python gets NaN, so a format
string never raises. A damaged file is a warning and missing data, never a crash.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from peira.errors import InputError
from peira.families.scenarios.analysis import Results, told
from peira.families.scenarios.batch import (
    MANUAL,
    Batch,
    Trial,
    crossings,
    from_run,
    judged,
    read_manual,
    with_manual,
)
from peira.families.scenarios.settings import Metric
from peira.report.document import plain
from peira.store.records import RunView
from peira.store.rundir import dumps, write_file

NUMBERS = (
    "mean", "std", "median", "min", "max", "success_rate", "auc", "diff", "p", "p_adjusted",
    "odds_ratio", "share", "total", "usd_per_success", "runs_per_dollar", "shrunken",
)  # fmt: skip
COMPLETED = ("done", "completed")


class BatchAnalyzer:
    """The analysis of one batch directory. Raises InputError when it holds no runs."""

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory)
        self.run_data: list[dict[str, Any]] = []
        if not (self.path / "runs").is_dir() and not (self.path / "run.db").is_file():
            raise InputError(
                f"{self.path}: no runs here\n  allowed: the directory of a batch\n"
                "  remedy: peira run batch-config.yaml"
            )

    # -- reading ---
    def collect_run_data(self) -> list[dict[str, Any]]:
        """Fill and return `run_data`: one entry per run. Calling it again changes nothing."""
        self.run_data = [
            {
                "run_id": trial.run_id, "variation_id": trial.variation,
                "metrics": {n: math.nan if v is None else v for n, v in trial.final.items()}, "cost": trial.cost, "success": trial.success,
                "turns_completed": trial.turns, "state": trial.state,
            }
            for trial in self._results.batch.trials
        ]  # fmt: skip
        return self.run_data

    @cached_property
    def _results(self) -> Results:
        if (self.path / "runs").is_dir():
            return Results(self._from_files())
        with RunView(self.path) as run:
            return Results(from_run(run))

    def _from_files(self) -> Batch:
        summary, state, costs = (
            self._json(f"batch-{n}.json") for n in ("summary", "state", "costs")
        )
        runs, money = state.get("runs", {}), costs.get("summary", {})
        variations = {v["variation_id"]: v for v in state.get("variations", [])}
        folders = [p.name for p in sorted((self.path / "runs").iterdir()) if _is_trial(p)]
        files = {
            name: Files(
                *(
                    self._json(f"runs/{name}/{file}.json")
                    for file in ("scenario-state", "metrics", "costs")
                )
            )
            for name in folders
        }
        metrics: dict[str, Metric] = {}
        for each in files.values():
            metrics |= _series(each.metrics)
        states = [each.state for each in files.values()]
        names = dict.fromkeys(name for each in states for name in each.get("factors", {}))
        criteria = _first(states, "success_criteria", {})
        coded = read_manual(self.path / MANUAL)
        trials = []
        for name in dict.fromkeys((*folders, *runs)):
            variation = variations.get(_numbers(name)[0], {})
            if not variation.get("retired"):
                trial = _trial(name, files.get(name), runs.get(name, {}))
                text = variation.get("description") or trial.description
                trial = replace(trial, description=text, factors=_levels(text, names))
                trials.append(judged(with_manual(trial, metrics, coded), criteria))
        trials.sort(key=lambda t: (t.replicate, t.variation))
        return Batch(
            name=str(summary.get("experiment_name") or self.path.name),
            scenario_name=_first(states, "scenario", ""), trials=tuple(trials), metrics=metrics,
            criteria=criteria, factors=_factors(trials), simulated=_first(states, "simulated", False),
            base=str(summary.get("base_scenario", "")),
            length=max((each.get("total_turns", 0) for each in states), default=0),
            budget=money.get("budget_limit"), trial_limit=money.get("cost_per_run_limit"),
            spent=money.get("total_spent", 0.0), unsettled=money.get("unsettled", 0.0),
            frozen=self._json("manifest.json").get("hypotheses", {}),
        )  # fmt: skip

    def _json(self, name: str) -> dict[str, Any]:
        """A JSON object, or an empty one with a warning."""
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is damaged and left out: {error}", stacklevel=2)
            return {}
        return data if isinstance(data, dict) else {}

    # -- results ---
    def calculate_metric_statistics(self) -> dict[str, Any]:
        """As analysis/metrics-analysis.json, NaN for null."""
        return dict(_nan(plain(self._results.metrics)))

    def calculate_variation_statistics(self) -> dict[str, Any]:
        """As analysis/variation-statistics.json, NaN for null."""
        return dict(_nan(plain(self._results.variations)))

    def compare_variations(
        self, metric: str
    ) -> list[tuple[int, float, float, float, int, int, str]]:
        """(variation_id, mean, ci_low, ci_high, n, missing, description), best first by the
        metric's goal, undefined last. Raises InputError for an unknown metric."""
        found = self._results
        if metric not in found.batch.metrics:
            known = ", ".join(found.batch.metrics)
            raise InputError(f"metric {metric!r}: unknown\n  allowed: {known}")
        rows = []
        for key, entry in found.variations.items():
            values = entry["metrics"][metric]
            mean = math.nan if values["mean"] is None else values["mean"]
            low, high = values["ci"] or (math.nan, math.nan)
            rows.append(
                (int(key), mean, low, high, values["n"], values["missing"], entry["description"])
            )
        sign = 1 if found.batch.metrics[metric].goal == "minimise" else -1
        return sorted(rows, key=lambda row: (math.isnan(row[1]), sign * row[1], row[0]))

    def identify_patterns(self) -> dict[str, Any]:
        """As analysis/patterns.json, NaN for null."""
        return dict(_nan(plain(self._results.patterns)))

    def generate_analysis_report(self) -> str:
        """The report as Markdown."""
        return str(told(self._results).files["analysis-report.md"])

    def save_analysis_data(self) -> Path:
        """Write the JSON files and the report into analysis/; returns that folder."""
        folder = self.path / "analysis"
        for name, data in told(self._results).files.items():
            write_file(folder / name, data if name.endswith(".md") else dumps(plain(data)))
        return folder


class Files(NamedTuple):
    """What a trial's folder says; a damaged file says nothing."""

    state: dict[str, Any]
    metrics: dict[str, Any]
    costs: dict[str, Any]


def _is_trial(path: Path) -> bool:
    return path.is_dir() and path.name.startswith("var-") and "-fork-" not in path.name


def _numbers(name: str) -> tuple[int, int]:
    """(variation, replicate) of `var-001-run-002`."""
    digits = [int(part) for part in name.split("-") if part.isdigit()]
    return (digits[0], digits[1]) if len(digits) >= 2 else (0, 0)


def _first(states: list[dict[str, Any]], key: str, default: Any) -> Any:
    return next((told[key] for told in states if told.get(key)), default)


def _series(told: Mapping[str, Any]) -> dict[str, Metric]:
    """The series of a metrics.json, with their definitions."""
    found: dict[str, Metric] = {}
    for name, definition in told.get("definitions", {}).items():
        try:
            metric = Metric.model_validate(definition)
        except ValidationError as error:
            warnings.warn(f"metric {name} cannot be read: {error}", stacklevel=2)
            continue
        series = told.get("final_metrics", {})
        own = [key for key in series if key == name or key.startswith(f"{name}@")]
        found |= dict.fromkeys(own, metric)
    return found


def _trial(name: str, files: Files | None, known: Mapping[str, Any]) -> Trial:
    """A trial from its files and its entry in batch-state.json; without a folder the entry alone."""
    variation, replicate = _numbers(name)
    if files is None:
        state = known.get("state", "pending")
        state = "pending" if state in ("running", *COMPLETED) else state
        return Trial(name, variation, replicate, 0, state, known.get("cause"), None, {})
    state, metrics, costs = files
    status = str(state.get("status") or known.get("state") or "failed")
    complete = "done" if state else "failed"
    rungs = state.get("parse_counts", {})
    return Trial(
        run_id=name, variation=variation, replicate=replicate, seed=state.get("seed", 0),
        state=complete if status in COMPLETED else status,
        cause=state.get("cause") or (None if state else "damaged files"),
        message=state.get("message"), factors={}, description=state.get("description", ""),
        attempts=known.get("attempts", 1), turns=state.get("current_turn", 0),
        ended_by=state.get("ended_by"), final=metrics.get("final_metrics", {}),
        reasons=metrics.get("final_reasons", {}),
        by_turn={
            int(turn): {n: m.get("value") if isinstance(m, Mapping) else m for n, m in row.items()}
            for turn, row in metrics.get("by_turn", {}).items()
        },
        events=_events(state.get("events_fired", {})),
        cost=costs.get("total_cost", known.get("cost", 0.0)) or 0.0,
        unsettled=costs.get("unsettled", 0.0) or 0.0, rungs=rungs,
        quality=_verdicts(state.get("quality", {})), defaults=_defaults(rungs),
        crossed=crossings(metrics.get("thresholds", [])),
    )  # fmt: skip


def _levels(description: str, names: Iterable[str]) -> dict[str, str]:
    """`regulator=gpt-4o-mini, tech-company=x` -> factor -> level. A level may hold commas."""
    known = "|".join(map(re.escape, names)) or r"[^,=]+"
    parts = (part.partition("=") for part in re.split(rf", (?=(?:{known})=)", description))
    return {name: value for name, equals, value in parts if equals}


def _factors(trials: list[Trial]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for trial in sorted(trials, key=lambda t: t.variation):
        for name, level in trial.factors.items():
            found.setdefault(name, {})[level] = None
    return {name: tuple(levels) for name, levels in found.items()}


def _events(fired: Mapping[str, list[str]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for turn, names in sorted(fired.items(), key=lambda item: int(item[0])):
        for name in names:
            found[name] = (*found.get(name, ()), int(turn))
    return found


def _verdicts(quality: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, int]:
    told = (verdict for verdicts in quality.values() for verdict in verdicts)
    return dict(Counter(map(_verdict, told)))


def _verdict(told: Mapping[str, Any]) -> str:
    passed = told.get("passed")
    if passed is False:
        return f"failed {told.get('severity')}"
    return "passed" if passed is True else "unknown"


def _defaults(rungs: Mapping[str, Any]) -> int:
    return sum(
        n
        for kinds in rungs.values()
        for counts in kinds.values()
        for rung, n in counts.items()
        if rung.startswith("default")
    )


def _nan(data: Any, key: str = "") -> Any:
    """The same data with NaN where a number is null."""
    if isinstance(data, Mapping):
        return {name: _nan(value, str(name)) for name, value in data.items()}
    if isinstance(data, list):
        return [_nan(item) for item in data]
    return math.nan if data is None and key in NUMBERS else data
