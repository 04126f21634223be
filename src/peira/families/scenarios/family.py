"""The `scenarios` family: models play the actors of a written scenario, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peira.engine.lab import Lab
from peira.families.family import Family, Forecast
from peira.families.scenarios import simulated, variations
from peira.families.scenarios.outcome import ScenarioOutcome
from peira.families.scenarios.settings import Scenario, ScenarioSettings
from peira.study.study import Study, TrialPlan
from peira.subjects.subject import Sampling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.report.analysis import Analysis
    from peira.store.records import Record, RunView, TrialView


def forked_models(settings: ScenarioSettings) -> dict[str, str]:
    """`seat (fork)` -> model, for seats that another model takes from the fork on."""
    changed = (settings.fork or {}).get("scenario")
    if not changed:
        return {}
    before, after = settings.scenario.models, Scenario.model_validate(changed).models
    return {f"{seat} (fork)": model for seat, model in after.items() if before.get(seat) != model}


class Scenarios(Family[ScenarioSettings, ScenarioOutcome]):
    """What happens when models play the actors, and which variations change the outcome."""

    name = "scenarios"
    version = 1
    folder = "runs"
    order = "replicate"
    simulated = simulated.KINDS
    headlines = {"final.": "the metric at the trial's end"}
    Settings = ScenarioSettings
    Outcome = ScenarioOutcome

    def identity(self, settings: ScenarioSettings) -> dict[str, Any]:
        return variations.identity(settings)

    def slug(self, settings: ScenarioSettings, trial: TrialPlan) -> str:
        """`var-001-run-001`: the variation keeps its number for ever."""
        number = getattr(trial, "cell_number", 0) or trial.cell_index + 1
        return f"var-{number:03d}-run-{trial.replicate:03d}"

    def seats(self, settings: ScenarioSettings) -> dict[str, str]:
        return {**settings.scenario.models, **forked_models(settings)}

    def people(self, settings: ScenarioSettings) -> list[str]:
        return [actor.short_name for actor in settings.scenario.actors if actor.human]

    def stand_in(self, model: str, capability: Mapping[str, float]) -> str:
        """One that takes any seat; a more capable model concedes more (an effect to be found)."""
        return f"sim:anyone,lift={simulated.planted_lift(capability):g}"

    def check_start(self, settings: Sequence[ScenarioSettings], *, view: bool) -> None:
        """A person's seat needs a terminal or the browser."""
        if not view and any(self.people(each) for each in settings):
            from peira.families.scenarios.human import desk

            desk()

    def plan_notes(self, study: Study) -> list[str]:
        """The smallest standardised effect of each factor that is found with 80 % power."""
        from peira.stats.designs import ScenarioRuns
        from peira.stats.power import detectable_effect
        from peira.study import grid

        cells, seeds, notes = grid.count(study), len(study.trial_seeds), []
        for name, values in study.factors.items():
            runs = seeds * cells // len(values)
            if len(values) < 2 or runs < 2:
                continue
            effect = detectable_effect(ScenarioRuns(sd=1.0, cells=len(values)), runs)
            if effect is not None:
                notes.append(
                    f"{name}: {runs} runs a level find a difference of {effect:.2f} standard"
                    " deviations between runs with 80 % power (one test at 5 %)"
                )
        return notes

    def declared(self, study: Study, settings: Sequence[ScenarioSettings]) -> dict[str, Any]:
        """Success and the primary metrics, against each factor, are the confirmatory hypotheses."""
        from peira.families.scenarios.batch import all_series, hypotheses

        scenarios = [each.scenario for each in settings]
        factors = [spec["name"] for spec in study.fixed.get("variations") or []]
        return hypotheses(scenarios[0].success_criteria, all_series(scenarios), factors)

    def check_change(self, before: Study, now: Study) -> None:
        """A changed base scenario is refused; metrics that steer nothing may change."""
        from peira.families.scenarios.variations import refuse_changed_base

        refuse_changed_base(before, now)

    def samplings(self, settings: ScenarioSettings) -> Iterable[tuple[str, Sampling]]:
        from peira.families.scenarios.seats import samplings

        return samplings(settings.scenario)

    async def remeasure(
        self, study: Study, settings: ScenarioSettings, events: list[dict[str, Any]], lab: Lab
    ) -> dict[str, Any]:
        from peira.families.scenarios.remeasure import remeasure

        return await remeasure(study, settings, events, lab)

    def forked(
        self, settings: ScenarioSettings, source: Record, branch: Any, arm: str, sample: int
    ) -> ScenarioSettings:
        from peira.families.scenarios.forking import forked

        return forked(settings, source, branch, arm, sample)

    def forecast(self, settings: ScenarioSettings) -> list[Forecast]:
        from peira.families.scenarios.forecast import forecast

        return forecast(settings.scenario)

    async def run(self, settings: ScenarioSettings, lab: Lab) -> ScenarioOutcome:
        from peira.families.scenarios.trial import play

        return await play(settings, lab)

    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]:
        from peira.families.scenarios.files import trial_files

        return trial_files(view)

    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]:
        from peira.families.scenarios.batch_files import run_files

        return run_files(run)

    def analyse(self, run: RunView) -> Analysis:
        from peira.families.scenarios.analysis import analyse

        return analyse(run)

    def compared(self, outcome: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        """Each metric's run value, and the turns played."""
        return [*outcome["final"].items(), ("turns", outcome["turns"])]

    def figures(self, run: RunView) -> Mapping[str, Callable[[], Figure]]:
        from peira.families.scenarios.figures import figures

        return figures(run)
