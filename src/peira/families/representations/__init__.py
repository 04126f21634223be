"""How does context reshape the geometry inside an open model?

A walk over a hidden graph is written in words; when and where does the inside of the model come to
look like that graph, and does it matter for its predictions? Names here are loaded when used, so
that the package costs nothing where it is not.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOMES = {
    "family": ("Representations",),
    "graphs": ("HierarchicalGraph", "HierarchicalGraphConfig", "DeepHierarchicalGraph",
               "SemanticConflictGraph", "DualInterpretationGraph"),
    "metrics": ("DirichletEnergy", "ClusterSeparation", "LevelSeparation", "NeighbourMass",
                "SpectralOverlap", "NeighbourMixing", "EffectiveDimension", "CKA",
                "ContextSensitivityScore"),
    "models": ("HookedLLM",),
}  # fmt: skip

__all__ = sorted(name for names in HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
