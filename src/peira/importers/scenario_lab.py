"""`peira import scenario-lab DIR`: a batch folder of the public project Itangalo/scenario-lab.

Reads `batch-config.yaml`, `batch-state.json` and `runs/var-<v>-run-<r>/{scenario-state, metrics,
costs}.json`, as that tool wrote them and as its guide describes them. The scenario is the base
scenario where it is still there, else what the states say of it. Invariant: values are taken as they
were recorded and read as their metric's type; one that does not fit is missing with its reason. A
run counts as done only if its state says so and is whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from peira.errors import InputError
from peira.families.scenarios.conditions import Value
from peira.families.scenarios.load import load_scenario
from peira.families.scenarios.metrics import converted, final, series
from peira.families.scenarios.outcome import ScenarioOutcome
from peira.families.scenarios.settings import BASE, SHORT_NAME, UNITS, Metric, Scenario
from peira.families.scenarios.state import Decision, Measure, Turn, World
from peira.families.scenarios.variations import describe, target
from peira.importers.base import ImportedTrial, Notes, as_described
from peira.study.dialects_batch import Variation, scenario_folder

FAMILY = "scenarios"
ABOUT = "a batch folder of Scenario Lab (batch-config.yaml, runs/var-001-run-001/…)"
RUN = re.compile(r"var-(\d+)-run-(\d+)")
NEVER = "(?!)"  # the pattern of a metric whose own definition cannot be read: matches nothing
CAUSES = {"credit_limit": "trial limit", "budget": "budget", "rate_limit": "provider",
          "timeout": "timeout"}  # fmt: skip


def read(directory: Path, notes: Notes) -> Iterator[ImportedTrial]:
    """Every run of the batch, those that failed or are missing included. Raises InputError when the
    folder holds no runs."""
    folders = {p.name: p for p in sorted((directory / "runs").glob("*")) if RUN.fullmatch(p.name)}
    if not folders:
        raise InputError(f"{directory}: no runs/var-…-run-… here\n  allowed: {ABOUT}")
    with as_described(directory):
        batch = Batch.read(directory, notes)
    notes.fixed |= {"variations": batch.specs, "base_scenario": batch.base}
    last: Scenario | None = None
    for name in [*folders, *(n for n in batch.ended if n not in folders)]:
        with notes.leaving_out(directory / "runs" / name):
            run = Run.read(directory / "runs" / name, batch, notes)
            scenario = run.scenario(last)
            if scenario is None:
                notes.warnings.append(f"left out: {name}: its state does not say who played")
                continue
            last = scenario
            yield run.trial(scenario)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the batch's own files say. `ended`: run -> its error, for runs that failed."""

    name: str
    base: str
    scenario: Scenario | None
    specs: list[dict[str, Any]]
    variations: Mapping[int, Mapping[str, Any]]
    ended: Mapping[str, str]
    costs: Mapping[str, float]

    @classmethod
    def read(cls, directory: Path, notes: Notes) -> Batch:
        """From batch-config.yaml, batch-state.json and batch-costs.json, whichever are there."""
        config = _yaml(directory / "batch-config.yaml", notes)
        state = notes.mapping(directory / "batch-state.json")
        money = notes.mapping(directory / "batch-costs.json")
        specs = list(_specs(config.get("variations") or [], notes))
        failed = [f for f in state.get("failed_runs") or [] if isinstance(f, Mapping)]
        return cls(
            str(config.get("experiment_name") or directory.resolve().name),
            str(config.get("base_scenario", "")), _base(config, directory, notes), specs,
            {v["variation_id"]: v for v in state.get("variations") or [] if "variation_id" in v},
            {str(f.get("run_id")): str(f.get("error") or f.get("message") or "") for f in failed
             if RUN.fullmatch(str(f.get("run_id")))},
            {str(r.get("run_id")): float(r.get("cost") or 0) for r in money.get("run_costs") or []
             if isinstance(r, Mapping)},
        )  # fmt: skip

    def chosen(self, number: int) -> dict[str, Any]:
        """Factor -> value in a variation: as recorded, else by its place in the grid."""
        made = self.variations.get(number, {}).get("modifications") or {}
        models = made.get("actor_models", {})
        known = {
            spec["name"]: models.get(spec.get("actor"), made.get(target(spec)))
            for spec in self.specs
        }
        if self.specs and all(value is not None for value in known.values()):
            return known
        grid = itertools.product(*(spec["values"] for spec in self.specs))
        cell = next(itertools.islice(grid, number - 1, number), ())
        return dict(zip((spec["name"] for spec in self.specs), cell, strict=False))

    def description(self, number: int) -> str:
        """What the variation is called."""
        told = self.variations.get(number, {}).get("description")
        return str(
            told or describe({s["name"]: s for s in self.specs}, self.chosen(number)) or BASE
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One run's files, as far as they could be read."""

    name: str
    folder: Path
    batch: Batch
    state: Mapping[str, Any]
    metrics: Mapping[str, Any]
    costs: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, batch: Batch, notes: Notes) -> Run:
        files = (
            notes.mapping(folder / f"{n}.json") for n in ("scenario-state", "metrics", "costs")
        )
        return cls(folder.name, folder, batch, *files)

    @property
    def numbers(self) -> tuple[int, int]:
        """Variation and replicate, from 1."""
        found = RUN.fullmatch(self.name)
        return (int(found[1]), int(found[2])) if found else (1, 1)

    # -- the scenario -----------------------------------------------------------------------
    def scenario(self, like: Scenario | None) -> Scenario | None:
        """The scenario this run played: the base, or one `like` it, with this run's models; else
        what its own state says. None where nothing says who played."""
        actors = _actors(self.state.get("actors"))
        if self.batch.scenario is not None or (like is not None and not actors):
            return self._seated(self.batch.scenario or like, actors)
        if not actors:
            return None
        world = self.state.get("world_state") or {}
        told = {
            "name": str(self.state.get("scenario_name") or self.batch.base or "scenario"),
            "initial_world_state": str(_by_turn(world.get("states")).get(0) or "(not recorded)"),
            "turn_duration": _duration(world.get("turn_duration")), "world_state_model": "unknown",
            "turns": max(1, int(self.state.get("total_turns") or len(self._values()) or 1)),
            "actors": actors, "metrics": self._definitions(),
        }  # fmt: skip
        return Scenario.model_validate(told)

    def _seated(self, scenario: Scenario | None, actors: list[dict[str, Any]]) -> Scenario | None:
        if scenario is None:
            return None
        specs = {spec["name"]: spec for spec in self.batch.specs}
        chosen = self.batch.chosen(self.numbers[0])
        models = {specs[n].get("actor"): v for n, v in chosen.items()
                  if specs[n]["type"] == "actor_model"}  # fmt: skip
        models |= {actor["short_name"]: actor["llm_model"] for actor in actors}
        seated = tuple(
            a.model_copy(update={"llm_model": models.get(a.short_name, a.llm_model)})
            for a in scenario.actors
        )
        return scenario.model_copy(update={"actors": seated})

    def _definitions(self) -> dict[str, Metric]:
        told = self.metrics.get("metrics_definitions") or self.metrics.get("definitions") or {}
        seen = {n: v for row in self._values().values() for n, v in row.items() if v is not None}
        names = dict.fromkeys([*told, *(n for n in seen if "@" not in n)])
        return {name: _metric(told.get(name), seen.get(name)) for name in names}

    # -- values -----------------------------------------------------------------------------
    def _values(self) -> dict[int, dict[str, Any]]:
        told = self.metrics.get("metrics_by_turn") or self.metrics.get("by_turn")
        told = told or (self.state.get("metrics_tracker_state") or {}).get("metrics_by_turn")
        return {
            turn: {n: v.get("value") if isinstance(v, Mapping) else v for n, v in row.items()}
            for turn, row in _by_turn(told).items()
            if isinstance(row, Mapping)
        }

    def turns(self, scenario: Scenario) -> list[Turn]:
        """Turn by turn: the world, what was done, what was measured."""
        world = self.state.get("world_state") or {}
        states, acts = _by_turn(world.get("states")), _by_turn(world.get("actor_decisions"))
        values, last = self._values(), int(self.state.get("current_turn") or 0)
        return [
            Turn(
                number, world=World(str(states.get(number, ""))),
                decisions=_decisions(scenario, acts.get(number) or {}),
                metrics=_measures(scenario, values.get(number) or {}),
            )
            for number in range(last + 1)
        ]  # fmt: skip

    def outcome(self, turns: Sequence[Turn], scenario: Scenario) -> ScenarioOutcome:
        """The recorded values as an outcome."""
        finals: dict[str, Value | None] = {}
        reasons: dict[str, str] = {}
        for name, (metric, _) in series(scenario).items():
            measures = [turn.metrics[name] for turn in turns]
            finals[name], reason = final(metric, measures[1:], measures[0] if measures else None)
            if finals[name] is None:
                reasons[name] = reason or "no_match"
        return ScenarioOutcome(
            turns=len(turns) - 1, ended_by=None, final=finals, final_reasons=reasons,
            by_turn={str(t.number): {n: m.value for n, m in t.metrics.items()} for t in turns},
            reasons={str(t.number): {n: m.reason for n, m in t.metrics.items() if m.reason}
                     for t in turns},
            thresholds=[], events={}, parse_counts={}, defaults=0, quotes=0, quotes_missing=0,
            quality={},
        )  # fmt: skip

    # -- the trial --------------------------------------------------------------------------
    def trial(self, scenario: Scenario) -> ImportedTrial:
        """This run as a trial; replicates of one number share a seed, as blocks."""
        number, replicate = self.numbers
        chosen = self.batch.chosen(number)
        specs = {spec["name"]: spec for spec in self.batch.specs}
        turns = self.turns(scenario) if self.state else []
        state, cause, message = self._ending()
        started, finished = self._times()
        return ImportedTrial(
            slug=self.name, factors=chosen, seed=int(self.state.get("seed") or replicate),
            settings={
                "scenario": scenario, "description": self.batch.description(number),
                "modifications": {target(specs[n]): v for n, v in chosen.items()},
            },
            outcome=self.outcome(turns, scenario) if state == "done" else None,
            events=[{"kind": "turn", "turn": turn.to_dict()} for turn in turns],
            artifacts={p.name: p.read_bytes() for p in sorted(self.folder.glob("*-*.md"))
                       if p.name.startswith(("bilateral-", "coalition-", "validation-"))},
            state=state, cause=cause, message=message, cost=self._cost(), started=started,
            finished=finished, usage=self._usage(scenario),
            subjects={seat: {"name": model, "served_model": model, "simulated": False}
                      for seat, model in scenario.models.items() if model != "unknown"},
            seconds=finished - started if started and finished else None,
            identity={"batch": self.batch.name, "variation": number},
        )  # fmt: skip

    def _ending(self) -> tuple[str, str | None, str | None]:
        status = str(self.state.get("status", ""))
        if status in ("completed", "done"):
            return "done", None, None
        if status in ("halted", "running"):
            why = str(self.state.get("halt_reason") or "interrupted")
            return "halted", CAUSES.get(why, "interrupted"), f"recorded as {status} ({why})"
        told = self.batch.ended.get(self.name) or "no readable scenario-state.json"
        return "failed", str(self.state.get("cause") or "code"), told

    def _cost(self) -> int:
        totals = self.costs.get("totals") or {}
        told = self.costs.get("total_cost", totals.get("total_cost_usd"))
        if told is None:
            told = (self.state.get("cost_tracker_state") or {}).get("total_cost")
        if told is None:
            told = self.batch.costs.get(self.name, 0.0)
        return round(float(told) * 1e6)

    def _usage(self, scenario: Scenario) -> dict[str, dict[str, int]]:
        """Calls by actor. The tool recorded tokens in one sum, so none are stated."""
        by_actor = self.costs.get("costs_by_actor") or {}
        shorts = {name: a.short_name for a in scenario.actors for name in (a.name, a.short_name)}
        return {
            shorts[name]: {"calls": len(each.get("turns", [])), "tokens_in": 0, "tokens_out": 0}
            for name, each in by_actor.items()
            if name in shorts and isinstance(each, Mapping)
        }

    def _times(self) -> tuple[float | None, float | None]:
        ran = self.costs.get("scenario_execution") or {}
        told = self.state.get("execution_metadata") or {}
        started = ran.get("start_time") or told.get("started_at")
        return _stamp(started), _stamp(ran.get("end_time") or told.get("last_updated"))


# -- pieces ------------------------------------------------------------------------------------
def _yaml(path: Path, notes: Notes) -> Mapping[str, Any]:
    import yaml

    if not path.is_file():
        notes.warnings.append(f"{path.name} is not here: variations go by their numbers")
        return {}
    try:
        data = yaml.safe_load(path.read_text("utf-8", "replace"))
    except yaml.YAMLError as error:
        notes.damaged(InputError(f"{path}: cannot be read ({error})"))
        data = None
    return data if isinstance(data, Mapping) else {}


def _specs(listed: Any, notes: Notes) -> Iterator[dict[str, Any]]:
    for item in listed if isinstance(listed, list) else []:
        try:
            variation = Variation.model_validate(item)
        except ValidationError as error:
            words = error.errors(include_url=False)[0]["msg"]
            notes.warnings.append(f"left out: a variation of batch-config.yaml ({words})")
            continue
        yield variation.model_dump(mode="json", exclude_none=True) | {"name": variation.factor}


def _base(config: Mapping[str, Any], directory: Path, notes: Notes) -> Scenario | None:
    """The base scenario, where it is still there and can be read."""
    if not config.get("base_scenario"):
        return None
    try:
        return load_scenario(scenario_folder(str(config["base_scenario"]), directory / "x.yaml"))
    except InputError as error:
        words = str(error).splitlines()[0]
        notes.warnings.append(f"the base scenario cannot be used: {words}; the states stand in")
        return None


def _actors(told: Any) -> list[dict[str, Any]]:
    found = []
    for key, each in (told if isinstance(told, Mapping) else {}).items():
        if not isinstance(each, Mapping):
            continue
        short = re.sub(r"[^a-z0-9]+", "-", str(each.get("short_name") or key).lower()).strip("-")[
            :40
        ]
        if SHORT_NAME.fullmatch(short):
            found.append({
                "name": str(each.get("name") or short), "short_name": short,
                "llm_model": str(each.get("llm_model") or "unknown"),
            })  # fmt: skip
    return found


def _duration(told: Any) -> str:
    """As recorded if it is one; else of length zero, which no scenario has."""
    found = re.match(rf"\d+(\.\d+)? ({'|'.join(UNITS)})s?", str(told))
    return found[0] if found else "0 days"


def _metric(told: Any, seen: Any) -> Metric:
    """A metric by its definition; one that breaks today's rules keeps its type and its values."""
    told = dict(told) if isinstance(told, Mapping) else {}
    try:
        return Metric.model_validate({"description": "", **told})
    except ValidationError:
        pass
    kind = told.get("type")
    if kind not in ("int", "integer", "float", "bool", "boolean", "str", "string"):
        kind = {bool: "bool", int: "float", float: "float"}.get(type(seen), "str")
    words = str(told.get("description") or "as recorded")
    return Metric.model_validate({"description": words, "unit": str(told.get("unit") or ""),
                                  "type": kind, "extraction_method": "regex", "pattern": NEVER})  # fmt: skip


def _by_turn(told: Any) -> dict[int, Any]:
    rows = told.items() if isinstance(told, Mapping) else ()
    return {int(turn): row for turn, row in rows if str(turn).isdigit()}


def _decisions(scenario: Scenario, acts: Mapping[str, Any]) -> dict[str, Decision]:
    found = {}
    for actor in scenario.actors:
        act = acts.get(actor.short_name) or acts.get(actor.name)
        if isinstance(act, Mapping):
            found[actor.short_name] = Decision(
                actor.short_name, (), (), str(act.get("reasoning", "")), str(act.get("action", "")),
                actor.llm_model or "", "recorded",
            )  # fmt: skip
    return found


def _measures(scenario: Scenario, values: Mapping[str, Any]) -> dict[str, Measure]:
    found = {}
    for name, (metric, _) in series(scenario).items():
        value = values.get(name)
        missing = Measure(None, "no_match")
        found[name] = missing if value is None else converted(metric, value, "recorded", str(value))
    return found


def _stamp(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
