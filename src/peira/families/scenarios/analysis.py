"""The analysis of a batch, from its rows to JSON, tables and findings.

Invariant: one computation feeds every surface: the JSON files, the report, the figures and
BatchAnalyzer show the same numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from peira.families.scenarios import patterns, report, report_file, summaries
from peira.families.scenarios.batch import Batch, from_run, hypotheses
from peira.families.scenarios.effects import SUCCESS, Effect, Effects
from peira.families.scenarios.simulated import expected_level
from peira.report.analysis import Analysis, Finding
from peira.stats.factorial import variance_shares

if TYPE_CHECKING:
    from peira.store.records import RunView

LEVEL = "cooperation_level"


@dataclass
class Results:
    """Everything that is computed about a batch, each part once."""

    batch: Batch

    @cached_property
    def deviations(self) -> list[str]:
        """How the hypotheses differ from what was frozen before the first look."""
        return list(deviations(self.batch))

    @cached_property
    def effects(self) -> Effects:
        """All tests."""
        return Effects(self.batch, frozen=not self.deviations)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics-analysis.json."""
        pooled = len(self.batch.variations) > 1
        found = {
            name: summaries.metric_summary(name, metric, self.batch.trials, pooled=pooled)
            | self._tests(name)
            | {"trajectory": summaries.trajectory(name, metric, self.batch)}
            for name, metric in self.batch.metrics.items()
        }
        for name in found:
            tests = {w: self._tests(f"{name} {w}")["effects"] for w in ("slope", "change")}
            found[name]["trajectory_effects"] = tests
        if self.batch.criteria and SUCCESS not in found:
            success = summaries.success_summary(self.batch.trials, True)
            found[SUCCESS] = {"type": "success", **success, **self._tests(SUCCESS)}
        return found

    def _tests(self, outcome: str) -> dict[str, Any]:
        column = self.effects.columns.get(outcome)
        shares: dict[str, Any] = {}
        if column is not None and column.kind != "categorical":
            found = variance_shares(self.effects.layouts[outcome])
            shares = {term: asdict(share) for term, share in found.items()}
        kinds = ("effect", "omnibus", "interaction")
        return {
            "effects": [effect.to_dict() for effect in self.effects.of(outcome, *kinds)],
            "comparisons": [effect.to_dict() for effect in self.effects.of(outcome, "pair")],
            "variance": shares,
        }

    @cached_property
    def variations(self) -> dict[str, Any]:
        """variation-statistics.json."""
        batch = self.batch
        return {str(n): summaries.variation_summary(batch, n) for n in batch.variations}

    @cached_property
    def patterns(self) -> dict[str, Any]:
        """patterns.json."""
        return patterns.identify(self.batch)

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader must know before believing a number."""
        loss = summaries.loss_warnings(self.batch)
        return [*self.batch.warnings, *self.deviations, *loss]

    def truth_of(self, effect: Effect) -> float | None:
        """The planted size of an effect on the cooperation level; None when nothing is planted."""
        if not self.batch.simulated or effect.outcome != LEVEL or effect.kind != "effect":
            return None
        sides: dict[str, list[float]] = {effect.a: [], effect.b: []}
        seen: set[int] = set()
        for trial in self.batch.trials:
            level = trial.factors.get(effect.factor)
            expected = expected_level(trial.served) if trial.served else None
            if expected is not None and level in sides and trial.variation not in seen:
                seen.add(trial.variation)
                sides[level].append(expected)
        a, b = sides[effect.a], sides[effect.b]
        return sum(b) / len(b) - sum(a) / len(a) if a and b else None

    def files(self) -> dict[str, Any]:
        """The JSON files of analysis/, and the report."""
        return {
            "metrics-analysis.json": self.metrics,
            "variation-statistics.json": self.variations,
            "patterns.json": self.patterns,
        }


def deviations(batch: Batch) -> list[str]:
    """Words for every change since the hypotheses were frozen."""
    if not batch.frozen:
        return []
    now = hypotheses(batch.criteria, batch.metrics, batch.factors)
    found = [
        f"Exploratory: the {what} were changed after the batch was begun."
        for what, then in batch.frozen["declared"].items() if now.get(what) != then
    ]  # fmt: skip
    if batch.replicates > batch.frozen["replicates"]:
        found.append("Exploratory: replicates were added after the first results were there.")
    return found


def analyse(run: RunView) -> Analysis:
    """Tables, findings and sections over the trials of a run."""
    return told(Results(from_run(run)))


def told(results: Results) -> Analysis:
    """The results as an Analysis."""
    story = report.Story.of(results)
    text = report_file.markdown(results.batch, story)
    return Analysis(
        answer=story.answer, tables=tuple(story.tables.values()),
        findings=tuple(findings(results)), notes=tuple(story.limits),
        files={**results.files(), "analysis-report.md": text}, sections=story.sections,
    )  # fmt: skip


def findings(results: Results) -> list[Finding]:
    """Confirmatory effects, then exploratory main effects that have an interval."""
    found = []
    for effect in results.effects.all:
        confirmatory = effect.role == "confirmatory"
        shown = effect.kind in ("effect", "omnibus") and effect.estimate.estimate is not None
        if not shown or not (confirmatory or effect.estimate.defined):
            continue
        found.append(
            Finding(
                name=f"{effect.outcome}: {effect.factor}"
                + ("" if effect.kind == "omnibus" else f", {effect.b} - {effect.a}"),
                claim=claim(effect),
                estimate=effect.estimate,
                role="confirmatory" if confirmatory else "exploratory",
                family="success and primary metrics by factor" if confirmatory else "all others",
                p_adjusted=effect.p_adjusted if confirmatory else None,
                q=None if confirmatory else effect.p_adjusted,
                truth=results.truth_of(effect),
            )
        )
    return found


def claim(effect: Effect) -> str:
    """One sentence that says what an effect's number is."""
    what = (
        "the share of planned trials that succeed" if effect.outcome == SUCCESS else effect.outcome
    )
    if effect.kind == "omnibus":
        return f"Some levels of {effect.factor} differ in {what}; the widest contrast is shown."
    return (
        f"Change in {what} when {effect.factor} is {effect.b} instead of {effect.a}, averaged over"
        " the other factors."
    )
