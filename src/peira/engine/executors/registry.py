"""Executors by name; each loads only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from peira.engine.engine import Executor
from peira.engine.ledger import Ledger
from peira.engine.workplace import Workplace
from peira.errors import InputError

MODULES = {
    "processes": "peira.engine.executors.processes:ProcessesExecutor",
    "ray": "peira.engine.executors.ray:RayExecutor",
    "slurm": "peira.engine.executors.slurm:SlurmExecutor",
}
NAMES = ("local", *MODULES)


def make(
    name: str, place: Workplace, ledger: Ledger, parallel: int, options: Mapping[str, Any]
) -> Executor:
    """The executor `name`. Raises InputError for an unknown one."""
    if name not in MODULES:
        raise InputError(f"--executor {name}: unknown\n  allowed: {', '.join(NAMES)}")
    module, _, attribute = MODULES[name].partition(":")
    executor: Executor = getattr(import_module(module), attribute)(
        place, ledger, parallel=parallel, **options
    )
    return executor
