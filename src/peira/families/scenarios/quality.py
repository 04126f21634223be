"""Quality checks: was each action in character, is the new world coherent, did anyone use what it
could not know. Their calls cost money and always count.

Invariant: an unreadable verdict is `unknown`, never a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from peira.errors import TrialFailed
from peira.families.scenarios.parse import FORMS, as_list, as_text
from peira.families.scenarios.prompts import Prompter, profile
from peira.families.scenarios.seats import Ask, Seats
from peira.families.scenarios.settings import QualityRules, Severity
from peira.families.scenarios.state import Answer, Turn, Verdict
from peira.families.scenarios.talk import gathered
from peira.subjects.subject import user

BUILT_IN = {
    "actor_decision_consistency": (
        "Is this action consistent with the actor's profile and with the state of the world?\n\n"
        "{actor_profile}\n\n{world_state}\n\n{actor_reasoning}\n\n{actor_action}"
    ),
    "world_state_coherence": (
        "Does the new state follow from the previous one and from the actions, without"
        " contradiction?\n\n{previous_world_state}\n\n{actor_actions}\n\n{new_world_state}"
    ),
    "information_access_consistency": (
        "Did {actor_name} reason only from what it can know: the public state and its own private"
        " talk? It must not know what is restricted.\n\n{public_world_state}\n\n"
        "{private_communications}\n\n{restricted_information}\n\n{actor_reasoning}"
    ),
}
LEADS = {"actor_decision_consistency": "CONSISTENT", "world_state_coherence": "COHERENT",
         "information_access_consistency": "VALID ACCESS"}  # fmt: skip


async def check(seats: Seats, prompter: Prompter, turn: Turn, last: bool) -> list[Verdict]:
    """All verdicts of a turn. Raises TrialFailed (`quality`) when a finding says halt."""
    rules = seats.scenario.quality
    if rules is None or not (rules.run_after_each_turn or last):
        return []
    questions = list(_questions(seats, prompter, turn, rules))
    answers = await gathered([seats.answer(ask) for _, _, ask in questions])
    return [
        _verdict(rules, name, subject, answer)
        for (name, subject, _), answer in zip(questions, answers, strict=True)
    ]


def stop_if_told(seats: Seats, verdicts: list[Verdict], keys: list[str]) -> None:
    """Fail the trial for the first finding whose severity says halt."""
    for verdict, key in zip(verdicts, keys, strict=True):
        if verdict.action == "halt":
            seats.lab.last_key = key
            issues = "; ".join(verdict.issues) or verdict.explanation or "no reason given"
            raise TrialFailed("quality", f"{verdict.check} ({verdict.subject}): {issues}"[:500])


def keys(verdicts: list[Verdict], number: int) -> list[str]:
    """The ledger keys of the calls behind these verdicts."""
    return [f"quality|{_label(number, v.check, v.subject)}|0" for v in verdicts]


def _label(number: int, name: str, subject: str) -> str:
    return f"turn {number}/quality {name} {subject}"


def _questions(
    seats: Seats, prompter: Prompter, turn: Turn, rules: QualityRules
) -> Iterator[tuple[str, str, Ask]]:
    for name, rule in rules.checks.items():
        if not rule.enabled:
            continue
        form = (
            f'{LEADS[name]}: is the answer yes or no? That is the "verdict".\n'
            + FORMS["verdict"].request()
        )
        subjects = ("world",) if name == "world_state_coherence" else seats.scenario.shorts
        for subject in subjects:
            blanks = _blanks(prompter, turn, subject)
            text = filled(rule.prompt_template or BUILT_IN[name], blanks)
            parts = [rule.description.strip(), text, form]
            messages = [prompter.system("quality"), user("\n\n".join(p for p in parts if p))]
            label = _label(turn.number, name, subject)
            seen = {"ask": "verdict", "check": name, "subject": subject}
            yield (
                name,
                subject,
                Ask("quality", "verdict", label, messages, seen, lambda v: _passed(v) is not None),
            )


def filled(template: str, blanks: dict[str, str]) -> str:
    """A template with its placeholders filled once; what is filled in is never read as one."""
    text = re.sub(
        r"\{\{|\}\}|\{(\w+)\}",
        lambda m: blanks.get(m[1], m[0]) if m[1] else m[0][0],
        template,
    )
    return text.strip()


def _blanks(prompter: Prompter, turn: Turn, subject: str) -> dict[str, str]:
    before = prompter.turns[turn.number - 1].world
    old, new = before.text() if before else "", turn.world.text() if turn.world else ""
    blanks = {
        "world_state": prompter.fence("the state before", old),
        "public_world_state": prompter.fence("the public state", old),
        "previous_world_state": prompter.fence("the state before", old),
        "actor_actions": "\n".join(prompter.actions(turn)),
        "new_world_state": prompter.fence("the new state", new),
    }
    return blanks if subject == "world" else blanks | _of_actor(prompter, turn, subject)


def _of_actor(prompter: Prompter, turn: Turn, short: str) -> dict[str, str]:
    decision = turn.decisions[short]
    others = [a for a in prompter.scenario.actors if a.short_name != short]
    hidden = [
        f"{a.name}: {as_text(a.private_information)}" for a in others if a.private_information
    ]
    private = prompter.private_talk(turn, short)
    return {
        "actor_name": prompter.names[short],
        "actor_profile": profile(prompter.scenario.actor(short)),
        "actor_reasoning": prompter.fence("its reasoning", decision.reasoning or "(none given)"),
        "actor_action": prompter.fence("its action", decision.action),
        "private_communications": "\n".join(private) or "(no private talk)",
        "restricted_information": prompter.fence("restricted", "\n".join(hidden) or "(nothing)"),
    }


def _passed(value: dict[str, Any]) -> bool | None:
    word = as_text(value.get("verdict")).strip().lower().rstrip(".!")
    word = re.split(r"[\s,;:.]", word, maxsplit=1)[0]
    return True if word in ("yes", "true") else False if word in ("no", "false") else None


def _verdict(rules: QualityRules, name: str, subject: str, answer: Answer) -> Verdict:
    value = answer.value or {}
    passed = _passed(value) if value else None
    word = as_text(value.get("severity")).strip().lower()
    severity: Severity = word if word in ("low", "medium", "high") else "medium"  # type: ignore[assignment]
    action = rules.action(severity) if passed is False else "none"
    issues = () if passed else tuple(as_list(value.get("issues")))
    why = as_text(value.get("explanation")) or answer.fault
    return Verdict(name, subject, passed, severity if passed is False else "", issues, why, action)
