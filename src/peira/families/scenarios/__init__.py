"""Models play the actors of a written scenario, turn by turn; a batch asks what changes the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peira.families.scenarios.batch_analyzer import BatchAnalyzer
    from peira.families.scenarios.family import Scenarios

__all__ = ["BatchAnalyzer", "Scenarios"]
_HOMES = {"BatchAnalyzer": "batch_analyzer", "Scenarios": "family"}


def __getattr__(name: str) -> Any:
    """Load the family or the analyzer at first use."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
