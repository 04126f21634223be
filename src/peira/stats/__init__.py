"""Statistics for experiments on language models: arrays in, frozen results out.

No function here reads a file, keeps state or imports the rest of Peira, and every one that
draws random numbers takes its seed. Names are loaded on first use, so importing this package
costs nothing. docs/statistics.md says which method is used where, and why.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES: dict[str, tuple[str, ...]] = {
    "result": ("Estimate", "undefined", "REASONS"),
    "intervals": (
        "clopper_pearson",
        "correlation",
        "jeffreys",
        "mean_interval",
        "pass_at_k",
        "pass_hat_k",
        "risk_difference",
        "t_interval",
        "wilson",
    ),
    "paired": ("paired_difference",),
    "mcnemar": ("conditional_odds_ratio", "paired_binary", "paired_outcomes"),
    "clustered": ("cluster_mean",),
    "multiplicity": (
        "Adjusted",
        "benjamini_hochberg",
        "benjamini_yekutieli",
        "bonferroni",
        "hochberg",
        "holm",
        "hommel",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'peira.stats' has no attribute {name!r}")
    value = getattr(import_module(f"peira.stats.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
