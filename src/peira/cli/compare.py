"""`peira compare A B`: two runs, trials or archives side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from peira.store.compare import Change, Comparison

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="A B...", help="Runs, trials or archives; each is held to the first."),
]
SHOWN = 60


def command(
    runs: Runs = None,
    run1: Annotated[str | None, "The same as A."] = None,
    run2: Annotated[str | None, "The same as B."] = None,
    experiments_dir: flags.ExperimentsDir = Path("experiments"),
    json: flags.Json = False,
) -> int:
    """What differs between two runs: settings, means with n, paired changes with intervals, costs.
    The second minus the first, on the units both have."""
    from peira.cli.display import as_json
    from peira.errors import InputError
    from peira.families import load_family
    from peira.store.compare import compare, load_side

    names = [name for name in (run1, *(runs or ()), run2) if name is not None]
    if len(names) < 2:
        raise InputError("two runs are needed\n  remedy: peira compare A B, or --run1 A --run2 B")
    first, *others = [load_side(name, experiments_dir, load_family) for name in names]
    found = [compare(first, other) for other in others]
    if json:
        as_json(found[0].to_dict() if len(found) == 1 else [each.to_dict() for each in found])
        return 0
    for each in found:
        show(each)
    return 0


def show(found: Comparison) -> None:
    """Tables for a terminal."""
    from peira.cli.display import say, table

    a, b = found.first.name, found.second.name
    say(f"{a}  →  {b}" + ("   (simulated)" if found.first.simulated else ""))
    for note in found.notes:
        say(f"  {note}")
    if found.config:
        rows = [(path, _short(x), _short(y)) for path, x, y in found.config]
        table("settings that differ", ("path", a, b), rows)
    elif found.first.config and found.second.config:
        say("  the settings are the same")
    if found.changes:
        table(
            "means with n, and the paired change (exploratory; q: false discovery rate over these rows)",
            ("quantity", a, b, "change [95 %]", "n", "p", "q"),
            [_row(change) for change in found.changes[:SHOWN]],
        )  # fmt: skip
    else:
        say("  no quantity occurs in both")
    if len(found.changes) > SHOWN:
        say(f"  and {len(found.changes) - SHOWN} more: --json has all")
    costs = sorted({*found.first.costs, *found.second.costs})
    table("costs", ("", a, b),
          [(k, _cost(found.first.costs.get(k)), _cost(found.second.costs.get(k))) for k in costs])  # fmt: skip


def _row(change: Change) -> tuple[Any, ...]:
    from peira.report.tables import estimate, p_value

    first, second, found = change.first, change.second, change.change
    told = "no shared units" if found is None else estimate(found)
    tests = (None if found is None else found.p, change.q)
    return (
        first.title, _mean(first.mean, first.n), _mean(second.mean, second.n), told,
        "" if found is None else found.n, *("" if p is None else p_value(p) for p in tests),
    )  # fmt: skip


def _mean(value: float | None, n: int) -> str:
    return "n/a" if value is None else f"{value:.3f} (n {n})"


def _cost(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.4f}".rstrip("0").rstrip(".")


def _short(value: Any) -> str:
    text = "—" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
