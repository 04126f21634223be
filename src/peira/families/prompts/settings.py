"""What one trial of a prompt comparison may be asked, and how its results are analysed.

`PromptsSettings` makes the trial; `AnalysisSettings` only reads it, so changing those re-derives
results without a call. Invariant: paths, prices, mode and the analysis are outside a trial's
identity; the bytes of its prompts and items are inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from peira.families.prompts.data import TYPES, Caps, ItemType
from peira.families.prompts.prepare import DataFile, DataPlan, Source
from peira.families.prompts.simulated import Effect, Parameters
from peira.study.reader import misfit
from peira.subjects.subject import Sampling

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")]
CONTROL = "control"
RESERVED = {"both", "all"}
METRICS = ("em", "f1", "abstain_rate", "false_answer_rate", "unsupported_rate")


def at_least(least: int) -> AfterValidator:
    """Fewer are raised to this."""
    return AfterValidator(lambda value: max(value, least))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Books(_Frozen):
    """One value for each type of item."""

    closed_book: int = Field(ge=1)
    open_book: int = Field(ge=1)


class Sizes(_Frozen):
    """Most items per type and per dataset; null = all, 0 = none."""

    closed_book_max_items: int | None = Field(None, ge=0)
    open_book_max_items: int | None = Field(None, ge=0)
    triviaqa_max_items: int | None = Field(None, ge=0)
    nq_open_max_items: int | None = Field(None, ge=0)
    squad_v2_max_items: int | None = Field(None, ge=0)


class DataSettings(_Frozen):
    """Where the items come from."""

    source: Source = "prepared"
    files: tuple[DataFile, ...] = ()
    seed: int = 2025


class Instructions(_Frozen):
    """Files of the task instructions; null takes the shipped ones."""

    closed_book: str | None = None
    open_book: str | None = None


class Paths(_Frozen):
    """Working paths. Results go to the run directory; the last four only tell `clean` what to
    empty."""

    raw_dir: str = "data/raw"
    prepared_dir: str = "data/prepared"
    experiments_dir: str = "experiments"
    batch_inputs_dir: str = "data/batch_inputs"
    results_dir: str = "results"
    reports_dir: str = "reports"
    run_manifest: str = "results/run_manifest.json"


class SimulatedSettings(Parameters):
    """Dials of simulated respondents; `effects` by `set.arm`. Real models never see them."""

    effects: dict[str, Effect] = {}

    @property
    def parameters(self) -> Parameters:
        """The dials alone."""
        return Parameters(**self.model_dump(exclude={"effects"}))


class StatsSettings(_Frozen):
    """How arms are compared. Changed after the first paid row, results are labelled post hoc."""

    primary: str = "em"
    secondary: tuple[str, ...] = ("abstain_rate", "false_answer_rate")
    compare: Literal["control", "all"] = "control"
    alpha: float = Field(0.05, gt=0, lt=1)
    power: float = Field(0.8, gt=0, lt=1)
    bootstrap_samples: Annotated[int, Field(ge=1), at_least(10_000)] = 10_000
    permutation_samples: Annotated[int, Field(ge=1), at_least(9_999)] = 9_999
    random_seed: int = 1337
    enable_permutation: bool = True
    enable_fdr: bool = True
    risk_thresholds: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    tost_alpha: float = Field(0.05, gt=0, lt=0.5)
    tost_margins: dict[str, Annotated[float, Field(gt=0)]] = {"em": 0.01, "f1": 0.01}
    max_unscored: float = Field(0.05, ge=0, le=1)


class UnsupportedSettings(_Frozen):
    """How an open answer's support by its passage is judged."""

    strategy: Literal["baseline", "overlap", "nli"] = "baseline"
    threshold: float = Field(0.5, ge=0, le=1)
    min_token_overlap: float = Field(0.6, ge=0, le=1)
    nli_scorer: str | None = None

    @model_validator(mode="after")
    def _nli_needs_scorer(self) -> UnsupportedSettings:
        if self.strategy == "nli" and not self.nli_scorer:
            allowed = "baseline, overlap; or nli with nli_scorer: file.py:function"
            raise misfit(("strategy",), "nli", allowed)
        return self


class OptionalSettings(_Frozen):
    """Parts of the analysis that may be left out."""

    enable_unsupported_sensitivity: bool = True
    enable_mixed_effects: bool = True
    enable_power_analysis: bool = True
    enable_cost_effectiveness: bool = True


class ScoringSettings(_Frozen):
    """How replies are matched, and the user's own scorers."""

    normalise: Literal["unicode", "squad"] = "unicode"
    scorers: tuple[str, ...] = ()


class Rates(_Frozen):
    """Prices of one model, US dollars per million tokens."""

    input_per_mtok: float = Field(ge=0)
    output_per_mtok: float = Field(ge=0)
    input_per_mtok_batch: float | None = Field(None, ge=0)
    output_per_mtok_batch: float | None = Field(None, ge=0)
    batch_discount: float | None = Field(None, ge=0)


class Pricing(_Frozen):
    """Prices that overrule the built-in list. `batch_discount` multiplies the price."""

    input_per_million: float | None = Field(None, ge=0)
    output_per_million: float | None = Field(None, ge=0)
    batch_discount: float = Field(0.5, ge=0)
    providers: dict[str, dict[str, Rates]] = {}


class AnalysisSettings(_Frozen):
    """All that the analysis of finished rows depends on (the *A* settings)."""

    stats: StatsSettings = StatsSettings()
    unsupported: UnsupportedSettings = UnsupportedSettings()
    optional: OptionalSettings = OptionalSettings()
    scoring: ScoringSettings = ScoringSettings()
    pricing: Pricing = Pricing()

    @model_validator(mode="after")
    def _known_metrics(self) -> AnalysisSettings:
        """What metrics a scorer gives is known only once it has run."""
        named = {"primary": (self.stats.primary,), "secondary": self.stats.secondary,
                 "tost_margins": tuple(self.stats.tost_margins)}  # fmt: skip
        for place, metrics in named.items():
            for metric in metrics if not self.scoring.scorers else ():
                if metric not in METRICS:
                    allowed = ", ".join(METRICS) + ", or what scoring.scorers give"
                    raise misfit(("stats", place), metric, allowed)
        return self


class PromptsSettings(_Frozen):
    """One trial: a model under all arms of one prompt set, at all its temperatures."""

    model: str = Field(min_length=1)
    prompt_sets: dict[ArmName, dict[ArmName, str | None]]
    prompt_set: str
    temps: tuple[Annotated[float, Field(ge=0, le=2)], ...] = (0.0,)
    samples_per_item: (
        Annotated[int, Field(ge=1, le=1000)] | dict[float, Annotated[int, Field(ge=1, le=1000)]]
    ) = 1
    top_p: float | None = Field(1.0, ge=0, le=1)
    top_k: int | None = Field(50, ge=1)
    max_new_tokens: Annotated[int, Field(ge=1)] | Books = 1024
    stop: tuple[str, ...] = ()
    id: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    sizes: Sizes = Sizes()
    data: DataSettings = DataSettings()
    task_instructions: Instructions = Instructions()
    abstain_phrase: str = Field("I don't know.", min_length=1)
    simulated: SimulatedSettings = SimulatedSettings()
    # Outside the identity: how the same rows are asked for.
    model_aliases: dict[str, str] = {}
    paths: Paths = Paths()
    limit_items: int | None = Field(None, ge=1)
    condition: str = "both"
    mode: Literal["live", "batch"] = "live"
    max_concurrent_requests: int = Field(64, ge=1, le=10_000)
    several_seeds: bool = False
    tokenizer: str | None = None
    analysis: AnalysisSettings = AnalysisSettings()

    @field_validator("temps")
    @classmethod
    def _temps_differ(cls, temps: tuple[float, ...]) -> tuple[float, ...]:
        if not temps or len(set(temps)) != len(temps):
            raise ValueError("a list of different numbers, at least one")
        return temps

    @model_validator(mode="after")
    def _consistent(self) -> PromptsSettings:
        if self.prompt_set not in self.prompt_sets:
            raise misfit(("prompt_set",), self.prompt_set, ", ".join(self.prompt_sets))
        for name, arms in self.prompt_sets.items():
            _check_arms(name, arms)
        for temp in self.temps:
            self.samples(temp)
        return self

    @property
    def resolved_model(self) -> str:
        """The model's id, its alias resolved."""
        return self.model_aliases.get(self.model, self.model)

    @property
    def arms(self) -> Mapping[str, str | None]:
        """Arm name -> prompt path, control first."""
        arms = self.prompt_sets[self.prompt_set]
        return {CONTROL: arms[CONTROL]} | dict(arms)

    def samples(self, temp: float) -> int:
        """Samples per item at a temperature; an unlisted one takes the value if all agree."""
        if isinstance(self.samples_per_item, int):
            return self.samples_per_item
        listed = self.samples_per_item
        if temp in listed:
            return listed[temp]
        if len(set(listed.values())) == 1:
            return next(iter(listed.values()))
        allowed = f"a value for temperature {temp:g}, or the same number everywhere"
        raise misfit(("samples_per_item",), listed, allowed)

    def max_tokens(self, kind: ItemType) -> int:
        """The reply's limit for one type of item."""
        if isinstance(self.max_new_tokens, int):
            return self.max_new_tokens
        return getattr(self.max_new_tokens, f"{kind}_book")  # type: ignore[no-any-return]

    def sampling(self, kind: ItemType, temp: float) -> Sampling:
        """How replies to one type of item are drawn at a temperature, in every arm."""
        return Sampling(
            temperature=temp, top_p=self.top_p, top_k=self.top_k, max_tokens=self.max_tokens(kind),
            stop=self.stop,
        )  # fmt: skip

    @property
    def caps(self) -> Caps:
        caps = {name.removesuffix("_max_items"): cap for name, cap in self.sizes}
        types: dict[str, int | None] = {kind: caps.pop(f"{kind}_book") for kind in TYPES}
        return Caps(caps, types, self.limit_items)

    @property
    def data_plan(self) -> DataPlan:
        """Where to look for the items. The caps size the simulated source."""
        sizes = {"closed": self.sizes.closed_book_max_items,
                 "opened": self.sizes.open_book_max_items}  # fmt: skip
        return DataPlan(
            self.data.source, Path(self.paths.prepared_dir), Path(self.paths.raw_dir),
            self.data.files, **{name: size for name, size in sizes.items() if size is not None},
        )  # fmt: skip

    def effect(self, arms: tuple[str, ...]) -> Effect:
        """The effect planted in a prompt that goes by these `set.arm` names."""
        effects = self.simulated.effects
        return next((effects[name] for name in arms if name in effects), Effect())


def _check_arms(name: str, arms: Mapping[str, Any]) -> None:
    if CONTROL not in arms or len(arms) < 2:
        raise misfit(("prompt_sets", name), list(arms), "`control` and at least one other arm")
    if taken := RESERVED & {name, *arms}:
        raise misfit(("prompt_sets", name), min(taken), "other names: this one is reserved")
