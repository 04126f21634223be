"""Negotiation: how do stronger models exploit weaker ones, and how does it scale with the gap?

Two or more subjects split items they value differently; each knows only its own values.
Read in this order: settings, trial, outcome, analysis, figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peira.families.negotiation.family import Negotiation

__all__ = ["Negotiation"]


def __getattr__(name: str) -> Any:
    """Load the family at first use."""
    if name == "Negotiation":
        from peira.families.negotiation.family import Negotiation

        return Negotiation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
