"""What two evaluations can be compared by: each arm's item means, and each effect, item by item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from peira.families.prompts.effects import Comparison, sides
from peira.families.prompts.evaluated import TrialData, comparisons, evaluate
from peira.families.prompts.significance import temp_key
from peira.store.compare import Series

if TYPE_CHECKING:
    from peira.store.records import RunView


def comparables(run: RunView) -> Iterator[Series]:
    """Series of every finished trial; the unit is the item, clustered by passage."""
    for trial in evaluate(run).done:
        yield from _trial_series(trial)


def _trial_series(trial: TrialData) -> Iterator[Series]:
    seen: set[tuple[float, str, str]] = set()
    for temp, kind, arm, reference in comparisons(trial):
        at = Comparison(trial, temp, kind, arm, reference, trial.of_type(kind))
        for metric in trial.metrics:
            found = sides(at, metric)
            for name, values in ((reference, found.control), (arm, found.arm)):
                if (temp, f"{kind}|{metric}", name) not in seen:
                    seen.add((temp, f"{kind}|{metric}", name))
                    yield _series(at, metric, name, values, "mean")
            yield _series(at, metric, arm, found.delta, "effect")


def _series(at: Comparison, metric: str, arm: str, values: np.ndarray, kind: str) -> Series:
    items = [at.trial.items[n] for n in at.items]
    known = {item.key: float(v) for item, v in zip(items, values, strict=True) if np.isfinite(v)}
    labels = {
        "trial": at.trial.record.slug, "condition": arm, "type": at.kind,
        "temperature": temp_key(at.temp),
    }  # fmt: skip
    return Series(metric, labels, known, kind, {item.key: item.cluster for item in items})
