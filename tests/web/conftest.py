"""Runs to look at: one whose every text is hostile, a damaged one, one of each shipped family."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peira import api
from peira.cli.finish import finish
from peira.study.study import Study
from peira.web.app import make_app
from peira.web.guard import Door
from tests.web.talkers import PROBE
from tests.web.visitor import TOKEN

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "src/peira/families/scenarios/examples"
HOSTILE = "ev<i>l & 'run' 100%"


def talk(replicates: int = 6, **fixed) -> Study:
    return Study(
        family=f"{HERE / 'talkers.py'}:Talk", name=f"talk {PROBE}", description=PROBE, fixed=fixed,
        factors={"temperature": [0.0, 0.5, 1.0], "partner": ["a", PROBE]}, replicates=replicates,
    )  # fmt: skip


def run(study, folder: Path, **options) -> Path:
    """Run to the end, in a thread: Playwright keeps an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(api.run, study, api.Options(run_dir=folder, **options)).result()
    return folder


@pytest.fixture(scope="session")
def house(tmp_path_factory) -> Path:
    """A directory of runs."""
    root = tmp_path_factory.mktemp("experiments")
    finish(run(talk(), root / HOSTILE), quiet=True)
    run(talk(replicates=3), root / "deep/inside/plain")
    (root / "broken").mkdir()
    (root / "broken/run.db").write_bytes(b"not a database, whatever its name says")
    return root


@pytest.fixture(scope="session")
def families(tmp_path_factory) -> Path:
    """One small simulated run of each family that ships."""
    root = tmp_path_factory.mktemp("families")
    game = {"models": ["sim:skill=0.2", "sim:skill=0.9"], "num_items": 4, "max_rounds": 4}
    run(Study(family="negotiation", name="game", fixed=game, seeds=[1, 2]), root / "game")
    batch = {
        "experiment_name": "batch", "base_scenario": str(EXAMPLES / "planted-negotiation"),
        "runs_per_variation": 1,
        "variations": [{"type": "actor_model", "actor": "regulator", "values": ["sim:actor,lift=1"]}],
    }  # fmt: skip
    (root / "batch.json").write_text(json.dumps(batch))
    run(root / "batch.json", root / "scenario", simulated=True)
    probe = {"experiment": "park", "model": "sim:mixer", "n_contexts": 4, "lengths": [20, 40]}
    run(Study(family="representations", name="probe", fixed=probe, seeds=[1]), root / "probe")
    (root / "control.txt").write_text("Answer.")
    (root / "other.txt").write_text("Answer, or say that you do not know.")
    arms = {"control": str(root / "control.txt"), "treatment": str(root / "other.txt")}
    asked = {
        "model_id": "sim:respondent,skill=0.6", "prompt_sets": {"one": arms},
        "default_prompt_set": "one", "data": {"source": "sample"},
        "sizes": {"closed_book_max_items": 6, "open_book_max_items": 6},
    }  # fmt: skip
    (root / "eval_config.json").write_text(json.dumps(asked))
    run(root / "eval_config.json", root / "prompts")
    return root


@pytest.fixture(scope="session")
def app(house):
    return make_app(house, Door(TOKEN))


@pytest.fixture(scope="session")
def family_app(families):
    return make_app(families, Door(TOKEN))
