"""What a stop rule adds to an analysis: the monitored outcome with the interval the rule keeps honest,
and a warning about all others."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Protocol

from peira.report.analysis import Analysis, Finding
from peira.report.tables import estimate
from peira.stats.result import Estimate
from peira.store.records import RunView

WARNING = (
    "The study was stopped by its declared rule. The interval of `stop rule` holds at any stopping"
    " time; fixed-sample intervals and p values of the same outcome do not account for the stop."
)


class Analyser(Protocol):
    """What is needed of a family."""

    def analyse(self, run: RunView) -> Analysis: ...


def analysis_of(run: RunView, family: Analyser) -> Analysis:
    """A family's analysis of a run, with what the study's stop rule adds."""
    return with_stop(run, family.analyse(run))


def with_stop(run: RunView, analysis: Analysis) -> Analysis:
    """The analysis with the stop rule's finding, if the study declares one that has looked."""
    note = run.meta.get("stopped")
    if note is None:
        return analysis
    finding = Finding(
        "stop rule", _claim(note), _estimate(note["estimate"]), role="confirmatory",
        family="stop rule", unit="block",
    )  # fmt: skip
    findings = (finding, *analysis.findings)
    if not note["met"]:
        return replace(analysis, findings=findings)
    # The rule's interval comes first: that of a fixed sample does not hold after a stop.
    claim = finding.claim[:1].upper() + finding.claim[1:]
    answer = f"{claim}. It is {estimate(finding.estimate)}. {analysis.answer}"
    others = (n.replace("No hypothesis was", "No other hypothesis was") for n in analysis.notes)
    notes = (WARNING, *others)
    return replace(analysis, answer=answer, findings=findings, notes=notes)


def _claim(note: dict[str, Any]) -> str:
    what = note["outcome"] + (f", difference by {note['factor']}" if note.get("factor") else "")
    where = f"after {note['blocks']} of {note['planned_blocks']} blocks"
    if not note["met"]:
        return f"mean {what} over blocks; the rule was not met {where}"
    return f"mean {what} over blocks; stopped {where}: {note['why']}"


def _estimate(data: dict[str, Any]) -> Estimate:
    known = {each.name for each in fields(Estimate)}
    values: dict[str, Any] = {name: data[name] for name in known if name in data}
    return Estimate(**values | {"flags": tuple(data["flags"])})
