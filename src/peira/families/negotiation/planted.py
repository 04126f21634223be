"""Games drawn from a stated exploitation curve, to validate the analysis without play.

    games = planted(Truth({"a": 0.1, "b": 0.5, …}, slope=30.0, seat=2.0), seeds=range(5))

Utility difference of a game: slope·(x_first − x_second) + seat + (a_first − a_second) + noise, where
a is each model's own deviation from the curve (sd `model_sd`). Invariant: the rows have the same
form as those of a real run, so every table and law takes them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peira.families.negotiation.rows import Games, Row
from peira.study.seeds import generator


@dataclass(frozen=True)
class Truth:
    """What is planted. `skill` is each model's capability; `intercept` shifts every strong − weak."""

    skill: Mapping[str, float]
    slope: float = 0.0
    intercept: float = 0.0
    seat: float = 0.0
    noise: float = 10.0
    model_sd: float = 0.0
    no_deal: float = 0.0  # share of games without a deal


def planted(
    truth: Truth,
    seeds: Iterable[int] = (1,),
    levels: Sequence[float] = (0.5,),
    root: int = 0,
) -> Games:
    """All ordered pairs of different models, on every (level, seed)."""
    rng = generator(root, "negotiation/planted")
    names = list(truth.skill)
    own = dict(zip(names, rng.normal(0.0, truth.model_sd, len(names)).tolist(), strict=True))
    rows: list[Row] = []
    for level in levels:
        for seed in seeds:
            for first in names:
                for second in names:
                    if first != second:
                        rows.append(_row(truth, own, (first, second), level, seed, rng, len(rows)))
    capability = {name: {"skill": x} for name, x in truth.skill.items()}
    return Games(tuple(rows), capability, simulated=True)


def _row(
    truth: Truth,
    own: Mapping[str, float],
    models: tuple[str, str],
    level: float,
    seed: int,
    rng: np.random.Generator,
    number: int,
) -> Row:
    first, second = models
    gap = truth.skill[first] - truth.skill[second]
    weak, strong = (second, first) if (gap, first) > (0.0, second) else (first, second)
    difference = (
        truth.slope * gap
        + (truth.intercept if strong == first else -truth.intercept)
        + truth.seat
        + own[first] - own[second]
        + truth.noise * float(rng.normal())
    )  # fmt: skip
    deal = float(rng.uniform()) >= truth.no_deal
    return Row(
        number=number, slug=f"{weak}_vs_{strong}/{number}", models=models, weak=weak, strong=strong,
        level=level, seed=seed, order="weak_first" if first == weak else "strong_first", extra=(),
        rounds_allowed=10, disagreement=0.0, state="done", cause=None, cost=0, tokens=0,
        outcome=_outcome(difference, deal),
    )  # fmt: skip


def _outcome(difference: float, deal: bool) -> dict[str, Any]:
    """An outcome with this utility difference about a Nash point of 50 each."""
    utility = (50.0 + difference / 2, 50.0 - difference / 2) if deal else (0.0, 0.0)
    share = tuple(u / 50.0 - 1.0 for u in utility)
    return {
        "consensus": deal, "final_round": 1 if deal else 10, "utility": utility, "raw": utility,
        "share": tuple(u / 100.0 for u in utility) if deal else (None, None),
        "total_utility": sum(utility), "values": ((100.0,), (100.0,)), "items": ("Apple",),
        "counts": {}, "spent": {}, "rounds": [],
        "yardsticks": {
            "nash": (50.0, 50.0), "ideal": (100.0, 100.0), "exploitation": share,
            "efficiency_loss": (0.0, 0.0), "transfer": share, "welfare_ratio": sum(utility) / 100.0,
            "max_welfare": 100.0,
        },
    }  # fmt: skip
