"""What one scenario trial may be asked: the whole scenario, as one frozen, strict object.

Invariant: nothing is coerced and nothing is ignored. Every accepted key has an effect; an unknown
one is an error. The object holds everything a trial reads (texts, events, functions' source), so
a variation can never lose a part of the scenario on its way to the trial.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Strict, field_validator
from pydantic import model_validator as model_check

from peira.families.scenarios.metric_checks import check_metric, fault

T = TypeVar("T")
Tuple = Annotated[tuple[T, ...], Strict(False)]  # a YAML list; its items stay strict
Condition = dict[str, str]
BASE = "Base configuration"
SHORT_NAME = re.compile(r"[a-z0-9-]{1,40}")
RESERVED = ("world", "summary", "metrics", "quality", "all")
UNITS = ("second", "minute", "hour", "day", "week", "month", "year")
KINDS = ("decision", "message", "world", "summary", "metrics", "quality")
DEFAULT_TOKENS = {
    "decision": 1500, "message": 600, "world": 2000, "summary": 600, "metrics": 800, "quality": 600,
}  # fmt: skip


class Part(BaseModel):
    """Base of every part of a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class SamplingRules(Part):
    """How replies are drawn; token limits per kind of call. None leaves it to the scenario."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: dict[Literal[KINDS], Annotated[int, Field(ge=1)]] = {}  # type: ignore[valid-type]


Prose = str | list[Any] | dict[str, Any]
PROFILE = (
    "system_prompt", "description", "goals", "constraints", "expertise", "decision_style",
    "personality_traits", "communication_style",
)  # fmt: skip


class Actor(Part):
    """One seat at the table."""

    name: str = Field(min_length=1)
    short_name: str
    llm_model: str | None = Field(None, validation_alias=AliasChoices("llm_model", "model"))
    control: Literal["ai", "human"] = "ai"
    role: str = ""
    system_prompt: Prose = ""
    description: Prose = ""
    goals: Prose = ""
    constraints: Prose = ""
    expertise: Prose = ""
    decision_style: Prose = Field(
        "", validation_alias=AliasChoices("decision_style", "decision_making_style")
    )
    personality_traits: Prose = ""
    communication_style: Prose = ""
    private_information: Prose = ""
    sampling: SamplingRules = SamplingRules()

    @field_validator("short_name")
    @classmethod
    def _short(cls, value: str) -> str:
        if not SHORT_NAME.fullmatch(value):
            raise fault("1 to 40 characters of a-z, 0-9 and -", "rename it, and its file to match")
        if value in RESERVED:
            raise fault(f"any name but {', '.join(RESERVED)}", "rename it, and its file to match")
        return value

    @model_check(mode="after")
    def _seated(self) -> Actor:
        if self.control == "ai" and not self.llm_model:
            raise fault("llm_model, or control: human", "name the model that plays this actor")
        return self

    @property
    def human(self) -> bool:
        """True when a person fills this seat."""
        return self.control == "human"


class Background(Part):
    """One background text and who reads it: all, world, nobody or short names."""

    name: str
    text: str
    readers: Literal["all", "world", "nobody"] | Tuple[str] = "all"

    def reaches(self, reader: str) -> bool:
        """True when `reader` (a short name, or world) has this text in its system prompt."""
        if isinstance(self.readers, tuple):
            return reader in self.readers
        return self.readers == "all" or self.readers == reader == "world"


EVENT_KEYS = {
    "trend": ("frequency",), "random": ("probability",),
    "conditional": ("conditions",), "scheduled": ("turn",),
}  # fmt: skip


class Event(Part):
    """Something that happens to the actors from outside."""

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    type: Literal["trend", "random", "conditional", "scheduled"]
    turn_range: Annotated[tuple[int, int], Strict(False)] | None = None
    once: bool | None = None
    visible_to: Literal["all", "world"] | Tuple[str] = "all"
    frequency: int | None = Field(None, ge=1)
    probability: float | None = Field(None, ge=0, le=1)
    conditions: Condition | None = Field(None, min_length=1)
    turn: int | None = Field(None, ge=1)
    enabled: bool = True

    @model_check(mode="after")
    def _keys_fit_type(self) -> Event:
        needed = EVENT_KEYS[self.type]
        for keys in EVENT_KEYS.values():
            for key in keys:
                given = getattr(self, key) is not None
                if key in needed and not given:
                    raise fault(f"`{key}`, which a {self.type} event needs", "add it", key)
                if given and key not in needed:
                    raise fault(f"{', '.join(needed)} for a {self.type} event", "remove it", key)
        if self.turn_range and not 1 <= self.turn_range[0] <= self.turn_range[1]:
            raise fault("[first, last] with 1 <= first <= last", "correct it", "turn_range")
        return self

    @property
    def fires_once(self) -> bool:
        """Trends repeat unless told otherwise; every other event happens once."""
        return self.type != "trend" if self.once is None else self.once

    def seen_by(self, reader: str) -> bool:
        """True when this reader may know of it; the world always does."""
        if reader == "world" or self.visible_to == "all":
            return True
        return isinstance(self.visible_to, tuple) and reader in self.visible_to


CheckName = Literal[
    "actor_decision_consistency", "world_state_coherence", "information_access_consistency"
]
Severity = Literal["low", "medium", "high"]


class QualityCheck(Part):
    """One question put to the validation model after a turn."""

    enabled: bool = True
    description: str = ""
    prompt_template: str | None = None


class QualityRules(Part):
    """What is checked, when, by whom, and what a bad finding does."""

    validation_model: str = Field(min_length=1)
    checks: dict[CheckName, QualityCheck] = {}
    run_after_each_turn: bool = True
    run_at_scenario_end: bool = True
    generate_summary_report: bool = True
    generate_turn_reports: bool = True
    include_in_costs: Literal[True] = True
    severity_thresholds: dict[Severity, Literal["log", "warn", "halt"]] = {}

    def action(self, severity: Severity) -> str:
        """What a finding of this severity does: log, warn or halt."""
        return self.severity_thresholds.get(severity) or ("log" if severity == "low" else "warn")


class Thresholds(Part):
    """Comparisons whose first crossing is logged."""

    warning: str | None = None
    critical: str | None = None


METRIC_TYPES = {
    "int": "int", "integer": "int", "float": "float", "bool": "bool", "boolean": "bool",
    "str": "str", "string": "str", "categorical": "categorical",
}  # fmt: skip
Source = Literal["actions", "world", "reasoning", "messages"]


class Metric(Part):
    """One quantity read from each turn."""

    description: str
    unit: str = ""
    type: Literal["int", "integer", "float", "bool", "boolean", "str", "string", "categorical"]
    categories: Tuple[str] = ()
    extraction_method: Literal["regex", "keyword", "llm", "manual", "python"]
    source: Tuple[Source] = ("actions", "world")
    actor_specific: bool = False
    actor: str | None = None
    pattern: str | None = None
    match: Literal["last", "first"] = "last"
    template: str | None = None
    ignore_case: bool = True
    keywords: list[str] | dict[str, list[str]] | None = None
    scoring: Literal["count", "presence", "density"] = "count"
    prompt: str | None = None
    function: str | None = None
    ask_writer: bool = False
    range: Annotated[tuple[float, float], Strict(False)] | None = None
    initial: int | float | bool | str | None = None
    carry: Literal["none", "forward"] = "none"
    aggregate: Literal["last", "first", "min", "max", "mean", "sum", "change"] = "last"
    goal: Literal["maximise", "minimise"] | None = None
    primary: bool = False
    thresholds: Thresholds = Thresholds()

    @property
    def kind(self) -> str:
        """int, float, bool, str or categorical."""
        return METRIC_TYPES[self.type]

    @property
    def numeric(self) -> bool:
        """True when means make sense."""
        return self.kind in ("int", "float")

    @property
    def levels(self) -> tuple[str, ...]:
        """The categories a value may take."""
        return self.categories or (tuple(self.keywords) if isinstance(self.keywords, dict) else ())

    @model_check(mode="after")
    def _coherent(self) -> Metric:
        check_metric(self)
        return self


class EndCondition(Part):
    """Ends the trial when `when` has held for `for_turns` turns running."""

    name: str = Field(min_length=1)
    when: Condition = Field(min_length=1)
    for_turns: int = Field(1, ge=1)


class Communication(Part):
    """Which private talk is allowed, and how many exchanges a pair may have in a turn."""

    bilateral: bool = True
    coalition: bool = True
    exchanges: int = Field(1, ge=1)


class Header(Part):
    """What scenario.yaml and a whole scenario have in common."""

    name: str = Field(min_length=1)
    description: str = ""
    author: str = ""
    tags: Tuple[str] = ()
    created_date: str = ""
    schema_version: Literal["1.0"] = "1.0"
    system_prompt: str = ""
    initial_world_state: str = Field(min_length=1)
    turn_duration: str
    world_state_model: str = Field(min_length=1)
    summary_model: str | None = None
    metrics_model: str | None = None
    context_window_size: int = Field(3, ge=1)
    background_tokens: int = Field(6000, ge=0)
    world_notes: str = ""
    communication: Communication = Communication()
    sampling: SamplingRules = SamplingRules()
    on_refusal: Literal["fail", "abstain"] = "fail"
    end_conditions: Tuple[EndCondition] = ()
    success_criteria: dict[str, Condition] = {}

    @field_validator("created_date", mode="before")
    @classmethod
    def _date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime.date) else value

    @field_validator("turn_duration")
    @classmethod
    def _duration(cls, value: str) -> str:
        if not re.fullmatch(rf"\d+(\.\d+)? ({'|'.join(UNITS)})s?", value):
            raise fault("a number and second … year, like '2 weeks'", "write it so")
        return value


class Scenario(Header):
    """A whole scenario, ready to play."""

    turns: int = Field(ge=1)
    actors: Tuple[Actor] = Field(min_length=1)
    background: Tuple[Background] = ()
    events: Tuple[Event] = ()
    quality: QualityRules | None = None
    metrics: dict[str, Metric] = {}
    metrics_heading: str = ""
    functions: dict[str, str] = {}

    def actor(self, short: str) -> Actor:
        """The actor of this short name."""
        return next(a for a in self.actors if a.short_name == short)

    @property
    def shorts(self) -> tuple[str, ...]:
        """Short names, in seat order."""
        return tuple(actor.short_name for actor in self.actors)

    @property
    def models(self) -> dict[str, str]:
        """Seat -> model, for every seat this scenario calls; people are left out."""
        seats = {a.short_name: a.llm_model or "" for a in self.actors if not a.human}
        seats["world"] = self.world_state_model
        seats["summary"] = self.summary_model or self.world_state_model
        if any(m.extraction_method == "llm" for m in self.metrics.values()):
            seats["metrics"] = self.metrics_model or self.world_state_model
        if self.quality and any(check.enabled for check in self.quality.checks.values()):
            seats["quality"] = self.quality.validation_model
        return seats

    @property
    def bilateral(self) -> bool:
        """True when private talks of two can happen."""
        return self.communication.bilateral and len(self.actors) >= 2

    @property
    def coalitions(self) -> bool:
        """True when coalitions can form."""
        return self.communication.coalition and len(self.actors) >= 3

    def steering(self) -> set[str]:
        """Metrics that can change what happens: read by a condition, or asked of the writer."""
        conditions = [e.conditions or {} for e in self.events if e.enabled]
        conditions += [end.when for end in self.end_conditions]
        named = {name.partition("@")[0] for condition in conditions for name in condition}
        return named | {name for name, metric in self.metrics.items() if metric.ask_writer}


class Length(Part):
    """scenario.yaml's longer form of `turns`."""

    type: Literal["fixed", "condition"]
    turns: int = Field(ge=1)
    condition: Condition | None = None

    @model_check(mode="after")
    def _condition_if_named(self) -> Length:
        if (self.type == "condition") != (self.condition is not None):
            raise fault("a condition with type: condition, and only then", "make them agree")
        return self


class ScenarioFile(Header):
    """scenario.yaml as written, with the other spellings it may use."""

    turns: int | None = Field(None, ge=1)
    scenario_length: Length | None = None
    actors: Tuple[str] | None = None
    background_information: str = ""
    communication: Communication | None = None  # type: ignore[assignment]
    enable_bilateral_communication: bool | None = None
    enable_coalition_formation: bool | None = None
    communication_types: Tuple[Literal["bilateral", "coalition", "public"]] | None = None

    @model_check(mode="after")
    def _one_form_each(self) -> ScenarioFile:
        if (self.turns is None) == (self.scenario_length is None):
            raise fault("`turns` or `scenario_length`, one of them", "give exactly one", "turns")
        spelt = (
            self.enable_bilateral_communication,
            self.enable_coalition_formation,
            self.communication_types,
        )
        if self.communication is not None and any(value is not None for value in spelt):
            raise fault("`communication`, or the older keys, not both", "keep one", "communication")
        return self

    def header(self) -> dict[str, Any]:
        """The fields of a whole scenario that this file settles."""
        other = set(ScenarioFile.model_fields) - set(Header.model_fields)
        fields = {n: getattr(self, n) for n in self.model_fields_set - other - {"communication"}}
        length = self.scenario_length
        if length is not None and length.condition is not None:
            end = EndCondition(name="scenario length", when=length.condition)
            fields["end_conditions"] = (end, *self.end_conditions)
        turns = self.turns or (length.turns if length else 0)
        return fields | {"turns": turns, "communication": self._talk()}

    def _talk(self) -> Communication:
        if self.communication is not None:
            return self.communication
        types = self.communication_types
        bilateral, coalition = self.enable_bilateral_communication, self.enable_coalition_formation
        if types is not None:
            bilateral = "bilateral" in types if bilateral is None else bilateral
            coalition = "coalition" in types if coalition is None else coalition
        return Communication(bilateral=bilateral is not False, coalition=coalition is not False)


class ScenarioSettings(BaseModel):
    """The settings of one trial: the scenario after its variation.

    Given as `base_scenario` with `variations` and a value for each, as a study gives them, or
    resolved as `scenario`. What is stored is always the resolved form, so a trial needs no file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Scenario
    description: str = BASE
    modifications: dict[str, Any] = {}
    seed: int | None = None
    fork: dict[str, Any] | None = None

    @model_check(mode="before")
    @classmethod
    def _resolved(cls, data: Any) -> Any:
        if isinstance(data, dict) and "scenario" not in data:
            from peira.families.scenarios.variations import resolve

            return resolve(data)
        return data
