"""How does context reshape the geometry inside an open model?

A walk over a hidden graph is written in words; when and where does the inside of the model come to
look like that graph, and does it matter for its predictions? Names here are loaded when used, so
that the package costs nothing where it is not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peira.families.representations.family import Representations
    from peira.families.representations.graphs import (
        DeepHierarchicalGraph,
        DualInterpretationGraph,
        HierarchicalGraph,
        HierarchicalGraphConfig,
        SemanticConflictGraph,
    )
    from peira.families.representations.metrics import (
        CKA,
        ClusterSeparation,
        DirichletEnergy,
        EffectiveDimension,
        LevelSeparation,
        NeighbourMass,
        NeighbourMixing,
        SpectralOverlap,
    )
    from peira.families.representations.models import HookedLLM
    from peira.families.representations.scores import ContextSensitivityScore

_HOMES = {
    "family": ("Representations",),
    "graphs": ("HierarchicalGraph", "HierarchicalGraphConfig", "DeepHierarchicalGraph",
               "SemanticConflictGraph", "DualInterpretationGraph"),
    "metrics": ("CKA", "ClusterSeparation", "DirichletEnergy", "EffectiveDimension",
                "LevelSeparation", "NeighbourMass", "NeighbourMixing", "SpectralOverlap"),
    "models": ("HookedLLM",),
    "scores": ("ContextSensitivityScore",),
}  # fmt: skip

__all__ = [
    "CKA", "ClusterSeparation", "ContextSensitivityScore", "DeepHierarchicalGraph",
    "DirichletEnergy", "DualInterpretationGraph", "EffectiveDimension", "HierarchicalGraph",
    "HierarchicalGraphConfig", "HookedLLM", "LevelSeparation", "NeighbourMass", "NeighbourMixing",
    "Representations", "SemanticConflictGraph", "SpectralOverlap",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
