"""How many units a study needs: from its grid, an effect worth finding, and a pilot run's variance.

A unit is what the analysis will treat as independent (statistics, section 7). Invariant: the spread
comes from a pilot with its upper bound or is stated, never from the effect that was observed; a study
that is too small for its aim is said to be so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peira.errors import InputError
from peira.stats.designs import (
    ClusteredPairs,
    Design,
    NonInferiority,
    PairedBinary,
    PairedMean,
    RoundRobin,
    ScenarioRuns,
    TwoRates,
)
from peira.stats.intervals import wilson
from peira.stats.power import Goal, PowerPlan, detectable_effect, pilot_sd, plan_power
from peira.store.records import RunView
from peira.study.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DESIGNS = {
    "paired": "mean difference of two levels on the same seeds; needs sd (of differences)",
    "replicates": "the same, each item drawn several times (Miller 2024); needs between and within"
    " (variances), replicates",
    "clusters": "the same, items in clusters; needs sd, cluster_size, icc",
    "binary": "pass/fail of two levels on the same seeds (McNemar); needs discordance",
    "noninferiority": "a difference not below -margin; needs sd and margin",
    "rates": "pass/fail of two independent arms; needs rate (the control's)",
    "runs": "any level of a factor differs (F test over runs); needs sd (within a cell)",
    "models": "slope over models of a round robin; needs model_sd and game_sd",
}
NEEDED = {
    "paired": ("sd",), "replicates": ("between", "within", "replicates"),
    "clusters": ("sd", "cluster_size", "icc"), "binary": ("discordance",), "noninferiority": ("sd", "margin"),
    "rates": ("rate",), "runs": ("sd",), "models": ("model_sd", "game_sd"),
}  # fmt: skip

TESTS = {
    "PairedMean": "paired t test", "ClusteredPairs": "t test over clusters", "PairedBinary": "mid-p McNemar test",
    "NonInferiority": "one-sided paired t test", "TwoRates": "score test of two rates",
    "ScenarioRuns": "F test over runs", "RoundRobin": "t test of the slope over models",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a plan. `values` are the design's numbers, as stated."""

    design: str = "paired"
    effect: float | None = None
    outcome: str | None = None
    factor: str | None = None
    power: float = 0.8
    alpha: float = 0.05
    budget_usd: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan beside the study as it stands: `units` of it, their power and what they can detect."""

    plan: PowerPlan
    design: Design
    units: int
    power_now: float | None
    mde_now: float | None
    values: Mapping[str, float]
    sources: tuple[str, ...]
    simulated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON form."""
        return self.plan.to_dict() | {
            "units_of_the_study": self.units, "power_of_the_study": self.power_now,
            "mde_of_the_study": self.mde_now, "values": dict(self.values),
            "sources": list(self.sources), "pilot_simulated": self.simulated,
        }  # fmt: skip


def asked(study: Study, stated: Mapping[str, Any]) -> Ask:
    """The study's `analysis: {power: …}` with what the command line states instead. Raises
    InputError for an unknown name."""
    written = study.analysis.get("power", {})
    if not isinstance(written, Mapping):
        raise InputError("analysis.power: not a mapping\n  allowed: design, effect, outcome, …")
    given = {**written, **{k: v for k, v in stated.items() if v is not None}}
    own = {"design", "effect", "outcome", "factor", "power", "alpha", "budget_usd"}
    numbers = {name for names in NEEDED.values() for name in names}
    unknown = sorted(set(given) - own - numbers)
    if unknown:
        raise InputError(
            f"analysis.power.{unknown[0]}: unknown\n  allowed: {', '.join(sorted(own | numbers))}"
        )
    values = {k: _positive(k, v) for k, v in given.items() if k in numbers}
    ask = Ask(**{k: v for k, v in given.items() if k in own}, values=values)
    _check(ask)
    return ask


def _check(ask: Ask) -> None:
    if ask.design not in DESIGNS:
        raise InputError(f"--design {ask.design}: unknown\n  allowed: {', '.join(DESIGNS)}")
    if ask.effect is None:
        raise InputError(
            "no effect to plan for\n  allowed: --effect X, or analysis: {power: {effect: X}}\n"
            "  remedy: the smallest effect worth finding, in the outcome's units"
        )
    if not math.isfinite(ask.effect) or (ask.effect == 0 and ask.design != "noninferiority"):
        raise InputError(
            f"--effect {ask.effect:g}: no number of units finds it\n  allowed: a number other than 0"
            "\n  remedy: to show that an arm is not worse, --design noninferiority --set margin=X"
        )
    for name in ("power", "alpha"):
        if not 0 < getattr(ask, name) < 1:
            raise InputError(
                f"--{name} {getattr(ask, name):g}\n  allowed: a number between 0 and 1"
            )


def _positive(name: str, value: Any) -> float:
    """A spread, rate or margin. Raises InputError unless it is a finite number above zero."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise InputError(f"{name}: {value!r}\n  allowed: a number above 0")


def plan(
    study: Study, cells: Sequence[Mapping[str, Any]], trial_usd: float | None, ask: Ask,
    pilot: RunView | None = None,
) -> Planned:  # fmt: skip
    """The plan for a study of these cells (factor values), a trial costing `trial_usd`."""
    levels = _levels(study, cells, ask)
    values, sources = dict(ask.values), ["stated, not measured"] if ask.values else []
    if pilot is not None:
        for name, value, words in _from_pilot(pilot, ask, levels):
            if name not in values:
                values[name] = value
                sources.append(words)
    missing = [name for name in NEEDED[ask.design] if name not in values]
    if missing:
        raise InputError(
            f"--design {ask.design} needs {', '.join(missing)}\n  allowed: --set"
            f" {missing[0]}=X, or --pilot RUN with --outcome"
        )
    design = _design(ask.design, values, levels)
    budget = _budget(study, ask, trial_usd)
    if ask.budget_usd is not None and budget is None:
        sources.append("the budget limits nothing: no cost of a unit is known")
    goal = Goal(
        float(ask.effect or 0.0), ask.power, ask.alpha,
        unit_cost=_unit_cost(ask.design, trial_usd, levels, values), budget=budget,
    )  # fmt: skip
    possible = ask.design not in ("binary", "rates") or not math.isnan(
        design.power(design.fewest, goal.effect, goal.alpha)
    )
    if not possible:
        raise InputError(
            f"--effect {goal.effect:g}: more than the design allows with {_stated(values)}\n"
            "  allowed: at most the discordance (binary), a rate within 0 to 1 (rates)"
        )
    units = int(_units(ask.design, study, len(cells), levels) / values.get("cluster_size", 1.0))
    now = design.power(units, goal.effect, goal.alpha) if units >= design.fewest else None
    seen = detectable_effect(design, units, power=goal.power, alpha=goal.alpha) if now else None
    simulated = pilot is not None and pilot.simulated
    return Planned(
        plan_power(design, goal), design, units, now, seen, values, tuple(sources), simulated
    )


def _stated(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _levels(study: Study, cells: Sequence[Mapping[str, Any]], ask: Ask) -> int:
    """How many levels of the compared factor the study has. Raises InputError for an unknown one."""
    names = list(dict.fromkeys(name for cell in cells for name in cell))
    factor = ask.factor or (names[0] if len(names) == 1 else None)
    if factor is None:
        return max(1, len(cells))
    if factor not in names:
        raise InputError(f"--factor {factor}: no such factor\n  allowed: {', '.join(names)}")
    return len({str(cell.get(factor)) for cell in cells})


def _units(design: str, study: Study, cells: int, levels: int) -> int:
    """Units of the study as it stands."""
    seeds = len(study.trial_seeds)
    if design == "models":
        return len(study.factors.get("models", [])) or levels
    if design in ("runs", "rates"):
        return seeds * max(1, cells // levels)
    return seeds * max(1, cells // max(2, levels))


def _unit_cost(
    design: str, trial_usd: float | None, levels: int, values: Mapping[str, float]
) -> float | None:
    """US dollars of one unit: a trial of every level, for each item of a cluster and each of its
    replicates. A round robin's cost is not linear in n."""
    if not trial_usd or design == "models":
        return None
    return trial_usd * max(2, levels) * values.get("cluster_size", values.get("replicates", 1.0))


def _budget(study: Study, ask: Ask, trial_usd: float | None) -> float | None:
    budget = ask.budget_usd if ask.budget_usd is not None else study.limits.budget_usd
    return budget if trial_usd and ask.design != "models" else None


def _design(name: str, values: Mapping[str, float], levels: int) -> Design:
    try:
        match name:
            case "paired":
                return PairedMean(values["sd"] ** 2)
            case "replicates":
                within = values["within"]
                return PairedMean(values["between"], within, within, round(values["replicates"]))
            case "clusters":
                return ClusteredPairs(values["sd"], values["cluster_size"], values["icc"])
            case "binary":
                return PairedBinary(values["discordance"])
            case "noninferiority":
                return NonInferiority(values["sd"], values["margin"])
            case "rates":
                return TwoRates(values["rate"])
            case "runs":
                return ScenarioRuns(values["sd"], max(2, levels))
            case _:
                return RoundRobin(values["model_sd"], values["game_sd"], draws=500)
    except ValueError as error:
        raise InputError(f"--design {name}: {error}") from error


# -- what a pilot run says ------------------------------------------------------------------------
def _from_pilot(run: RunView, ask: Ask, levels: int) -> list[tuple[str, float, str]]:
    """(name, value, where from) of what the design needs and a pilot can tell."""
    if ask.outcome is None:
        raise InputError(
            "--pilot needs --outcome\n  allowed: a numeric outcome of the pilot's trials"
        )
    if ask.design in ("paired", "noninferiority"):
        found = pilot_sd(_differences(run, ask))
        words = f"sd of {found.n} paired differences in the pilot, upper 80 % bound"
        return _upper("sd", found, words)
    if ask.design == "runs":
        return _within(run, ask)
    if ask.design == "binary":
        d = _differences(run, ask)
        discordant = sum(value != 0 for value in d)
        return _discordance(discordant, len(d))
    if ask.design == "rates":
        values = [value for _, _, value in _values(run, ask)]
        return _share("rate", sum(v > 0 for v in values), len(values), "trials in the pilot")
    needed = " ".join(f"--set {name}=X" for name in NEEDED[ask.design])
    raise InputError(f"--design {ask.design}: not told by a pilot\n  remedy: {needed}")


def _upper(name: str, found: Any, words: str) -> list[tuple[str, float, str]]:
    if found.high is None:
        raise InputError(
            f"--pilot: {name} is not estimable ({found.reason}): {found.n} units\n"
            f"  remedy: a larger pilot, or --set {name}=X"
        )
    return [(name, float(found.high), words)]


def _discordance(part: int, whole: int) -> list[tuple[str, float, str]]:
    """The more pairs differ, the more of them a given effect needs: the upper bound is safe."""
    high = wilson(part, whole, level=0.6).high
    if high is None:
        raise InputError(
            "--pilot: discordance is not estimable: no complete pair\n"
            "  remedy: a larger pilot, or --set discordance=X"
        )
    words = f"{part} of {whole} pairs differ in the pilot, upper 80 % bound"
    return [("discordance", high, words)]


def _share(name: str, part: int, whole: int, words: str) -> list[tuple[str, float, str]]:
    if not whole or not part:
        raise InputError(
            f"--pilot: {name} is not estimable: {part} of {whole}\n"
            f"  remedy: a larger pilot, or --set {name}=X"
        )
    return [(name, part / whole, f"{part} of {whole} {words}")]


def _within(run: RunView, ask: Ask) -> list[tuple[str, float, str]]:
    """Residuals around cell means, scaled so that their sd is the pooled one within cells."""
    groups: dict[str, list[float]] = defaultdict(list)
    for cell, _, value in _values(run, ask):
        groups[str(sorted(cell.items()))].append(value)
    squares = sum(sum((v - sum(g) / len(g)) ** 2 for v in g) for g in groups.values() if len(g) > 1)
    df = sum(len(g) - 1 for g in groups.values())
    if df < 2 or squares == 0:
        raise InputError(
            f"--pilot: the sd within cells is not estimable ({df} degrees of freedom)\n"
            "  remedy: a larger pilot, or --set sd=X"
        )
    from scipy.special import chdtri

    sd = math.sqrt(squares / float(chdtri(df, 0.8)))
    return [("sd", sd, f"pooled sd within cells of the pilot ({df} df), upper 80 % bound")]


def _values(run: RunView, ask: Ask) -> list[tuple[Mapping[str, Any], int, float]]:
    """(factors, seed, outcome) of the pilot's finished trials. Raises InputError if none has it."""
    found = []
    seen: set[str] = set()
    for record in run.done():
        value: Any = record.outcome
        seen.update(record.outcome or {})
        for name in (ask.outcome or "").split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int | float):
            found.append((record.cell, record.seed, float(value)))
    if not found:
        raise InputError(
            f"--outcome {ask.outcome}: no trial of the pilot has it\n"
            f"  allowed: {', '.join(sorted(seen)) or 'none: no trial is done'}"
        )
    return found


def _differences(run: RunView, ask: Ask) -> list[float]:
    """Second minus first level of the factor, on the same seed and the same other factors."""
    values = _values(run, ask)
    names = list(dict.fromkeys(name for cell, _, _ in values for name in cell))
    factor = ask.factor or (names[0] if len(names) == 1 else None)
    if factor is None or factor not in names:
        raise InputError(
            f"--factor{f' {factor}' if factor else ''}: which factor of the pilot is compared?\n"
            f"  allowed: {', '.join(names) or 'none: the pilot has no factor'}"
        )
    pairs: dict[str, dict[str, float]] = defaultdict(dict)
    for cell, seed, value in values:
        others = sorted((k, str(v)) for k, v in cell.items() if k != factor)
        pairs[f"{seed}|{others}"][str(cell[factor])] = value
    levels = list(dict.fromkeys(str(cell[factor]) for cell, _, _ in values))[:2]
    return [p[levels[-1]] - p[levels[0]] for p in pairs.values() if len({*levels} & {*p}) == 2]


# -- the curve --------------------------------------------------------------------------------------
def figure(planned: Planned, title: str) -> Figure:
    """Power against n, with the n that is needed and the study as it stands."""
    from peira.report.figures import FAINT, PALETTE, canvas, finish, style

    result = planned.plan
    with style():
        drawn, axes = canvas(5.5, 3.4)
        axes.plot(*zip(*result.curve, strict=True), color=PALETTE[0])
        axes.axhline(result.power, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        marks = [(result.n, PALETTE[2], "needed"), (planned.units, PALETTE[1], "this study")]
        for height, (n, colour, words) in zip((0.10, 0.03), marks, strict=True):
            if n is not None and n <= result.curve[-1][0]:
                axes.axvline(n, color=colour, linewidth=1.0)
                side = "left" if n < 0.7 * result.curve[-1][0] else "right"
                axes.annotate(f" {words}: {n:,} ", (n, height), color=colour, fontsize=8, ha=side)
        axes.set(xlabel=f"n ({result.unit})", ylabel="power", ylim=(0, 1.02))
        axes.set_title(title)
        caption = f"Effect {result.effect:g}, level {result.alpha:g}, {TESTS[result.design]}."
        needed = "not reached" if result.n is None else f"{result.n:,} {result.unit}"
        words = f"Needed for power {result.power:g}: {needed}."
        return finish(drawn, n=words, simulated=planned.simulated, caption=caption)
