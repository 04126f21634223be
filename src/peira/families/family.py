"""What a family of experiments is: settings, one trial, its outcome, the analysis of a run.

A user's own family is a subclass in a file (`family: my_experiment.py:MyExperiment`). Only
`Settings`, `Outcome` and `run` are required; everything else has a default that works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from peira.engine.lab import Lab
from peira.errors import InputError
from peira.study.study import Study, TrialPlan
from peira.subjects.simulated import Answerer, SimSpec
from peira.subjects.subject import Sampling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.engine.journal import Journal
    from peira.report.analysis import Analysis
    from peira.store.compare import Series
    from peira.store.records import Record, RunView, TrialView


class Settings(BaseModel):
    """Base of a family's settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(BaseModel):
    """Base of what one trial leaves: frozen, JSON-safe (undefined is None, never NaN)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SettingsT = TypeVar("SettingsT", bound=BaseModel)
OutcomeT = TypeVar("OutcomeT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one trial will ask of one model. Each triple is (low, expected, high)."""

    model: str
    calls: tuple[float, float, float]
    prompt_tokens: tuple[float, float, float]
    completion_tokens: tuple[float, float, float]


class Family(Generic[SettingsT, OutcomeT]):
    """One kind of experiment. See `docs/own-experiment.md` for a worked example."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    folder: ClassVar[str] = "trials"
    order: ClassVar[str] = "grid"  # or "replicate": round by round, so an early stop is balanced
    cpu_bound: ClassVar[bool] = False
    # Outcomes that are shown first -> what each is. A name that ends in a dot stands for all below
    # it, be it a list's members (`share.1`, `share.2`, …).
    headlines: ClassVar[Mapping[str, str]] = {}
    simulated: ClassVar[Mapping[str, Callable[[SimSpec], Answerer]]] = {}
    Settings: type[SettingsT]
    Outcome: type[OutcomeT]

    # -- the study's side -------------------------------------------------------------------
    def identity(self, settings: SettingsT) -> dict[str, Any]:
        """The settings that make a trial what it is; everything else may change freely."""
        return settings.model_dump(mode="json", exclude_defaults=True)

    def slug(self, settings: SettingsT, trial: TrialPlan) -> str:
        """A readable name, unique within the run; also the trial's folder. May contain `/`."""
        parts = [f"{key}_{_short(value)}" for key, value in trial.cell.items()]
        return "/".join([*parts, f"run_{trial.replicate}"])

    def seats(self, settings: SettingsT) -> dict[str, str]:
        """Seat name -> subject name, for every model a trial will call."""
        value = getattr(settings, "model", None)
        return {"respondent": value} if isinstance(value, str) else {}

    def asks_others(self, settings: SettingsT) -> bool:
        """True if a trial may call subjects that `seats` does not name."""
        return type(self).seats is Family.seats

    def people(self, settings: SettingsT) -> list[str]:
        """Seats that a person fills: they are asked by the driver alone."""
        return []

    def stand_in(self, model: str, capability: Mapping[str, float]) -> str:
        """The simulated subject that takes a real model's seat under `--subjects simulated`."""
        return "sim:echo"

    def forecast(self, settings: SettingsT) -> list[Forecast]:
        """Calls and tokens of one trial, for `peira plan`. Default: one short call a seat."""
        tokens = (200.0, 500.0, 2000.0)
        return [Forecast(m, (1, 1, 2), tokens, tokens) for m in self.seats(settings).values()]

    def samplings(self, settings: SettingsT) -> Iterable[tuple[str, Sampling]]:
        """(subject name, sampling) of calls a trial will make: what a provider cannot carry is
        refused before the first trial. Default: nothing is checked."""
        return ()

    async def remeasure(
        self, study: Study, settings: SettingsT, events: list[dict[str, Any]], lab: Lab
    ) -> dict[str, Any]:
        """What a finished trial's transcript says under today's definitions: fields that replace
        those of its outcome in the analysis."""
        raise InputError(f"family {self.name!r}: there is nothing to measure again")

    def forked(
        self, settings: SettingsT, source: Record, branch: Any, arm: str, sample: int
    ) -> SettingsT:
        """The settings of one fork of a finished trial: as the source's up to `branch.turn`, with
        its changes from there (`arm` "changed") or without (`arm` "control")."""
        raise InputError(f"family {self.name!r}: its trials cannot be forked")

    def check_start(self, settings: Sequence[SettingsT], *, view: bool) -> None:
        """Called before a run with real subjects: raise InputError for what could never go well,
        such as a person's seat and nowhere to ask (`view`: the browser view is open)."""

    def plan_notes(self, study: Study) -> list[str]:
        """Lines for `peira plan`: what this study can and cannot find."""
        return []

    def declared(self, study: Study, settings: Sequence[SettingsT]) -> dict[str, Any]:
        """Hypotheses, as strict JSON by name: frozen in run.db before the first call, so that the
        analysis can tell what was declared from what was added later. Default: none."""
        return {}

    def check_change(self, before: Study, now: Study) -> None:
        """Called when a run is gone on with: raise InputError if `now` may not follow `before`."""

    def go_on(self, journal: Journal) -> None:
        """Called once the plan is registered, before any trial runs: a done trial whose settings
        now ask for more of the same may be made pending again, its parts kept as checkpoints."""

    # -- one trial --------------------------------------------------------------------------
    async def run(self, settings: SettingsT, lab: Lab) -> OutcomeT:
        """Run one trial; touch nothing but `lab`."""
        raise NotImplementedError

    def config(self, settings: SettingsT, trial: TrialPlan, folder: str) -> dict[str, Any]:
        """One trial as a file of its own (`peira plan --write-configs`): a one-trial study."""
        return {
            "family": self.name,
            "name": f"config_{trial.index}",
            "fixed": settings.model_dump(mode="json", exclude_defaults=True),
            "seeds": [trial.seed],
            "output_dir": folder,
        }

    # -- what remains -----------------------------------------------------------------------
    def files(self, view: TrialView) -> Iterable[tuple[str, bytes]]:
        """The trial's own files, as (relative name, content). Default: result.json."""
        yield "result.json", _pretty(view.record.to_dict())

    def run_files(self, run: RunView) -> Iterable[tuple[str, bytes]]:
        """The run's own files beside the common ones, as (relative name, content)."""
        return ()

    def analyse(self, run: RunView) -> Analysis:
        """Tables and findings over a run. Default: numeric outcomes by cell, with intervals."""
        from peira.report.default_analysis import numeric_outcomes

        return numeric_outcomes(run)

    def comparables(self, run: RunView) -> Iterable[Series]:
        """What `peira compare` pairs between two runs. Default: `compared`, trial by trial."""
        from peira.store.compare import numeric_series

        return numeric_series(run, self.compared)

    def compared(self, outcome: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        """(name, number) of what a trial is compared by, in `peira compare` and between forks.
        Default: every number of the outcome."""
        from peira.store.exports import flattened

        return flattened(outcome)

    def figures(self, run: RunView) -> Mapping[str, Callable[[], Figure]]:
        """Figure name -> maker, drawn on demand. Default: numeric outcomes by cell."""
        from peira.report.default_analysis import outcome_figures

        return outcome_figures(run)


def _short(value: Any) -> str:
    text = str(value) if not isinstance(value, (dict, list)) else json.dumps(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:40].strip("-.") or "x"


def _pretty(data: Any) -> bytes:
    import orjson

    return orjson.dumps(data, option=orjson.OPT_INDENT_2)
