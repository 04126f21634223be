"""`peira fork RUN/trials/SLUG --turn N`: go on from any turn with another subject or world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira.api.forks import Forked
    from peira.engine.fork import Branch
    from peira.store.records import Record


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to differ, from which turn on, how often."""

    turn: Annotated[int, typer.Option(min=1, help="The first turn that is new.")]
    seat: Annotated[
        flags.Words, typer.Option(metavar="SEAT=MODEL", help="Another subject in a seat.")
    ] = None
    set_: Annotated[
        flags.Words,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="A setting, or words in a seat: say.SEAT=…, action.SEAT=….",
        ),
    ] = None
    world: Annotated[Path | None, "A file: the state of the world at that turn."] = None
    samples: Annotated[int, typer.Option(min=1, help="Continuations.")] = 1
    control: Annotated[bool, "As many unchanged ones, and the difference."] = False

    @property
    def branch(self) -> Branch:
        """The same for the engine. Raises InputError for what cannot be read."""
        from peira.engine.fork import Branch

        seats = {seat: str(model) for seat, model in flags.assignments(self.seat).items()}
        changes, world = flags.assignments(self.set_), _text(self.world)
        return Branch(self.turn, seats, changes, world, self.samples, self.control)


def command(
    trial: Annotated[str, typer.Argument(help="A trial's folder, or RUN and --trial.")],
    change: Change,
    limits: flags.Limits,
    name: Annotated[
        str | None, typer.Option("--trial", help="The trial, when RUN is given.")
    ] = None,
    json: flags.Json = False,
) -> int:
    """Replay a finished trial up to a turn, free, and play on from there with a change. Forks stand
    outside the run's statistics; the same command again buys nothing twice."""
    from peira import api
    from peira.api.forks import fork
    from peira.cli.display import as_json, say
    from peira.cli.show import _places
    from peira.store.records import RunView

    run, slug = _places(trial, name)
    with RunView(run) as view:
        simulated = bool(view.meta.get("simulated"))
    options = api.Options(simulated=simulated, budget_usd=limits.budget, parallel=limits.parallel)
    forked = fork(run, slug or "", change.branch, options)
    if json:
        as_json(_data(forked))
        return 0 if forked.done else 3
    for record in (*forked.changed, *forked.control):
        why = f" ({record.cause}: {record.message})" if record.cause else ""
        say(f"{record.slug}: {record.state}{why}, ${record.cost / 1e6:.4f}")
    for line in differences(forked):
        say(f"  {line['outcome']}: changed - control {line['text']}")
    return 0 if forked.done else 3


def _text(path: Path | None) -> str | None:
    from peira.errors import InputError

    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"--world {path}: no such file\n  remedy: check the path")
    return path.read_text(encoding="utf-8")


def _data(forked: Forked) -> dict[str, Any]:
    return {
        "source": forked.source.slug,
        "changed": [record.to_dict() for record in forked.changed],
        "control": [record.to_dict() for record in forked.control],
        "differences": differences(forked),
    }


def differences(forked: Forked) -> list[dict[str, Any]]:
    """Mean of the changed forks minus that of the unchanged ones, with Welch's interval."""
    found: list[dict[str, Any]] = []
    if not forked.control:
        return found
    arms = [[_numbers(forked, r) for r in arm] for arm in (forked.changed, forked.control)]
    for name in dict.fromkeys(n for numbers in arms[0] for n in numbers):
        sides = [[n[name] for n in arm if name in n] for arm in arms]
        found.append({"outcome": name, **_difference(*sides)})
    return found


def _numbers(forked: Forked, record: Record) -> dict[str, float]:
    told = forked.compared(record.outcome) if record.outcome else ()
    return {name: float(v) for name, v in told if isinstance(v, int | float)}


def _difference(changed: list[float], control: list[float]) -> dict[str, Any]:
    from peira.report.tables import reason
    from peira.stats.intervals import independent_difference

    found = independent_difference(changed, control)
    known = {"diff": found.estimate, "reason": found.reason,
             "n_changed": len(changed), "n_control": len(control)}  # fmt: skip
    if found.low is None or found.high is None:
        why = f"no interval: {reason(found.reason)}" if found.reason else "no interval"
        shown = "undefined" if found.estimate is None else f"{found.estimate:.3g} ({why})"
        return {**known, "ci": None, "text": shown}
    text = f"{found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}]"
    return {**known, "ci": [found.low, found.high],
            "text": f"{text} (n {len(changed)} and {len(control)})"}  # fmt: skip
