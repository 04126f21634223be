"""The experiments, one file each. `of(name)` imports only the one asked for."""

from __future__ import annotations

import importlib

from peira.families.representations.catalogue import find
from peira.families.representations.experiments.base import Experiment


def of(name: str) -> Experiment:
    """The experiment behind a name of the catalogue."""
    entry = find(name)
    module = importlib.import_module(f"{__name__}.{entry.module}")
    made = module.experiment()
    assert isinstance(made, Experiment)
    return made
