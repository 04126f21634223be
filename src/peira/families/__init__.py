"""The families of experiments that ship with Peira, and how a user's own is loaded."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peira.errors import InputError

if TYPE_CHECKING:
    from peira.families.family import Family

BUILT_IN = {
    "negotiation": "peira.families.negotiation:Negotiation",
    "prompts": "peira.families.prompts:Prompts",
    "scenarios": "peira.families.scenarios:Scenarios",
    "representations": "peira.families.representations:Representations",
}


def resolve(reference: str, base: Path | None = None) -> str:
    """`module:Class` of a family's name, or `/absolute/file.py:Class` of a user's file."""
    if reference in BUILT_IN:
        return BUILT_IN[reference]
    place, _, name = reference.rpartition(":")
    if not place.endswith(".py"):
        raise InputError(
            f"family {reference!r}: unknown\n  allowed: {', '.join(BUILT_IN)}, or FILE.py:Class"
        )
    for folder in (Path.cwd(), *([base] if base is not None else [])):
        if (folder / place).is_file():
            return f"{(folder / place).resolve()}:{name}"
    raise InputError(f"family {reference!r}: no such file {place}\n  remedy: check the path")


@lru_cache(maxsize=32)
def load_family(reference: str) -> Family[Any, Any]:
    """The family behind a resolved reference. Raises InputError if it cannot be loaded."""
    place, _, name = reference.rpartition(":")
    module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    kind = getattr(module, name, None)
    if kind is None:
        there = [n for n, kind in vars(module).items()
                 if hasattr(kind, "Settings") and kind.__module__ == module.__name__]  # fmt: skip
        raise InputError(
            f"family {reference!r}: no class {name!r} in {place}\n"
            f"  allowed: a Family of the file: {', '.join(there) or 'it has none'}"
        )
    family: Family[Any, Any] = kind()
    if not hasattr(family, "name"):
        kind.name = name
    for needed in ("Settings", "Outcome"):
        if not hasattr(family, needed):
            raise InputError(
                f"family {reference!r}: class {name} lacks `{needed}`\n"
                f"  remedy: `{needed} = …` in it, as in the template of `peira new experiment`"
            )
    return family


def _from_file(path: Path) -> Any:
    key = f"peira_user_{path.stem}_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{path}: {type(error).__name__}: {error}\n  remedy: mend the file"
        ) from error
    return module
