"""The files of a trial and a run, by the names the guide gives them.

Everything is rebuilt from the record and its events: the prompts too, since they are a pure function
of the events before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from peira.families.negotiation import context
from peira.families.negotiation.context import GameLog
from peira.families.negotiation.game import Game
from peira.families.negotiation.protocol import votes_said
from peira.families.negotiation.rows import NAMED
from peira.families.negotiation.settings import NegotiationSettings, seat_labels
from peira.report.tables import prose
from peira.study.study import TrialPlan
from peira.subjects.subject import Message

if TYPE_CHECKING:
    from peira.store.records import Record, RunView, TrialView

PRIVATE = ("thinking", "reflection", "votes")


# -- names -----------------------------------------------------------------------------------
def trial_slug(settings: NegotiationSettings, trial: TrialPlan) -> str:
    """`<weak>_vs_<strong>/<order>/comp_<c>/run_<k>`; other factors follow the level."""
    run = settings.run_number or trial.replicate
    weak, strong = settings.weak_model, settings.strong_model
    names = [weak, strong] if weak and strong else list(settings.models)
    parts = ["_vs_".join(_safe(name) for name in names)]
    if settings.model_order:
        parts.append(settings.model_order)
    parts.append(f"comp_{settings.competition_level}")
    parts += [f"{_safe(k)}_{_safe(str(v))}" for k, v in trial.cell.items() if k not in NAMED]
    return "/".join([*parts, f"run_{run}"])


def _safe(name: str) -> str:
    plain = "".join(c if c.isalnum() or c in "._=-" else "-" for c in name)
    return plain.strip(".-") or "x"


def config(settings: NegotiationSettings, trial: TrialPlan, folder: str) -> dict[str, Any]:
    """One trial in the fields of the guide's `config_N.json`."""
    seed = trial.seed if settings.random_seed is None else settings.random_seed
    first, last = settings.models[0], settings.models[-1]
    return {
        "experiment_id": trial.index,
        "weak_model": settings.weak_model or first,
        "strong_model": settings.strong_model or last,
        "models": list(settings.models),
        "model_order": settings.model_order or "weak_first",
        "competition_level": settings.competition_level,
        "run_number": settings.run_number or trial.replicate,
        "num_items": settings.num_items,
        "max_rounds": settings.max_rounds,
        "gamma_discount": settings.gamma_discount,
        "num_agents": settings.num_agents,
        "discussion_turns": settings.discussion_turns,
        "random_seed": seed,
        "output_dir": folder,
    }


# -- a trial's files -------------------------------------------------------------------------
def trial_files(view: TrialView) -> Iterator[tuple[str, bytes]]:
    """result.json, all_interactions.json and transcript.md of one trial."""
    record, events = view.record, view.events
    yield "result.json", _pretty(record.to_dict())
    yield "all_interactions.json", _pretty(interactions(record, events))
    yield "transcript.md", prose(transcript(record, events)).encode()


def interactions(record: Record, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every call with the messages as sent, rebuilt from the events before it."""
    log: GameLog | None = None
    asked: dict[str, tuple[tuple[Message, ...], str, str]] = {}
    found = []
    for event in events:
        if event["kind"] == "game":
            log = _log(record, event)
        elif event["kind"] == "call" and log is not None:
            sent = _messages(log, event, asked)
            asked[event["seat"]] = (sent, event["reply"], event["fault"])
            entry = {key: value for key, value in event.items() if key not in ("n", "kind")}
            entry["messages"] = [{"role": m.role, "content": m.content} for m in sent]
            found.append(entry)
        if log is not None:
            log.add(event)
    return found


def _log(record: Record, event: Mapping[str, Any]) -> GameLog:
    settings = NegotiationSettings.model_validate(dict(record.settings))
    values = tuple(tuple(row) for row in event["values"])
    game = Game(tuple(event["items"]), values, event["cooperation"], settings.disagreement)
    return GameLog(settings, game)


def _messages(
    log: GameLog,
    event: Mapping[str, Any],
    asked: Mapping[str, tuple[tuple[Message, ...], str, str]],
) -> tuple[Message, ...]:
    if event["ask"]:
        return context.reasked(*asked[event["seat"]])
    seat = int(event["seat"].rpartition(" ")[2]) - 1
    return context.messages(log, seat, event["phase"], event["lap"], event.get("room"))


# -- the transcript --------------------------------------------------------------------------
def transcript(record: Record, events: Sequence[Mapping[str, Any]]) -> str:
    """The game as a reader wants it: public in plain, private marked."""
    settings = NegotiationSettings.model_validate(dict(record.settings))
    labels = seat_labels(settings.models, True)
    lines = [f"# {record.slug}", ""]
    if record.simulated:
        lines += ["**SIMULATED SUBJECTS**", ""]
    lines += [f"- {label}: {model}" for label, model in zip(labels, settings.models, strict=True)]
    lines.append("")
    log: GameLog | None = None
    for event in events:
        if event["kind"] == "game":
            log = _log(record, event)
            lines += _values_table(event, labels)
        elif log is not None:
            log.add(event)
            lines += _told(event, log, labels)
    lines += _ending(record)
    return "\n".join(lines) + "\n"


def _values_table(event: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    head = f"| item | {' | '.join(f'{label} (private)' for label in labels)} |"
    rows = [
        f"| {item} | {' | '.join(f'{row[j]:g}' for row in event['values'])} |"
        for j, item in enumerate(event["items"])
    ]
    return [head, "|---" * (len(labels) + 1) + "|", *rows]


def _told(event: Mapping[str, Any], log: GameLog, labels: Sequence[str]) -> list[str]:
    kind = event["kind"]
    if kind == "round":
        return ["", f"## Round {event['round']}", ""]
    if kind == "statement":
        mark = context.MARKS.get(event["finish"], "")
        return [f"**{labels[event['seat']]}:** {event['text']}{f' [{mark}]' if mark else ''}", ""]
    if kind in ("thinking", "reflection"):
        head = f"**{labels[event['seat']]}, {kind} (private):**"
        return [*(f"> {line}" for line in f"{head} {event['text']}".splitlines()), ""]
    if kind == "proposals":
        return ["### Proposals", "", log.listing(log.current), ""]
    if kind == "votes":
        return [*_private_votes(event, log, labels), ""]
    if kind == "tally":
        counts = event["counts"]
        return [*(f"- proposal {n}: {yes} accept, {no} reject" for n, yes, no in counts), ""]
    if kind in ("illegal_offer", "missing_vote"):
        why = event.get("fault") or f"proposal {event.get('number')}"
        return [f"> {labels[event['seat']]}: {kind.replace('_', ' ')}: {why}", ""]
    return []


def _private_votes(event: Mapping[str, Any], log: GameLog, labels: Sequence[str]) -> Iterator[str]:
    for label, row in zip(labels, event["votes"], strict=True):
        said = votes_said(log.current.proposals, row)
        yield f"> **{label}, votes (private):** {said or 'nothing to vote on'}"


def _ending(record: Record) -> list[str]:
    if record.outcome is None:
        return ["", f"**{record.state}: {record.cause}** {record.message or ''}"]
    outcome = record.outcome
    what = f"Deal in round {outcome['final_round']}" if outcome["consensus"] else "No deal"
    gains = ", ".join(f"{u:.1f}" for u in outcome["utility"])
    return ["## Outcome", "", f"{what}. Payoffs (discounted): {gains}."]


# -- a run's files ---------------------------------------------------------------------------
def log_files(run: RunView) -> Iterable[tuple[str, bytes]]:
    """logs/experiment_<i>.log, one line for each trial's start and end (`grep FAILED` works)."""
    if not run.study.save_individual_runs:
        return
    for record in run.records():
        if record.started is not None:
            yield f"logs/experiment_{record.position}.log", _log_lines(record).encode()


def _log_lines(record: Record) -> str:
    started = datetime.fromtimestamp(record.started or 0.0, UTC).isoformat(timespec="seconds")
    lines = [f"{started} START {record.slug} seed {record.seed} attempt {record.attempts}"]
    if record.finished is not None:
        ended = datetime.fromtimestamp(record.finished, UTC).isoformat(timespec="seconds")
        state = "COMPLETED" if record.done else str(record.state).upper()
        detail = f" {record.cause}: {record.message}" if record.cause else ""
        lines.append(f"{ended} {state}{detail} {record.calls} calls ${record.cost / 1e6:.4f}")
    return "\n".join(lines) + "\n"


def _pretty(data: Any) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2)
