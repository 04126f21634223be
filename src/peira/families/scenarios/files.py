"""The files of one trial, projected from its transcript (specs: scenarios §5).

Invariant: every file can be rebuilt; nothing here reads another file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from peira.families.scenarios.conditions import succeeded
from peira.families.scenarios.settings import Scenario
from peira.report.tables import prose
from peira.store.rundir import dumps

if TYPE_CHECKING:
    from peira.store.records import Record, TrialView

SIMULATED = "> Simulated subjects: no real model took part.\n\n"
Entry = Mapping[str, Any]


def trial_files(view: TrialView) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file of a trial."""
    record, events = view.record, view.events
    scenario = Scenario.model_validate(record.settings["scenario"])
    turns = [event["turn"] for event in events if event["kind"] == "turn"]
    calls = [event for event in events if event["kind"] == "call"]
    mark = SIMULATED if record.simulated else ""
    texts = [text for turn in turns for text in turn_files(scenario, turn)]
    if scenario.quality is not None and scenario.quality.run_at_scenario_end:
        texts.append(("validation-summary.md", closing(scenario, turns)))
    for name, text in texts:
        yield name, prose(mark + text).encode("utf-8", "replace")
    yield "metrics.json", dumps(metrics_json(scenario, record, turns))
    yield "costs.json", dumps(costs_json(record, calls))
    yield "scenario-state.json", dumps(state_json(scenario, record, turns))
    yield "scenario.log", log(record, events).encode("utf-8", "replace")


def turn_files(scenario: Scenario, turn: Entry) -> Iterator[tuple[str, str]]:
    """The Markdown files of one turn."""
    number = f"{turn['number']:03d}"
    names = {actor.short_name: actor.name for actor in scenario.actors}
    yield f"world-state-{number}.md", world_md(scenario, turn, names)
    for short, decision in turn["decisions"].items():
        yield f"actor-{short}-{number}.md", actor_md(names[short], turn["number"], decision)
    for channel in turn["channels"]:
        pair = "-".join(channel["pair"])
        yield f"bilateral-{pair}-{number}.md", channel_md(channel, turn["number"], names)
    for coalition in turn["coalitions"]:
        members = "-".join(coalition["members"])
        yield f"coalition-{members}-{number}.md", coalition_md(coalition, turn["number"], names)
    rules = scenario.quality
    if turn["verdicts"] and rules is not None and rules.generate_turn_reports:
        yield f"validation-{number}.md", verdicts_md(turn)


# -- Markdown ---
def world_md(scenario: Scenario, turn: Entry, names: Mapping[str, str]) -> str:
    """The world after a turn, with what led to it."""
    world = turn["world"] or {"narrative": "", "changes": [], "consequences": [], "measures": {}}
    described = {event.name: event.description for event in scenario.events}
    parts = [f"# {scenario.name}: turn {turn['number']} ({scenario.turn_duration} each)"]
    parts.append(_section("Events", [f"**{n}**: {described.get(n, '')}" for n in turn["events"]]))
    actions = [f"### {names[s]}\n\n{d['action']}" for s, d in turn["decisions"].items()]
    parts.append("## Actions\n\n" + "\n\n".join(actions) if actions else "")
    parts.append(f"## State of the world\n\n{world['narrative']}")
    parts.append(_section("Changes", world["changes"]))
    parts.append(_section("Consequences", world["consequences"]))
    measures = [f"{name}: {value}" for name, value in world["measures"].items()]
    return _joined([*parts, _section("Measures", measures)])


def actor_md(name: str, number: int, decision: Entry) -> str:
    """One actor's decision, with the model and how its answer was read."""
    parts = [
        f"# {name}: turn {number}",
        f"Model: {decision['model']}. Read as: {decision['rung']}.",
        f"**Default taken**: {decision['marked']}." if decision["marked"] else "",
        _section("Goals", decision["goals"]),
        _section("Priorities", decision["priorities"]),
        f"## Reasoning\n\n{decision['reasoning']}" if decision["reasoning"] else "",
        f"## Action\n\n{decision['action']}",
    ]
    return _joined(parts)


def channel_md(channel: Entry, number: int, names: Mapping[str, str]) -> str:
    """A private talk with both sides' notes."""
    a, b = channel["pair"]
    parts = [f"# Private talk of {names[a]} and {names[b]}: turn {number}"]
    if channel["crossing"]:
        parts.append("Both offered to talk at the same time.")
    for said in channel["said"]:
        parts.append(f"## {names[said['author']]}\n\n{said['text'] or '(silent)'}")
        parts.append(f"*Note to self:* {said['note']}" if said["note"] else "")
    return _joined(parts)


def coalition_md(coalition: Entry, number: int, names: Mapping[str, str]) -> str:
    """A proposal, its answers, and what was posted."""
    members = ", ".join(names[short] for short in coalition["members"])
    outcome = "formed" if coalition["formed"] else "not formed"
    parts = [f"# Coalition of {members}: turn {number} ({outcome})"]
    parts += [f"Purpose: {purpose}" for purpose in coalition["purposes"]]
    parts += [f"## {names[s['author']]} invites\n\n{s['text']}" for s in coalition["invitations"]]
    for short, (accepted, message) in coalition["responses"].items():
        parts.append(f"## {names[short]} {'accepts' if accepted else 'refuses'}\n\n{message}")
    parts += [f"## {names[s['author']]}\n\n{s['text']}" for s in coalition["posts"]]
    return _joined(parts)


def verdicts_md(turn: Entry) -> str:
    """The quality findings of a turn."""
    parts = [f"# Quality checks: turn {turn['number']}"]
    for verdict in turn["verdicts"]:
        word = {True: "passed", False: f"failed ({verdict['severity']})", None: "unknown"}
        title = f"## {verdict['check']}, {verdict['subject']}: {word[verdict['passed']]}"
        parts += [title, verdict["explanation"], _section("Issues", verdict["issues"], 3)]
    return _joined(parts)


def closing(scenario: Scenario, turns: Iterable[Entry]) -> str:
    """The closing summary of all quality checks."""
    counts: dict[str, Counter[bool | None]] = defaultdict(Counter)
    findings = []
    for turn in turns:
        for verdict in turn["verdicts"]:
            counts[verdict["check"]][verdict["passed"]] += 1
            if verdict["passed"] is False:
                what = "; ".join(verdict["issues"]) or verdict["explanation"]
                where = f"turn {turn['number']}, {verdict['subject']}, {verdict['severity']}"
                findings.append(f"{where}: {what}")
    lines = ["| check | passed | failed | unknown |", "|---|---|---|---|"]
    lines += [f"| {name} | {n[True]} | {n[False]} | {n[None]} |" for name, n in counts.items()]
    table = "\n".join(lines) if counts else "No checks were made."
    report = scenario.quality is None or scenario.quality.generate_summary_report
    parts = [f"# Quality of {scenario.name}", table]
    return _joined([*parts, _section("Findings", findings)] if report else parts)


def _section(title: str, items: Iterable[str], depth: int = 2) -> str:
    lines = [f"- {item}" for item in items]
    return f"{'#' * depth} {title}\n\n" + "\n".join(lines) if lines else ""


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


# -- JSON ---
def metrics_json(scenario: Scenario, record: Record, turns: list[Any]) -> dict[str, Any]:
    """metrics.json: definitions, every value with its reason, run values, crossings."""
    outcome = record.outcome or {}
    return {
        "scenario": scenario.metrics_heading or scenario.name, "simulated": record.simulated,
        "definitions": {
            name: metric.model_dump(mode="json", exclude_defaults=True)
            for name, metric in scenario.metrics.items()
        },
        "by_turn": {str(turn["number"]): turn["metrics"] for turn in turns},
        "final_metrics": outcome.get("final", {}), "final_reasons": outcome.get("final_reasons", {}),
        "thresholds": outcome.get("thresholds", []),
    }  # fmt: skip


def call_entry(call: Entry) -> dict[str, Any]:
    """One call as a line of costs.json; the turn and phase come from its label."""
    head, _, phase = str(call["label"]).partition("/")
    number = head.removeprefix("turn ")
    return {
        "turn": int(number) if number.isdigit() else None,
        "phase": phase.partition(" ")[0] or call["label"], "seat": call["seat"],
        "model": call["model"], "tokens_in": call["usage"]["prompt_tokens"],
        "tokens_out": call["usage"]["completion_tokens"], "usd": call["cost"] / 1e6,
        "seconds": round(call["seconds"], 3),
    }  # fmt: skip


def totals(entries: Iterable[Entry], key: Callable[[Entry], Any]) -> dict[str, dict[str, float]]:
    """Calls, tokens, seconds and USD added up by a key."""
    sums: dict[str, dict[str, float]] = {}
    for entry in entries:
        row = sums.setdefault(
            str(key(entry)),
            {"calls": 0, "tokens_in": 0, "tokens_out": 0, "seconds": 0.0, "usd": 0.0},
        )
        row["calls"] += 1
        for name in ("tokens_in", "tokens_out", "seconds", "usd"):
            row[name] = round(row[name] + entry[name], 6)
    return sums


def costs_json(record: Record, calls: list[Any]) -> dict[str, Any]:
    """costs.json: every call, and sums by actor, phase and turn."""
    entries = [call_entry(call) for call in calls]
    return {
        "total_cost": record.cost / 1e6, "unsettled": record.unsettled / 1e6,
        "by_actor": totals(entries, lambda e: e["seat"]),
        "by_phase": totals(entries, lambda e: e["phase"]),
        "by_turn": totals(entries, lambda e: e["turn"]), "records": entries,
    }  # fmt: skip


def state_json(scenario: Scenario, record: Record, turns: list[Any]) -> dict[str, Any]:
    """scenario-state.json: the trial's state and all that happened."""
    outcome = record.outcome or {}
    played = [turn for turn in turns if turn["number"] > 0]
    final = outcome.get("final")
    return {
        "status": str(record.state), "cause": record.cause, "message": record.message,
        "simulated": record.simulated, "current_turn": len(played), "total_turns": scenario.turns,
        "ended_by": outcome.get("ended_by"),
        "success": succeeded(scenario.success_criteria, final) if final is not None else None,
        "seed": record.seed, "variation_id": variation_number(record),
        "description": record.settings.get("description", ""), "scenario": scenario.name,
        "factors": dict(record.cell),
        "success_criteria": scenario.success_criteria,
        "world_states": {str(t["number"]): t["world"] for t in turns},
        "decisions": {str(t["number"]): t["decisions"] for t in played},
        "channels": {
            str(t["number"]): {"bilateral": t["channels"], "coalitions": t["coalitions"]}
            for t in played
        },
        "events_fired": {str(t["number"]): t["events"] for t in played if t["events"]},
        "quality": {str(t["number"]): t["verdicts"] for t in played if t["verdicts"]},
        "parse_counts": outcome.get("parse_counts", {}),
        "forked_from": outcome.get("forked_from"),
    }  # fmt: skip


def variation_number(record: Record) -> int:
    """The number in `var-NNN-run-NNN`: it stays with the variation for ever."""
    head = record.slug.split("-")
    return int(head[1]) if len(head) > 1 and head[1].isdigit() else record.cell_number


def log(record: Record, events: list[Any]) -> str:
    """scenario.log: one line per call and turn, in order."""
    lines = [f"{record.slug} seed {record.seed}{' SIMULATED' if record.simulated else ''}"]
    for event in events:
        if event["kind"] == "call":
            entry = call_entry(event)
            tokens = f"{entry['tokens_in']}+{entry['tokens_out']} tokens"
            lines.append(
                f"{event['label']} {event['seat']} {event['model']} {event['finish']}"
                f" {tokens} {entry['usd']:.6f} USD"
            )
        elif event["kind"] == "turn":
            lines += _turn_log(event["turn"])
        elif event["kind"] == "error":
            lines.append(event["traceback"])
    for crossed in (record.outcome or {}).get("thresholds", []):
        lines.append(
            f"turn {crossed['turn']} {crossed['level'].upper()} {crossed['metric']} crossed its"
            f" {crossed['level']} threshold"
        )
    ending = f"{record.state}" + (f": {record.cause}: {record.message}" if record.cause else "")
    return "\n".join([*lines, ending]) + "\n"


def _turn_log(turn: Entry) -> Iterator[str]:
    for name in turn["events"]:
        yield f"turn {turn['number']} event {name}"
    for name, measure in turn["metrics"].items():
        value = (
            measure["value"] if measure["value"] is not None else f"missing ({measure['reason']})"
        )
        yield f"turn {turn['number']} metric {name} = {value}"
    for verdict in turn["verdicts"]:
        if verdict["action"] in ("log", "warn", "halt"):
            issues = "; ".join(verdict["issues"]) or verdict["explanation"]
            yield f"turn {turn['number']} {verdict['action'].upper()} {verdict['check']}: {issues}"
