"""`peira new KIND NAME`: templates that run as they are."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags

KINDS = ("study", "experiment", "scenario", "workspace")
FAMILIES = ("negotiation", "prompts", "scenarios", "representations")


def command(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")],
    name: Annotated[str, typer.Argument(help="A name, or a directory for a workspace.")],
    family: Annotated[str, f"study: {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}."] = "negotiation",
    script: Annotated[bool, "experiment: the representation guide's script."] = False,
    directory: Annotated[Path, typer.Option("--dir", help="Where to write.")] = Path(),
    json: flags.Json = False,
) -> int:
    """Write a template that runs as it is: a study file, an experiment of your own (family and
    study), a scenario folder, or a workspace with the representation guide's scripts."""
    from peira.cli.display import as_json, say
    from peira.errors import InputError, StoreError

    if kind not in KINDS:
        raise InputError(f"{kind}: no such template\n  allowed: {', '.join(KINDS)}")
    try:
        written, next_line = _write(kind, name, family, script, directory)
    except StoreError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{reason}\n  remedy: check permissions, or --dir") from error
    if json:
        as_json({"written": [str(path) for path in written], "try": next_line})
    else:
        say(f"wrote {', '.join(map(str, written))}")
        say(f"  try: {next_line}")
    return 0


def _write(
    kind: str, name: str, family: str, script: bool, directory: Path
) -> tuple[list[Path], str]:
    """Write one template: files or folder written, and the command to try it with."""
    if kind == "scenario":
        from peira.families.scenarios.examples import write_scenario

        folder = write_scenario(name, directory)
        return [folder], f"peira simulate {folder} --offline"
    if kind == "workspace" or script:
        from peira.families.representations.tiny import NAME as TINY
        from peira.families.representations.workspace import write_script, write_workspace

        few = f"--model {TINY} --n-contexts 5 --output-dir results/first"
        if script:
            made = write_script(name, directory)
            return [made], f"python {made} {few}"
        made = write_workspace(directory / name)
        return [made], f"cd {made} && python experiments/core/run_experiment.py {few}"
    written = study(name, family, directory) if kind == "study" else experiment(name, directory)
    return written, f"peira run {written[-1]} --subjects simulated"


def study(name: str, family: str, directory: Path) -> list[Path]:
    """A study file of a family, last, and what it names. Raises InputError if one exists."""
    from peira.errors import InputError

    if family not in FAMILIES:
        raise InputError(f"--family {family}: unknown\n  allowed: {', '.join(FAMILIES)}")
    stem = name.removesuffix(".yaml")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}", stem):
        raise InputError(f"{name}: not a name\n  allowed: letters, digits, _ -")
    path = directory / f"{stem}.yaml"
    files = {path: f"{family}.yaml.txt"}
    if family == "prompts":
        arms = {directory / f"{stem}.{arm}.txt": f"{arm}.txt" for arm in ("control", "treatment")}
        files = arms | files
    _fill(files, {"name": stem})
    if family == "scenarios":
        from peira.families.scenarios.examples import write_scenario

        return [write_scenario(stem, directory), path]
    return list(files)


def experiment(name: str, directory: Path) -> list[Path]:
    """A family in a file and a study beside it. Raises InputError if they exist."""
    from peira.errors import InputError

    stem = re.sub(r"[^a-z0-9]+", "_", name.removesuffix(".py").lower()).strip("_")
    if not stem or stem[0].isdigit():
        raise InputError(f"{name!r}: not a name\n  allowed: letters, digits, _")
    words = {"stem": stem, "name": "".join(part.title() for part in stem.split("_"))}
    files = {
        directory / f"{stem}.py": "experiment.py.txt",
        directory / f"{stem}.yaml": "experiment.yaml.txt",
    }
    _fill(files, words)
    return list(files)


def _fill(files: dict[Path, str], words: dict[str, str]) -> None:
    """Write templates with their gaps filled; nothing that exists is overwritten."""
    from peira.errors import InputError
    from peira.store.rundir import write_file

    for path in files:
        if path.exists():
            raise InputError(f"{path}: exists already\n  remedy: choose another name")
    folder = resources.files("peira.cli") / "templates"
    for path, template in files.items():
        write_file(path, (folder / template).read_text("utf-8").format(**words))
