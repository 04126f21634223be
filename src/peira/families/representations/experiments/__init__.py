"""The experiments, one file each; only the one asked for is imported.

A module holds the experiment's class as `experiment`, and a maker for each figure that the catalogue
names, under that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peira.families.representations.catalogue import find
from peira.families.representations.experiments.base import Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def of(name: str) -> Experiment:
    """The experiment behind a name of the catalogue."""
    made: Experiment = import_module(f"{__name__}.{find(name).module}").experiment()
    return made


def figures(outcome: Mapping[str, Any]) -> dict[str, Callable[[], Figure]]:
    """Figure name -> maker, from a trial's outcome."""
    entry = find(outcome["experiment"])
    module = import_module(f"{__name__}.{entry.module}")
    names = (*entry.figures, *entry.further.get(outcome["condition"], ()))
    return {name: partial(getattr(module, name), outcome) for name in names}
