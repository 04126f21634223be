"""A study's size is planned from its own file, a pilot's spread with its upper bound, and a price."""

import json
from pathlib import Path

import pytest
import yaml

from peira import api
from peira.cli.main import run as peira
from peira.report import planner
from peira.stats.designs import PairedMean
from peira.stats.power import pilot_sd
from peira.store.records import RunView
from peira.study.study import Study

TOY = f"{Path(__file__).parents[1] / 'engine' / 'toy.py'}:Toy"
BASE = {"family": TOY, "name": "toy", "factors": {"calls": [2, 4]}, "replicates": 30}


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(BASE | {"output_dir": str(tmp_path / "run")}))
    return path


@pytest.fixture(scope="module")
def pilot(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pilot") / "run"
    api.run(Study.model_validate(BASE), api.Options(run_dir=folder))
    return folder


def planned(capsys, *words: str) -> tuple[int, dict]:
    code = peira(["power", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_stated_spread_gives_n_power_and_mde(study, capsys):
    code, data = planned(capsys, str(study), "--effect", "0.5", "--set", "sd=1.0")
    assert (code, data["n"], data["unit"]) == (0, 34, "pairs")
    assert data["units_of_the_study"] == 30
    assert 0.7 < data["power_of_the_study"] < 0.8
    assert data["mde_of_the_study"] > 0.5


def test_a_pilot_s_upper_bound_is_used_never_its_effect(study, pilot, capsys):
    words = (str(study), "--effect", "2", "--pilot", str(pilot), "--outcome", "total")
    _, data = planned(capsys, *words)
    with RunView(pilot) as run:
        frame = run.frame()
    wide = frame.pivot(index="seed", columns="calls", values="total")
    found = pilot_sd(wide[4] - wide[2])
    assert data["values"]["sd"] == pytest.approx(found.high)
    assert data["values"]["sd"] > found.estimate
    assert data["pilot_simulated"] is True


@pytest.mark.parametrize(
    ("words", "unit"),
    [
        (("--design", "binary", "--effect", "0.1", "--set", "discordance=0.3"), "pairs"),
        (("--design", "rates", "--effect", "0.1", "--set", "rate=0.4"), "units per arm"),
        (
            (
                "--design",
                "clusters",
                "--effect",
                "0.1",
                "--set",
                "sd=0.4",
                "--set",
                "icc=0.2",
                "--set",
                "cluster_size=5",
            ),
            "clusters",
        ),
        (
            (
                "--design",
                "replicates",
                "--effect",
                "0.03",
                "--set",
                "between=0.111",
                "--set",
                "within=0.1667",
                "--set",
                "replicates=10",
            ),
            "pairs",
        ),
        (("--design", "runs", "--effect", "0.5", "--set", "sd=1"), "runs per cell"),
        (
            ("--design", "noninferiority", "--effect", "0", "--set", "sd=1", "--set", "margin=0.2"),
            "pairs",
        ),
    ],
)
def test_every_design_can_be_planned(study, capsys, words, unit):
    code, data = planned(capsys, str(study), *words)
    assert (code, data["unit"]) == (0, unit)
    assert data["achieved_power"] >= 0.8
    assert data["curve"][0][1] < data["curve"][-1][1]


def test_a_budget_that_is_too_small_is_said_to_be_so(tmp_path, capsys):
    priced = BASE | {
        "fixed": {"model": "m"}, "output_dir": str(tmp_path / "run"),
        "subjects": {"m": {"base_url": "http://localhost:1/v1", "price": {
            "input_per_million": 1000.0, "output_per_million": 1000.0}}},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(priced))
    words = (str(path), "--effect", "0.5", "--set", "sd=1", "--budget", "10")
    code, data = planned(capsys, *words)
    assert code == 3
    assert data["flags"] == ["cannot_conclude"]
    assert data["affordable"] < data["n"]
    assert data["cost"] > 10


def test_the_study_file_may_say_it_all(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(BASE | {"analysis": {"power": {"effect": 0.5, "sd": 1.0}}}))
    assert planned(capsys, str(path))[1]["n"] == 34


def test_the_figure_is_drawn(study, tmp_path):
    words = ["power", str(study), "--effect", "0.5", "--set", "sd=1", "--figure"]
    assert peira([*words, str(tmp_path / "curve.png")]) == 0
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "smallest effect worth finding"),
        (("--effect", "1"), "needs sd"),
        (("--effect", "1", "--design", "magic"), "allowed: paired"),
        (("--effect", "1", "--set", "sigma=2"), "unknown"),
        (("--effect", "1", "--set", "sd=wide"), "a number"),
        (("--effect", "1", "--set", "sd=1", "--factor", "depth"), "allowed: calls"),
        (("--effect", "0", "--set", "sd=1"), "noninferiority"),
        (("--effect", "nan", "--set", "sd=1"), "other than 0"),
        (("--effect", "1", "--set", "sd=1", "--power", "1.2"), "--power 1.2"),
        (("--effect", "1", "--set", "sd=1", "--alpha", "0"), "--alpha 0"),
        (("--effect", "0.5", "--design", "binary", "--set", "discordance=0.2"), "discordance 0.2"),
        (("--effect", "0.7", "--design", "rates", "--set", "rate=0.5"), "a rate within 0 to 1"),
        (
            ("--effect", "1", "--design", "noninferiority", "--set", "sd=0", "--set", "margin=1"),
            "sd",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(study, capsys, words, said):
    assert peira(["power", str(study), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_pilot_without_the_outcome_is_refused_with_those_it_has(study, pilot, capsys):
    words = ["power", str(study), "--effect", "1", "--pilot", str(pilot), "--outcome", "score"]
    assert peira(words) == 2
    assert "draw, total" in capsys.readouterr().err


def test_units_are_pairs_per_seed_and_other_factor():
    question = Study.model_validate(BASE | {"factors": {"level": [0, 1], "calls": [1, 2, 3]}})
    cells = [{"level": a, "calls": b} for a in (0, 1) for b in (1, 2, 3)]
    ask = planner.asked(question, {"effect": 0.5, "factor": "level", "sd": 1.0})
    found = planner.plan(question, cells, None, ask)
    assert isinstance(found.design, PairedMean)
    assert found.units == 90
