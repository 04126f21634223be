"""What the guide's analysis, plotting and logging scripts do, on a run of Peira."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peira.store.rundir import find_run, write_file

Flags = dict[str, dict[str, Any]]
RESULTS: Flags = {"--results-dir": {"required": True}}


def _asked(words: Sequence[str], about: str | None, flags: Flags) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    for name, options in flags.items():
        parser.add_argument(name, **options)
    return parser.parse_args(list(words))


def _told(work: Callable[[], None]) -> int:
    """The exit code of some work; what is wrong with the input is said in plain words."""
    from peira.cli.display import note
    from peira.errors import PeiraError

    try:
        work()
    except PeiraError as error:
        note(str(error))
        return error.exit_code
    return 0


def _command(words: Sequence[str]) -> int:
    from peira.cli.main import run

    return run(list(words))


def compare_experiments(words: Sequence[str]) -> int:
    """`--results A B C`: settings that differ, and shared quantities paired where contexts are."""
    flags = {"--results": {"nargs": "+", "required": True}}
    return _command(["compare", *_asked(words, compare_experiments.__doc__, flags).results])


def compare_loo_metrics(words: Sequence[str]) -> int:
    """`--results-dir DIR`: metric × condition × layer, paired conditions, rank agreement."""
    return _command(["analyse", _asked(words, compare_loo_metrics.__doc__, RESULTS).results_dir])


def plot_loo_heatmap(words: Sequence[str]) -> int:
    """`--results-dir DIR [--output FILE]`: the layer × length heat map."""
    args = _asked(words, plot_loo_heatmap.__doc__, {**RESULTS, "--output": {}})
    output = ["--output", args.output] if args.output else []
    return _command(["plot", args.results_dir, "loo_heatmap", *output])


def log_to_wandb(words: Sequence[str]) -> int:
    """`--results-dir DIR --project NAME`: to W&B, or to wandb-local/ beside the run."""
    from peira.cli.display import note
    from peira.families.representations.tracking import log_run

    project = {"--project": {"default": "icl-influence"}}
    args = _asked(words, log_to_wandb.__doc__, {**RESULTS, **project})
    return _told(lambda: note(log_run(find_run(args.results_dir).path, args.project)))


def write_summary(words: Sequence[str]) -> int:
    """`--results-dir DIR`: experiments/<date>_<name>.md from the run's analysis."""
    from peira.cli.display import say

    args = _asked(words, write_summary.__doc__, {**RESULTS, "--folder": {"default": "experiments"}})
    return _told(lambda: say(f"wrote {summary_file(find_run(args.results_dir).path, Path(args.folder))}"))  # fmt: skip


def summary_file(run_dir: Path, folder: Path) -> Path:
    """The workspace's summary template, filled."""
    from peira.families.representations.analysis import analyse
    from peira.families.representations.files import trials_of
    from peira.report import tables
    from peira.store.records import RunView

    with RunView(run_dir) as run:
        analysis, found = analyse(run), trials_of(run)
        data = found[0][1] if found else {}
        lines = [
            f"# {run.path.name}", "", f"**Question.** {data.get('question', '')}", "",
            f"**Design.** {data.get('n_contexts')} contexts on {data.get('graph')}, lengths"
            f" {data.get('lengths')}, layers {data.get('layers')}, seeds {run.study.trial_seeds},"
            f" nulls {data.get('null')}, model {data.get('model')} ({data.get('label') or 'real'}).", "",
            f"**Answer.** {analysis.answer}", "", "**Findings.**", "",
            *(f"- {f.claim}: {tables.estimate(f.estimate)} ({f.role})" for f in analysis.findings),
            "", "**Limits.** " + " ".join(analysis.notes), "",
            f"**Reproduce.** `peira run {run.path.name}/study.yaml`, peira"
            f" {data.get('versions', {}).get('peira')}, study hash {run.study.hash[:16]}.", "",
        ]  # fmt: skip
    path = folder / f"{time.strftime('%Y-%m-%d')}_{run_dir.name}.md"
    write_file(path, "\n".join(lines))
    return path
