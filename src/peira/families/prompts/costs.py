"""What rows cost: by the study's own prices where it gives them, else as the ledger paid.

Invariant: `usd` prices the rows a trial uses; `usd_spent` charges a shared row to its first user
only, so a run's spend is the sum of `usd_spent`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from peira.families.prompts.settings import Pricing, PromptsSettings, Rates

if TYPE_CHECKING:
    from peira.families.prompts.evaluated import TrialData

USAGE = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, and how they were found."""

    provider: str
    model_key: str
    input_rate_per_mtok: float | None
    output_rate_per_mtok: float | None
    rate_type: str
    dated: str | None = None

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of these tokens; the batch discount is already in the rates."""
        assert self.input_rate_per_mtok is not None and self.output_rate_per_mtok is not None
        paid = prompt_tokens * self.input_rate_per_mtok
        return (paid + completion_tokens * self.output_rate_per_mtok) / 1e6


@dataclass(frozen=True, slots=True)
class RowCosts:
    """US dollars of each row, and whether this trial is the first to use it."""

    usd: Sequence[float]
    first: Sequence[bool]
    price: Price
    batch: bool


def stated_price(pricing: Pricing, model: str, alias: str, batch: bool) -> Price | None:
    """The study's own price of a model; explicit batch rates win over the discount."""
    names, kind = {model, alias, model.rpartition("/")[2]}, _kind(batch)
    for provider, models in pricing.providers.items():
        for name, rates in models.items():
            if name in names:
                return Price(provider, name, *_rates(rates, pricing.batch_discount, batch), kind)
    if pricing.input_per_million is None or pricing.output_per_million is None:
        return None
    factor = pricing.batch_discount if batch else 1.0
    both = (pricing.input_per_million * factor, pricing.output_per_million * factor)
    return Price("study", model, *both, kind)


def _rates(rates: Rates, discount: float, batch: bool) -> tuple[float, float]:
    live = (rates.input_per_mtok, rates.output_per_mtok)
    if not batch:
        return live
    factor = discount if rates.batch_discount is None else rates.batch_discount
    own = (rates.input_per_mtok_batch, rates.output_per_mtok_batch)
    first, second = (
        each * factor if given is None else given for each, given in zip(live, own, strict=True)
    )
    return first, second


def _kind(batch: bool) -> str:
    return "batch" if batch else "live"


def row_costs(
    settings: PromptsSettings,
    columns: Mapping[str, Any],
    subject: Mapping[str, Any],
    paid: set[str],
) -> RowCosts:
    """Cost of each row of a trial; `paid` holds the keys that earlier trials were charged for."""
    batch = columns.get("mode") == "batch"
    price = stated_price(settings.analysis.pricing, settings.resolved_model, settings.model, batch)
    usage = columns["usage"]
    if price is not None and not subject.get("simulated"):
        usd = [0.0 if use is None else price.usd(use[0], use[1]) for use in usage]
    else:
        usd = [cost / 1e6 for cost in columns["cost"]]
    first = []
    for key in columns["keys"]:
        first.append(key not in paid)
        paid.add(key)
    return RowCosts(usd, first, price or _listed(settings, subject, batch), batch)


def _listed(settings: PromptsSettings, subject: Mapping[str, Any], batch: bool) -> Price:
    """The price the provider list gave, as the manifest has it."""
    listed = subject.get("price") or {}
    listed = listed if isinstance(listed, Mapping) else {}
    return Price(
        str(subject.get("provider", "")), str(subject.get("model", settings.resolved_model)),
        listed.get("input_per_million"), listed.get("output_per_million"),
        "free" if not listed else _kind(batch), listed.get("dated"),
    )  # fmt: skip


def costs_json(trial: TrialData) -> dict[str, Any]:
    """costs.json of one trial: totals, and the same by condition."""
    arms = [row.arm for row in trial.rows]
    return {
        **_totals(trial, range(len(arms))),
        "batch_discount_applied": trial.costs.batch,
        "by_condition": {
            name: _totals(trial, [n for n, arm in enumerate(arms) if arm == name])
            for name in trial.arm_names
        },
        "pricing": asdict(trial.costs.price),
    }


def _totals(trial: TrialData, chosen: Sequence[int]) -> dict[str, Any]:
    costs, rows = trial.costs, trial.columns["usage"]
    usage = [rows[n] for n in chosen if rows[n] is not None]
    sums = {name: sum(use[k] for use in usage) for k, name in enumerate(USAGE)}
    return {
        "prompt_tokens": sums["prompt_tokens"], "completion_tokens": sums["completion_tokens"],
        "total_tokens": sums["prompt_tokens"] + sums["completion_tokens"], **sums,
        "usd": math.fsum(costs.usd[n] for n in chosen),
        "usd_spent": math.fsum(costs.usd[n] for n in chosen if costs.first[n]),
        "usage_records": len(usage),
    }  # fmt: skip
