"""Simulated negotiators: the literature's order, skill that pays, and no gain between equals."""

import asyncio
import itertools

import numpy as np
import pytest

from peira.engine.lab import Bench, Lab, TrialTask
from peira.engine.ledger import Sharing
from peira.errors import InputError
from peira.families.negotiation import Negotiation
from peira.families.negotiation.bidding import bundle_for, ranked_bundles, share_out
from peira.families.negotiation.settings import NegotiationSettings
from peira.families.negotiation.simulated import KINDS, aspiration
from peira.families.negotiation.speech import Dice
from peira.families.negotiation.trial import play
from peira.subjects.route import Routes
from peira.subjects.simulated import SimulatedWire
from peira.subjects.subject import Message, Request, Sampling

from .conftest import NoLedger

BARE = {"discussion_turns": 0, "thinking": False, "reflection": False}


def outcomes(settings, seeds):
    """Outcomes of the same settings over seeds, in one event loop."""
    checked = NegotiationSettings.model_validate(BARE | settings)
    bench = Bench(Routes(kinds=KINDS), NoLedger(), Sharing(), 0)

    async def all_games():
        labs = [Lab(TrialTask(1, "i", "s", seed, 1, 1, {}, {}), bench) for seed in seeds]
        return [await play(checked, lab) for lab in labs]

    return asyncio.run(all_games())


def test_scripted_negotiators_rank_as_in_the_literature():
    """Own utility in a round robin with self-play, mean over domains, many rounds, no discount."""
    kinds = ["micro", "boulware", "linear", "tit-for-tat", "conceder", "random"]
    won = {kind: [] for kind in kinds}
    for a, b in itertools.product(kinds, kinds):
        for level in (0.25, 0.5, 0.75):
            settings = {"models": [f"sim:{a}", f"sim:{b}"], "max_rounds": 30, "gamma_discount": 1.0,
                        "num_items": 6, "competition_level": level}  # fmt: skip
            for outcome in outcomes(settings, range(2)):
                won[a].append(outcome.raw[0])
                won[b].append(outcome.raw[1])
    means = [float(np.mean(won[kind])) for kind in kinds]
    assert means == sorted(means, reverse=True), dict(zip(kinds, means, strict=True))


def test_skill_pays_and_pays_more_over_a_wider_gap():
    gains = []
    for weak, strong in ((0.5, 0.6), (0.3, 0.8), (0.1, 1.0)):
        forth = outcomes({"models": [f"sim:skill={strong}", f"sim:skill={weak}"]}, range(25))
        back = outcomes({"models": [f"sim:skill={weak}", f"sim:skill={strong}"]}, range(25))
        gains.append(
            float(
                np.mean(
                    [
                        a.utility_difference - b.utility_difference
                        for a, b in zip(forth, back, strict=True)
                    ]
                )
            )
            / 2
        )
    assert 0 < gains[0] < gains[1] < gains[2]


def test_equal_skills_gain_nothing_from_each_other():
    games = outcomes({"models": ["sim:skill=0.5", "sim:skill=0.5,lie=0.2"]}, range(200))
    sign = np.where(np.arange(200) % 2 == 0, 1.0, -1.0)  # each sits first in half of the games
    y = np.array([game.utility_difference for game in games]) * sign
    assert abs(y.mean()) < 3 * y.std(ddof=1) / np.sqrt(200)


def test_aspirations_start_high_and_end_at_the_floor():
    for exponent in (3.0, 1.0, 0.3):
        curve = [aspiration(r, 10, exponent, 0.2) for r in range(1, 11)]
        assert curve == sorted(curve, reverse=True) and curve[-1] == pytest.approx(0.2)
    assert aspiration(5, 10, 3.0, 0.2) < aspiration(5, 10, 1.0, 0.2) < aspiration(5, 10, 0.3, 0.2)


def test_a_bid_takes_enough_and_leaves_the_others_what_they_want():
    mine, theirs = (40.0, 30.0, 20.0, 10.0), (10.0, 20.0, 30.0, 40.0)
    assert bundle_for(mine, theirs, 70.0) == 0b0011
    assert bundle_for(mine, theirs, 999.0) == 0b1111
    assert ranked_bundles(mine)[0] == 0b1111 and len(ranked_bundles(mine)) == 16
    assert share_out(0b0011, 0, 4, [None, theirs]) == (0, 0, 1, 1)
    many = tuple(float(k) for k in range(1, 13))
    kept = bundle_for(many, many[::-1], 40.0)
    assert sum(v for j, v in enumerate(many) if kept >> j & 1) >= 40.0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sim:skill=2", "0 to 1"),
        ("sim:skill=high", "a number"),
        ("sim:linear,lie=nan", "a number"),
        ("sim:boulware,e=0", "above 0"),
        ("sim:linear,lie=3", "0 to 1"),
        ("sim:linear,charm=1", "unknown option"),
        ("sim:saint", "unknown kind"),
    ],
)
def test_a_misspelt_negotiator_is_refused(name, said):
    with pytest.raises(InputError, match=said):
        SimulatedWire(name, KINDS)


def test_a_negotiator_asked_outside_a_negotiation_says_so():
    wire = SimulatedWire("sim:linear", KINDS)
    with pytest.raises(InputError, match="negotiations only"):
        asyncio.run(wire.send(Request("m", (Message("user", "hi"),), Sampling())))


def test_stand_ins_are_graded_by_capability():
    family = Negotiation()
    graded = [family.stand_in("m", {"mmlu_pro": score}) for score in (10, 40, 60, 80, 99)]
    assert graded[0] == "sim:skill=0.00" and graded[-1] == "sim:skill=1.00"
    assert graded == sorted(graded)
    assert family.stand_in("unknown", {}).startswith("sim:skill=")


def test_the_dice_are_even_and_repeat():
    draws = [Dice(seed).uniform() for seed in range(4000)]
    assert abs(np.mean(draws) - 0.5) < 0.02 and 0 <= min(draws) < max(draws) < 1
    normal = [Dice(seed).normal() for seed in range(4000)]
    assert abs(np.mean(normal)) < 0.06 and abs(np.std(normal) - 1) < 0.06
    assert Dice(7).below(5) == Dice(7).below(5)
