"""`peira status RUN`: counts, failures, progress."""

from __future__ import annotations

import time
from typing import Annotated, Any

from peira.cli import flags


def command(
    run: flags.RunArgument,
    failed: Annotated[bool, "List failed and halted trials."] = False,
    watch: Annotated[bool, "Refresh until the run ends."] = False,
    json: flags.Json = False,
) -> int:
    """Where a run stands. Exit code as the run's: 0 only if all planned trials are done."""
    from peira.cli.display import as_json
    from peira.store.records import RunView
    from peira.store.rundir import find_run

    with RunView(find_run(run)) as view:
        if watch:
            _watch(view)
        data = _status(view)
        if json:
            as_json(data | ({"trials": _bad(view)} if failed else {}))
        else:
            _print(view, data, failed)
        return view.tally.exit_code({str(cause) for cause in view.causes()})


def _status(view: Any) -> dict[str, Any]:
    tally, (spent, unsettled) = view.tally, view.spend()
    return {
        "run": str(view.path), "name": view.name, "family": view.study.family,
        "simulated": view.simulated, "planned": tally.planned, "done": tally.done,
        "failed": tally.failed, "halted": tally.halted, "pending": tally.pending,
        "causes": view.causes(), "spent_usd": spent / 1e6, "unsettled_usd": unsettled / 1e6,
        "budget_usd": view.study.limits.budget_usd, "driving": view.dir.driven(view.live),
    }  # fmt: skip


def _print(view: Any, data: dict[str, Any], failed: bool) -> None:
    from peira.cli.display import say, table

    mark = "  [simulated subjects]" if data["simulated"] else ""
    killed = "ended" not in view.live and view.live
    still = "not running" + (": its driver was killed; the same command goes on" if killed else "")
    say(f"{data['name']} ({data['family']}){mark}: {'running' if data['driving'] else still}")
    say(f"  {view.tally}")
    say(f"  spent ${data['spent_usd']:.4f}" + (
        f" ({data['unsettled_usd']:.4f} unsettled)" if data["unsettled_usd"] else ""))  # fmt: skip
    if data["causes"]:
        say("  causes: " + ", ".join(f"{cause} {n}" for cause, n in data["causes"].items()))
    if failed:
        rows = [
            (t["slug"], t["state"], t["cause"], t["attempts"], t["message"]) for t in _bad(view)
        ]
        if rows:
            table("failed and halted", ("trial", "state", "cause", "attempts", "message"), rows)
        else:
            say("  none failed, none halted")


def _bad(view: Any) -> list[dict[str, Any]]:
    from peira.engine.states import State
    from peira.store.records import Filter

    return [
        {"slug": r.slug, "state": str(r.state), "cause": r.cause, "attempts": r.attempts,
         "message": (r.message or "").splitlines()[0] if r.message else ""}
        for r in view.records(Filter(states=(State.FAILED, State.HALTED)))
    ]  # fmt: skip


def _watch(view: Any) -> None:
    from peira.cli.display import note

    last = ""
    while True:
        line = str(view.tally)
        if line != last:
            note(line)
            last = line
        if view.tally.pending == 0 or not view.dir.driven(view.live):
            return
        time.sleep(1.0)
