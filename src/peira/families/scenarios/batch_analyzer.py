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
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from peira.errors import InputError
from peira.families.scenarios.analysis import Results, told
from peira.families.scenarios.batch import (
    MANUAL,
    Batch,
    Trial,
    judged,
    read_manual,
    with_manual,
)  # fmt: skip
from peira.families.scenarios.settings import Metric
from peira.families.scenarios.success import Criteria
from peira.report.document import plain

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
        self._metrics: dict[str, Metric] = {}
        self._criteria: Criteria = {}
        self._length, self._scenario, self._simulated = 0, "", False
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
                "metrics": {n: _nan(v) for n, v in trial.final.items()}, "cost": trial.cost,
                "success": trial.success, "turns_completed": trial.turns, "state": trial.state,
            }
            for trial in self._results.batch.trials
        ]  # fmt: skip
        return self.run_data

    @cached_property
    def _results(self) -> Results:
        if not (self.path / "runs").is_dir():
            from peira.families.scenarios.batch import from_run
            from peira.store.records import RunView

            with RunView(self.path) as run:
                return Results(from_run(run))
        return Results(self._from_files())

    def _from_files(self) -> Batch:
        summary = self._json(self.path / "batch-summary.json")
        state = self._json(self.path / "batch-state.json")
        costs = self._json(self.path / "batch-costs.json").get("summary", {})
        retired = {v["variation_id"] for v in state.get("variations", []) if v.get("retired")}
        folders = [p for p in sorted((self.path / "runs").iterdir()) if _is_trial(p)]
        trials = [self._trial(folder, state.get("runs", {})) for folder in folders]
        known = {folder.name for folder in folders}
        trials += [
            _absent(n, entry) for n, entry in state.get("runs", {}).items() if n not in known
        ]
        trials = [t for t in trials if t.variation not in retired]
        described = {
            v["variation_id"]: v.get("description", "") for v in state.get("variations", [])
        }
        trials = [_described(t, described) for t in trials]
        trials.sort(key=lambda t: (t.replicate, t.variation))
        return Batch(
            name=str(summary.get("experiment_name") or self.path.name),
            scenario_name=self._scenario,
            trials=tuple(self._finished(trial) for trial in trials), metrics=self._metrics,
            criteria=self._criteria, factors=_factors(trials), simulated=self._simulated,
            base=str(summary.get("base_scenario", "")), length=self._length,
            budget=costs.get("budget_limit"), trial_limit=costs.get("cost_per_run_limit"),
            spent=costs.get("total_spent", 0.0), unsettled=costs.get("unsettled", 0.0),
            frozen=self._json(self.path / "manifest.json").get("hypotheses", {}),
        )  # fmt: skip

    def _json(self, path: Path) -> dict[str, Any]:
        """A JSON object, or an empty one with a warning."""
        if not path.is_file():
            return {}
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is damaged and left out: {error}", stacklevel=2)
            return {}
        return data if isinstance(data, dict) else {}

    def _trial(self, folder: Path, runs: Mapping[str, Any]) -> Trial:
        state = self._json(folder / "scenario-state.json")
        metrics = self._json(folder / "metrics.json")
        costs = self._json(folder / "costs.json")
        known = runs.get(folder.name, {})
        self._note(state, metrics)
        status = str(state.get("status") or known.get("state") or "failed")
        by_turn = {
            int(turn): {n: m.get("value") if isinstance(m, Mapping) else m for n, m in row.items()}
            for turn, row in metrics.get("by_turn", {}).items()
        }
        variation, replicate = _numbers(folder.name)
        return Trial(
            run_id=folder.name, variation=variation, replicate=replicate,
            seed=state.get("seed", 0), state="done" if status in COMPLETED and state else
            status if status not in COMPLETED else "failed",
            cause=state.get("cause") or (None if state else "damaged files"),
            message=state.get("message"), factors=_words(state.get("description", "")),
            description=state.get("description", ""), attempts=known.get("attempts", 1),
            turns=state.get("current_turn", 0), ended_by=state.get("ended_by"),
            final=metrics.get("final_metrics", {}), reasons=metrics.get("final_reasons", {}),
            by_turn=by_turn, events=_events(state.get("events_fired", {})),
            cost=costs.get("total_cost", known.get("cost", 0.0)) or 0.0,
            unsettled=costs.get("unsettled", 0.0) or 0.0,
            rungs=state.get("parse_counts", {}), quality=_verdicts(state.get("quality", {})),
            defaults=_defaults(state.get("parse_counts", {})),
        )  # fmt: skip

    def _note(self, state: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        self._length = max(self._length, state.get("total_turns", 0))
        self._scenario = self._scenario or str(state.get("scenario", ""))
        self._simulated = self._simulated or bool(state.get("simulated"))
        self._criteria = self._criteria or state.get("success_criteria", {})
        series = metrics.get("final_metrics", {})
        for name, definition in metrics.get("definitions", {}).items():
            try:
                metric = Metric.model_validate(definition)
            except ValidationError as error:
                warnings.warn(f"metric {name} cannot be read: {error}", stacklevel=2)
                continue
            own = [key for key in series if key == name or key.startswith(f"{name}@")]
            self._metrics |= dict.fromkeys(own, metric)

    def _finished(self, trial: Trial) -> Trial:
        coded = read_manual(self.path / MANUAL)
        return judged(with_manual(trial, self._metrics, coded), self._criteria)

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
        from peira.store.rundir import dumps, write_file

        folder = self.path / "analysis"
        for name, data in told(self._results).files.items():
            write_file(folder / name, data if name.endswith(".md") else dumps(plain(data)))
        return folder


def _is_trial(path: Path) -> bool:
    return path.is_dir() and path.name.startswith("var-") and "-fork-" not in path.name


def _numbers(name: str) -> tuple[int, int]:
    """(variation, replicate) of `var-001-run-002`."""
    digits = [int(part) for part in name.split("-") if part.isdigit()]
    return (digits[0], digits[1]) if len(digits) >= 2 else (0, 0)


def _absent(name: str, entry: Mapping[str, Any]) -> Trial:
    variation, replicate = _numbers(name)
    state = entry.get("state", "pending")
    state = "pending" if state in ("running", *COMPLETED) else state
    return Trial(name, variation, replicate, 0, state, entry.get("cause"), None, {})


def _words(description: str) -> dict[str, str]:
    """`regulator=gpt-4o-mini, tech-company=x` -> factor -> level."""
    parts = [part.partition("=") for part in description.split(", ")]
    return {name: value for name, equals, value in parts if equals}


def _described(trial: Trial, described: Mapping[int, str]) -> Trial:
    text = described.get(trial.variation) or trial.description
    return replace(trial, description=text, factors=_words(text))


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
    counts: dict[str, int] = {}
    for verdicts in quality.values():
        for verdict in verdicts:
            passed = verdict.get("passed")
            word = "unknown" if passed is None else "passed"
            word = f"failed {verdict.get('severity')}" if passed is False else word
            counts[word] = counts.get(word, 0) + 1
    return counts


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
