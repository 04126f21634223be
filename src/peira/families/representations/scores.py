"""`ContextSensitivityScore(metric).compute_batch(losses, representations, labels)`: the guide's face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from peira.families.representations.inference import Sensitivity, sensitivity
from peira.families.representations.metrics import ClusterSeparation, _matrix


class ContextSensitivityScore:
    """−Cov over contexts of each token's loss and a metric of the context's representations."""

    def __init__(self, metric: Any = None) -> None:
        self.metric = metric or ClusterSeparation()

    def compute_batch(
        self, losses: Any, representations: Sequence[Any], labels: Sequence[Any]
    ) -> Sensitivity:
        """Scores (T,) with errors and intervals.

        `losses` (C, T); `representations` one (rows, d) per context; `labels` what the metric takes,
        one per context, or one for all. Raises ValueError when the counts differ.
        """
        count = len(representations)
        table = np.stack([_matrix(row).ravel() for row in losses])
        given = list(labels) if len(labels) == count else [labels] * count
        if len(table) != count:
            raise ValueError(f"{len(table)} rows of losses, {count} contexts")
        values = [
            self.metric.measure(r, lab).value for r, lab in zip(representations, given, strict=True)
        ]
        phi = np.array([np.nan if v is None else v for v in values])[:, None]
        found = sensitivity(table, phi)
        return Sensitivity(**{
            name: np.asarray(value)[0] for name, value in found.__dict__.items()
        })  # fmt: skip
