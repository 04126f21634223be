"""Flags that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory or its name.")]
Parallel = Annotated[
    int | None, typer.Option("--parallel", "-p", min=1, help="Trials in flight at once.")
]
BudgetFlag = Annotated[
    float | None, typer.Option("--budget", min=0, help="US dollars the whole run may cost.")
]
ExecutorFlag = Annotated[
    str, typer.Option("--executor", help="Where trials run: local, processes, ray, slurm.")
]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option("--executor-option", metavar="NAME=VALUE", help="May be repeated: partition=gpu."),
]
Subjects = Annotated[
    str | None,
    typer.Option("--subjects", help="`simulated` seats a simulated subject for each real one."),
]
Simulate = Annotated[bool, typer.Option("--simulate", "--offline", help="= --subjects simulated.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Set an existing run aside and start anew.")]
Resume = Annotated[bool, typer.Option("--resume", help="Insist that there is a run to go on with.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Plan only: no call, nothing written.")]
ViewFlag = Annotated[bool, typer.Option("--view", help="Watch the run in the browser.")]
OutputDir = Annotated[Path | None, typer.Option("--output-dir", "--out", help="The run directory.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Trials to run: position, name or pattern; may be repeated."),
]


def simulated(subjects: str | None, flag: bool) -> bool:
    """True if simulated subjects are asked for. Raises InputError for another value."""
    if subjects not in (None, "simulated", "real"):
        raise InputError(f"--subjects {subjects}: unknown\n  allowed: simulated, real")
    return flag or subjects == "simulated"


def executor_options(words: list[str] | None) -> dict[str, str]:
    """`--executor-option name=value` pairs. Raises InputError for a word without `=`."""
    found = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--executor-option {word}: no value\n  allowed: name=value")
        found[name.replace("-", "_")] = value
    return found
