"""Prompt templates of the negotiation: read once, compiled once, versioned by their hash.

Invariant: `prompt_hash` changes whenever any template does, and it stands in every record.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template

VERSION = 1


@cache
def sources() -> dict[str, str]:
    """Template text by name (`system`, `vote`, …)."""
    folder = files(__package__)
    return {
        place.name.removesuffix(".md"): place.read_text("utf-8")
        for place in sorted(folder.iterdir(), key=lambda place: place.name)
        if place.name.endswith(".md")
    }


@cache
def prompt_hash() -> str:
    """First 16 hex of SHA-256 over version and all templates."""
    digest = hashlib.sha256(f"version {VERSION}".encode())
    for name, text in sorted(sources().items()):
        digest.update(f"\0{name}\0{text}".encode())
    return digest.hexdigest()[:16]


@cache
def _environment() -> Environment:
    # Plain text for models, not HTML: escaping would change what is said.
    return Environment(loader=DictLoader(sources()), undefined=StrictUndefined, autoescape=False)


@cache
def template(name: str) -> Template:
    """A compiled template. Raises jinja2.TemplateNotFound for an unknown name."""
    return _environment().get_template(name)


def render(name: str, **values: Any) -> str:
    """A template filled in, without trailing white space."""
    return template(name).render(values).rstrip()


def told(macro: str, *values: str | int) -> str:
    """One entry of the public record or of private notes, as a macro of `history.md` writes it."""
    empty = tuple([k for k, value in enumerate(values) if value == ""]) if "" in values else ()
    return _pattern(macro, len(values), empty).format(*values)


@cache
def _pattern(macro: str, arguments: int, empty: tuple[int, ...]) -> str:
    """The macro as a format string, some arguments being empty: filling it in costs a quarter of
    calling the macro, which a game does a hundred times."""
    holes = ["" if k in empty else f"{{{k}}}" for k in range(arguments)]
    return str(getattr(template("history").module, macro)(*holes))
