"""What the guide's analysis, plotting and logging scripts do, on a run of Peira."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from peira.families.representations.comparing import compare_runs
from peira.store.rundir import RunDir, find_run, write_file


def _run_of(text: str) -> RunDir:
    return find_run(text)


def _command(words: Sequence[str]) -> int:
    from peira.cli.main import run

    return run(list(words))


def compare_experiments(words: Sequence[str]) -> int:
    """`--results A B C`: settings that differ, and shared quantities paired where contexts are."""
    from peira.cli.display import note, say
    from peira.errors import PeiraError
    from peira.report.tables import to_markdown

    parser = argparse.ArgumentParser(description=compare_experiments.__doc__)
    parser.add_argument("--results", nargs="+", required=True)
    args = parser.parse_args(list(words))
    try:
        first, *others = [_run_of(path).path for path in args.results]
        for other in others:
            for table in compare_runs(first, other):
                say("\n" + to_markdown(table))
    except PeiraError as error:
        note(str(error))
        return error.exit_code
    return 0


def compare_loo_metrics(words: Sequence[str]) -> int:
    """`--results-dir DIR`: metric × condition × layer, paired conditions, rank agreement."""
    parser = argparse.ArgumentParser(description=compare_loo_metrics.__doc__)
    parser.add_argument("--results-dir", required=True)
    return _command(["analyse", parser.parse_args(list(words)).results_dir])


def plot_loo_heatmap(words: Sequence[str]) -> int:
    """`--results-dir DIR [--output FILE]`: the layer × length heat map."""
    parser = argparse.ArgumentParser(description=plot_loo_heatmap.__doc__)
    parser.add_argument("--results-dir", required=True)
    parser.add_argument("--output")
    args = parser.parse_args(list(words))
    output = ["--output", args.output] if args.output else []
    return _command(["plot", args.results_dir, "loo_heatmap", *output])


def log_to_wandb(words: Sequence[str]) -> int:
    """`--results-dir DIR --project NAME`: to W&B, or to wandb-local/ beside the run."""
    from peira.cli.display import note
    from peira.errors import PeiraError
    from peira.families.representations.tracking import log_run

    parser = argparse.ArgumentParser(description=log_to_wandb.__doc__)
    parser.add_argument("--results-dir", required=True)
    parser.add_argument("--project", default="icl-influence")
    args = parser.parse_args(list(words))
    try:
        note(log_run(_run_of(args.results_dir).path, args.project))
    except PeiraError as error:
        note(str(error))
        return error.exit_code
    return 0


def write_summary(words: Sequence[str]) -> int:
    """`--results-dir DIR`: experiments/<date>_<name>.md from the run's analysis."""
    from peira.cli.display import note, say
    from peira.errors import PeiraError

    parser = argparse.ArgumentParser(description=write_summary.__doc__)
    parser.add_argument("--results-dir", required=True)
    parser.add_argument("--folder", default="experiments")
    args = parser.parse_args(list(words))
    try:
        say(f"wrote {summary_file(_run_of(args.results_dir).path, Path(args.folder))}")
    except PeiraError as error:
        note(str(error))
        return error.exit_code
    return 0


def summary_file(run_dir: Path, folder: Path) -> Path:
    """The workspace's summary template, filled."""
    from peira.families.representations.analysis import analyse, trials_of
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
