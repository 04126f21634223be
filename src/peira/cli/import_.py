"""`peira import KIND DIR`: results recorded by other tools, as a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags


def command(
    kind: Annotated[str, typer.Argument(help="What recorded them; `list` shows the kinds.")],
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The folder that holds them.")
    ] = None,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
) -> int:
    """Read results of another tool into a run directory, so that status, show, analyse, report and
    view work on them. Nothing of the source is changed."""
    from peira.cli.display import as_json, say
    from peira.errors import InputError
    from peira.importers import KINDS, importer
    from peira.importers.base import Notes, write_run
    from peira.store.records import RunView

    if kind == "list":
        return _list(json)
    chosen = importer(kind)
    if directory is None:
        raise InputError(f"import {kind}: no directory\n  remedy: peira import {kind} DIR")
    if not directory.exists():
        raise InputError(f"{directory}: no such folder\n  allowed: {chosen.ABOUT}")
    target = output_dir or Path("experiments") / f"{kind}-{directory.resolve().name}"
    notes = Notes()
    trials = chosen.read(directory, notes)
    run = write_run(target, chosen.FAMILY, trials, f"{kind} {directory.resolve().name}", notes)
    with RunView(run) as view:
        tally = view.tally
    if json:
        as_json({"run": str(run.path), "kinds": list(KINDS), "planned": tally.planned,
                 "done": tally.done, "failed": tally.failed, "halted": tally.halted,
                 "pending": tally.pending, "warnings": notes.warnings})  # fmt: skip
    else:
        for warning in notes.warnings:
            say(f"warning: {warning}")
        say(f"{run.path}: {tally}")
        say(f"  look: peira analyse {run.path}, or peira view {run.path}")
    return 0


def _list(json: bool) -> int:
    from peira.cli.display import as_json, table
    from peira.importers import KINDS, importer

    rows = [(kind, importer(kind).FAMILY, importer(kind).ABOUT) for kind in KINDS]
    if json:
        as_json([{"kind": k, "family": f, "reads": a} for k, f, a in rows])
    else:
        table("what can be imported", ("kind", "family", "reads"), rows)
    return 0
