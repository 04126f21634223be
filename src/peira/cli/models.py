"""`peira models`: the registry, filtered; one model in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags
from peira.errors import InputError

if TYPE_CHECKING:
    from peira.subjects.cards import Card

HEADER = ("name", "reached through", "window", "in", "out", "MMLU-Pro", "Arena", "params B", "key")
WIDE, NARROW = 110, (0, 3, 4, 5, 8)  # on a narrow terminal: name, prices, MMLU-Pro, key


def command(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name; a whole name shows all about it.")
    ] = None,
    provider: Annotated[str | None, "Only this provider."] = None,
    sort: Annotated[str, "name, price, mmlu_pro, arena_elo or params_b."] = "name",
    scored: Annotated[str | None, "Only models with this score."] = None,
    ready: Annotated[bool, "Only models whose key is set."] = False,
    json: flags.Json = False,
) -> int:
    """Models known by name, with route, price (US dollars per million tokens) and capability.

    Other models need no entry: PROVIDER/MODEL, hf:PATH, or a base_url in the study's `subjects`.
    """
    from peira.cli.display import as_json
    from peira.subjects.catalogue import SCALES, catalogue
    from peira.subjects.registry import describe_model

    known = catalogue()
    _check("--sort", sort, ("name", "price", *SCALES))
    _check("--scored", scored, SCALES)
    _check("--provider", provider, tuple(known.providers))
    if pattern and (found := known.find(pattern)):
        return _show(found[0], describe_model(found[0]), json)
    cards = [
        describe_model(name) for name in known.models if (pattern or "").lower() in name.lower()
    ]
    cards = [card for card in cards if _wanted(card, provider, scored, ready)]
    cards.sort(key=lambda card: _order(card, sort))
    if json:
        as_json([_data(card) for card in cards])
        return 0
    return _print(cards, pattern, known.near(pattern or ""))


def _check(flag: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise InputError(f"{flag} {value}: unknown\n  allowed: {', '.join(allowed)}")


def _wanted(card: Card, provider: str | None, scored: str | None, ready: bool) -> bool:
    return (
        provider in (None, card.provider)
        and (scored is None or scored in card.scores)
        and (card.ready or not ready)
    )


def _order(card: Card, sort: str) -> tuple[float, str]:
    if sort == "price":
        known = card.price is not None
        return (_rate(card, "input") + _rate(card, "output") if known else float("inf"), card.name)
    if sort == "name" or sort not in card.scores:
        return (0.0 if sort == "name" else float("inf"), card.name.lower())
    return (-card.scores[sort].value, card.name)


def _rate(card: Card, kind: str) -> float:
    assert card.price is not None
    return float(getattr(card.price.rates[0], kind).base)


def _data(card: Card) -> dict[str, Any]:
    return {
        "name": card.name, "provider": card.provider, "model": card.model, "wire": card.wire,
        "base_url": card.base_url, "context_window": card.context_window,
        "max_output": card.max_output, "free": card.free,
        "price": card.price.describe() if card.price is not None else None,
        "scores": {scale: score.model_dump() for scale, score in card.scores.items()},
        "carries": sorted(card.carries), "reasoning_allowance": card.allowance,
        "key": card.key_name, "key_is_set": card.ready, "batch": card.batch,
    }  # fmt: skip


def _print(cards: list[Card], pattern: str | None, near: list[str]) -> int:
    from peira.cli.display import console, note, table

    if not cards:
        wanted = f" matches {pattern!r}" if pattern else " is known that fits"
        hint = f"did you mean {', '.join(near)}?" if near else "peira models lists all"
        raise InputError(f"no model{wanted}\n  remedy: {hint}")
    kept = range(len(HEADER)) if console().width >= WIDE else NARROW
    table(
        f"{len(cards)} models", [HEADER[k] for k in kept],
        [[row[k] for k in kept] for row in map(_row, cards)],
    )  # fmt: skip
    note("in, out: US dollars per million tokens. ~: from memory, not checked against its source"
         " (peira models NAME)")  # fmt: skip
    return 0


def _row(card: Card) -> list[str]:
    prices = ["free", "free"] if card.free else ["?", "?"]
    if card.price is not None:
        prices = [f"{_rate(card, kind):g}" for kind in ("input", "output")]
    scores = [str(card.scores.get(scale, "")) for scale in ("mmlu_pro", "arena_elo", "params_b")]
    key = "set" if card.ready and card.keys else ("none needed" if not card.keys else "missing")
    window = f"{card.context_window // 1000}k" if card.context_window else "?"
    return [card.name, f"{card.provider} {card.model}", window, *prices, *scores, key]


def _show(name: str, card: Card, json: bool) -> int:
    from peira.cli.display import as_json, say

    if json:
        as_json(_data(card))
        return 0
    data = _data(card)
    say(f"{name}: {card.model} at {card.provider} ({card.base_url}, {card.wire} dialect)")
    say(f"  context window {card.context_window or '?'}, at most {card.max_output or '?'} out")
    price = data["price"]
    if price:
        say(f"  ${price['input_per_million']:g} in, ${price['output_per_million']:g} out a million"
            f" tokens ({price['source']}, {price['dated']})")  # fmt: skip
    else:
        say("  free" if card.free else "  no price known: state one under a budget")
    for scale, score in card.scores.items():
        state = "from memory, not checked" if score.remembered else f"checked {score.checked}"
        about = score.source if not score.date else f"{score.source}, {score.date}; {state}"
        say(f"  {scale} {score} ({about})" + (f"\n    {score.url}" if score.url else ""))
    say(f"  takes {', '.join(data['carries'])}")
    if card.keys:
        say(f"  key {card.key_name}: {'set' if card.ready else 'not set'}")
    return 0
