"""What any process needs to run trials of a study: the family, routes, limits.

A `Workplace` is plain and picklable, so that worker processes and clusters build the same bench as
the driver does. Invariant: same workplace, same trial, same result, wherever it runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peira.engine.lab import Bench
from peira.engine.ledger import LedgerPort, Sharing
from peira.subjects.route import Routes
from peira.subjects.simulated import PREFIX
from peira.subjects.subject import Wire


@dataclass(frozen=True, slots=True)
class Workplace:
    """`family` is a resolved reference; `loader` is `module:function` that loads it."""

    family: str
    loader: str = "peira.families:load_family"
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stand_ins: bool = False
    offline: bool = False
    budgeted: bool = False
    retries: int = 5
    trial_seconds: float | None = None

    def load(self) -> Any:
        """The family object."""
        module, _, function = self.loader.partition(":")
        loader: Callable[[str], Any] = getattr(importlib.import_module(module), function)
        return loader(self.family)

    def routes(
        self, wires: Mapping[str, Wire] | None = None, kind: type[Routes] = Routes
    ) -> Routes:
        """The subjects as this study reaches them."""
        family = self.load()
        return kind(
            kinds=family.simulated,
            overrides=self.overrides,
            stand_in=(lambda name: stand_in(family, name)) if self.stand_ins else None,
            offline=self.offline,
            budgeted=self.budgeted,
            wires=wires or {},
        )

    def bench(self, ledger: LedgerPort, wires: Mapping[str, Wire] | None = None) -> Bench:
        """What all trials of one process share."""
        return Bench(self.routes(wires), ledger, Sharing(), self.retries)


def stand_in(family: Any, name: str) -> str:
    """The simulated name that takes a real one's seat, by the registry's capability scores."""
    if name.startswith(PREFIX):
        return name
    from peira.subjects.registry import capability

    return str(family.stand_in(name, capability(name)))
