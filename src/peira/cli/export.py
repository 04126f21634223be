"""`peira export RUN`: trials, events or replies as CSV, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags


def command(
    run: flags.RunArgument,
    what: Annotated[str, "trials, events or replies."] = "trials",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="FILE.csv, .jsonl or .parquet; default: in the run."),
    ] = None,
    json: flags.Json = False,
) -> int:
    """Tidy tables of a run, for other tools."""
    from peira.cli.display import as_json, say
    from peira.errors import InputError
    from peira.store.exports import write_table
    from peira.store.frames import TABLES, rows_of
    from peira.store.records import RunView
    from peira.store.rundir import find_run

    if what not in TABLES:
        raise InputError(f"--what {what}: unknown\n  allowed: {', '.join(TABLES)}")
    directory = find_run(run)
    if output is None:
        directory.refuse_sealed()
    target = output or directory.path / f"{what}.csv"
    with RunView(directory) as view:
        count = write_table(lambda: rows_of(view, what), target)
    if json:
        as_json({"what": what, "path": str(target), "rows": count})
    else:
        say(f"{target}: {count} rows")
    return 0
