"""The embedded model `peira/tiny-graph-tracer`: its training data, its recipe, its files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

NAME = "peira/tiny-graph-tracer"


def folder() -> Path:
    """Where the shipped model lies, in Hugging Face form."""
    return Path(str(files(__package__) / "model"))
