"""Flags that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.errors import InputError

# Groups of the help text.
WORK, FREE, SHOW = "How the work is done", "Without keys or cost", "What is shown"

Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=SHOW, help="Machine-readable output.")
]
RunArgument = Annotated[str, typer.Argument(help="A run directory or its name.")]
Parallel = Annotated[
    int | None,
    typer.Option("--parallel", "-p", min=1, rich_help_panel=WORK, help="Trials in flight at once."),
]
BudgetFlag = Annotated[
    float | None,
    typer.Option(
        "--budget", min=0, max=1e9, rich_help_panel=WORK, help="US dollars the whole run may cost."
    ),
]
ExecutorFlag = Annotated[
    str,
    typer.Option(
        "--executor", rich_help_panel=WORK, help="Where trials run: local, processes, ray, slurm."
    ),
]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-option",
        metavar="NAME=VALUE",
        rich_help_panel=WORK,
        help="May be repeated: partition=gpu.",
    ),
]
Subjects = Annotated[
    str | None,
    typer.Option(
        "--subjects",
        rich_help_panel=FREE,
        help="`simulated` seats a simulated subject for each real one.",
    ),
]
Simulate = Annotated[
    bool,
    typer.Option("--simulate", "--offline", rich_help_panel=FREE, help="= --subjects simulated."),
]
Network = Annotated[
    bool,
    typer.Option(
        "--network/--no-network",
        rich_help_panel=FREE,
        help="Without: only models on this machine, else refused before the first call.",
    ),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", rich_help_panel=WORK, help="Set an existing run aside and start anew."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", rich_help_panel=WORK, help="Insist that there is a run to go on with."
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", rich_help_panel=WORK, help="Run failed trials again.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", rich_help_panel=SHOW, help="Plan only: no call, nothing written."),
]
ViewFlag = Annotated[
    bool, typer.Option("--view", rich_help_panel=SHOW, help="Watch the run in the browser.")
]
OutputDir = Annotated[
    Path | None,
    typer.Option("--output-dir", "--out", rich_help_panel=WORK, help="The run directory."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        rich_help_panel=WORK,
        help="Trials to run: position, name or pattern; may be repeated.",
    ),
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
