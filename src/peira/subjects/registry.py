"""From a name to a route: wire, price, pace.

Names: an entry of the catalogue or one of its aliases; `provider/model` (the maker's own interface
if its key is set, else OpenRouter); any name at all with a `base_url` in the study's `subjects`;
`hf:PATH`, `script:FILE`, `replay:RUN`, `pydantic-ai:PROVIDER:MODEL`. Invariant: an unknown price
under a budget is refused here, before the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peira.errors import InputError
from peira.subjects.batch import BatchRoute, open_batch
from peira.subjects.batch.adapter import Desk
from peira.subjects.cards import Card, capability, card_of, describe_model
from peira.subjects.keys import require_key, scrub
from peira.subjects.local import open_local
from peira.subjects.options import BatchOptions, SubjectOptions, read_options
from peira.subjects.pace import PaceOptions, SharedPace
from peira.subjects.route import Route
from peira.subjects.scripted import open_replay, open_script
from peira.subjects.wire import DIALECTS
from peira.subjects.wire.bridge import open_bridge
from peira.subjects.wire.client import HttpClient
from peira.subjects.wire.dialect import Endpoint, Fit
from peira.subjects.wire.http import HttpWire

__all__ = [
    "Card",
    "Outlets",
    "capability",
    "describe_model",
    "in_process",
    "open_model",
    "stays_here",
]


class Outlets:
    """What all routes of a run share: one HTTP client, one pace for each provider and key."""

    def __init__(self) -> None:
        self.client = HttpClient()
        self.paces: dict[str, SharedPace] = {}

    def pace(self, card: Card, options: PaceOptions) -> SharedPace:
        """Opened at first use; what a later subject states of its limits is added."""
        key = f"{card.base_url}|{card.key_name}"
        if pace := self.paces.get(key):
            pace.tighten(options)
        else:
            pace = self.paces[key] = SharedPace(card.provider, options)
        return pace

    async def close(self) -> None:
        await self.client.close()


SPECIAL: dict[str, Callable[[str, SubjectOptions], Route]] = {
    "hf:": open_local, "script:": open_script, "replay:": open_replay, "pydantic-ai:": open_bridge,
}  # fmt: skip


# -- opening ----------------------------------------------------------------------------------
def open_model(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    budgeted: bool = False,
    outlets: Outlets | None = None,
) -> Route:
    """The route of a real subject. Raises InputError for an unknown name, a missing key, an unknown
    price under a budget, or options that do not fit."""
    options = read_options(name, overrides or {})
    route = _open(name, options, outlets or Outlets())
    if budgeted and route.price is None and not route.free and not route.details.get("free"):
        raise InputError(
            f"subject {name!r}: no price is known for {route.model!r} at {route.provider}, and a"
            f" budget is set\n  remedy: subjects: {{{name}: {{price: {{input_per_million: …,"
            " output_per_million: …}}}, or price: free"
        )
    return route


def in_process(name: str, overrides: Mapping[str, Any]) -> bool:
    """True if Peira itself answers: a local model, a script or a replay, for which nobody is paid."""
    wanted = read_options(name, overrides).model or name
    return wanted.startswith(tuple(SPECIAL)) and not wanted.startswith("pydantic-ai:")


def stays_here(name: str, overrides: Mapping[str, Any]) -> bool:
    """True if no call to this subject leaves the machine."""
    options = read_options(name, overrides)
    if (options.model or name).startswith(tuple(SPECIAL)):
        return in_process(name, overrides)
    return card_of(name, options).local


def _open(name: str, options: SubjectOptions, outlets: Outlets) -> Route:
    for prefix, opener in SPECIAL.items():
        if (options.model or name).startswith(prefix):
            return opener(options.model or name, options)
    return _route(card_of(name, options), options, outlets)


def _route(card: Card, options: SubjectOptions, outlets: Outlets) -> Route:
    dialect = DIALECTS[card.wire]()
    endpoint = Endpoint(
        card.name, card.provider, card.base_url, card.model, options.timeout, card.max_output,
        card.seeds, options.extra_body, card.quirks,
    )  # fmt: skip
    key = require_key(card.name, card.keys) if card.keys else None
    headers = {**(dialect.auth(key) if key else {}), **_headers(card.name, options)}
    fit = Fit(
        card.name, f"{card.provider} ({card.model})", card.carries, dialect.limits,
        frozenset(options.allow_drop), card.fixed, card.allowance, dialect.thoughts,
        dialect.unthinking, card.max_output,
    )  # fmt: skip
    wire = HttpWire(endpoint, dialect, outlets.client, headers)
    return Route(
        name=card.name,
        wire=wire,
        model=card.model,
        provider=card.provider,
        price=card.price,
        pace=outlets.pace(card, options),
        durable=True,
        context_window=card.context_window,
        max_output=card.max_output,
        sampling=options.sampling,
        details=_details(card, fit, options),
        fit=fit,
        batch=_batch(card, options, wire, headers),
    )


def _batch(
    card: Card, options: SubjectOptions, wire: HttpWire, headers: Mapping[str, str]
) -> BatchRoute | None:
    if options.batch is False:
        return None
    asked = options.batch if isinstance(options.batch, BatchOptions) else BatchOptions()
    kind = asked.kind or card.batch
    if kind is None:
        raise InputError(
            f"subject {card.name!r}: {card.provider} offers no batch jobs that Peira knows\n"
            "  allowed: batch: {kind: openai | anthropic | fireworks}\n  remedy: leave batch out"
        )
    desk = Desk(wire.endpoint, wire.dialect, headers, wire.client)
    return open_batch(desk, asked.model_copy(update={"kind": kind}), card.price)


def _headers(name: str, options: SubjectOptions) -> dict[str, str]:
    headers = {}
    for header, value in options.headers.items():
        if value.startswith("env:"):
            value = require_key(name, (value.removeprefix("env:"),))
        headers[header] = value
    return headers


def _details(card: Card, fit: Fit, options: SubjectOptions) -> dict[str, Any]:
    """For the manifest: everything that reproducing needs, and no key."""
    return {
        "wire": card.wire, "base_url": scrub(card.base_url), "model": card.model,
        "key": card.key_name, "free": card.free,
        "price": card.price.describe() if card.price is not None else None,
        "seeds": card.seeds, "allow_drop": sorted(fit.allow_drop),
        "reasoning_allowance": card.allowance, "sampling": dict(options.sampling),
    }  # fmt: skip
