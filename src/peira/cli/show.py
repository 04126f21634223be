"""`peira show RUN [TRIAL]`: a run's trials, or one trial's transcript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from peira.cli import flags


def command(
    run: flags.RunArgument,
    trial: Annotated[str | None, typer.Argument(help="Position, name or identity.")] = None,
    seat: Annotated[str | None, "Only this seat's calls."] = None,
    turn: Annotated[int | None, "Only this turn or round."] = None,
    prompts: Annotated[bool, "Show the prompts sent, too."] = False,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 50,
    json: flags.Json = False,
) -> int:
    """A run's trials in a table, or one trial: settings, outcome, every call."""
    from peira.store.records import RunView

    directory, trial = _places(run, trial)
    with RunView(directory) as view:
        if trial is None:
            return _trials(view, limit, json)
        return _trial(view, trial, _wanted(seat, turn), prompts, json)


def _places(run: str, trial: str | None) -> tuple[Any, str | None]:
    """A trial's own folder may be named alone: `peira show RUN/trials/SLUG`."""
    from pathlib import Path

    from peira.store.rundir import find_run, trial_at

    found = trial_at(Path(run)) if trial is None else None
    return found or (find_run(run), trial)


def _wanted(seat: str | None, turn: int | None) -> Any:
    def keep(event: Mapping[str, Any]) -> bool:
        place = f"{event.get('label', '')} "
        at = event.get("turn", event.get("round"))
        in_turn = turn is None or at == turn or f" {turn}/" in place or f" {turn} " in place
        return (seat is None or event.get("seat") == seat) and in_turn

    return keep


def _trials(view: Any, limit: int, json: bool) -> int:
    from itertools import islice

    from peira.cli.display import as_json, say, table

    records = list(islice(view.records(), limit))
    if json:
        as_json([record.to_dict() for record in records])
        return 0
    rows = [(r.position, r.slug, r.state, r.cause, r.calls, f"{r.cost / 1e6:.4f}") for r in records]
    table(f"{view.name}: {view.tally}", ("#", "trial", "state", "cause", "calls", "USD"), rows)
    if view.tally.planned > limit:
        say(f"  the first {limit} of {view.tally.planned}; more with --limit, or peira view")
    return 0


def _trial(view: Any, name: str, keep: Any, prompts: bool, json: bool) -> int:
    from peira.cli.display import as_json, say

    record = view.record(name)
    events = [event for event in view.events(record.number) if keep(event)]
    if json:
        as_json(record.to_dict() | {"events": events})
        return 0
    say(f"{record.slug}: {record.state}" + (f" ({record.cause})" if record.cause else ""))
    if record.simulated:
        say("  simulated subjects")
    for title, data in (("settings", record.settings), ("outcome", record.outcome or {})):
        say(f"{title}:")
        for key, value in data.items():
            if value is not None or title == "outcome":
                say(f"  {key}: {str(value)[:160]}")
    if record.message:
        say(f"message: {record.message}")
    for line in transcript(events, prompts):
        say(line)
    return 0


def transcript(events: Iterable[Mapping[str, Any]], prompts: bool) -> Iterable[str]:
    """Events as readable lines, what was just said not said twice; control characters of model text
    made harmless."""
    said = None
    for event in events:
        if event["kind"] == "call":
            said = event["reply"]
            yield f"\n[{event['seat']}] {event['label']}  ({event['served_model'] or event['model']})"
            for message in event.get("messages", ()) if prompts else ():
                yield f"  <{message['role']}> {harmless(message['content'])}"
            yield harmless(said)
        else:
            rest = (f"{k} {v}" for k, v in event.items() if k not in ("n", "kind") and v != said)
            yield f"\n- {event['kind']}: {harmless(', '.join(rest))}"


def harmless(text: str) -> str:
    """Text without the control characters that could drive a terminal."""
    return "".join(
        c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )
