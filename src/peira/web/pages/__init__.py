"""How the trials of each family are shown: one small adapter a family, from its events to a page.

An adapter reads a transcript and gives a template what it needs; a family without one (a user's
own) gets the conversation. Invariant: an adapter takes what it finds, so that an unfinished or
older transcript still makes a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from peira.store.records import TrialView

Query = Mapping[str, str]
KNOWN = ("negotiation", "prompts", "representations", "scenarios")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A template and what fills it, beyond what every trial page has."""

    template: str
    context: Callable[[TrialView, Query], dict[str, Any]]


def adapter(family: str) -> Adapter:
    """The adapter of a family by name."""
    name = family if family in KNOWN else "conversation"
    module = import_module(f"peira.web.pages.{name}")
    return Adapter(f"trial/{name}.html", module.context)
