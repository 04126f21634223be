"""What is refused before a run or a plan: what could never go as it is asked.

Invariant: `peira plan` refuses what `peira run` would, but for keys and what is not installed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from peira.engine import stop
from peira.engine.workplace import Workplace
from peira.errors import InputError, StudyError
from peira.families.family import Family
from peira.study.study import Study
from peira.subjects.keys import keyless
from peira.subjects.route import Route, Routes
from peira.subjects.subject import Sampling

if TYPE_CHECKING:
    from peira.api import Options, Question


def check(question: Question, options: Options) -> list[Route]:
    """The routes of all subjects. Raises InputError for what could never run as it is asked."""
    stop.check(question.study, question.family, question.cells())
    opened = open_all(question, options, question.settings())
    _refuse_what_cannot_travel(question, options, opened)
    return opened


def check_plan(question: Question, options: Options) -> None:
    """The same of a plan, which needs no keys, and of subjects that can be opened here: of others it
    tells."""
    stop.check(question.study, question.family, question.cells())
    with keyless():
        routes = routes_of(question, options)
        asked = {pair for pair in samplings(question.family, question.settings())
                 if routes.openable(pair[0])}  # fmt: skip
        refuse_what_cannot_be_sent(asked, routes)


def routes_of(question: Question, options: Options) -> Routes:
    """The subjects as this question reaches them."""
    study = limited(question.study, options)
    return workplace(question, study, options).routes(options.wires)


def open_all(question: Question, options: Options, settings: Sequence[Any]) -> list[Route]:
    """The routes of all subjects of these settings. Raises StudyError with everything that stands in
    the way, of their calls too."""
    family, routes = question.family, routes_of(question, options)
    opened, faults = [], []
    for name in sorted({name for each in settings for name in family.seats(each).values()}):
        try:
            opened.append(routes.open(name))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise StudyError(faults)
    refuse_what_cannot_be_sent(samplings(family, settings), routes)
    return opened


def _refuse_what_cannot_travel(question: Question, options: Options, opened: list[Route]) -> None:
    """Workers elsewhere have neither the driver's wires, nor its batch desk, nor its people."""
    if options.executor == "local":
        return
    reasons = {
        "is a wire given in Python": [r.name for r in opened if r.provider == "given"],
        "goes into batch jobs": [r.name for r in opened if r.batch is not None],
        "is a person": [] if options.simulated else question.people(),
    }
    for reason, names in reasons.items():
        if names:
            raise InputError(
                f"subject {names[0]!r} {reason}: only the driver can ask it\n"
                f"  allowed: --executor local (not {options.executor})"
            )


def samplings(family: Family[Any, Any], settings: Iterable[Any]) -> set[tuple[str, Sampling]]:
    """(subject, sampling) of the calls that these settings lead to, as far as the family tells."""
    return {pair for each in settings for pair in family.samplings(each)}


def refuse_what_cannot_be_sent(asked: set[tuple[str, Sampling]], routes: Routes) -> None:
    """Raise StudyError with every sampling that a subject's provider cannot carry, or whose cost
    nothing bounds."""
    checks: list[Callable[[], object]] = [
        *(partial(route.sampled, Sampling()) for route in routes.all()),
        *(partial(routes.open(name).check, drawn) for name, drawn in sorted(asked, key=repr)),
    ]
    faults: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except InputError as error:
            faults[str(error)] = None
    if faults:
        raise StudyError(list(faults))


def limited(study: Study, options: Options) -> Study:
    """The study with the limits the options set."""
    changes: dict[str, Any] = {}
    if options.parallel is not None:
        changes["max_parallel"] = options.parallel
    if options.budget_usd is not None:
        changes["budget_usd"] = options.budget_usd
    limits = study.limits.model_validate(study.limits.model_dump() | changes)
    return study.model_copy(update={"limits": limits})


def workplace(question: Question, study: Study, options: Options) -> Workplace:
    """What a process needs to run this question's trials."""
    limits = study.limits
    return Workplace(
        question.reference, overrides=study.subjects, stand_ins=options.simulated,
        offline=options.offline, retries=limits.retries, trial_seconds=limits.trial_seconds,
        budgeted=limits.budget_usd is not None or limits.trial_usd is not None,
    )  # fmt: skip
