"""The example scenarios that ship with Peira, and how to make one's own from them.

Invariant: each folder loads without a fault and runs simulated, at no cost, as it is.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from peira.errors import InputError

FOLDER = Path(__file__).parent
MODEL = "test-regulation-negotiation"


def names() -> list[str]:
    """Names of the examples."""
    return sorted(path.parent.name for path in FOLDER.glob("*/scenario.yaml"))


def write_scenario(name: str, directory: Path = Path()) -> Path:
    """Copy an example into `scenarios/` and return the new folder: the example of that name, else
    test-regulation-negotiation under the new name. Raises InputError if it exists already."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", name):
        raise InputError(
            f"peira new scenario {name}: not a name\n  allowed: letters, digits, . _ -"
        )
    target = directory / "scenarios" / name
    if target.exists():
        raise InputError(f"{target}: exists already\n  remedy: choose another name")
    source = FOLDER / (name if name in names() else MODEL)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target
