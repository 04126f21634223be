"""What an evaluation would ask and cost, before anything is asked.

Invariant: makes no call and, but for `write_inputs`, writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import orjson

from peira.families.family import Forecast
from peira.families.prompts.data import TYPES
from peira.families.prompts.inputs import inputs_of
from peira.families.prompts.rows import Address, Asking, Row, n_rows
from peira.families.prompts.settings import PromptsSettings
from peira.families.prompts.tables import audit
from peira.store.forecast import cost
from peira.store.rundir import write_file
from peira.study.study import TrialPlan

CHANGES = (0.1, 0.3)  # shares of items whose answer changes, for the detectable effect


class Asked(Protocol):
    """A question: its study, family and cells."""

    study: Any
    family: Any

    def cells(self) -> list[Any]: ...


def rows_of(settings: PromptsSettings) -> int:
    """Rows of one trial."""
    return n_rows(settings, len(inputs_of(settings).items))


def plan(question: Asked, target: Any, simulated: bool) -> dict[str, Any]:
    """Trials, rows wanted and already paid for, tokens, cost, detectable effect, prompt audit."""
    trials = list(_asked(question, simulated))
    keys = [asking.key(row) for _, asking in trials for row in asking.rows()]
    wanted = set(keys)
    forecasts = [question.family.forecast(asking.settings)[0] for _, asking in trials]
    share = len(wanted) / len(keys) if keys else 1.0
    return {
        "trials": [
            {
                "slug": question.family.slug(asking.settings, trial), "trial_id": trial.id,
                "rows": rows_of(asking.settings), "items": len(asking.items),
            }
            for trial, asking in trials
        ],
        "rows": len(keys), "requests": len(wanted), "paid": len(_paid(target) & wanted),
        "tokens_in": [share * sum(f.prompt_tokens[k] for f in forecasts) for k in range(3)],
        **_money(question, forecasts, simulated, share),
        "detectable": _detectable(trials[0][1].settings),
        "arms": list(_arms(question)),
    }  # fmt: skip


def _asked(question: Asked, simulated: bool) -> Iterator[tuple[TrialPlan, Asking]]:
    """Every planned trial with what asks its rows."""
    from peira.engine.plan import plan as trials_of

    for cell, trial in trials_of(question.study, question.family, question.cells()):
        settings = cell.settings
        address = planned_address(question, settings.resolved_model, simulated)
        yield trial, Asking(settings, inputs_of(settings), address, trial.seed)


def planned_address(question: Asked, model: str, simulated: bool) -> Address:
    """Where a model will be reached, without its key."""
    from peira.subjects.registry import capability, describe_model

    if simulated or model.startswith("sim:"):
        name = model if model.startswith("sim:") else None
        return Address(
            "simulated", "", name or question.family.stand_in(model, capability(model)), {}
        )
    overrides = question.study.subjects.get(model, {})
    card = describe_model(model, overrides)
    return Address(card.provider, card.base_url, card.model, dict(overrides.get("sampling") or {}))


def _paid(target: Any) -> set[str]:
    """Content keys that a run's ledger holds a reply for."""
    from peira.store.records import RunView

    if target is None or not target.exists:
        return set()
    with RunView(target) as run:
        return {k for (k,) in run.query("SELECT key FROM replies WHERE trial=0 AND state='done'")}


def _money(
    question: Asked, forecasts: list[Forecast], simulated: bool, share: float
) -> Mapping[str, Any]:
    """US dollars, low, expected and high; None with a note where a price is unknown."""
    total = [0.0, 0.0, 0.0]
    for each in forecasts:
        usd, note = cost(
            each.model, question.study, each.prompt_tokens, each.completion_tokens,
            simulated=simulated,
        )  # fmt: skip
        if usd is None:
            return {"usd": None, "note": f"{each.model}: {note}"}
        total = [whole + share * part for whole, part in zip(total, usd, strict=True)]
    return {"usd": total, "note": ""}


def _detectable(settings: PromptsSettings) -> dict[str, Any]:
    """Smallest δ found with the power asked for, if a tenth or three tenths of items change."""
    stats, items = settings.analysis.stats, inputs_of(settings).items
    z = NormalDist().inv_cdf
    reach = z(1 - stats.alpha / 2) + z(stats.power)
    found: dict[str, Any] = {}
    for kind in TYPES:
        if n := sum(item.type == kind for item in items):
            low, high = (reach * math.sqrt(change / n) for change in CHANGES)
            found[kind] = {"n": n, "low": low, "high": high, "power": stats.power}
    return found


def _arms(question: Asked) -> Iterator[dict[str, Any]]:
    first = {cell.settings.prompt_set: cell.settings for cell in reversed(question.cells())}
    for name in dict.fromkeys(cell.settings.prompt_set for cell in question.cells()):
        inputs = inputs_of(first[name])
        for row in audit({arm: asdict(prompt) for arm, prompt in inputs.arms(first[name]).items()}):
            ratio = None if row["ratio"] is None else round(row["ratio"], 2)
            counted = inputs.counter.method
            yield {"prompt_set": name, **row, "ratio": ratio, "token_method": counted}


def write_inputs(question: Asked, run_dir: Path, simulated: bool) -> list[tuple[Path, int]]:
    """In batch mode, one JSONL a trial with every planned request: a view for people, since the
    jobs themselves are made of the rows that are missing."""
    written = []
    for trial, asking in _asked(question, simulated):
        if asking.settings.mode == "batch":
            lines = [orjson.dumps(_line(asking, row)) + b"\n" for row in asking.rows()]
            slug = question.family.slug(asking.settings, trial)
            path = run_dir / "batch_inputs" / f"{slug}.jsonl"
            write_file(path, b"".join(lines))
            written.append((path, len(lines)))
    return written


def _line(asking: Asking, row: Row) -> dict[str, Any]:
    sampling = asking.sampling(row)
    return {
        "custom_id": asking.key(row)[:32], "model": asking.settings.resolved_model,
        "messages": [{"role": m.role, "content": m.content} for m in asking.messages(row)],
        "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
        "max_tokens": sampling.max_tokens, "stop": list(sampling.stop),
    }  # fmt: skip
