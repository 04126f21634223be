"""The negotiation family: settings, trial, outcome, analysis, figures under one name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from peira.engine.lab import Lab
from peira.families.family import Family, Forecast
from peira.families.negotiation.outcome import NegotiationOutcome, compared
from peira.families.negotiation.settings import NegotiationSettings, seat_name
from peira.families.negotiation.simulated import KINDS
from peira.families.negotiation.trial import play
from peira.study.study import Study, TrialPlan
from peira.subjects.simulated import Answerer, SimSpec
from peira.subjects.subject import Sampling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.report.analysis import Analysis
    from peira.store.records import Record, RunView, TrialView

UNKNOWN_MMLU_PRO = 50.0  # a middling stand-in for a model whose score nobody has registered
MMLU_PRO_RANGE = (25.0, 90.0)  # percent that map to skill 0 and 1


class Negotiation(Family[NegotiationSettings, NegotiationOutcome]):
    """Two or more subjects split items they value differently (specs/negotiation.md)."""

    name: ClassVar[str] = "negotiation"
    version: ClassVar[int] = 1
    simulated: ClassVar[Mapping[str, Callable[[SimSpec], Answerer]]] = KINDS
    factor_aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "order": ("model_order",),
        "model": ("weak_model", "strong_model", "models"),
        "level": ("competition_level",),
    }
    headlines: ClassVar[Mapping[str, str]] = {
        "utility_difference": "utility of strong_model less that of weak_model; of the first seat less"
        " that of the second where a study names no weak_model",
        "share.": "a seat's share of all seats' utility, by seat",
        "consensus": "whether the game ended in a deal",
        "total_utility": "utility of all seats together",
        "final_round": "the round of the deal, else the last",
        "utility.": "a seat's discounted utility, by seat",
    }
    Settings = NegotiationSettings
    Outcome = NegotiationOutcome

    def identity(self, settings: NegotiationSettings) -> dict[str, Any]:
        """All settings but the guide's `run_number`, which only names a folder."""
        return settings.model_dump(mode="json", exclude_defaults=True, exclude={"run_number"})

    def slug(self, settings: NegotiationSettings, trial: TrialPlan) -> str:
        """`<weak>_vs_<strong>/<order>/comp_<c>/run_<k>`, as in the guide."""
        from peira.families.negotiation.files import trial_slug

        return trial_slug(settings, trial)

    def seats(self, settings: NegotiationSettings) -> dict[str, str]:
        """`Agent k` -> subject name."""
        seats = {seat_name(k): model for k, model in enumerate(settings.models)}
        if settings.fork is not None and settings.fork.models is not None:
            seats |= {f"{seat_name(k)} (fork)": m for k, m in enumerate(settings.fork.models)}
        return seats if settings.judge is None else {**seats, "judge": settings.judge}

    def samplings(self, settings: NegotiationSettings) -> Iterable[tuple[str, Sampling]]:
        for seat, model in self.seats(settings).items():
            if seat == "judge":
                yield model, settings.judging
            else:
                yield from ((model, each) for each in settings.samplings(model).values())

    def declared(self, study: Study, settings: Sequence[NegotiationSettings]) -> dict[str, Any]:
        """No hypotheses; a backtest of models that the study does not have is refused here."""
        from peira.families.negotiation.backtest import newer_models

        newer_models(study, {model for each in settings for model in each.models})
        return {}

    def stand_in(self, model: str, capability: Mapping[str, float]) -> str:
        """`sim:skill` by MMLU-Pro, so that the whole study can be seen at no cost."""
        low, high = MMLU_PRO_RANGE
        score = capability.get("mmlu_pro", UNKNOWN_MMLU_PRO)
        return f"sim:skill={min(1.0, max(0.0, (score - low) / (high - low))):.2f}"

    def forecast(self, settings: NegotiationSettings) -> list[Forecast]:
        """Calls and tokens of one game, if it ends in round 1, in the middle, or never."""
        from peira.families.negotiation.forecast import forecast

        return forecast(settings)

    async def run(self, settings: NegotiationSettings, lab: Lab) -> NegotiationOutcome:
        """Play one game."""
        return await play(settings, lab)

    def config(
        self, settings: NegotiationSettings, trial: TrialPlan, folder: str
    ) -> dict[str, Any]:
        """One trial as the guide's `config_N.json`."""
        from peira.families.negotiation.files import config

        return config(settings, trial, folder)

    def forked(
        self, settings: NegotiationSettings, source: Record, branch: Any, arm: str, sample: int
    ) -> NegotiationSettings:
        """Settings of a game that goes on from a round with another subject or other words."""
        from peira.families.negotiation.forking import forked

        return forked(settings, source, branch, arm, sample)

    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]:
        """result.json, all_interactions.json, transcript.md."""
        from peira.families.negotiation.files import trial_files

        return trial_files(view)

    def analyse(self, run: RunView) -> Analysis:
        """Tables and findings over a run."""
        from peira.families.negotiation.analysis import analyse

        return analyse(run)

    def compared(self, outcome: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        """How a game ended: deal, rounds, utilities and what the instance allowed."""
        return compared(outcome)

    def figures(self, run: RunView) -> Mapping[str, Callable[[], Figure]]:
        """The pictures of a run, drawn on demand."""
        from peira.families.negotiation.figures import figures

        return figures(run)

    @property
    def figure_groups(self) -> Mapping[str, tuple[str, ...]]:
        """The guide's names for sets of figures: heatmaps, convergence, tokens, counts."""
        from peira.families.negotiation.figures import GROUPS

        return GROUPS

    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]:
        """logs/experiment_<i>.log."""
        from peira.families.negotiation.files import log_files

        return log_files(run)
