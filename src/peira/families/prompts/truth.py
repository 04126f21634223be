"""The planted truth of a simulated run: what each metric's mean and δ are expected to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.significance import Compared, labels
from peira.families.prompts.simulated import (
    Effect,
    Observation,
    Parameters,
    Respondent,
    truth,
)
from peira.families.prompts.tables import TEXT
from peira.report.analysis import Column, Table
from peira.subjects.simulated import PREFIX, parse_sim

Arms = Mapping[str, tuple[Parameters, Effect]]


def respondent_of(trial: TrialData) -> Respondent | None:
    """The simulated respondent that answered a trial, from the name it was served under."""
    names = {name for name in trial.columns["served"] if name.startswith(f"{PREFIX}respondent")}
    return Respondent(parse_sim(names.pop())) if len(names) == 1 else None


def arms_of(trial: TrialData) -> Arms | None:
    """Dials and effect of each arm, or None where no respondent of ours answered."""
    respondent = respondent_of(trial)
    if respondent is None:
        return None
    found = {}
    for arm, prompt in trial.arms.items():
        names = tuple(prompt["names"])
        seen = Observation(
            trial.items[0], "", trial.record.seed, trial.settings.simulated.parameters,
            trial.settings.effect(names), names,
        )  # fmt: skip
        found[arm] = respondent.resolve(seen)
    return found


def simulation_truth(trials: Sequence[TrialData]) -> dict[str, Any]:
    """simulation_truth.json: per trial and item type, expected means and differences."""
    return {
        "label": "simulated subjects",
        "trials": {
            trial.record.slug: truth(trial.items, arms)
            for trial in trials
            if (arms := arms_of(trial)) is not None
        },
    }


def planted(part: Compared, known: Mapping[str, Any], metric: str) -> float | None:
    """The expected δ of one metric of a comparison."""
    cell = known.get(part.at.trial.record.slug, {}).get(part.at.kind)
    if cell is None:
        return None
    arm, reference = cell["means"][part.at.arm], cell["means"][part.at.reference]
    values = arm.get(metric), reference.get(metric)
    return None if None in values else float(values[0] - values[1])


def truth_table(compared: Sequence[Compared], known: Mapping[str, Any]) -> Table:
    """Truth beside estimate, for every metric whose truth is known."""
    columns = (
        Column("comparison", "comparison", kind=TEXT), Column("metric", "metric", kind=TEXT),
        Column("truth", "planted δ", 3), Column("delta", "estimated δ", 3, kind="estimate"),
        Column("covered", "truth inside", kind=TEXT),
    )  # fmt: skip
    rows = []
    for part, label in zip(compared, labels(compared), strict=True):
        for name, entry in part.block["metrics"].items():
            value = planted(part, known, name)
            if value is None or entry["delta_mean"] is None:
                continue
            limits = entry["ci_95"]
            inside = "n/a" if limits is None else _yes(limits[0] <= value <= limits[1])
            rows.append(
                {"comparison": label, "metric": name, "truth": value,
                 "delta": part.estimate(name), "covered": inside}
            )  # fmt: skip
    note = "Simulated respondents: the truth was planted, the analysis was not told of it."
    return Table("truth", "Planted truth beside the estimate", columns, tuple(rows), note)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
