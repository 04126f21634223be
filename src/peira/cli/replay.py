"""`peira replay RUN`: a finished run once more, offline, from its ledger."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peira.cli import flags


def command(
    run: flags.RunArgument,
    trial: Annotated[str | None, typer.Argument(help="One trial: name, id or position.")] = None,
    parallel: flags.Parallel = None,
    json: flags.Json = False,
) -> int:
    """Run every trial again from its recorded replies, without network or keys, and compare the
    outcomes. Exit code 3 if any differs: code, prompts or settings have changed since."""
    from peira.api.replay import replay
    from peira.cli.display import as_json
    from peira.families import load_family
    from peira.store.records import RunView
    from peira.store.rundir import find_run

    with RunView(find_run(run)) as view:
        only = view.record(trial).slug if trial is not None else None
        found = replay(view, load_family(view.family), parallel=parallel or 16, only=only)
        if json:
            as_json(_plain(found))
        else:
            _print(view.path.name, found)
    return 3 if found.differing else 0


def _plain(found: Any) -> dict[str, Any]:
    return {
        "same": found.same, "differing": found.differing, "skipped": found.skipped,
        "differences": [
            {"trial": d.slug, "path": d.path, "recorded": d.recorded, "replayed": d.replayed}
            for d in found.differences
        ],
    }  # fmt: skip


def _print(name: str, found: Any) -> None:
    from peira.cli.display import say, table

    if found.differences:
        table(
            "outcomes that differ",
            ("trial", "path", "recorded", "replayed"),
            [(d.slug, d.path, _short(d.recorded), _short(d.replayed)) for d in found.differences],
        )
    say(
        f"{name}: {found.same} trial{'' if found.same == 1 else 's'} replayed as recorded, {found.differing} differ"
    )
    if found.skipped:
        say(f"  {found.skipped} not replayed: pending, or ended by a provider, a limit or a halt")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
