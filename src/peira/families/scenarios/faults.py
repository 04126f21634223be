"""Faults of a scenario's files: what is allowed and what to do about it, carried by pydantic.

Invariant: a fault names a path relative to where it was raised; `load` turns it into file and line.
"""

from __future__ import annotations

from pydantic_core import PydanticCustomError


def fault(allowed: str, remedy: str = "", path: str = "") -> PydanticCustomError:
    """An error for a validator to raise; `path` (dotted) points inside the part being checked."""
    context = {"allowed": allowed, "remedy": remedy, "path": path}
    return PydanticCustomError("scenario", "{allowed}", context)
