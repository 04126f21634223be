"""Flags that several commands share, so that they read alike everywhere.

A string beside a type (`Annotated[int, "what it is"]`) is the help of a flag, a second one the panel
of the help text that it stands in. A group is a dataclass whose fields are flags: a command takes it as
one parameter. `command.spread` reads both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.errors import InputError

if TYPE_CHECKING:
    from peira import api

# Panels of the help text.
WORK, FREE, SHOW = "How the work is done", "Without keys or cost", "What is shown"

RunArgument = Annotated[str, typer.Argument(help="A run directory or its name.")]
StudyArgument = Annotated[Path, typer.Argument(help="A study file (YAML or JSON).")]
Words = list[str] | None
Json = Annotated[bool, "Machine-readable output.", SHOW]
Executor = Annotated[str, "Where trials run: local, processes, ray, slurm.", WORK]
ExperimentsDir = Annotated[Path, "Where runs are kept."]
Parallel = Annotated[
    int | None,
    typer.Option("--parallel", "-p", min=1, rich_help_panel=WORK, help="Trials in flight at once."),
]
OutputDir = Annotated[
    Path | None,
    typer.Option("--output-dir", "--out", rich_help_panel=WORK, help="The run directory."),
]


@dataclass(frozen=True, kw_only=True)
class Free:
    """Simulated subjects in place of real ones."""

    subjects: Annotated[
        str | None, "`simulated` seats a simulated subject for each real one.", FREE
    ] = None
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate", "--offline", rich_help_panel=FREE, help="= --subjects simulated."
        ),
    ] = False

    @property
    def simulated(self) -> bool:
        """True if simulated subjects are asked for. Raises InputError for another value."""
        if self.subjects not in (None, "simulated", "real"):
            raise InputError(f"--subjects {self.subjects}: unknown\n  allowed: simulated, real")
        return self.simulate or self.subjects == "simulated"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much at once, and in all."""

    parallel: Parallel = None
    budget: Annotated[
        float | None,
        typer.Option(
            min=0, max=1e9, rich_help_panel=WORK, help="US dollars the whole run may cost."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Playing(Limits, Free):
    """What every command that runs a study of its own takes."""

    output_dir: OutputDir = None
    retry_failed: Annotated[bool, "Run failed trials again.", WORK] = False
    fresh: Annotated[bool, "Set an existing run aside and start anew.", WORK] = False
    dry_run: Annotated[bool, "Plan only: no call, nothing written.", SHOW] = False
    view: Annotated[bool, "Watch the run in the browser.", SHOW] = False
    json: Json = False

    def play(self, question: api.Question, **more: Any) -> int:
        """Run the study, or tell its plan; `more` goes into the options."""
        from peira import api
        from peira.cli.display import watcher
        from peira.cli.plan import show
        from peira.cli.run import execute

        options = api.Options(
            run_dir=self.output_dir, parallel=self.parallel, budget_usd=self.budget,
            retry_failed=self.retry_failed, fresh=self.fresh, simulated=self.simulated,
            on_start=watcher(self.json), **more,
        )  # fmt: skip
        if self.dry_run:
            return show(question, options, self.json)
        return execute(question, options, self.json, self.view)


def assignments(words: Words) -> dict[str, Any]:
    """`--set path=value` pairs; values are read as YAML. Raises InputError for a bad pair."""
    import yaml

    found: dict[str, Any] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"--set {word}: no value\n  allowed: name=value")
        found[name] = yaml.safe_load(text)
    return found
