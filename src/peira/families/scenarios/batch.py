"""A batch as its analysis sees it: one row per trial, the same from run.db and from files.

Invariant: every planned trial has a row, whatever its state; a value that is missing is None with
its reason beside it.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from peira.engine.states import State
from peira.families.scenarios.conditions import Criteria, Value, succeeded
from peira.families.scenarios.files import variation_number
from peira.families.scenarios.metrics import converted, final, series
from peira.families.scenarios.settings import Metric, Scenario
from peira.families.scenarios.state import Measure
from peira.families.scenarios.variations import label
from peira.store.rundir import loads_or_none

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

MANUAL = "manual-metrics.csv"
DRAWN = 6  # metrics that have figures
REMEASURED = "remeasured.json"
MANUAL_FIELDS = ("run_id", "turn", "metric", "value", "coder")
Values = Mapping[str, Value | None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. `factors`: factor -> level in words; costs in US dollars."""

    run_id: str
    variation: int
    replicate: int
    seed: int
    state: str
    cause: str | None
    message: str | None
    factors: Mapping[str, str]
    description: str = ""
    attempts: int = 0
    turns: int = 0
    ended_by: str | None = None
    success: bool | None = None
    final: Values = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    by_turn: Mapping[int, Values] = field(default_factory=dict)
    events: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cost: float = 0.0
    unsettled: float = 0.0
    defaults: int = 0
    rungs: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, int] = field(default_factory=dict)
    quotes: tuple[int, int] = (0, 0)
    crossed: tuple[tuple[str, str, int], ...] = ()
    served: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """True when the trial is complete."""
        return self.state == "done"

    @property
    def started(self) -> bool:
        """True when the trial was begun."""
        return self.state != "pending"


@dataclass(frozen=True, slots=True)
class Batch:
    """All trials of a batch and what they were asked."""

    name: str
    scenario_name: str
    trials: tuple[Trial, ...]
    metrics: Mapping[str, Metric]
    criteria: Criteria
    factors: Mapping[str, tuple[str, ...]]
    simulated: bool = False
    description: str = ""
    base: str = ""
    author: str = ""
    length: int = 0
    turn_duration: str = ""
    budget: float | None = None
    trial_limit: float | None = None
    spent: float = 0.0
    unsettled: float = 0.0
    frozen: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def done(self) -> list[Trial]:
        """The complete trials."""
        return [trial for trial in self.trials if trial.done]

    @property
    def variations(self) -> dict[int, str]:
        """Number -> description, in order."""
        return dict(sorted({t.variation: t.description for t in self.trials}.items()))

    def of(self, variation: int) -> list[Trial]:
        """All planned trials of a variation."""
        return [trial for trial in self.trials if trial.variation == variation]

    def met(self, trials: Iterable[Trial]) -> int:
        """How many succeeded; without criteria, how many are complete."""
        return sum(bool(t.success) if self.criteria else t.done for t in trials)

    @property
    def varied(self) -> list[str]:
        """The factors with more than one level."""
        return [name for name, levels in self.factors.items() if len(levels) > 1]

    @property
    def drawn(self) -> list[str]:
        """Numeric metrics that have something to show, primary ones first, no more than DRAWN."""
        names = [n for n, metric in self.metrics.items() if metric.numeric and self._moves(n)]
        return sorted(names, key=lambda name: not self.metrics[name].primary)[:DRAWN]

    def _moves(self, name: str) -> bool:
        """True when some two values of a metric differ."""
        seen = {turn.get(name) for trial in self.done for turn in trial.by_turn.values()}
        return len((seen | {trial.final.get(name) for trial in self.done}) - {None}) > 1

    @property
    def replicates(self) -> int:
        """The largest replicate number planned."""
        return max((trial.replicate for trial in self.trials), default=0)

    def counts(self, variation: int | None = None) -> dict[str, int]:
        """planned, done, failed, halted, pending."""
        chosen = self.trials if variation is None else self.of(variation)
        states = Counter(trial.state for trial in chosen)
        named = {name: states.get(name, 0) for name in ("done", "failed", "halted")}
        return {"planned": len(chosen), **named, "pending": len(chosen) - sum(named.values())}


def from_run(run: RunView) -> Batch:
    """The batch of a run, from run.db (and the coders' manual-metrics.csv beside it)."""
    study = run.study
    specs = {spec["name"]: spec for spec in study.fixed.get("variations") or []}
    coded = read_manual(run.path / MANUAL)
    again = loads_or_none(run.path / REMEASURED) or {}
    trials: list[Trial] = []
    scenario: Scenario | None = None
    cache: dict[int, Scenario] = {}
    for record in run.records():
        if record.cell_number not in cache:
            cache[record.cell_number] = Scenario.model_validate(record.settings["scenario"])
        own = cache[record.cell_number]
        if record.slug in again:
            record, own = _remeasured(record, own, again[record.slug])
            cache[record.cell_number] = own
        scenario = scenario or own
        trial = _trial(record, own, specs, coded)
        if record.outcome is None and record.attempts:
            told = (e["turn"]["number"] for e in run.events(record.number) if e["kind"] == "turn")
            trial = replace(trial, turns=max(told, default=0))  # the last turn it completed
        trials.append(trial)
    if scenario is None:
        raise ValueError("a run without trials cannot be planned")
    spent, unsettled = run.spend()
    seen = {name: {trial.factors.get(name) for trial in trials} for name in specs}
    levels = {
        name: tuple(word for v in spec["values"] if (word := label(spec, v)) in seen[name])
        for name, spec in specs.items()
    }
    return Batch(
        name=run.name, scenario_name=scenario.name, trials=tuple(trials),
        metrics=all_series(cache.values()), criteria=scenario.success_criteria,
        factors=levels, simulated=run.simulated,
        description=study.description or scenario.description,
        base=Path(str(study.fixed.get("base_scenario", ""))).name, author=scenario.author,
        length=max(own.turns for own in cache.values()), turn_duration=scenario.turn_duration,
        budget=study.limits.budget_usd, trial_limit=study.limits.trial_usd,
        spent=spent / 1e6, unsettled=unsettled / 1e6,
        frozen=run.meta.get("manifest", {}).get("hypotheses", {}),
    )  # fmt: skip


def _remeasured(
    record: Record, scenario: Scenario, again: Mapping[str, Any]
) -> tuple[Record, Scenario]:
    """The record and its scenario as `peira analyse --remeasure` read them again."""
    metrics = {n: Metric.model_validate(m) for n, m in again["definitions"].items()}
    outcome = {k: v for k, v in again.items() if k != "definitions"}
    return (
        replace(record, outcome={**(record.outcome or {}), **outcome}),
        scenario.model_copy(update={"metrics": metrics}),
    )


def all_series(scenarios: Iterable[Scenario]) -> dict[str, Metric]:
    """Every series that some scenario measures."""
    found: dict[str, Metric] = {}
    for scenario in scenarios:
        found |= {name: metric for name, (metric, _) in series(scenario).items()}
    return found


def hypotheses(
    criteria: Criteria, metrics: Mapping[str, Metric], factors: Iterable[str]
) -> dict[str, Any]:
    """What is confirmatory, as the manifest keeps it: success and primary metrics by factor. Levels
    may be added, and labelled anew, without changing a question that was asked."""
    return {
        "success criteria": {name: dict(condition) for name, condition in criteria.items()},
        "primary metrics": sorted(name for name, metric in metrics.items() if metric.primary),
        "factors": sorted(factors),
    }


def _trial(
    record: Record, scenario: Scenario, specs: Mapping[str, Any], coded: Mapping[Any, list[str]]
) -> Trial:
    outcome: Mapping[str, Any] = record.outcome or {}
    trial = Trial(
        run_id=record.slug, variation=variation_number(record), replicate=record.replicate,
        seed=record.seed,
        state="pending" if record.state == State.RUNNING else str(record.state),
        cause=record.cause, message=record.message,
        factors={name: label(specs[name], value) for name, value in record.cell.items()
                 if name in specs},
        description=str(record.settings.get("description", "")), attempts=record.attempts,
        turns=outcome.get("turns", 0), ended_by=outcome.get("ended_by"),
        final=outcome.get("final", {}), reasons=outcome.get("final_reasons", {}),
        by_turn={int(turn): values for turn, values in outcome.get("by_turn", {}).items()},
        events={name: tuple(turns) for name, turns in outcome.get("events", {}).items()},
        cost=record.cost / 1e6, unsettled=record.unsettled / 1e6,
        defaults=outcome.get("defaults", 0), rungs=outcome.get("parse_counts", {}),
        quality=outcome.get("quality", {}),
        quotes=(outcome.get("quotes", 0), outcome.get("quotes_missing", 0)),
        crossed=crossings(outcome.get("thresholds", [])),
        served={seat: subject.get("served_model") or subject.get("name", "")
                for seat, subject in record.subjects.items()},
    )  # fmt: skip
    return judged(with_manual(trial, all_series([scenario]), coded), scenario.success_criteria)


def crossings(told: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str, int], ...]:
    """(metric, level, turn) of each first crossing of a threshold."""
    return tuple((c["metric"], c["level"], c["turn"]) for c in told)


def judged(trial: Trial, criteria: Criteria) -> Trial:
    """The trial with its success decided by these criteria; only a complete trial can succeed."""
    return replace(trial, success=succeeded(criteria, trial.final) if trial.done else None)


# -- values read by people ---
def read_manual(path: Path) -> dict[tuple[str, int, str], list[str]]:
    """(run, turn, metric) -> values of all coders; empty cells are not coded yet."""
    if not path.is_file():
        return {}
    found: dict[tuple[str, int, str], list[str]] = {}
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig", errors="replace")))
    for row in rows:
        value, turn = (row.get("value") or "").strip(), (row.get("turn") or "").strip()
        if value and turn.isdigit():
            key = (row.get("run_id") or "", int(turn), row.get("metric") or "")
            found.setdefault(key, []).append(value)
    return found


def with_manual(
    trial: Trial, metrics: Mapping[str, Metric], coded: Mapping[tuple[str, int, str], list[str]]
) -> Trial:
    """The trial with its coded values in place; disagreeing coders average, or tie."""
    manual = {n: m for n, m in metrics.items() if m.extraction_method == "manual"}
    if not manual or not trial.done or not coded:
        return trial
    by_turn = {turn: dict(values) for turn, values in trial.by_turn.items()}
    finals, reasons = dict(trial.final), dict(trial.reasons)
    for name, metric in manual.items():
        measures = {
            turn: _coded(metric, coded.get((trial.run_id, turn, name), [])) for turn in by_turn
        }
        for turn, measure in measures.items():
            by_turn[turn][name] = measure.value
        value, reason = final(metric, [measures[t] for t in sorted(measures) if t], measures.get(0))
        finals[name] = value
        reasons.pop(name, None)
        if value is None and reason:
            reasons[name] = reason
    return replace(trial, final=finals, reasons=reasons, by_turn=by_turn)


def _coded(metric: Metric, values: list[str]) -> Measure:
    read = [converted(metric, value, "manual", value) for value in values]
    known = [measure.value for measure in read if measure.value is not None]
    if not known:
        return read[0] if read else Measure(None, "not_coded")
    if metric.numeric:
        return Measure(mean(map(float, known)), source="manual")
    (best, most), *others = Counter(known).most_common(2)
    if others and others[0][1] == most:
        return Measure(None, "tie", source="manual")
    return Measure(best, source="manual")


def manual_rows(old: str, trials: Iterable[Trial], metrics: Mapping[str, Metric]) -> str | None:
    """The coders' file with a row for every value still to be coded; None when none is manual.
    What is in the file stays as it is."""
    manual = [name for name, metric in metrics.items() if metric.extraction_method == "manual"]
    if not manual:
        return None
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    if not old.strip():
        writer.writerow(MANUAL_FIELDS)
    known = {
        (row.get("run_id"), row.get("turn"), row.get("metric"))
        for row in csv.DictReader(io.StringIO(old.lstrip("\ufeff")))
    }
    for trial in trials:
        for turn in sorted(trial.by_turn):
            for name in manual:
                if turn and (trial.run_id, str(turn), name) not in known:
                    writer.writerow((trial.run_id, turn, name, "", ""))
    gap = "" if not old or old.endswith("\n") else "\n"
    return old + gap + out.getvalue()
