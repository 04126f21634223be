"""The files of a batch, beside the common ones (specs: scenarios §5).

Invariant: counts come from the trials' closed states, costs from the ledger; planned = completed +
failed + halted + pending in every file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from peira.families.scenarios.batch import MANUAL, Batch, from_run, manual_rows
from peira.families.scenarios.files import call_entry, totals, variation_number
from peira.families.scenarios.simulated import expected_level
from peira.families.scenarios.summaries import success_rate
from peira.families.scenarios.variations import describe, target
from peira.store.rundir import dumps

if TYPE_CHECKING:
    from peira.store.records import RunView

INTERVALS = (
    "SELECT started, finished FROM attempts WHERE started IS NOT NULL AND finished IS NOT NULL"
    " ORDER BY started"
)


def run_files(run: RunView) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file of a batch."""
    batch = from_run(run)
    config = run.study.analysis.get("config")
    if config and not (run.path / "batch-config.yaml").exists():
        yield "batch-config.yaml", str(config).encode()
    yield "batch-state.json", dumps(state(run, batch))
    yield "batch-summary.json", dumps(summary(run, batch))
    yield "batch-costs.json", dumps(costs(run, batch))
    yield "results.csv", results_csv(batch)
    path = run.path / MANUAL
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = manual_rows(old, batch.done, batch.metrics)
    if rows is not None and rows != old:
        yield MANUAL, rows.encode()
    if batch.simulated:
        yield "simulation_truth.json", dumps(truth(batch))


def _time(stamp: float | None) -> str | None:
    if not stamp:
        return None
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds")


def state(run: RunView, batch: Batch) -> dict[str, Any]:
    """batch-state.json: variations (retired ones too) and the state of every run."""
    from peira.store.records import Filter

    specs = {spec["name"]: spec for spec in run.study.fixed.get("variations") or []}
    variations: dict[int, dict[str, Any]] = {}
    runs: dict[str, dict[str, Any]] = {}
    began: list[float] = []
    ended: list[float] = []
    turns = {trial.run_id: trial.turns for trial in batch.trials}
    for record in run.records(Filter(retired=True)):
        number, retired = variation_number(record), record.position < 0
        if (record.settings.get("fork") or {}).get("source"):
            continue
        known = variations.get(number)
        if known is None or (known["retired"] and not retired):
            known_specs = {n: v for n, v in record.cell.items() if n in specs}
            variations[number] = {
                "variation_id": number,
                "description": describe(specs, known_specs) if known_specs or not retired
                else record.settings.get("description", ""),
                "modifications": {target(specs[n]): v for n, v in known_specs.items()}
                or dict(record.cell),
                "retired": retired,
            }  # fmt: skip
        began += [record.started] if record.started else []
        ended += [record.finished] if record.finished else []
        runs[record.slug] = {
            "state": str(record.state), "cause": record.cause,
            "turn": turns.get(record.slug, (record.outcome or {}).get("turns", 0)),
            "attempts": record.attempts, "cost": record.cost / 1e6,
        }  # fmt: skip
    return {
        "experiment_name": batch.name, "simulated": batch.simulated,
        "started": _time(min(began, default=None)), "updated": _time(max(ended, default=None)),
        "halt_reason": halt_reason(batch), "variations": [variations[n] for n in sorted(variations)],
        "runs": runs,
    }  # fmt: skip


def halt_reason(batch: Batch) -> str | None:
    """The message of a halted trial, budgets first: the guide's own words."""
    halted = [trial for trial in batch.trials if trial.state == "halted"]
    halted.sort(key=lambda trial: trial.cause != "budget")
    return halted[0].message if halted else None


def _ended(batch: Batch, state_name: str) -> list[dict[str, Any]]:
    return [
        {"run_id": t.run_id, "cause": t.cause, "message": t.message, "turn": t.turns,
         "attempts": t.attempts}
        for t in batch.trials if t.state == state_name
    ]  # fmt: skip


def summary(run: RunView, batch: Batch) -> dict[str, Any]:
    """batch-summary.json: counts, success over planned trials, what failed and why."""
    counts = batch.counts()
    return {
        "experiment_name": batch.name, "base_scenario": batch.base, "simulated": batch.simulated,
        "total_variations": len(batch.variations), "runs_per_variation": batch.replicates,
        "total_runs_planned": counts["planned"], "runs_completed": counts["done"],
        "runs_failed": counts["failed"], "runs_halted": counts["halted"],
        "runs_pending": counts["pending"],
        "success_rate": success_rate(batch.trials, bool(batch.criteria)).estimate,
        "success_basis": "criteria" if batch.criteria else "completion",
        "duration_seconds": elapsed(run.query(INTERVALS)),
        "cost_summary": _cost_summary(batch),
        "failed_runs": _ended(batch, "failed"), "halted_runs": _ended(batch, "halted"),
    }  # fmt: skip


def elapsed(intervals: Iterable[tuple[float, float]]) -> float:
    """Seconds in which any trial ran, over all sessions; `intervals` by their start."""
    total = latest = 0.0
    for began, ended in intervals:
        total += max(0.0, ended - max(began, latest))
        latest = max(latest, ended)
    return round(total, 3)


def _cost_summary(batch: Batch) -> dict[str, Any]:
    costs = [trial.cost for trial in batch.trials if trial.started]
    left = None if batch.budget is None else batch.budget - batch.spent - batch.unsettled
    return {
        "total_spent": batch.spent, "unsettled": batch.unsettled, "budget_limit": batch.budget,
        "cost_per_run_limit": batch.trial_limit,
        "remaining_budget": None if left is None else round(left, 6),
        "avg_cost_per_run": round(sum(costs) / len(costs), 6) if costs else None,
    }  # fmt: skip


def costs(run: RunView, batch: Batch) -> dict[str, Any]:
    """batch-costs.json: where the money went."""
    entries = [
        call_entry(event)
        for record in run.records()
        for event in run.events(record.number)
        if event["kind"] == "call"
    ]
    spent = {n: [t.cost for t in batch.of(n) if t.started] for n in batch.variations}
    return {
        "simulated": batch.simulated, "summary": _cost_summary(batch),
        "by_phase": totals(entries, lambda e: e["phase"]),
        "by_model": totals(entries, lambda e: e["model"]),
        "by_actor": totals(entries, lambda e: e["seat"]),
        "run_costs": [
            {"run_id": t.run_id, "variation_id": t.variation, "cost": t.cost, "state": t.state}
            for t in batch.trials
        ],
        "variation_statistics": {
            str(number): {
                "total_cost": round(sum(each), 6), "num_runs": len(each),
                "avg_cost_per_run": round(sum(each) / len(each), 6),
            }
            for number, each in spent.items() if each
        },
    }  # fmt: skip


def results_csv(batch: Batch) -> bytes:
    """results.csv: a row per planned trial."""
    ids = ("run_id", "variation", "replicate")
    rest = ("seed", "state", "cause", "turns", "ended_by", "success", "defaults", "cost")
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    header = (*ids, *batch.factors, *rest, *batch.metrics, "simulated")
    writer.writerow("variation_id" if name == "variation" else name for name in header)
    for t in batch.trials:
        levels = (t.factors.get(name, "") for name in batch.factors)
        first, last = ([getattr(t, name) for name in names] for names in (ids, rest))
        finals = (t.final.get(name) for name in batch.metrics)
        writer.writerow([*first, *levels, *last, *finals, batch.simulated])
    return out.getvalue().encode("utf-8", "replace")


def truth(batch: Batch) -> dict[str, Any]:
    """simulation_truth.json: what the planted effects make of the cooperation level."""
    levels: dict[int, float | None] = {}
    for trial in batch.trials:
        if levels.get(trial.variation) is None and trial.served:
            levels[trial.variation] = expected_level(trial.served)
    return {
        "simulated": True,
        "what": "expected cooperation level of the last turn, before noise and clipping",
        "variations": {
            str(number): {"description": text, "expected": levels.get(number)}
            for number, text in batch.variations.items()
        },
    }
