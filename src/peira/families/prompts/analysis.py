"""What a run says: one sentence, findings, tables; and the same for one trial.

Invariant: a claim stands on `p_adjusted` alone; where nothing was shown, the report says how large
an effect it could have seen.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from peira.families.prompts import tables
from peira.families.prompts.evaluated import Evaluated, TrialData, evaluate
from peira.families.prompts.naming import joined, of_each, scopes
from peira.families.prompts.settings import CONTROL, METRICS
from peira.families.prompts.significance import (
    Compared,
    RunSignificance,
    run_significance,
)
from peira.families.prompts.truth import planted, simulation_truth, truth_inside
from peira.report.analysis import Analysis, Finding

if TYPE_CHECKING:
    from peira.store.records import RunView

DIFF_LINES = 60
WORDS = {
    "em": "exact match", "f1": "token F1", "abstain_rate": "abstention rate",
    "false_answer_rate": "false answer rate", "unsupported_rate": "unsupported answer rate",
}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """Everything an analysis is told from."""

    found: Evaluated
    significance: RunSignificance
    truth: dict[str, Any]

    @property
    def trials(self) -> list[TrialData]:
        """The run's own trials, and those made of several prompt sets."""
        return [*self.found.trials, *self.significance.joined]


def tell(run: RunView) -> Told:
    """Rows, comparisons and planted truth of a run, kept while nothing in it changes."""
    return _told(evaluate(run), run.simulated)


@lru_cache(maxsize=1)
def _told(found: Evaluated, simulated: bool) -> Told:
    told = Told(found, run_significance(found), {"trials": {}})
    return replace(told, truth=simulation_truth(told.trials)) if simulated else told


def analyse(run: RunView) -> Analysis:
    """The analysis of a whole run."""
    told = tell(run)
    return _analysis(told, told.trials, told.significance.compared)


def trial_analysis(told: Told, trial: TrialData) -> Analysis:
    """The same for one trial, with its flips and prompts."""
    compared = [part for part in told.significance.compared if part.at.trial is trial]
    whole = _analysis(told, [trial], compared)
    return Analysis(
        whole.answer, (*whole.tables, tables.flips(trial)), whole.findings, whole.notes,
        sections={"Prompts": prompt_diff(trial)},
    )  # fmt: skip


def _analysis(told: Told, trials: list[TrialData], compared: list[Compared]) -> Analysis:
    known = told.truth["trials"]
    own = [trial for trial in trials if not trial.joined]
    shown = [
        tables.completeness(own),
        tables.forest(compared, told.significance.family_size),
        tables.ranking(trials),
        tables.omnibus([each for each in told.significance.omnibus if each[0].trial in trials]),
        tables.metrics(compared),
        tables.selective(compared),
        tables.items(own),
        tables.arms(own),
        tables.costs(own),
    ]
    return Analysis(
        answer(compared, told.significance),
        tuple(table for table in shown if table.rows),
        tuple(
            _finding(part, scope, name, known)
            for part, scope in zip(compared, scopes(compared), strict=True)
            for name, entry in part.block["metrics"].items()
            if entry["n_items"] or entry["n_missing"]
        ),
        tuple(notes(told, own, compared)),
        files={"family": {"primary_tests": told.significance.family_size}},
    )


def _finding(part: Compared, where: str, name: str, known: dict[str, Any]) -> Finding:
    entry = part.block["metrics"][name]
    exploratory = entry["role"] == "exploratory"
    label = " (post hoc)" if "post_hoc" in part.cell["flags"] else ""
    what = f"mean over items of {WORDS.get(name, name)}, {part.at.arm} − {part.at.reference}"
    return Finding(
        name=f"{part.title}, {name}",
        claim=f"{what}, {where}{label}",
        estimate=part.estimate(name, what),
        role="exploratory" if exploratory else "confirmatory",
        family=entry["role"],
        unit="item" if part.cell["n_clusters"] == part.cell["n_items"] else "item, by passage",
        p_adjusted=None if exploratory else entry.get("p_adjusted"),
        q=entry.get("q_value") if exploratory else None,
        truth=planted(part, known, name),
    )


def answer(compared: Sequence[Compared], significance: RunSignificance) -> str:
    """The run's answer in one sentence."""
    if not compared:
        return "Nothing is compared yet: no trial has all its rows."
    named = [pair for pair in of_each(compared) if pair[0].block["verdict"].endswith("higher")]
    if named:
        told = "; ".join(_sentence(*pair) for pair in named[:3])
        more = f"; and {len(named) - 3} more" if len(named) > 3 else ""
        return (
            f"{told}{more} ({len(named)} of {len(compared)} primary comparisons,"
            f" Holm at {significance.alpha:g})."
        )
    unnamed = sum(part.block["verdict"] == "no winner named" for part in compared)
    if unnamed:
        return (
            f"No winner is named: {unnamed} of {len(compared)} comparisons differ, but too many"
            " rows are unscored or they decide the result."
        )
    return f"No difference shown in {len(compared)} primary comparisons{_reach(compared)}."


def _sentence(part: Compared, where: str) -> str:
    entry = part.primary
    low, high = entry["ci_95"] or (None, None)
    limits = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]".replace("-", "−")
    way = "raises" if entry["delta_mean"] > 0 else "lowers"
    metric = WORDS.get(part.stats.primary, part.stats.primary)
    place = joined(where, part.temp)
    return (
        f"{part.at.arm}{place and f' ({place})'} {way} {metric} on {part.at.kind} items by"
        f" {abs(entry['delta_mean']):.3f}{limits} against {part.at.reference}"
        f" (n {entry['n_items']})"
    )


def _reach(compared: Sequence[Compared]) -> str:
    reach = [part.block.get("power", {}).get("mde") for part in compared]
    known = [value for value in reach if value is not None]
    if not known:
        ties = [part.primary["dominance"]["ties"] == part.primary["n_items"] for part in compared]
        return "; every item scored alike in both arms" if all(ties) else ""
    stats = compared[0].stats
    return f"; {detectable(known, stats.power, 1.0 if stats.primary in METRICS else math.inf)}"


def detectable(effects: Sequence[float], power: float, most: float = 1.0) -> str:
    """The smallest differences that comparisons find; of shares none can be above 1."""
    low, high = min(effects), max(effects)
    if low > most:
        return f"so few items find no difference with {power:.0%} power, however large"
    end = "" if len(effects) == 1 else f" to {high:.3f}" if high <= most else ", or none at all"
    return f"with {power:.0%} power the design finds differences of {low:.3f}{end}"


def notes(told: Told, trials: list[TrialData], compared: list[Compared]) -> list[str]:
    """The limits of the evidence."""
    found = [
        "The unit is the item (the passage where items share one); samples are averaged within.",
        "Arms differ in the system message only; a difference is due to it for these items, this"
        " model and this time.",
    ]
    flags = {flag for part in compared for flag in (*part.cell["flags"], *part.primary["flags"])}
    told_flags = {
        "post_hoc": "The analysis settings were changed after the first paid row: post hoc.",
        "unreliable": "Some arm has more unscored rows than allowed: no winner is named there.",
        "served_models_differ": "Arms of one comparison were served by different models.",
        "asked_over_24h_apart": "Arms of one comparison were asked over 24 hours apart.",
        "sensitive_to_unscored": "Some result depends on how unscored rows are counted.",
    }
    found += [text for flag, text in told_flags.items() if flag in flags]
    covered = [inside for part in compared for inside in truth_inside(part, told.truth["trials"])]
    if covered:
        found.append(
            f"The planted truth lies inside {sum(covered)} of {len(covered)} 95 % intervals; the"
            " analysis was not told of it."
        )
    waiting = len(told.found.records) - len(told.found.done)
    if waiting:
        found.append(f"{waiting} planned trials are not done and are not compared.")
    merged = [t for t in trials if t.settings.samples_per_item != 1]
    if merged:
        found.append("With several samples an item's score is their mean, never a vote.")
    return found


def prompt_diff(trial: TrialData) -> str:
    """What each arm's prompt changes of the control's, as a diff."""
    control = (trial.arms[CONTROL]["text"] or "").splitlines()
    parts = []
    for arm, prompt in trial.arms.items():
        if arm == CONTROL:
            continue
        text = (prompt["text"] or "").splitlines()
        lines = list(difflib.unified_diff(control, text, CONTROL, arm, lineterm="", n=2))
        shown = [f"    {line}" for line in lines[:DIFF_LINES]]
        more = [f"    … {len(lines) - DIFF_LINES} more lines"] if len(lines) > DIFF_LINES else []
        parts.append("\n".join([f"`{arm}` against `control`:", "", *shown, *more]))
    return "\n\n".join(parts)
