"""From a name to a model's card: provider, address, id, price, limits, scores.

Invariant: a provider's key is named on a card only for that provider's own address, so that a
`base_url` of the study's never receives a key the study did not name for it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from peira.errors import InputError
from peira.subjects.catalogue import (
    MAKERS,
    ROUTER,
    Catalogue,
    ModelEntry,
    ProviderEntry,
    Score,
    catalogue,
)
from peira.subjects.keys import find_key
from peira.subjects.options import SubjectOptions, read_options
from peira.subjects.prices import PriceOptions, TokenPrice, listed_price, stated_price
from peira.subjects.wire import DIALECTS


@dataclass(frozen=True, slots=True)
class Card:
    """A model as one study reaches it. Holds no key."""

    name: str
    provider: str
    wire: str
    base_url: str
    model: str
    keys: tuple[str, ...]
    local: bool = False
    price: TokenPrice | None = None
    free: bool = False
    context_window: int | None = None
    max_output: int | None = None
    carries: frozenset[str] = frozenset()
    fixed: Mapping[str, float] = field(default_factory=dict)
    allowance: int = 0
    quirks: frozenset[str] = frozenset()
    seeds: bool = False
    batch: str | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)

    @property
    def key_name(self) -> str | None:
        """The variable that holds a key now, else the first one looked for."""
        for variable in self.keys:
            if find_key(variable):
                return variable
        return self.keys[0] if self.keys else None

    @property
    def ready(self) -> bool:
        """True if no key is missing."""
        return not self.keys or any(find_key(variable) for variable in self.keys)


def describe_model(name: str, overrides: Mapping[str, Any] | None = None) -> Card:
    """What is known of a model, without opening it and without needing its key."""
    return card_of(name, read_options(name, overrides or {}))


def capability(name: str, overrides: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Scores by scale ({} for an unknown model): mmlu_pro, arena_elo, params_b."""
    found = catalogue().find(name)
    scores = {scale: score.value for scale, score in found[1].scores.items()} if found else {}
    stated = (overrides or {}).get("scores") or {}
    return {**{str(scale): value for scale, value in scores.items()}, **stated}


def maker(name: str) -> str | None:
    """Who made a model, by its name at the router ("anthropic", "qwen"); None if it is unknown."""
    found = catalogue().find(name)
    if found is None:
        return None
    provider, rest = found[1].at.split("/", 1)
    named = found[1].router or (rest if "/" in rest else f"{provider}/{rest}")
    return named.split("/")[0].lower()


def card_of(name: str, options: SubjectOptions) -> Card:
    """The card of a model reached over HTTP. Raises InputError for an unknown name."""
    known = catalogue()
    entry, provider_name, model = _place(known, name, options)
    provider = known.providers.get(provider_name)
    base_url = options.base_url or (provider.base_url if provider else "")
    local = is_loopback(base_url) or bool(provider and provider.local and not options.base_url)
    own = provider is not None and options.base_url is None
    if provider is None:
        provider_name = options.provider or (
            "local" if local else urlsplit(base_url).hostname or ""
        )
        provider = ProviderEntry(base_url=base_url)
    native = own and (entry is None or entry.provider == provider_name)
    return _card(
        Placement(name, model, provider_name, provider, base_url, local, own, native),
        entry or ModelEntry(at=f"{provider_name}/{model}"),
        options,
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model was found. `own`: at its provider's own address, `native`: through the maker."""

    name: str
    model: str
    provider_name: str
    provider: ProviderEntry
    base_url: str
    local: bool
    own: bool
    native: bool


def _card(place: Placement, entry: ModelEntry, options: SubjectOptions) -> Card:
    wire = options.wire or place.provider.wire
    dialect = DIALECTS[wire]()
    lacks = place.provider.lacks | entry.lacks
    if options.lacks is not None:
        lacks = frozenset(options.lacks)
    quirks = place.provider.quirks | (
        entry.quirks if place.native or not place.own else frozenset()
    )
    if options.quirks is not None:
        quirks = frozenset(options.quirks)
    price = _price(place, entry, options)
    keys = place.provider.keys if place.own else ()
    return Card(
        name=place.name,
        provider="local" if place.local else place.provider_name,
        wire=wire,
        base_url=place.base_url,
        model=place.model,
        keys=(options.api_key_env,) if options.api_key_env else keys,
        local=place.local,
        price=price,
        free=price is None and (place.local or options.price == "free"),
        context_window=options.context_window or entry.window,
        max_output=options.max_output or entry.output,
        carries=dialect.carries - lacks,
        fixed=entry.fixed,
        allowance=_or(options.reasoning_allowance, entry.allowance),
        quirks=quirks,
        seeds=_or(options.seeds, place.provider.seeds) and "seed" in dialect.carries - lacks,
        batch=place.provider.batch if place.own else None,
        scores=_scores(entry, options),
    )


def _scores(entry: ModelEntry, options: SubjectOptions) -> dict[str, Score]:
    stated = {str(scale): Score(value=value) for scale, value in options.scores.items()}
    return {**{str(scale): score for scale, score in entry.scores.items()}, **stated}


def _or(stated: Any, default: Any) -> Any:
    return default if stated is None else stated


def _place(
    known: Catalogue, name: str, options: SubjectOptions
) -> tuple[ModelEntry | None, str, str]:
    """(entry, provider, model id): where this name leads."""
    wanted = options.model or name
    found = known.find(wanted)
    if options.base_url is not None:
        keeps = found is not None and options.model is None
        return (
            found[1] if found else None,
            _stated_provider(known, options, found),
            (found[1].model if keeps and found else wanted),
        )
    if options.provider is not None:
        return _at_provider(known, name, wanted, options.provider, found)
    if found is not None:
        return _entry_place(known, found[1])
    head, slash, rest = wanted.partition("/")
    if not slash:
        raise _unknown(known, name, wanted)
    if head in known.providers and head not in MAKERS:
        return None, head, known.providers[head].prefix + rest
    maker = MAKERS.get(head)
    if maker is not None and _has_key(known.providers[maker]):
        return None, maker, rest
    return None, ROUTER, wanted


def _stated_provider(
    known: Catalogue, options: SubjectOptions, found: tuple[str, ModelEntry] | None
) -> str:
    """With a base_url, the provider only lends its dialect; none named: plain OpenAI."""
    if options.provider is not None:
        return options.provider
    if found is not None and options.wire is None and found[1].provider in known.providers:
        return found[1].provider
    return ""


def _at_provider(
    known: Catalogue, name: str, wanted: str, provider: str, found: tuple[str, ModelEntry] | None
) -> tuple[ModelEntry | None, str, str]:
    if provider not in known.providers:
        raise InputError(
            f"subjects.{name}.provider: {provider!r}\n  allowed: {', '.join(known.providers)}"
        )
    if found is not None:
        entry = found[1]
        if entry.provider == provider:
            return entry, provider, known.providers[provider].prefix + entry.model
        if provider == ROUTER and entry.router:
            return entry, provider, entry.router
    return found[1] if found else None, provider, known.providers[provider].prefix + wanted


def _entry_place(known: Catalogue, entry: ModelEntry) -> tuple[ModelEntry, str, str]:
    """The maker's interface; OpenRouter's when only that key is set."""
    own = known.providers.get(entry.provider)
    if own is None:
        raise InputError(f"models.yaml: at: {entry.at!r}\n  allowed: {', '.join(known.providers)}")
    if entry.router and not _has_key(own) and find_key("OPENROUTER_API_KEY"):
        return entry, ROUTER, entry.router
    return entry, entry.provider, own.prefix + entry.model


def _has_key(provider: ProviderEntry) -> bool:
    return any(find_key(variable) for variable in provider.keys)


def _price(place: Placement, entry: ModelEntry, options: SubjectOptions) -> TokenPrice | None:
    price: TokenPrice | None = None
    if isinstance(options.price, PriceOptions):
        price = stated_price(place.name, options.price, "study")
    elif options.price == "free" or place.local:
        return None
    elif entry.price is not None:
        price = stated_price(place.name, entry.price, "models.yaml")
    elif place.own and place.provider.prices is not None:
        price = listed_price(place.name, place.provider.prices, place.model)
    if price is None:
        return None
    window = options.context_window or entry.window or price.context_window
    return replace(price, context_window=window, max_output=options.max_output or entry.output)


def _unknown(known: Catalogue, name: str, wanted: str) -> InputError:
    near = known.near(wanted)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return InputError(
        f"subject {name!r}: unknown model {wanted!r}\n"
        "  allowed: a name of `peira models`, provider/model, hf:PATH, sim:KIND, or a base_url\n"
        f"  remedy: {hint}see peira models"
    )


def is_loopback(url: str) -> bool:
    """True for an address on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
