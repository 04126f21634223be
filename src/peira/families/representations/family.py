"""The family `representations`: how context reshapes the geometry inside an open model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from peira.engine.lab import Lab
from peira.errors import InputError
from peira.families.family import Family, Forecast
from peira.families.representations.outcome import RepresentationOutcome, outcome_of
from peira.families.representations.settings import FREE, RepresentationSettings, model_slug
from peira.families.representations.watching import Meter
from peira.study.study import Study, TrialPlan
from peira.subjects.simulated import PREFIX, SimSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.engine.journal import Journal
    from peira.report.analysis import Analysis
    from peira.store.compare import Series
    from peira.store.records import RunView, TrialView
    from peira.subjects.simulated import Answerer

log = logging.getLogger("peira.representations")


def _mixer(spec: SimSpec) -> Answerer:
    from peira.families.representations.simulated import Dials, Placeholder

    Dials.of(spec)
    return Placeholder()


class Representations(Family[RepresentationSettings, RepresentationOutcome]):
    """Experiments on activations; see docs/representations.md."""

    name = "representations"
    cpu_bound = True
    simulated = {"mixer": _mixer}
    Settings = RepresentationSettings
    Outcome = RepresentationOutcome

    def __init__(self) -> None:
        self.meter = Meter()

    # -- the study's side -------------------------------------------------------------------
    def identity(self, settings: RepresentationSettings) -> dict[str, Any]:
        return settings.identity() | {"model": model_of(settings)}

    def go_on(self, journal: Journal) -> None:
        from peira.families.representations.extending import reopen, tokens_so_far

        reopen(journal)
        self.meter = Meter(tokens_so_far(journal))

    def slug(self, settings: RepresentationSettings, trial: TrialPlan) -> str:
        condition = settings.condition or settings.entry.conditions[0]
        named = ("model", "condition", "experiment", "n_contexts")
        more = [f"{k}_{v}" for k, v in trial.cell.items() if k not in named]
        parts = [settings.entry.name, model_slug(model_of(settings)), condition, *map(str, more)]
        return "/".join([*(model_slug(p) for p in parts), f"seed_{trial.seed}"])

    def seats(self, settings: RepresentationSettings) -> dict[str, str]:
        name = model_of(settings)
        return {"model": name if name.startswith(PREFIX) else f"hf:{name}"}

    def stand_in(self, model: str, capability: Mapping[str, float]) -> str:
        return "sim:mixer"

    def forecast(self, settings: RepresentationSettings) -> list[Forecast]:
        length = max(settings.lengths or settings.entry.lengths)
        tokens = float(settings.n_contexts * length * settings.entry.rows(length))
        (seat,) = self.seats(settings).values()
        none = (0.0, 0.0, 0.0)
        return [Forecast(seat, none, (tokens, tokens, 1.5 * tokens), none)]

    def check_change(self, before: Study, now: Study) -> None:
        """A run goes on only with the settings it began with; speed and contexts may change."""
        old, new = dict(before.fixed), dict(now.fixed)
        for name in sorted({*old, *new} - FREE):
            default = RepresentationSettings.model_fields[name].get_default()
            was, wanted = _plain(old.get(name, default)), _plain(new.get(name, default))
            if name in before.factors or name in now.factors or was == wanted:
                continue
            raise InputError(
                f"{name}: {wanted}, but this run was begun with {was}\n"
                "  allowed: the same settings (contexts, device and batches may change)\n"
                "  remedy: another --output-dir, or --fresh"
            )

    # -- one trial --------------------------------------------------------------------------
    async def run(self, settings: RepresentationSettings, lab: Lab) -> RepresentationOutcome:
        from peira.families.representations import experiments, files, telling
        from peira.families.representations import trial as trials
        from peira.families.representations.fields import pack

        began = time.perf_counter()
        name = self.seats(settings)["model"]
        subject = lab.subject(name, "model")
        simulated = (
            (name if name.startswith(PREFIX) else "sim:mixer") if subject.simulated else None
        )
        spec = trials.resolve(settings, lab.seed, simulated)
        experiment = experiments.of(settings.experiment)
        if settings.save_activations:
            telling.announce_activations(spec)
        log.debug("%s on %s, layers %s", settings.experiment, spec.model.name, spec.layers)
        records = await trials.contexts(spec, experiment, lab, self.meter)
        summary = experiment.summarise(spec, telling.with_structures(spec, records))
        data = telling.told(spec, summary, began)
        data["details"]["tokens_forwarded"] += trials.spent(lab)
        lab.save("summary.json", data)
        lab.save("contexts.npz", files.contexts_npz(summary.arrays))
        lab.save("raw_data/gram.npz", pack(dict(enumerate(records))))
        if settings.save_activations:
            lab.save("raw_data/activations.npz", telling.activations(spec))
        lab.emit("forwarded", tokens=spec.tokens, contexts=len(records), model=spec.model.name)
        return outcome_of(data)

    # -- what remains -----------------------------------------------------------------------
    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]:
        from peira.families.representations.files import trial_files

        return trial_files(view)

    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]:
        from peira.families.representations.files import run_files

        return run_files(run)

    def analyse(self, run: RunView) -> Analysis:
        from peira.families.representations.analysis import analyse

        return analyse(run)

    def comparables(self, run: RunView) -> Iterable[Series]:
        from peira.families.representations.comparing import comparables

        return comparables(run)

    def figures(self, run: RunView) -> Mapping[str, Callable[[], Figure]]:
        from peira.families.representations.figures import figures

        return figures(run)


def model_of(settings: RepresentationSettings) -> str:
    """The model's name, the default made concrete."""
    from peira.families.representations.loading import default_model

    return settings.model or default_model()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
