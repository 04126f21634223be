"""The pictures of a run: each trial's, as its experiment draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from peira.families.representations import experiments
from peira.families.representations.files import trials_of
from peira.families.representations.settings import model_slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.store.records import RunView


def figures(run: RunView) -> Mapping[str, Callable[[], Figure]]:
    """The first trial's figures by name; further trials' as `<figure>.<condition>` and so on."""
    out: dict[str, Callable[[], Figure]] = {}
    for record, data in trials_of(run):
        for name, maker in experiments.figures(data).items():
            key = name if name not in out else f"{name}.{data['condition']}"
            out[key if key not in out else f"{name}.{model_slug(record.slug)}"] = maker
    return out
