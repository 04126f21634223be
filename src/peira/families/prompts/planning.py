"""What an evaluation would ask and cost, before anything is asked.

Invariant: makes no call and, but for `write_inputs`, writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from peira.families.prompts.inputs import inputs_of
from peira.families.prompts.rows import Address, Asking, Row, n_rows, planned_rows
from peira.families.prompts.settings import PromptsSettings
from peira.families.prompts.tables import audit
from peira.stats.intervals import normal_quantile
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
    from peira.engine.plan import plan as trials_of

    trials = list(trials_of(question.study, question.family, question.cells()))
    asked = list(_keys(question, trials, simulated))
    paid = _paid(target)
    forecasts = [question.family.forecast(cell.settings)[0] for cell, _ in trials]
    share = len(set(asked)) / len(asked) if asked else 1.0
    money = _money(question, forecasts, simulated, share)
    return {
        "trials": [
            {
                "slug": question.family.slug(cell.settings, trial), "trial_id": trial.id,
                "rows": rows_of(cell.settings), "items": len(inputs_of(cell.settings).items),
            }
            for cell, trial in trials
        ],
        "rows": len(asked), "requests": len(set(asked)), "paid": len(paid & set(asked)),
        "tokens_in": [share * sum(f.prompt_tokens[k] for f in forecasts) for k in range(3)],
        **money,
        "detectable": _detectable(trials[0][0].settings),
        "arms": list(_arms(question)),
    }  # fmt: skip


def _keys(question: Asked, trials: list[tuple[Any, TrialPlan]], simulated: bool) -> Iterator[str]:
    for cell, trial in trials:
        settings = cell.settings
        asking = _asking(question, settings, trial.seed, simulated)
        for row in planned_rows(settings, len(asking.items)):
            yield asking.key(row)


def _asking(question: Asked, settings: PromptsSettings, seed: int, simulated: bool) -> Asking:
    address = planned_address(question, settings.resolved_model, simulated)
    return Asking(settings, inputs_of(settings), address, seed)


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
    question: Asked, forecasts: list[Any], simulated: bool, share: float
) -> Mapping[str, Any]:
    """US dollars, low, expected and high; None with a note where a price is unknown."""
    from peira.subjects.registry import describe_model

    total = [0.0, 0.0, 0.0]
    for forecast in forecasts:
        if simulated or forecast.model.startswith("sim:"):
            continue
        overrides = question.study.subjects.get(forecast.model, {})
        card = describe_model(forecast.model, overrides)
        if card.price is None and not card.free:
            return {"usd": None, "note": f"no price is known for {card.model} at {card.provider}"}
        if card.price is None:
            continue
        price = card.price.batched() if overrides.get("batch") else card.price
        rates = price.describe()
        for k in range(3):
            total[k] += (share / 1e6) * (
                forecast.prompt_tokens[k] * rates["input_per_million"]
                + forecast.completion_tokens[k] * rates["output_per_million"]
            )
    return {"usd": total, "note": ""}


def _detectable(settings: PromptsSettings) -> dict[str, Any]:
    """Smallest δ found with the power asked for, if a tenth or three tenths of items change."""
    from statistics import NormalDist

    stats = settings.analysis.stats
    reach = normal_quantile(1 - stats.alpha) + NormalDist().inv_cdf(stats.power)
    found = {}
    items = inputs_of(settings).items
    for kind in ("closed", "open"):
        n = sum(item.type == kind for item in items)
        if n:
            low, high = (reach * math.sqrt(change / n) for change in CHANGES)
            found[kind] = {"n": n, "low": low, "high": high, "power": stats.power}
    return found


def _arms(question: Asked) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys(cell.settings.prompt_set for cell in question.cells()):
        cell = next(c for c in question.cells() if c.settings.prompt_set == name)
        prompts = inputs_of(cell.settings).arms(cell.settings)
        for row in audit({arm: asdict(prompt) for arm, prompt in prompts.items()}):
            ratio = row["ratio"]
            yield {
                "prompt_set": name, **row, "ratio": None if ratio is None else round(ratio, 2),
                "token_method": inputs_of(cell.settings).counter.method,
            }  # fmt: skip


def write_inputs(question: Asked, run_dir: Path, simulated: bool) -> list[tuple[Path, int]]:
    """In batch mode, one JSONL a trial with every planned request: a view for people, since the
    jobs themselves are made of the rows that are missing."""
    import orjson

    from peira.engine.plan import plan as trials_of
    from peira.store.rundir import write_file

    written = []
    for cell, trial in trials_of(question.study, question.family, question.cells()):
        settings = cell.settings
        if settings.mode != "batch":
            continue
        asking = _asking(question, settings, trial.seed, simulated)
        lines = [
            orjson.dumps(_line(asking, row, settings))
            for row in planned_rows(settings, len(asking.items))
        ]
        slug = question.family.slug(settings, trial)
        path = run_dir / "batch_inputs" / f"{slug}.jsonl"
        write_file(path, b"".join(line + b"\n" for line in lines))
        written.append((path, len(lines)))
    return written


def _line(asking: Asking, row: Row, settings: PromptsSettings) -> dict[str, Any]:
    sampling = asking.sampling(row)
    return {
        "custom_id": asking.key(row)[:32], "model": settings.resolved_model,
        "messages": [{"role": m.role, "content": m.content} for m in asking.messages(row)],
        "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
        "max_tokens": sampling.max_tokens, "stop": list(sampling.stop),
    }  # fmt: skip
