"""The files of a run by the guide's names, made from run.db each time.

Invariant: pure functions of rows, settings and code; a file's age proves nothing, so all are made
again whenever the run is collected.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.prompts import tables
from peira.families.prompts.analysis import Told, analyse, tell, trial_analysis
from peira.families.prompts.costs import costs_json
from peira.families.prompts.evaluated import Evaluated, TrialData, evaluate
from peira.families.prompts.figures import names as figure_names
from peira.families.prompts.phases import VIEWS
from peira.families.prompts.rows import STATUSES
from peira.families.prompts.scoring import RowScore
from peira.families.prompts.settings import METRICS
from peira.families.prompts.significance import SCHEMA_VERSION
from peira.report import markdown, page
from peira.report.document import Picture, Report
from peira.report.document import plain as strict
from peira.report.story import tell as tell_story
from peira.store.rundir import dumps, utc_now

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

PREDICTIONS = (
    "custom_id", "dataset", "item_id", "condition", "temp", "sample_index", "type", "request_id",
    "finish_reason", "response_text", "prompt_tokens", "completion_tokens", "total_tokens",
    "status", "served_model", "cached_tokens", "reasoning_tokens", "usd", "mode",
)  # fmt: skip
ROW_SCORES = (
    "custom_id", "condition", "em", "f1", "abstained", "abstain_rule", "false_answer",
    "unsupported",
)  # fmt: skip
PER_ITEM = (
    "item_key", "dataset", "item_id", "type", "condition", "temp", "answerable", "cluster",
)  # fmt: skip
COUNTS = ("n_planned", "n_scored", "n_answered", "n_truncated", "n_refused", "n_empty", "n_error")
DECODING = ("temps", "samples_per_item", "top_p", "top_k", "max_new_tokens")
FLIPS = (
    "dataset", "item_id", "type", "temp", "arm", "direction", "golds", "control_text", "arm_text",
)  # fmt: skip


def run_files(run: RunView, phases: frozenset[str] = VIEWS) -> Iterator[tuple[str, bytes]]:
    """Every file of the chosen phases: per trial under trials/<slug>/, then the run's own."""
    found = evaluate(run)
    individual = run.study.save_individual_runs
    for trial in found.trials if individual else ():
        folder = f"trials/{trial.record.slug}"
        yield from ((f"{folder}/{n}", data) for n, data in _trial_files(run, trial, phases))
    yield "multi_trial_manifest.json", dumps(manifest(run, found))
    if "stats" in phases and run.study.aggregate_metrics and (known := tell(run).truth)["trials"]:
        yield "simulation_truth.json", dumps(strict(known))
    if "report" in phases and run.study.aggregate_metrics:
        yield "aggregate_report.md", aggregate_report(run).encode("utf-8", "replace")
    if individual:
        _link_trials(run, found.trials)


def aggregate_report(run: RunView) -> str:
    """The report of the whole run; the root's report.md is the same."""
    analysis = analyse(run)
    pictures = tuple(Picture(name, b"", b"") for name in figure_names(run))
    return markdown.render(Report(tell_story(run, analysis), analysis, pictures))


def _trial_files(
    run: RunView, trial: TrialData, phases: frozenset[str]
) -> Iterator[tuple[str, bytes]]:
    if "parse" in phases:
        yield "results/predictions.csv", _csv(PREDICTIONS, _predictions(trial))
    if "score" in phases:
        flips = ([flip[name] for name in FLIPS] for flip in tables.flip_rows(trial))
        yield "results/row_scores.csv", _row_scores(trial)
        yield "results/per_item_scores.csv", _per_item(trial)
        yield "results/flips.csv", _csv(FLIPS, flips)
    if "costs" in phases:
        yield "results/costs.json", dumps(costs_json(trial))
    if "stats" in phases:
        document = tell(run).significance.documents.get(trial.record.number)
        if document is not None:
            yield "results/significance.json", dumps(strict(document))
    if "report" in phases:
        yield from _trial_reports(run, tell(run), trial)


def _trial_reports(run: RunView, told: Told, trial: TrialData) -> Iterator[tuple[str, bytes]]:
    analysis = trial_analysis(told, trial)
    whole = tell_story(run, analysis)
    record = trial.record
    facts = (
        ("Model", trial.settings.resolved_model), ("Prompt set", trial.settings.prompt_set),
        ("Temperatures", ", ".join(f"{t:g}" for t in trial.settings.temps)),
        ("Items", str(len(trial.items))), ("Seed", str(record.seed)),
        ("Run", run.path.name), ("Trial", record.id),
    )  # fmt: skip
    counts = ", ".join(f"{name} {n}" for name, n in trial.counts.items())
    story = replace(
        whole, title=record.slug, simulated=record.simulated, facts=facts,
        completeness=f"Trial {record.state}: planned {len(trial.rows)} rows = {counts}.",
        completeness_table=analysis.tables[0], failures=(),
    )  # fmt: skip
    report = Report(story, replace(analysis, tables=analysis.tables[1:]), ())
    yield "reports/report.md", markdown.render(report).encode("utf-8", "replace")
    yield "reports/report.html", page.render(report).encode("utf-8", "replace")


# -- CSV ----------------------------------------------------------------------------------------
def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """RFC 4180; None is an empty field."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def _predictions(trial: TrialData) -> Iterator[list[Any]]:
    columns = trial.columns
    for number, row in enumerate(trial.rows):
        item = trial.items[row.item]
        use = columns["usage"][number]
        spent = (None,) * 5 if use is None else tuple(use)
        total = None if use is None else use[0] + use[1]
        yield [
            columns["keys"][number][:32], item.dataset, item.id, row.arm, row.temp, row.sample,
            item.type, columns["request_id"][number], columns["finish"][number],
            columns["text"][number], spent[0], spent[1], total, columns["status"][number],
            columns["served"][number], spent[2], spent[4],
            None if use is None else trial.costs.usd[number], columns["mode"],
        ]  # fmt: skip


def _row_scores(trial: TrialData) -> bytes:
    extra = trial.metrics[len(METRICS) :]
    nothing = [None] * (len(ROW_SCORES) - 2 + len(extra))
    rows = (
        [key[:32], row.arm, *(nothing if score is None else _scores(score, extra))]
        for key, row, score in zip(trial.columns["keys"], trial.rows, trial.scores, strict=True)
    )
    return _csv((*ROW_SCORES, *extra), rows)


def _scores(score: RowScore, extra: Sequence[str]) -> list[Any]:
    return [score.em, score.f1, int(score.abstained), score.abstain_rule, score.false_answer,
            score.unsupported, *(score.extra.get(name) for name in extra)]  # fmt: skip


def _per_item(trial: TrialData) -> bytes:
    header = (*PER_ITEM, *(n for m in trial.metrics for n in (m, f"{m}_std")), *COUNTS)
    return _csv(header, _per_item_rows(trial))


def _per_item_rows(trial: TrialData) -> Iterator[list[Any]]:
    for temp in trial.settings.temps:
        draws = trial.draws(temp)
        status = trial.status[:, draws]
        summaries = [_summaries(trial.values(name)[:, draws]) for name in trial.metrics]
        quiet = trial.values("abstain_rate")[:, draws]
        answered = (quiet == 0).sum(axis=1)
        counts = {name: (status == name).sum(axis=1) for name in STATUSES}
        for number, item in enumerate(trial.items):
            for place, arm in enumerate(trial.arm_names):
                yield [
                    item.key, item.dataset, item.id, item.type, arm, temp, int(item.answerable),
                    item.cluster,
                    *(part for mean, std in summaries
                      for part in (mean[number][place], std[number][place])),
                    status.shape[1], counts["ok"][number, place], answered[number, place],
                    *(counts[name][number, place]
                      for name in ("truncated", "refused", "empty", "error")),
                ]  # fmt: skip


def _summaries(block: Any) -> list[list[list[Any]]]:
    """Mean and sample SD over an item's scored draws; None where there is none."""
    seen = np.isfinite(block)
    counts = seen.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, block, 0.0).sum(axis=1) / counts
        off = np.where(seen, (block - mean[:, None]) ** 2, 0.0).sum(axis=1)
        std = np.where(counts > 1, np.sqrt(off / (counts - 1)), np.nan)
    return [[[None if v != v else v for v in row] for row in part.tolist()] for part in (mean, std)]


# -- the run's manifest -------------------------------------------------------------------------
def manifest(run: RunView, found: Evaluated) -> dict[str, Any]:
    """multi_trial_manifest.json: every planned trial and its rows."""
    tally, made = run.tally, run.meta.get("manifest", {})
    data = {trial.record.number: trial for trial in found.trials}
    updated = max((r.finished or 0 for r in found.records), default=0)
    return {
        "schema_version": SCHEMA_VERSION, "created_utc": made.get("created", utc_now()),
        "updated_utc": _utc(updated), "run_id": run.path.name.removeprefix("run_"),
        "num_trials": tally.planned, "planned": tally.planned, "done": tally.done,
        "failed": tally.failed, "halted": tally.halted, "pending": tally.pending,
        "simulated": run.simulated, "amendments": made.get("amendments", []),
        "trials": [_manifest_trial(r, data.get(r.number)) for r in found.records],
    }  # fmt: skip


def _utc(seconds: float) -> str | None:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else None


def _manifest_trial(record: Record, trial: TrialData | None) -> dict[str, Any]:
    settings = record.settings
    folder = f"trials/{record.slug}"
    return {
        "slug": record.slug, "trial_id": record.id, "state": str(record.state),
        "cause": record.cause,
        "model_id": settings["model_aliases"].get(settings["model"], settings["model"]),
        "prompt_set": settings["prompt_set"], "arms": _manifest_arms(settings, trial),
        **{name: settings[name] for name in DECODING},
        "rows": {} if trial is None else trial.counts,
        "results_dir": f"{folder}/results", "reports_dir": f"{folder}/reports",
        "report_path": f"{folder}/reports/report.md",
    }  # fmt: skip


def _manifest_arms(settings: Mapping[str, Any], trial: TrialData | None) -> dict[str, Any]:
    """Path, hash and tokens of each arm's prompt; of a trial that never started the path alone."""
    paths = settings["prompt_sets"][settings["prompt_set"]]
    arms = trial.arms if trial else {arm: {"path": path} for arm, path in paths.items()}
    kept = ("path", "sha256", "tokens")
    return {arm: {name: prompt.get(name) for name in kept} for arm, prompt in arms.items()}


def _link_trials(run: RunView, trials: Sequence[TrialData]) -> None:
    """The guide's path: `<run>/<slug>` leads to `trials/<slug>`; a copy where links are refused."""
    for trial in trials:
        link, target = run.path / trial.record.slug, f"trials/{trial.record.slug}"
        if link.is_symlink() or not (run.path / target).is_dir():
            continue
        try:
            link.symlink_to(target, target_is_directory=True)
        except OSError:
            shutil.copytree(run.path / target, link, dirs_exist_ok=True)
