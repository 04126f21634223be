"""How many tokens a text has: by the tokenizer a study names, else estimated from its characters.

Invariant: no network; a tokenizer that is not on this machine is refused before anything is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peira.errors import InputError

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """`method` says how `count` counts, for people."""

    method: str
    count: Callable[[str], int]


def token_counter(name: str | None) -> TokenCounter:
    """The counter of a study's `tokenizer`: a tokenizer.json, a model folder that has one, or the
    id of a model in the local Hugging Face cache. Raises InputError with the remedy."""
    if name is None:
        return TokenCounter(f"characters / {CHARACTERS_PER_TOKEN}", estimated)
    given = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    found = given if given.is_file() else _cached(name)
    if found is None:
        raise InputError(
            f"tokenizer: {name}\n  allowed: a tokenizer.json, a folder with one, or a model id in the"
            f" local Hugging Face cache\n  remedy: hf download {name} tokenizer.json, or leave it out"
        )
    return TokenCounter(f"tokenizer {name}", _loaded(found))


def estimated(text: str) -> int:
    """Tokens estimated from characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _cached(name: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(name, "tokenizer.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


@lru_cache(maxsize=4)
def _loaded(path: Path) -> Callable[[str], int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InputError(
            "tokenizer: the package `tokenizers` is not installed\n"
            "  remedy: pip install tokenizers, or leave `tokenizer` out"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - all the library raises for a file it cannot read
        raise InputError(
            f"tokenizer: {path}: {error}\n  allowed: a tokenizer.json of the library `tokenizers`"
        ) from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
