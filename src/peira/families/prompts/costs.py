"""What rows cost: by the study's own prices where it gives them, else as the ledger paid.

Invariant: `usd` prices the rows a trial uses; `usd_spent` charges a shared row to its first user
only, so a run's spend is the sum of `usd_spent`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peira.families.prompts.settings import Pricing, PromptsSettings

USAGE = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, and how they were found."""

    provider: str
    model_key: str
    input_rate: float | None
    output_rate: float | None
    rate_type: str
    dated: str | None = None

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of these tokens; the batch discount is already in the rates."""
        assert self.input_rate is not None and self.output_rate is not None
        return (prompt_tokens * self.input_rate + completion_tokens * self.output_rate) / 1e6

    def to_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider, "model_key": self.model_key,
            "input_rate_per_mtok": self.input_rate, "output_rate_per_mtok": self.output_rate,
            "rate_type": self.rate_type, "dated": self.dated,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowCosts:
    """US dollars of each row, and whether this trial is the first to use it."""

    usd: Sequence[float]
    first: Sequence[bool]
    price: Price
    batch: bool


def stated_price(pricing: Pricing, model: str, alias: str, batch: bool) -> Price | None:
    """The study's own price of a model; explicit batch rates win over the discount."""
    names = {model, alias, model.rpartition("/")[2]}
    for provider, models in pricing.providers.items():
        for name, rates in models.items():
            if name in names:
                discount = (
                    pricing.batch_discount if rates.batch_discount is None else rates.batch_discount
                )
                factor = discount if batch else 1.0
                rate_in, rate_out = rates.input_per_mtok * factor, rates.output_per_mtok * factor
                if batch and rates.input_per_mtok_batch is not None:
                    rate_in = rates.input_per_mtok_batch
                if batch and rates.output_per_mtok_batch is not None:
                    rate_out = rates.output_per_mtok_batch
                return Price(provider, name, rate_in, rate_out, _kind(batch))
    if pricing.input_per_million is None or pricing.output_per_million is None:
        return None
    factor = pricing.batch_discount if batch else 1.0
    return Price(
        "study", model, pricing.input_per_million * factor, pricing.output_per_million * factor,
        _kind(batch),
    )  # fmt: skip


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


def costs_json(
    columns: Mapping[str, Any], costs: RowCosts, arms: Sequence[str], row_arms: Sequence[str]
) -> dict[str, Any]:
    """costs.json of one trial: totals, and the same by condition."""
    where = np.array(row_arms, dtype=object)
    everything = np.ones(len(where), dtype=bool)
    return {
        **_totals(columns, costs, everything),
        "batch_discount_applied": costs.batch,
        "by_condition": {arm: _totals(columns, costs, where == arm) for arm in arms},
        "pricing": costs.price.to_dict(),
    }


def _totals(columns: Mapping[str, Any], costs: RowCosts, mask: Any) -> dict[str, Any]:
    chosen = np.flatnonzero(mask).tolist()
    usage = [columns["usage"][n] for n in chosen if columns["usage"][n] is not None]
    sums = {name: sum(use[k] for use in usage) for k, name in enumerate(USAGE)}
    return {
        "prompt_tokens": sums["prompt_tokens"], "completion_tokens": sums["completion_tokens"],
        "total_tokens": sums["prompt_tokens"] + sums["completion_tokens"],
        "cached_tokens": sums["cached_tokens"],
        "cache_write_tokens": sums["cache_write_tokens"],
        "reasoning_tokens": sums["reasoning_tokens"],
        "usd": math.fsum(costs.usd[n] for n in chosen),
        "usd_spent": math.fsum(costs.usd[n] for n in chosen if costs.first[n]),
        "usage_records": len(usage),
    }  # fmt: skip
