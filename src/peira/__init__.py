"""Peira: a laboratory for experiments on language models.

Everything public is here, loaded when first used, so that `import peira` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from peira.api import Options, RunReport, analyse, ask, collect, run
    from peira.engine.lab import Lab
    from peira.families.family import Family, Forecast, Outcome, Settings
    from peira.report.analysis import Analysis, Column, Finding, Table
    from peira.stats.result import Estimate
    from peira.store.frames import LoadedRun
    from peira.store.records import Record, RunView
    from peira.study.study import Limits, Study
    from peira.subjects.simulated import SimSpec
    from peira.subjects.subject import Message, Reply, Request, Sampling, Usage, system, user

    load = LoadedRun

_HOMES = {
    "peira.api": ("Options", "RunReport", "analyse", "ask", "collect", "run"),
    "peira.engine.lab": ("Lab",),
    "peira.families.family": ("Family", "Forecast", "Outcome", "Settings"),
    "peira.families.scenarios": ("BatchAnalyzer",),
    "peira.families.representations": (
        "ClusterSeparation", "ContextSensitivityScore", "HierarchicalGraph",
        "HierarchicalGraphConfig", "HookedLLM",
    ),
    "peira.report.analysis": ("Analysis", "Column", "Finding", "Table"),
    "peira.stats.result": ("Estimate",),
    "peira.store.frames": ("load",),
    "peira.store.records": ("Record", "RunView"),
    "peira.study.study": ("Limits", "Study"),
    "peira.subjects.simulated": ("SimSpec",),
    "peira.subjects.subject": (
        "Message", "Reply", "Request", "Sampling", "Usage", "system", "user",
    ),
}  # fmt: skip
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_RENAMED = {"load": "LoadedRun"}

__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    home = _WHERE.get(name)
    if home is None:
        raise AttributeError(f"module 'peira' has no attribute {name!r}")
    value = getattr(import_module(home), _RENAMED.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
