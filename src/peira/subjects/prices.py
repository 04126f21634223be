"""What a call costs, in micro-dollars, and the most it can cost before it is made.

Rates are US dollars per million tokens, which is the same as micro-dollars per token. They come
from the study, a user's file, or genai-prices (offline data, dated). Invariant: `worst` is an upper
bound of `cost`, because no tokenizer makes more tokens of a text than it has UTF-8 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from peira.errors import InputError
from peira.subjects.subject import Reply, Request, Usage

MESSAGE_OVERHEAD = 16  # tokens a chat template may add to each message, generously
PROMPT_OVERHEAD = 64
BATCH_DISCOUNT = 0.5  # what OpenAI, Anthropic, Google, Fireworks and Mistral publish


def _field(kind: str, batch: str | None) -> Any:
    """A rate of `PriceOptions`, also under the shorter name of the prompt guides (`_per_mtok`)."""
    end = f"_{batch}" if batch else ""
    required = batch is None and kind in ("input", "output")
    names = AliasChoices(f"{kind}_per_million{end}", f"{kind}_per_mtok{end}")
    return Field(... if required else None, ge=0, validation_alias=names)


class PriceOptions(BaseModel):
    """A price as a study or a user's file gives it, in US dollars per million tokens."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )

    input_per_million: float = _field("input", None)
    output_per_million: float = _field("output", None)
    cached_per_million: float | None = _field("cached", None)
    cache_write_per_million: float | None = _field("cache_write", None)
    input_per_million_batch: float | None = _field("input", "batch")
    output_per_million_batch: float | None = _field("output", "batch")
    batch_discount: float = Field(BATCH_DISCOUNT, ge=0, le=1, description="multiplies the price")


@dataclass(frozen=True, slots=True)
class Rate:
    """A price per token with its tiers: crossing a tier's start prices every token at its rate."""

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, prompt_tokens: int) -> float:
        rate = self.base
        for start, tiered in self.tiers:
            if prompt_tokens > start:
                rate = tiered
        return rate

    def most(self, prompt_tokens: int) -> float:
        """The highest rate that a prompt of at most this many tokens can meet."""
        if not self.tiers:
            return self.base
        return max([self.base, *(rate for start, rate in self.tiers if prompt_tokens > start)])

    def times(self, factor: float) -> Rate:
        return Rate(self.base * factor, tuple((s, r * factor) for s, r in self.tiers))


@dataclass(frozen=True, slots=True)
class Rates:
    """All rates of one model at one time."""

    input: Rate
    output: Rate
    cached: Rate
    cache_write: Rate

    def cost(self, reply: Reply) -> float:
        usage = reply.usage
        prompt = usage.prompt_tokens
        plain = max(0, prompt - usage.cached_tokens - usage.cache_write_tokens)
        return (
            plain * self.input.at(prompt)
            + usage.cached_tokens * self.cached.at(prompt)
            + usage.cache_write_tokens * self.cache_write.at(prompt)
            + usage.completion_tokens * self.output.at(prompt)
        )

    def worst(self, prompt: int, output: int) -> float:
        most = self.input.most(prompt)
        for rate in (self.cached, self.cache_write):
            most = max(most, rate.most(prompt))
        return prompt * most + output * self.output.most(prompt)

    def times(self, factor: float) -> Rates:
        kinds = (self.input, self.output, self.cached, self.cache_write)
        return Rates(*(rate.times(factor) for rate in kinds))


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """A model's price. `rates` holds every set that may apply (most models have one; some charge
    by the hour): the worst case takes the dearest, the cost the one at the time of asking."""

    name: str
    rates: tuple[Rates, ...]
    batch: tuple[Rates, ...]
    dated: str
    source: str
    context_window: int | None = None
    max_output: int | None = None
    model: Any = field(default=None, repr=False)  # genai-prices' own, where the time matters

    def worst(self, request: Request) -> int:
        """Prompt bytes plus the most it may answer, at the dearest rates."""
        tokens = self.prompt_bound(request)
        output = self.output_bound(request)
        return math.ceil(max(rates.worst(tokens, output) for rates in self.rates))

    def cost(self, reply: Reply, request: Request | None = None) -> int:
        """From the usage the provider reported. Where it reports none, a token for each byte: a
        budget must hold there too."""
        if request is not None and not reply.usage.total_tokens:
            answered = len(f"{reply.text}{reply.reasoning}".encode())
            most = request.sampling.max_tokens or answered
            usage = Usage(self.prompt_bound(request), min(answered, most))
            reply = replace(reply, usage=usage)
        return round(self._rates_at(reply.asked_at).cost(reply))

    def batched(self) -> TokenPrice:
        """The same at the provider's batch rates."""
        return replace(self, rates=self.batch, model=None)

    def prompt_bound(self, request: Request) -> int:
        """No prompt has more tokens than this."""
        tokens = request.prompt_bytes + MESSAGE_OVERHEAD * len(request.messages) + PROMPT_OVERHEAD
        return min(tokens, self.context_window) if self.context_window else tokens

    def output_bound(self, request: Request) -> int:
        """No answer has more tokens than this. Raises InputError where nothing bounds it."""
        bounds = (request.sampling.max_tokens, self.max_output, self.context_window)
        for bound in bounds:
            if bound is not None:
                return bound
        raise InputError(
            f"subject {self.name!r}: nothing bounds its answers' length, so no budget can hold\n"
            "  remedy: set max_tokens, or max_output in the study's `subjects`"
        )

    def describe(self) -> dict[str, Any]:
        """For manifests: US dollars per million tokens, with date and source."""
        first = self.rates[0]
        return {
            "input_per_million": first.input.base, "output_per_million": first.output.base,
            "cached_per_million": first.cached.base, "dated": self.dated, "source": self.source,
        }  # fmt: skip

    def _rates_at(self, asked_at: float) -> Rates:
        if self.model is None or len(self.rates) == 1:
            return self.rates[0]
        when = datetime.fromtimestamp(asked_at, UTC) if asked_at else datetime.now(UTC)
        return rates_of(self.model.get_prices(when))


def stated_price(name: str, options: PriceOptions, source: str) -> TokenPrice:
    """The price a study or a user's file states."""
    given = options
    rates = _simple(given.input_per_million, given.output_per_million, given)
    batch = rates.times(given.batch_discount)
    if given.input_per_million_batch is not None or given.output_per_million_batch is not None:
        batch = _simple(
            _or(given.input_per_million_batch, batch.input.base),
            _or(given.output_per_million_batch, batch.output.base),
        )
    today = datetime.now(UTC).date().isoformat()
    return TokenPrice(name, (rates,), (batch,), today, source)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _simple(input_rate: float, output: float, given: PriceOptions | None = None) -> Rates:
    cached = given.cached_per_million if given is not None else None
    write = given.cache_write_per_million if given is not None else None
    return Rates(
        Rate(input_rate), Rate(output), Rate(_or(cached, input_rate)), Rate(_or(write, input_rate))
    )


# -- genai-prices -------------------------------------------------------------------------------
@lru_cache(maxsize=512)
def listed_price(name: str, provider: str, model: str) -> TokenPrice | None:
    """The price genai-prices lists for a provider's model, or None. Never touches the network."""
    entry = _find(provider, model)
    if entry is None:
        return None
    prices = entry.prices if isinstance(entry.prices, list) else [entry.prices]
    sets = [getattr(each, "prices", each) for each in prices]
    usable = [each for each in sets if _number(each, "input_mtok") is not None]
    if not usable or len(usable) < len(sets):
        return None
    rates = tuple(rates_of(each) for each in usable)
    variants = _batch_variants(entry)
    batch = tuple(rates_of(each) for each in variants) or _times(rates, BATCH_DISCOUNT)
    timed = entry if len(rates) > 1 else None
    return TokenPrice(name, rates, batch, *_version(), entry.context_window, None, timed)


def _times(rates: Iterable[Rates], factor: float) -> tuple[Rates, ...]:
    return tuple(each.times(factor) for each in rates)


def _find(provider: str, model: str) -> Any | None:
    from genai_prices import data_snapshot

    providers = data_snapshot.get_snapshot().providers
    mine = [each for each in providers if each.id == provider]
    return mine[0].find_model(model) if mine else None


def _batch_variants(entry: Any) -> list[Any]:
    variants = entry.price_variants or []
    return [each.prices for each in variants if each.when.get("processing") == "batch"]


def rates_of(price: Any) -> Rates:
    """genai-prices' ModelPrice as our rates."""
    read = _rate(price, "input_mtok") or Rate(0.0)
    return Rates(
        read,
        _rate(price, "output_mtok") or Rate(0.0),
        _rate(price, "cache_read_mtok") or read,
        _rate(price, "cache_write_mtok") or read,
    )


def _rate(price: Any, kind: str) -> Rate | None:
    value = _number(price, kind)
    if value is None:
        return None
    if hasattr(value, "tiers"):
        tiers = tuple((int(tier.start), float(tier.price)) for tier in value.tiers)
        return Rate(float(value.base), tiers)
    return Rate(float(value))


def _number(price: Any, kind: str) -> Any | None:
    return price.__dict__.get(kind)


@lru_cache(maxsize=1)
def _version() -> tuple[str, str]:
    from importlib.metadata import version

    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    when = getattr(snapshot, "timestamp", None)
    dated = when.date().isoformat() if when is not None else "bundled"
    return dated, f"genai-prices {version('genai-prices')}"
