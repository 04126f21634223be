"""A trial killed after any call goes on to the same end, and buys no reply twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.conftest import Bench

ROOT = Path(__file__).parents[2]
TIMES = re.compile(r'"(seconds|started|updated|duration_seconds|attempts)": [^,\n]+')


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    base = tmp_path_factory.mktemp("kills")
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenarios.kill_every_call", str(base)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_call_was_a_kill_point(kills: list[dict[str, object]]) -> None:
    assert [each["at"] for each in kills] == [0, *range(1, 15)]
    assert all(each["killed"] for each in kills[1:])


def test_the_ledger_holds_fifteen_replies_whatever_happened(kills: list[dict[str, object]]) -> None:
    for each in kills:
        assert each["replies"] == 15 and each["code"] == 0, each["at"]


def test_no_settled_reply_is_bought_twice(kills: list[dict[str, object]]) -> None:
    for each in kills[1:]:
        # Of the calls in flight at the kill (two at the most), those unsettled are bought again.
        assert each["bought"] <= 15 + each["unsettled"] and each["unsettled"] <= 2


def test_files_equal_those_of_an_unbroken_trial(kills: list[dict[str, object]]) -> None:
    whole = kills[0]["files"]
    for each in kills[1:]:
        assert each["files"] == whole, each["at"]


def test_random_events_do_not_repeat_after_a_resume(bench: Bench) -> None:
    once = {"name": "once", "description": "d", "type": "random", "probability": 0.9}
    often = {**once, "name": "often", "probability": 0.5, "once": False}
    seen = []
    for world, codes in (("sim:world", [0]), ("sim:world,status=402,at=5", [3, 0])):
        bench.scenario(
            events=[once, often], turns=8, context_window_size=9, world_state_model=world
        )
        first = {"fresh": True}  # the broken batch takes the place of the unbroken one
        assert [bench.go(first if n == 0 else None).exit_code for n in range(len(codes))] == codes
        seen.append(bench.batch().trials[0].events)
    assert seen[0] == seen[1]
    assert len(seen[1]["once"]) == 1 and 1 < len(seen[1]["often"]) < 8
    assert len(set(seen[1]["often"])) == len(seen[1]["often"])
