"""A killed driver loses nothing and buys nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    base = tmp_path_factory.mktemp("kills")
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.kill_every_call", str(base)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole, *rest = [json.loads(line) for line in done.stdout.splitlines()]
    return whole["whole"], rest


def test_every_kill_point_was_reached_and_resumed(kills):
    _, rest = kills
    assert len(rest) == 12
    assert all(each["killed"] and each["code"] == 0 for each in rest)


def test_replies_are_bought_once_except_the_one_in_flight(kills):
    for each in kills[1]:
        at_most = 7 if each["name"].startswith("after") else 6
        assert len(each["calls"]) == at_most, each["name"]
        assert each["done"] == 6
        assert each["lost"] == 1, "the call in flight stays charged as unsettled"


def test_outcomes_and_files_equal_an_unbroken_run(kills):
    whole, rest = kills
    for each in rest:
        assert each["records"] == whole["records"], each["name"]
        assert each["files"] == whole["files"], each["name"]
