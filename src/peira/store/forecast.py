"""What a study would run and cost, as plain data: trials, calls, tokens, USD with an interval."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Protocol

from peira.errors import InputError
from peira.store.records import RunView
from peira.store.rundir import RunDir

Triple = tuple[float, float, float]
LEARN_FROM = 5  # done trials from which on a plan trusts them more than the family's guess


class Asked(Protocol):
    """A question with its study, cells and place."""

    study: Any
    family: Any

    def cells(self) -> list[Any]: ...
    def run_dir(self, simulated: bool) -> RunDir: ...


class Chosen(Protocol):
    """The options a forecast depends on."""

    @property
    def run_dir(self) -> Path | None: ...
    @property
    def simulated(self) -> bool: ...


def forecast(question: Asked, options: Chosen) -> dict[str, Any]:
    """Counts, tokens and cost, low / expected / high. Makes no call, writes nothing."""
    study, cells = question.study, question.cells()
    seeds = len(study.trial_seeds)
    target = RunDir(options.run_dir) if options.run_dir else question.run_dir(options.simulated)
    state = _existing(target)
    totals = _totals(question, cells, seeds)
    learnt = _learn(target, totals, len(cells) * seeds) if state["done"] >= LEARN_FROM else []
    models = [_model(name, totals[name], study, options.simulated) for name in sorted(totals)]
    trials = len(cells) * seeds
    return {
        "name": study.name or study.family, "run_dir": str(target.path), "cells": len(cells),
        "seeds": seeds, "trials": trials, "existing": target.exists, "done": state["done"],
        "to_run": max(0, trials - state["done"]), "simulated": options.simulated, "models": models,
        "usd": _sum(models), "budget_usd": study.limits.budget_usd,
        "notes": [
            *(f"{m['model']}: {m['note']}" for m in models if m["note"]),
            *learnt, *question.family.plan_notes(study),
        ],
    }  # fmt: skip


def _existing(target: RunDir) -> dict[str, int]:
    if not target.exists:
        return {"done": 0}
    with RunView(target) as run:
        return {"done": run.tally.done}


def _learn(target: RunDir, totals: dict[str, list[Triple]], trials: int) -> list[str]:
    """Put what done trials really asked in place of what was expected, within low and high."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    done = 0
    with RunView(target) as run:
        for record in run.done():
            done += 1
            for seat, usage in record.usage.items():
                own = sums[str(record.subjects.get(seat, {}).get("name"))]
                for k, key in enumerate(("calls", "tokens_in", "tokens_out")):
                    own[k] += usage[key]
    for name, rows in totals.items():
        if name in sums:
            totals[name] = [
                (low, min(high, max(low, sums[name][k] / done * trials)), high)
                for k, (low, _, high) in enumerate(rows)
            ]
    return [f"expected values are learnt from the {done} done trials of this run"]


def _totals(question: Asked, cells: list[Any], seeds: int) -> dict[str, list[Triple]]:
    """Per model: calls, tokens in, tokens out over all trials."""
    sums: dict[str, list[list[float]]] = defaultdict(lambda: [[0.0] * 3 for _ in range(3)])
    for cell in cells:
        for part in question.family.forecast(cell.settings):
            rows = sums[part.model]
            for row, triple in zip(
                rows, (part.calls, part.prompt_tokens, part.completion_tokens), strict=True
            ):
                for k in range(3):
                    row[k] += seeds * triple[k]
    return {name: [(r[0], r[1], r[2]) for r in rows] for name, rows in sums.items()}


def _model(name: str, rows: list[Triple], study: Any, simulated: bool) -> dict[str, Any]:
    calls, tokens_in, tokens_out = rows
    usd, note = cost(name, study, tokens_in, tokens_out, simulated=simulated)
    return {
        "model": name, "calls": calls, "tokens_in": tokens_in, "tokens_out": tokens_out,
        "usd": usd, "note": note,
    }  # fmt: skip


def cost(
    name: str, study: Any, tokens_in: Triple, tokens_out: Triple, *, simulated: bool
) -> tuple[Any, str]:
    """USD, low / expected / high, from list prices (a provider's batch prices where it is asked in
    batch jobs); None with the reason where unknown."""
    from peira.subjects.registry import describe_model, in_process

    if simulated or name.startswith("sim:"):
        return (0.0, 0.0, 0.0), "simulated, free"
    overrides = study.subjects.get(name) or {}
    if in_process(name, overrides):
        return (0.0, 0.0, 0.0), "runs on this machine: free"
    try:
        card = describe_model(name, overrides)
    except InputError as error:
        return None, str(error).splitlines()[0]
    if card.free:
        told = "runs on this machine: free" if card.local else "free, as the study says"
        return (0.0, 0.0, 0.0), told
    if card.price is None:
        return None, "no known price; state one under `subjects` to set a budget"
    price = card.price.batched() if overrides.get("batch") else card.price
    rates = price.rates[0]
    return tuple(
        (tokens_in[k] * rates.input.base + tokens_out[k] * rates.output.base) / 1e6
        for k in range(3)
    ), ""


def _sum(models: list[dict[str, Any]]) -> Any:
    if any(m["usd"] is None for m in models):
        return None
    return tuple(sum(m["usd"][k] for m in models) for k in range(3))
