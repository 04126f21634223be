"""Batches as people first run them: one or two replicates, trials lost, values missing, all alike."""

import itertools
import json
import random

import pytest

from peira.families.scenarios.analysis import Results, told
from peira.families.scenarios.batch import Batch, Trial, judged
from peira.families.scenarios.settings import Metric
from peira.report import rules
from peira.report.document import plain
from tests.scenarios.conftest import LEVEL

METRICS = {
    "m": Metric.model_validate(LEVEL),
    "b": Metric(description="b", type="bool", extraction_method="regex", pattern="x"),
    "c": Metric(description="c", type="categorical", categories=("u", "v"),
                extraction_method="manual", primary=True),
}  # fmt: skip


def values(dice: random.Random, alike: bool) -> dict:
    numbers = [5.0] if alike else [None, 3.1, 4.0, 6.2, 7.0]
    return {"m": dice.choice(numbers), "b": dice.choice([None, True, False]),
            "c": dice.choice([None, "u", "v"])}  # fmt: skip


def trial(dice: random.Random, number: int, replicate: int, cell: dict, lost: float) -> Trial:
    state = "failed" if dice.random() < lost else "done"
    played = range(4) if state == "done" else ()
    by_turn = {turn: values(dice, alike=lost == 0) for turn in played}
    return Trial(
        f"var-{number:03d}-run-{replicate:03d}", number, replicate, replicate, state, None, None,
        cell, f"variation {number}", turns=max(0, len(by_turn) - 1), by_turn=by_turn,
        final=by_turn.get(3, {}), cost=dice.choice([0.0, 0.01]), defaults=dice.choice([0, 1]),
        events={"e": (1,)} if state == "done" and dice.random() < 0.5 else {},
    )  # fmt: skip


@pytest.mark.parametrize("levels", [(), (1,), (2,), (3,), (2, 2), (2, 2, 2)])
@pytest.mark.parametrize("replicates", [1, 2, 3])
@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_every_design_gets_its_report(levels, replicates, lost):
    dice = random.Random(f"{levels}{replicates}{lost}")
    factors = {f"f{i}": tuple(f"l{j}" for j in range(k)) for i, k in enumerate(levels)}
    cells = [dict(zip(factors, cell, strict=True)) for cell in itertools.product(*factors.values())]
    criteria = {"high": {"m": ">= 5"}}
    trials = [
        judged(trial(dice, n, replicate, cell, lost), criteria)
        for replicate in range(1, replicates + 1)
        for n, cell in enumerate(cells, start=1)
    ]
    batch = Batch("small", "s", tuple(trials), METRICS, criteria, factors, length=3, spent=0.1)
    analysis = told(Results(batch))
    rules.check(analysis)
    json.dumps(plain(analysis.files), allow_nan=False)
