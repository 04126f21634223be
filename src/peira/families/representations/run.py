"""What one forward pass of a batch leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Run:
    """`reduced` by activation name; `losses` (B, T), NaN where there is no prediction of the token;
    `node_probabilities` (B, T, n), the prediction made at t; `labels` (B, T) as used."""

    reduced: dict[str, Any]
    losses: Any
    node_probabilities: Any
    labels: Any
