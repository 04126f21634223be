"""`peira power STUDY`: how many units a study needs, what it can detect, what that costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira.report.planner import Planned


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What is asked of the study's size; each stands in `analysis: {power: …}` else."""

    effect: Annotated[float | None, "Smallest effect worth finding."] = None
    design: Annotated[
        str | None, "paired, replicates, clusters, binary, noninferiority, rates, runs or models."
    ] = None
    factor: Annotated[str | None, "The factor whose levels are compared."] = None
    outcome: Annotated[str | None, "The pilot's outcome, e.g. score."] = None
    power: Annotated[float | None, "Default 0.8."] = None
    alpha: Annotated[float | None, "Default 0.05."] = None
    budget_usd: Annotated[float | None, typer.Option("--budget", min=0, help="US dollars.")] = None


def command(
    study: flags.StudyArgument,
    aim: Aim,
    pilot: Annotated[
        str | None, typer.Option(metavar="RUN", help="A run that tells the spread.")
    ] = None,
    set_: Annotated[
        flags.Words, "sd, discordance, rate, margin … = NUMBER, as the design needs."
    ] = None,
    figure: Annotated[Path | None, "Draw the power curve to FILE.png and .svg."] = None,
    json: flags.Json = False,
) -> int:
    """Plan a study's size: n for an effect, power and smallest detectable effect of the study as it
    stands, cost, power curve. Nothing is called or spent. Exit code 3 if it cannot conclude."""
    from peira import api
    from peira.cli.display import as_json, say
    from peira.report import planner

    question = api.ask(study)
    ask = planner.asked(question.study, {**asdict(aim), **_numbers(set_)})
    cells = [cell.factors for cell in question.cells()]
    with _pilot(pilot) as run:
        planned = planner.plan(question.study, cells, _trial_usd(question), ask, run)
    name = question.study.name or study.stem
    if json:
        as_json(planned.to_dict())
    else:
        _print(name, planned)
    if figure is not None:
        _draw(planned, name, figure)
        say(f"  wrote {figure.with_suffix('.png')} and .svg") if not json else None
    return 3 if planned.plan.flags or planned.plan.n is None else 0


def _numbers(words: flags.Words) -> dict[str, float]:
    from peira.errors import InputError

    found = flags.assignments(words)
    for name, value in found.items():
        if not isinstance(value, int | float):
            raise InputError(f"--set {name}={value}\n  allowed: a number")
    return found


def _pilot(name: str | None) -> Any:
    import contextlib

    from peira.store.records import RunView
    from peira.store.rundir import find_run

    return contextlib.nullcontext() if name is None else RunView(find_run(name))


def _trial_usd(question: Any) -> float | None:
    """Expected cost of one trial at list prices; None if a price is unknown."""
    from peira import api
    from peira.store.forecast import forecast

    data = forecast(question, api.Options())
    return None if data["usd"] is None else data["usd"][1] / max(1, data["trials"])


def _draw(planned: Planned, name: str, path: Path) -> None:
    from peira.report.figures import save
    from peira.report.planner import figure

    save(figure(planned, f"Power of {name}"), path.with_suffix(""))


def _print(name: str, planned: Planned) -> None:
    from peira.cli.display import say, table
    from peira.report.planner import TESTS

    plan = planned.plan
    values = ", ".join(f"{key} {value:.4g}" for key, value in planned.values.items())
    say(f"{name}: {TESTS[plan.design]}, effect {plan.effect:g}, level {plan.alpha:g}; {values}")
    for words in planned.sources:
        say(f"  {words}" + (" [simulated pilot]" if planned.simulated else ""))
    needed = "not reached" if plan.n is None else f"{plan.n:,} {plan.unit}"
    cost = "" if plan.cost is None else f", about ${plan.cost:,.2f}"
    say(f"  needed for power {plan.power:g}: {needed}{cost}")
    say(f"  this study: {planned.units:,} {plan.unit}, power {_number(planned.power_now)},"
        f" detects {_number(planned.mde_now)}")  # fmt: skip
    if plan.flags:
        say(f"  the budget allows {plan.affordable:,} {plan.unit}: power"
            f" {_number(plan.power_affordable)}; it cannot conclude")  # fmt: skip
    table("power curve", (plan.unit, "power"), [(f"{n:,}", f"{p:.3f}") for n, p in plan.curve[::2]])


def _number(value: float | None) -> str:
    return "not estimable" if value is None else f"{value:.3g}"
