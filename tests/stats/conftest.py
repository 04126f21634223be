"""Reference values made by R, read where the developers keep them."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# The same examples on every run, and no example fails for being slow on a busy machine.
settings.register_profile("stats", deadline=None, derandomize=True)
settings.load_profile("stats")


class References:
    """Inputs and expected outputs of `stats_refs`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def expected(self, name: str) -> Any:
        return json.loads((self.root / "expected" / f"{name}.json").read_text())

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.root / "data" / f"{name}.csv").open() as file:
            return list(csv.DictReader(file))

    def columns(self, name: str, *columns: str) -> list[np.ndarray]:
        rows = self.rows(name)
        return [np.array([float(row[c]) for row in rows]) for c in columns]

    def labels(self, name: str, column: str) -> list[str]:
        return [row[column] for row in self.rows(name)]

    def paired_sets(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        sets: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in self.rows("02_paired_continuous"):
            sets[row["set"]].append((float(row["treatment"]), float(row["control"])))
        return {name: (np.array(v)[:, 0], np.array(v)[:, 1]) for name, v in sets.items()}


@pytest.fixture(scope="session")
def refs(shared_data: Path) -> References:
    return References(shared_data / "stats_refs")
