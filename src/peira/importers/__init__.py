"""Results recorded by other tools, read into runs: one module a tool, found by name.

An importer module has `FAMILY` (the family its trials belong to), `ABOUT` (one line) and
`read(directory, notes) -> Iterator[ImportedTrial]`. It only reads; `base.write_run` writes. A damaged
file is left out with a warning in `notes`; a folder without anything to read is refused.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from peira.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peira.importers.base import ImportedTrial, Notes

KINDS = {
    "bargain": "peira.importers.bargain",
    "excellence": "peira.importers.excellence",
    "iclr-induction": "peira.importers.iclr_induction",
    "icl-influence": "peira.importers.icl_influence",
    "scenario-lab": "peira.importers.scenario_lab",
}


class Importer(Protocol):
    """What an importer module offers."""

    FAMILY: str
    ABOUT: str

    def read(self, directory: Path, notes: Notes) -> Iterator[ImportedTrial]:
        """Every trial found below `directory`. Raises InputError when there is none."""
        ...


def importer(kind: str) -> Importer:
    """The importer of a kind. Raises InputError with the kinds there are."""
    from peira.study.reader import suggestion

    if kind not in KINDS:
        hint = suggestion(kind, list(KINDS))
        raise InputError(
            f"import {kind}: unknown kind\n  allowed: {', '.join(KINDS)}"
            + (f"\n  remedy: {hint}" if hint else "")
        )
    module: Importer = import_module(KINDS[kind])
    return module
