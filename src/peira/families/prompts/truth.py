"""The planted truth of a simulated run: what each metric's mean and δ are expected to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.significance import Compared
from peira.families.prompts.simulated import (
    Effect,
    Observation,
    Parameters,
    Respondent,
    truth,
)
from peira.subjects.simulated import PREFIX, parse_sim

Arms = Mapping[str, tuple[Parameters, Effect]]


def arms_of(trial: TrialData) -> Arms | None:
    """Dials and effect of each arm, by the name that the trial was served under; None where no
    respondent of ours answered."""
    served = {name for name in trial.columns["served"] if name.startswith(f"{PREFIX}respondent")}
    if len(served) != 1:
        return None
    respondent, found = Respondent(parse_sim(served.pop())), {}
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


def truth_inside(part: Compared, known: Mapping[str, Any]) -> Iterator[bool]:
    """For each metric of known truth and interval, whether the interval covers it."""
    for name, entry in part.block["metrics"].items():
        value, limits = planted(part, known, name), entry["ci_95"]
        if value is not None and limits is not None:
            yield bool(limits[0] <= value <= limits[1])
