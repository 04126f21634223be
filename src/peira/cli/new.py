"""`peira new KIND NAME`: templates that run as they are."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

KINDS = ("experiment", "scenario", "workspace")


def command(
    kind: Annotated[str, typer.Argument(help="experiment, scenario or workspace.")],
    name: Annotated[str, typer.Argument(help="A name, or a directory for a workspace.")],
    script: Annotated[
        bool, typer.Option("--script", help="experiment: the representation guide's script.")
    ] = False,
    directory: Annotated[Path, typer.Option("--dir", help="Where to write.")] = Path(),
) -> int:
    """Write a template: an experiment of your own (family and study), a scenario folder, or a
    workspace with the representation guide's scripts."""
    from peira.cli.display import say
    from peira.errors import InputError

    if kind == "experiment" and not script:
        written = experiment(name, directory)
        say(f"wrote {written[0]} and {written[1]}")
        say(f"  try: peira run {written[1]} --subjects simulated")
    elif kind in KINDS:
        say(_of_family(kind, name, script, directory))
    else:
        raise InputError(f"peira new {kind}: unknown\n  allowed: {', '.join(KINDS)}")
    return 0


def experiment(name: str, directory: Path) -> tuple[Path, Path]:
    """A family in a file and a study beside it. Raises InputError if they exist."""
    from peira.errors import InputError
    from peira.store.rundir import write_file

    stem = re.sub(r"[^a-z0-9]+", "_", name.removesuffix(".py").lower()).strip("_")
    if not stem or stem[0].isdigit():
        raise InputError(f"peira new experiment {name}: not a name\n  allowed: letters, digits, _")
    words = {"stem": stem, "name": "".join(part.title() for part in stem.split("_"))}
    paths = (directory / f"{stem}.py", directory / f"{stem}.yaml")
    for path in paths:
        if path.exists():
            raise InputError(f"{path}: exists already\n  remedy: choose another name")
    folder = resources.files("peira.cli") / "templates"
    for path, template in zip(paths, ("experiment.py.txt", "study.yaml.txt"), strict=True):
        write_file(path, (folder / template).read_text().format(**words))
    return paths


def _of_family(kind: str, name: str, script: bool, directory: Path) -> str:
    if kind == "scenario":
        from peira.families.scenarios.examples import write_scenario

        return f"wrote {write_scenario(name, directory)}"
    from peira.families.representations.workspace import write_script, write_workspace

    if script:
        return f"wrote {write_script(name, directory)}"
    return f"wrote {write_workspace(directory / name)}"
