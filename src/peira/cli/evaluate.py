"""`peira evaluate`: system prompts compared on the same items, by the guide's flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira.families.prompts.phases import Choice
    from peira.study.dialects_eval import Changes


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of the config is asked, and which steps are gone through."""

    config: Annotated[Path, "The evaluation's config file."] = Path("config/eval_config.yaml")
    condition: Annotated[str | None, "Ask for one arm's rows only; `both` is all arms."] = None
    models: Annotated[
        flags.Words, typer.Option(metavar="A B …", help="Replaces the sweep's list.")
    ] = None
    prompt_sets: Annotated[
        flags.Words, typer.Option(metavar="A B …", help="Replaces the sweep's list.")
    ] = None
    temps: Annotated[
        flags.Words, typer.Option(metavar="T …", help="Replaces the temperatures.")
    ] = None
    no_sweep: Annotated[bool, "The base settings alone."] = False
    limit_items: Annotated[int | None, typer.Option(min=1, help="So many items of each type.")] = (
        None
    )
    only_step: Annotated[
        str | None,
        typer.Option(
            metavar="STEP",
            help="prepare, build, submit, poll, parse, score, stats, costs or report.",
        ),
    ] = None
    from_step: Annotated[str | None, typer.Option(metavar="STEP", help="The first step.")] = None
    to_step: Annotated[str | None, typer.Option(metavar="STEP", help="The last step.")] = None
    skip_prepare: Annotated[bool, "Run no loader: the prepared data must be valid."] = False
    skip_build: Annotated[bool, "Write no batch input files."] = False
    skip_batch: Annotated[bool, "Ask nothing: stop after build."] = False
    skip_score: Annotated[bool, "Write no scores."] = False
    skip_stats: Annotated[bool, "Write no significance.json."] = False
    skip_costs: Annotated[bool, "Write no costs.json."] = False
    skip_report: Annotated[bool, "Write no reports and figures."] = False

    @property
    def choice(self) -> Choice:
        """The steps."""
        from peira.families.prompts.phases import Choice

        steps = {"batch": ("submit", "poll")}
        names = ("prepare", "build", "batch", "score", "stats", "costs", "report")
        skipped = [n for n in names if getattr(self, f"skip_{n}")]
        last = self.to_step or ("build" if self.skip_batch else None)
        every = frozenset(step for name in skipped for step in steps.get(name, (name,)))
        return Choice(self.only_step, self.from_step, last, every)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Selection, flags.Limits, flags.Free):
    """One command line."""

    run_id: Annotated[str | None, "Name of the run, new or to go on."] = None
    archive: Annotated[bool, "Seal a copy after the last step."] = False
    resume: Annotated[bool, "Go on with --run-id, or the newest run of these trials."] = False
    plan_only: Annotated[
        bool, typer.Option("--plan-only", "--dry-run", help="Say what would be done.")
    ] = False
    mode: Annotated[str | None, "live, or batch jobs at the provider."] = None
    parts_per_dataset: Annotated[int | None, typer.Option(min=1, help="Jobs per group.")] = None
    lines_per_part: Annotated[int | None, typer.Option(min=1, help="Rows per job.")] = None
    max_concurrent_jobs: Annotated[
        int | None, typer.Option(min=1, help="Batch jobs open at once.")
    ] = None
    detach: Annotated[bool, "Submit batch jobs and leave."] = False
    account_id: Annotated[str | None, "The provider's account."] = None
    experiments_dir: Annotated[Path | None, "Where runs are kept."] = None
    executor: flags.Executor = "local"
    json: flags.Json = False

    @property
    def changes(self) -> Changes:
        """What changes of the config. Raises InputError for a temperature that is no number."""
        from peira.study.dialects_eval import Changes

        batch: dict[str, Any] = {
            "parts": self.parts_per_dataset, "lines_per_part": self.lines_per_part,
            "max_concurrent_jobs": self.max_concurrent_jobs, "detach": self.detach or None,
            "account": self.account_id,
        }  # fmt: skip
        return Changes(
            _list(self.models), _list(self.prompt_sets), _temperatures(_list(self.temps)),
            self.no_sweep, self.mode, self.condition, self.limit_items,
            tuple((k, v) for k, v in batch.items() if v is not None),
        )  # fmt: skip


def command(asked: Evaluate) -> int:
    """Compare system prompts: every arm is asked the same items, once, and the answer carries its
    error bars. `--offline` tries it out with simulated respondents, without keys."""
    from peira.cli.evaluating import Evaluation

    evaluation = Evaluation(asked)
    return evaluation.plan() if asked.plan_only else evaluation.run()


command.variadic = frozenset({"--models", "--prompt-sets", "--temps"})  # type: ignore[attr-defined]


def _list(words: list[str] | None) -> tuple[str, ...]:
    """`--models a,b --models c` and `--models a b c` alike."""
    return tuple(part for word in words or () for part in word.split(",") if part)


def _temperatures(words: tuple[str, ...]) -> tuple[float, ...]:
    from peira.errors import InputError

    try:
        return tuple(float(word) for word in words)
    except ValueError:
        raise InputError(f"--temps {' '.join(words)}\n  allowed: numbers from 0 to 2") from None
