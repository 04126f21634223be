"""Recorded negotiations of the public project joie-zhang/bargain (2025), as runs and as replays.

Reads games in each layout there has been: `experiment_results.json` beside `all_interactions.json`
(one game a folder), `run_<k>_experiment_results.json` (a batch in one folder, its interactions per
run or together) and `result.json` in `run_<k>` folders; with and without recorded votes. Private
values stand only in the setup prompts, rounded to two decimals, and are
recovered from there. Invariant: outcomes are recomputed from the recorded proposals and votes by our
own rules; where a recorded number differs, the trial says so and is imported as failed, never
smoothed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from peira.engine.parsing import without_thinking
from peira.errors import InputError
from peira.families.negotiation.game import Allocation, Game
from peira.families.negotiation.outcome import Book, NegotiationOutcome, conclude
from peira.families.negotiation.parsing import Names, read_ballot, read_offer, read_plan
from peira.families.negotiation.protocol import Proposal, Tally, passed, tabulate
from peira.families.negotiation.settings import NegotiationSettings, seat_name
from peira.importers.base import ImportedTrial, Notes, read_json

FAMILY = "negotiation"
ABOUT = (
    "bargain games: (run_<k>_)experiment_results.json or result.json, beside all_interactions.json"
)
RESULTS = re.compile(r"(run_\d+_)?experiment_results(_\d{8}_\d{6})?\.json|result\.json")
TOLERANCE = 0.03  # values were shown with two decimals, so utilities can be off by a little
VALUE = re.compile(r"^\s*(\d+):\s*(.+?)\s*→\s*([\d.]+)", re.MULTILINE)
COUNT = re.compile(r"Proposal #(\d+): (\d+) accept, (\d+) reject")
PHASE = re.compile(r"_round_(\d+)(?:_proposal_(\d+))?$")


@dataclass(frozen=True)
class RecordedRound:
    """One recorded round. `counts` are the public tallies; `votes[seat]` the recorded votes in order
    of the proposals, None where the variant did not record them."""

    number: int
    proposals: tuple[Proposal, ...]
    counts: tuple[Tally, ...]
    votes: tuple[tuple[bool, ...], ...] | None


@dataclass(frozen=True)
class RecordedGame:
    """One game as recorded, with values recovered from the prompts."""

    name: str
    agents: tuple[str, ...]
    models: tuple[str, ...]
    game: Game
    level: float
    max_rounds: int
    gamma: float
    seed: int | None
    rounds: tuple[RecordedRound, ...]
    interactions: tuple[Mapping[str, Any], ...]
    recorded: Mapping[str, Any] = field(repr=False)

    @property
    def names(self) -> Names:
        """How replies name agents and items."""
        return Names.of(self.agents, self.game.items)

    def deal(self) -> tuple[Allocation | None, int]:
        """The deal by our rule from recorded votes (or tallies), and the round it ended in."""
        for played in self.rounds:
            tallies = tabulate(played.proposals, played.votes) if played.votes else played.counts
            won = passed(tallies, len(self.agents))
            if won is not None:
                return played.proposals[won.number - 1].allocation, played.number
        return None, self.rounds[-1].number if self.rounds else 0


# -- reading ---------------------------------------------------------------------------------
def read(directory: Path, notes: Notes) -> Iterator[ImportedTrial]:
    """Every game below `directory`; a damaged one is left out with a warning. Raises InputError when
    there is none."""
    taken: set[tuple[Any, ...]] = set()
    for number, path in enumerate(results(directory)):
        with notes.leaving_out(path):
            game = read_game(path)
            key = (game.models, game.level, game.seed)
            seed = game.seed if game.seed is not None and key not in taken else 100_000 + number
            taken.add(key)
            yield trial_of(game, seed)


def results(directory: Path) -> list[Path]:
    """The files that hold a game's result, in order. Raises InputError when there are none."""
    found = sorted(p for p in directory.rglob("*.json") if RESULTS.fullmatch(p.name))
    if not found:
        raise InputError(f"{directory}: no game below\n  allowed: {ABOUT}")
    return found


def read_game(path: Path) -> RecordedGame:
    """One recorded game. Raises InputError for a file that is missing or not as described."""
    recorded = read_json(path)
    try:
        return _game(_name(path), recorded, _interactions(path, recorded))
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path}: not a recorded game ({type(error).__name__}: {error})\n  allowed: {ABOUT}"
        ) from error


def _name(path: Path) -> str:
    """The folder, and in a batch the run; `comp_0.5/run_1` of the scaling study is one name."""
    folder = path.parent.name
    if folder.startswith("run_"):
        parts = [path.parent.parent.parent.name, path.parent.parent.name, folder]
        return "_".join(p for p in parts if p)
    run = path.stem.partition("_experiment_results")[0]
    return f"{folder}_{run}" if run.startswith("run_") else folder


def _interactions(path: Path, recorded: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The game's calls: from a file of its own, or its share of the batch's."""
    own = path.with_name(path.name.replace("experiment_results", "all_interactions"))
    if own != path and own.is_file():
        entries = read_json(own)
    else:
        entries = read_json(path.with_name("all_interactions.json"))
    wanted = recorded["experiment_id"]
    return [entry for entry in entries if entry.get("experiment_id", wanted) == wanted]


def _game(
    name: str, results: Mapping[str, Any], interactions: Sequence[Mapping[str, Any]]
) -> RecordedGame:
    config = results["config"]
    agents = tuple(config["agents"])
    items = tuple(item["name"] for item in config["items"])
    values = tuple(_values(interactions, agent, len(items), name) for agent in agents)
    return RecordedGame(
        name=name,
        agents=agents,
        models=tuple(_model(results, agent) for agent in agents),
        game=Game(items, values),
        level=min(1.0, max(0.0, float(config["competition_level"]))),
        max_rounds=int(config["t_rounds"]),
        gamma=float(config["gamma_discount"]),
        seed=config.get("random_seed"),
        rounds=tuple(_rounds(results["conversation_logs"], interactions, agents, len(items))),
        interactions=tuple(interactions),
        recorded=results,
    )


def _values(
    interactions: Sequence[Mapping[str, Any]], agent: str, m: int, name: str
) -> tuple[float, ...]:
    for entry in interactions:
        if entry["agent_id"] == agent and entry["phase"] == "preference_assignment":
            found = {int(j): float(value) for j, _, value in VALUE.findall(entry["prompt"])}
            if len(found) == m:
                return tuple(found[j] for j in range(m))
    raise InputError(f"{name}: no private values of {agent} in the setup prompts")


def _model(results: Mapping[str, Any], agent: str) -> str:
    """The model's recorded name, unless the agent's id contradicts it (gpt-4o-mini was recorded as
    gpt-4o): then the id's."""
    stem = agent.rpartition("_")[0]
    recorded = str(results.get("agent_performance", {}).get(agent, {}).get("model", ""))
    folded = "".join(c if c.isalnum() else "_" for c in recorded)
    return recorded if folded == stem else stem.replace("_", "-")


def _rounds(
    logs: Sequence[Mapping[str, Any]],
    interactions: Sequence[Mapping[str, Any]],
    agents: tuple[str, ...],
    m: int,
) -> Iterator[RecordedRound]:
    votes = _recorded_votes(interactions)
    counts = {
        log["round"]: tuple(Tally(*map(int, c)) for c in COUNT.findall(log["content"]))
        for log in logs
        if log["phase"] == "vote_tabulation"
    }
    for log in logs:
        if log["phase"] != "proposal_enumeration":
            continue
        number = log["round"]
        proposals = tuple(_proposal(entry, agents, m) for entry in log["enumerated_proposals"])
        said = [[votes.get((number, p.number, agent)) for p in proposals] for agent in agents]
        whole = all(vote is not None for row in said for vote in row)
        yield RecordedRound(
            number, proposals, counts.get(number, ()),
            tuple(tuple(bool(v) for v in row) for row in said) if whole and proposals else None,
        )  # fmt: skip


def _proposal(entry: Mapping[str, Any], agents: tuple[str, ...], m: int) -> Proposal:
    """As recorded: an item given to an agent that does not exist, or to none, is nobody's (−1)."""
    owners = [-1] * m
    for agent, given in entry["allocation"].items():
        for j in given:
            if agent in agents and isinstance(j, int) and 0 <= j < m:
                owners[j] = agents.index(agent)
    seat = agents.index(entry["proposer"])
    return Proposal(entry["proposal_number"], seat, tuple(owners), str(entry.get("reasoning", "")))


def _recorded_votes(
    interactions: Sequence[Mapping[str, Any]],
) -> dict[tuple[int, int, str], bool | None]:
    """Each recorded vote, read from the raw reply by our own parser."""
    found: dict[tuple[int, int, str], bool | None] = {}
    for entry in interactions:
        match = PHASE.search(entry["phase"])
        if match and entry["phase"].startswith("voting") and match.group(2):
            number, proposal = int(match.group(1)), int(match.group(2))
            ballot = read_ballot(entry["response"], [proposal])
            found[number, proposal, entry["agent_id"]] = ballot.votes[0]
    return found


# -- checking --------------------------------------------------------------------------------
def discrepancies(game: RecordedGame) -> list[str]:
    """Where recomputing gives something else than what was recorded; empty when all agree."""
    deal, final = game.deal()
    recorded = game.recorded
    faults = []
    if (deal is not None) != bool(recorded["consensus_reached"]):
        faults.append(f"consensus: recorded {recorded['consensus_reached']}")
    if final != recorded["final_round"]:
        faults.append(f"final round: recorded {recorded['final_round']}, recomputed {final}")
    ours = game.game.utilities(deal) if deal is not None else ()
    for agent, mine in zip(game.agents, ours, strict=False):
        theirs = recorded["final_utilities"].get(agent)
        if theirs is None or abs(theirs - mine) > TOLERANCE:
            faults.append(f"utility of {agent}: recorded {theirs}, recomputed {mine:.2f}")
    for played in game.rounds:
        if played.votes is not None:
            mine_ = tuple(tabulate(played.proposals, played.votes))
            if mine_ != played.counts:
                faults.append(f"round {played.number}: vote counts differ from the tabulation")
    return faults


def ladder(games: Sequence[RecordedGame]) -> list[dict[str, Any]]:
    """What our parser makes of every recorded raw reply: phase, model, rung, fault, count."""
    tally: dict[tuple[str, str, str, str], int] = {}
    for game in games:
        model = dict(zip(game.agents, game.models, strict=True))
        for entry in game.interactions:
            made = _parsed(entry, game.names)
            if made is not None:
                key = (made[0], model[entry["agent_id"]], made[1], made[2])
                tally[key] = tally.get(key, 0) + 1
    return [
        {"phase": phase, "model": model, "rung": rung, "fault": fault, "replies": count}
        for (phase, model, rung, fault), count in sorted(tally.items())
    ]


def _parsed(entry: Mapping[str, Any], names: Names) -> tuple[str, str, str] | None:
    """(phase, rung, fault) of one reply that is meant to be parsed; None for free text."""
    phase, text = entry["phase"], entry["response"]
    if phase.startswith("proposal_"):
        offer = read_offer(text, names)
        return "proposal", offer.rung, re.split(r"[:;]", re.sub(r"'[^']*'", "…", offer.fault))[0]
    if phase.startswith("voting"):
        ballot = read_ballot(text, [1])
        return "vote", ballot.rung, ballot.fault
    if phase.startswith("private_thinking"):
        return "thinking", read_plan(text).rung, ""
    return None


# -- as a trial ------------------------------------------------------------------------------
def settings_of(game: RecordedGame, models: Sequence[str] | None = None) -> dict[str, Any]:
    """The recorded game in our settings: its own instance, one lap of talk, names shown."""
    return {
        "models": list(models or game.models), "num_items": game.game.m,
        "max_rounds": game.max_rounds, "gamma_discount": game.gamma,
        "competition_level": game.level, "discussion_turns": 1, "anonymous": False,
        "instance": {
            "items": list(game.game.items), "values": [list(row) for row in game.game.values],
            "labels": list(game.agents),
        },
    }  # fmt: skip


def trial_of(game: RecordedGame, seed: int) -> ImportedTrial:
    """One game as a trial with outcome and transcript."""
    settings = settings_of(game)
    times = [float(entry["timestamp"]) for entry in game.interactions]
    faults = discrepancies(game)
    return ImportedTrial(
        slug=f"{'_vs_'.join(game.models)}/comp_{game.level}/{game.name}",
        settings=settings,
        seed=seed,
        outcome=None if faults else outcome_of(game, settings),
        factors={
            "models": settings["models"], "competition_level": game.level,
            "instance": settings["instance"],
        },
        events=list(events_of(game)),
        state="failed" if faults else "done",
        cause="quality" if faults else None,
        message="; ".join(faults) or None,
        usage={
            seat_name(k): {"calls": sum(e["agent_id"] == agent for e in game.interactions),
                           "tokens_in": 0, "tokens_out": 0}
            for k, agent in enumerate(game.agents)
        },
        subjects={
            seat_name(k): {"name": model, "served_model": model, "simulated": False}
            for k, model in enumerate(game.models)
        },
        started=min(times),
        finished=max(times),
        seconds=max(times) - min(times),
    )  # fmt: skip


def outcome_of(game: RecordedGame, settings: Mapping[str, Any]) -> NegotiationOutcome:
    """The outcome by our rules and yardsticks. Tokens were not recorded, so none are stated."""
    book = Book()
    order = tuple(range(len(game.agents)))
    for played in game.rounds:
        tallies = tabulate(played.proposals, played.votes) if played.votes else played.counts
        book.close_round(order, played.proposals, tallies, played.votes or ())
    for entry in game.interactions:
        made = _parsed(entry, game.names)
        seat = seat_name(game.agents.index(entry["agent_id"]))
        if made is not None and made[0] == "proposal" and made[2]:
            book.count(seat, "illegal_offers")
        if made is not None and made[1] == "repaired":
            book.count(seat, "repairs")
    deal, final = game.deal()
    return conclude(
        NegotiationSettings.model_validate(dict(settings)), game.game, book, deal, final
    )


def events_of(game: RecordedGame) -> Iterator[dict[str, Any]]:
    """The transcript in our events, in the order of the recording."""
    yield {
        "kind": "game", "items": game.game.items, "values": game.game.values, "labels": game.agents,
        "cooperation": 0.0, "cosines": game.game.cosines(), "seed": game.seed,
    }  # fmt: skip
    for played in game.rounds:
        yield {"kind": "round", "round": played.number, "order": list(range(len(game.agents)))}
        spoken = [e for e in game.interactions if _round_of(e) == played.number]
        for entry in spoken:
            yield from _said(game, entry, played.number)
        yield {"kind": "proposals", "round": played.number, "proposals": [
            {"number": p.number, "seat": p.seat, "allocation": p.allocation, "reasoning": p.reasoning}
            for p in played.proposals
        ]}  # fmt: skip
        if played.votes is not None:
            yield {"kind": "votes", "round": played.number, "votes": played.votes}
        yield {"kind": "tally", "round": played.number,
               "counts": [(t.number, t.accepts, t.rejects) for t in played.counts]}  # fmt: skip
        yield from (_reflections(game, spoken, played.number))
    deal, final = game.deal()
    yield {"kind": "deal" if deal else "no_deal", "round": final, "allocation": deal}


def _round_of(entry: Mapping[str, Any]) -> int | None:
    match = PHASE.search(entry["phase"])
    return int(match.group(1)) if match else None


def _said(game: RecordedGame, entry: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """A call before the proposals are listed: the raw reply, and what it was in the game."""
    seat, text = game.agents.index(entry["agent_id"]), entry["response"]
    phase = entry["phase"].partition("_round_")[0]
    yield {
        "kind": "recorded_call", "seat": seat_name(seat), "label": entry["phase"], "round": number,
        "model": game.models[seat], "prompt": entry["prompt"], "reply": text,
        "asked_at": entry["timestamp"],
    }  # fmt: skip
    if phase == "discussion":
        said = without_thinking(text).strip()
        yield {"kind": "statement", "round": number, "seat": seat, "text": said,
               "finish": "stop" if said else "empty"}  # fmt: skip
    elif phase == "private_thinking":
        plan = read_plan(text)
        yield {"kind": "thinking", "round": number, "seat": seat,
               "text": f"{plan.reasoning} {plan.strategy}".strip(),
               "key_priorities": plan.key_priorities, "concessions": plan.potential_concessions}  # fmt: skip


def _reflections(
    game: RecordedGame, spoken: Sequence[Mapping[str, Any]], number: int
) -> Iterator[dict[str, Any]]:
    for entry in spoken:
        if entry["phase"].startswith("reflection"):
            yield {"kind": "reflection", "round": number,
                   "seat": game.agents.index(entry["agent_id"]), "text": entry["response"]}  # fmt: skip


# -- replay ----------------------------------------------------------------------------------
OURS = {"discussion": "discussion", "private_thinking": "thinking", "proposal": "proposal",
        "reflection": "reflection"}  # fmt: skip


def scripts(game: RecordedGame) -> list[dict[str, str]]:
    """For each seat: label of our call -> the raw recorded reply.

    Recorded votes were one call a proposal; their raw replies are joined in one list, since ours is
    one call a round. Raises InputError where votes were not recorded.
    """
    if any(played.votes is None for played in game.rounds):
        raise InputError(f"{game.name}: votes were not recorded, so it cannot be replayed")
    found: list[dict[str, str]] = [{} for _ in game.agents]
    ballots: dict[tuple[int, int], list[str]] = {}
    for entry in game.interactions:
        match = PHASE.search(entry["phase"])
        if match is None:
            continue
        seat, number = game.agents.index(entry["agent_id"]), int(match.group(1))
        phase = entry["phase"].partition("_round_")[0]
        if phase == "voting":
            ballots.setdefault((seat, number), []).append(entry["response"])
        else:
            found[seat][f"round {number}/{OURS[phase]}"] = entry["response"]
    for (seat, number), raw in ballots.items():
        found[seat][f"round {number}/vote"] = f'{{"votes": [{", ".join(raw)}]}}'
    return found


def write_replay(game: RecordedGame, folder: Path) -> Path:
    """Write a study that plays the game again from the recorded replies: `peira run` on the path
    returned gives the recorded deal through our own parser, vote rule and utilities."""
    import yaml

    from peira.store.rundir import write_file

    names = []
    for k, script in enumerate(scripts(game)):
        path = folder / f"{game.name}_seat_{k + 1}.json"
        write_file(path, orjson.dumps(script, option=orjson.OPT_INDENT_2))
        names.append(f"script:{path}")
    study = {"family": FAMILY, "name": game.name, "fixed": settings_of(game, names), "seeds": [0]}
    path = folder / f"{game.name}.yaml"
    write_file(path, yaml.safe_dump(study, sort_keys=False, allow_unicode=True).encode())
    return path
