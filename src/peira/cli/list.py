"""`peira list [DIR]`: all runs below a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peira.cli import flags


def command(
    directory: Annotated[Path | None, typer.Argument(help="Default: experiments/.")] = None,
    experiments_dir: Annotated[Path | None, typer.Option("--experiments-dir")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Models, factors, times.")
    ] = False,
    json: flags.Json = False,
) -> int:
    """Runs, newest first: state, trials, spend; archives too."""
    from peira.cli.display import as_json, say, table
    from peira.errors import InputError
    from peira.store.listing import entries

    named = directory or experiments_dir
    root = named or Path("experiments")
    if named is not None and not named.is_dir():
        raise InputError(f"{named}: no such directory\n  remedy: peira list looks in experiments/")
    found = entries(root) if root.is_dir() else []
    if json:
        as_json(found)
        return 0
    if not found:
        say(f"no runs below {root}/   (peira run STUDY makes one)")
        return 0
    header = ["name", "family", "state", "done", "planned", "USD", "updated"]
    keys = ["name", "family", "state", "done", "planned", "usd", "updated"]
    if any(row.get("rows") is not None for row in found):
        header.insert(5, "rows")
        keys.insert(5, "rows")
    if verbose:
        header += ["models", "factors", "temps", "path"]
        keys += ["models", "factors", "temps", "path"]
    table(f"runs below {root}", header, [[_cell(row.get(key)) for key in keys] for row in found])
    return 0


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4f}"
    return ", ".join(map(str, value)) if isinstance(value, list) else value
