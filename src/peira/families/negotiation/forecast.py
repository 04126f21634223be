"""What a game will ask of each model, before it is played."""

from __future__ import annotations

from collections import Counter

from peira.families.family import Forecast
from peira.families.negotiation.settings import PHASES, NegotiationSettings, Phase

# Measured on the recorded games of real models (tokens a reply, by phase) and on our prompts.
REPLY_TOKENS: dict[Phase, int] = {
    "discussion": 300,
    "thinking": 500,
    "proposal": 160,
    "vote": 110,
    "reflection": 300,
}
SYSTEM_TOKENS = 420
REQUEST_TOKENS = 90
EXPECTED_SHARE_OF_ROUNDS = 0.45  # real games end after about half of their rounds


def forecast(settings: NegotiationSettings) -> list[Forecast]:
    """Calls and tokens for each model, as (low, expected, high)."""
    last = float(settings.max_rounds)
    low, middle, high = (
        _of_rounds(settings, rounds)
        for rounds in (1.0, max(1.0, EXPECTED_SHARE_OF_ROUNDS * last), last)
    )
    found = []
    for model, seats in Counter(settings.models).items():
        most = last * _longest_round(settings, model)
        found.append(
            Forecast(
                model,
                (seats * low[0], seats * middle[0], seats * high[0]),
                (seats * low[1], seats * middle[1], seats * high[1]),
                (seats * low[2] / 2, seats * middle[2], seats * most),
            )
        )
    return found + _judging(settings, max(1.0, EXPECTED_SHARE_OF_ROUNDS * last))


def _judging(settings: NegotiationSettings, rounds: float) -> list[Forecast]:
    """Every public message, rated as often as asked."""
    if settings.judge is None:
        return []
    share = settings.judge_repeats * settings.num_agents * settings.discussion_turns
    low, middle, high = share, share * rounds, share * settings.max_rounds
    prompt, reply = SYSTEM_TOKENS + REPLY_TOKENS["discussion"], REPLY_TOKENS["vote"]
    return [Forecast(settings.judge, (low, middle, high), (low * prompt, middle * prompt, high * prompt),
                     (low * reply, middle * reply, high * 1024.0))]  # fmt: skip


def _longest_round(settings: NegotiationSettings, model: str) -> float:
    """Output tokens of one seat's round when every reply uses its whole allowance."""
    limits, each = settings.sampling_of(model), _per_round(settings)
    return float(sum(each[phase] * limits.limit(phase) for phase in PHASES))


def _per_round(settings: NegotiationSettings) -> dict[Phase, int]:
    """Calls of one seat in one round, by phase."""
    return {
        "discussion": settings.discussion_turns,
        "thinking": int(settings.thinking),
        "proposal": 1,
        "vote": 1,
        "reflection": int(settings.reflection),
    }


def _of_rounds(settings: NegotiationSettings, rounds: float) -> tuple[float, float, float]:
    """(calls, prompt tokens, completion tokens) of one seat over this many rounds.

    The public record grows by what all seats say in a round; the own notes by what it thinks.
    """
    each, n = _per_round(settings), settings.num_agents
    calls = sum(each.values())
    said = sum(each[phase] * REPLY_TOKENS[phase] for phase in each)
    public = n * (each["discussion"] * REPLY_TOKENS["discussion"] + REPLY_TOKENS["proposal"])
    private = (
        each["thinking"] * REPLY_TOKENS["thinking"]
        + each["reflection"] * REPLY_TOKENS["reflection"]
    )
    history = (public + private) * rounds / 2
    prompt = rounds * calls * (SYSTEM_TOKENS + REQUEST_TOKENS + history)
    return rounds * calls, prompt, rounds * said
