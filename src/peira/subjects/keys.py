"""API keys: read from the environment or a `.env` file, and nowhere else.

Invariant: no text that leaves this room (an error, a reply, a log line) holds a key. Every key read
is remembered here, in memory only, so that `scrub` can take it out of a server's words.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from peira.errors import InputError
from peira.subjects.subject import Reply

HIDDEN = "[key hidden]"
SHORTEST = 6  # a shorter "key" (tests use "x") would blank out ordinary words
# What keys of the known providers look like, for those that we never read ourselves.
LOOKS_LIKE_A_KEY = re.compile(
    r"\b(?:sk|rk|pk|fw|gsk|xai|hf|r8|AIza|key)[-_][A-Za-z0-9_\-]{16,}|\bAIza[A-Za-z0-9_\-]{30,}"
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/\-]{12,}=*"
)
_known: set[str] = set()
_keyless: ContextVar[bool] = ContextVar("keyless", default=False)


@lru_cache(maxsize=1)
def load_dotenv() -> None:
    """Read `.env` of the working directory or an ancestor once; the environment wins."""
    import dotenv

    if os.environ.get("PEIRA_NO_DOTENV"):
        return
    if path := dotenv.find_dotenv(usecwd=True):
        dotenv.load_dotenv(Path(path), override=False)


def find_key(variable: str | None) -> str | None:
    """The key in this environment variable, or None. Remembers it, to hide it later."""
    load_dotenv()
    value = os.environ.get(variable or "", "").strip()
    if not value:
        return None
    remember(value)
    return value


@contextlib.contextmanager
def keyless() -> Iterator[None]:
    """Inside, no key is asked for: routes are opened that will not be used (a replay)."""
    token = _keyless.set(True)
    try:
        yield
    finally:
        _keyless.reset(token)


def require_key(subject: str, variables: tuple[str, ...]) -> str:
    """The first key found. Raises InputError naming the variables that were looked at."""
    if _keyless.get():
        return "no key"
    for variable in variables:
        if value := find_key(variable):
            return value
    names = " or ".join(variables)
    raise InputError(
        f"subject {subject!r}: no API key\n"
        f"  allowed: the environment variable {names}, or the same line in a .env file\n"
        f"  remedy: export {variables[0]}=…, or try it without: --subjects simulated"
    )


def remember(value: str) -> None:
    """Hide this value from now on, also in its URL-quoted form."""
    if len(value) >= SHORTEST:
        _known.update((value, quote(value, safe="")))


def scrub(text: str) -> str:
    """The text without any key, known or key-like."""
    for value in _known:
        if value in text:
            text = text.replace(value, HIDDEN)
    return LOOKS_LIKE_A_KEY.sub(HIDDEN, text)


def scrub_reply(reply: Reply) -> Reply:
    """A reply in which the server echoes no key of ours (a model's own words stay untouched)."""
    fields = (reply.text, reply.reasoning, reply.served_model, reply.request_id)
    whole = "\0".join(fields)
    if not any(value in whole for value in _known):
        return reply
    text, reasoning, served, request_id = (_without_known(field) for field in fields)
    return replace(
        reply, text=text, reasoning=reasoning, served_model=served, request_id=request_id
    )


def _without_known(text: str) -> str:
    for value in _known:
        text = text.replace(value, HIDDEN)
    return text
