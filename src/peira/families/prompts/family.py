"""The family: identity, slug, stand-in, trial, projections, analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peira.families.family import Family, Forecast
from peira.families.prompts.data import user_message
from peira.families.prompts.inputs import inputs_of
from peira.families.prompts.outcome import PromptsOutcome
from peira.families.prompts.phases import VIEWS
from peira.families.prompts.rows import n_rows
from peira.families.prompts.scoring import asks_models, load_scorer
from peira.families.prompts.settings import PromptsSettings
from peira.families.prompts.simulated import Respondent
from peira.families.prompts.slugs import trial_slug
from peira.families.prompts.trial import SEAT, run_trial
from peira.study.study import TrialPlan
from peira.subjects.subject import Sampling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.engine.lab import Lab
    from peira.report.analysis import Analysis
    from peira.store.compare import Series
    from peira.store.records import RunView, TrialView

SPREAD = {"estimated": (0.7, 1.0, 1.5), "counted": (1.0, 1.02, 1.2)}  # low, expected, high


def judging(settings: PromptsSettings) -> list[str]:
    """The scorers that ask models."""
    return [n for n in settings.analysis.scoring.scorers if asks_models(load_scorer(n))]


class Prompts(Family[PromptsSettings, PromptsOutcome]):
    """System prompts compared on the same items."""

    name: ClassVar[str] = "prompts"
    Settings = PromptsSettings
    Outcome = PromptsOutcome
    simulated: ClassVar[Mapping[str, Any]] = {"respondent": Respondent}

    def __init__(self, phases: frozenset[str] = VIEWS) -> None:
        self.phases = phases

    def identity(self, settings: PromptsSettings) -> dict[str, Any]:
        """What makes the rows what they are: bytes of prompts and items, model, decoding."""
        inputs = inputs_of(settings)
        tokens = {kind: settings.max_tokens(kind) for kind in ("closed", "open")}
        planted = settings.simulated.model_dump(mode="json", exclude_defaults=True)
        scorers = judging(settings)
        return {
            "model": settings.resolved_model,
            "prompt_set": settings.prompt_set,
            "arms": {arm: prompt.sha256 for arm, prompt in inputs.arms(settings).items()},
            "samples": [[temp, settings.samples(temp)] for temp in settings.temps],
            "decoding": {"top_p": settings.top_p, "top_k": settings.top_k, "max_tokens": tokens},
            "stop": list(settings.stop),
            "items": inputs.items_sha256,
            "instructions": inputs.instructions_sha256,
            **({"planted": planted} if planted else {}),
            **({"judges": scorers} if scorers else {}),
        }

    def slug(self, settings: PromptsSettings, trial: TrialPlan) -> str:
        """The guide's name; one that had to be cut carries the trial's identity."""
        return trial_slug(settings, trial.seed, trial.id)

    def seats(self, settings: PromptsSettings) -> dict[str, str]:
        return {SEAT: settings.resolved_model}

    def asks_others(self, settings: PromptsSettings) -> bool:
        """A scorer may ask a judge."""
        return bool(judging(settings))

    def stand_in(self, model: str, capability: Mapping[str, float]) -> str:
        """A respondent whose skill grows with the model's capability, about .5 in the middle."""
        score = capability.get("mmlu_pro")
        if score is None:
            return "sim:respondent"
        share = score / 100 if score > 1 else score
        return f"sim:respondent,skill={round(0.5 + 3 * (share - 0.7), 3):g}"

    def samplings(self, settings: PromptsSettings) -> Iterable[tuple[str, Sampling]]:
        for temp in settings.temps:
            for kind in {item.type for item in inputs_of(settings).items}:
                yield settings.resolved_model, settings.sampling(kind, temp)

    def forecast(self, settings: PromptsSettings) -> list[Forecast]:
        """Rows exactly; prompt tokens as the study counts them, replies between a short answer and
        the limit."""
        inputs = inputs_of(settings)
        rows = n_rows(settings, len(inputs.items))
        count = inputs.counter.count
        size = sum(count(user_message(i, inputs.instructions[i.type])) for i in inputs.items)
        systems = sum(prompt.tokens for prompt in inputs.arms(settings).values())
        draws = sum(settings.samples(temp) for temp in settings.temps)
        tokens = draws * (size * len(settings.arms) + systems * len(inputs.items))
        low, expected, high = SPREAD["counted" if settings.tokenizer else "estimated"]
        most = draws * len(settings.arms) * sum(settings.max_tokens(i.type) for i in inputs.items)
        return [
            Forecast(
                settings.resolved_model,
                (rows, rows, rows),
                (low * tokens, expected * tokens, high * tokens),
                (4.0 * rows, min(60.0 * rows, most), float(most)),
            )
        ]

    async def run(self, settings: PromptsSettings, lab: Lab) -> PromptsOutcome:
        return await run_trial(settings, lab)

    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]:
        """None here: a trial's claims depend on the run's family of tests (see `run_files`)."""
        return ()

    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]:
        from peira.families.prompts.files import run_files

        return run_files(run, self.phases)

    def analyse(self, run: RunView) -> Analysis:
        from peira.families.prompts.analysis import analyse

        return analyse(run)

    def figures(self, run: RunView) -> Mapping[str, Callable[[], Figure]]:
        from peira.families.prompts.figures import figures

        return figures(run)

    def comparables(self, run: RunView) -> Iterable[Series]:
        """What `peira compare` pairs between two runs."""
        from peira.families.prompts.comparing import comparables

        return comparables(run)
