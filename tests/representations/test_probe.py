"""`peira probe` from flags to files: every experiment ends, resumes, extends, and refuses bad input."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peira.cli import probing
from peira.cli.main import run as peira
from peira.families.representations import workspace
from peira.families.representations.catalogue import ENTRIES, find
from peira.families.representations.experiments import of
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.trial import resolve
from peira.store.records import RunView

MIXER = "sim:mixer,d=32,layers=3"
GUIDE = ("css_per_token", "dirichlet_energy", "cluster_separation")
SHORT = {"loo": "6,12", "loo_multilayer": "6,12", "park": "5,10,20,30,40", "superposition_collapse": "60",
         "context_switch": "5,20", "incongruous_injection": "20,40", "lee": "5,12"}  # fmt: skip


def probe(out: Path, name: str = "css", *more: str) -> int:
    words = ["probe", name, "--model", MIXER, "--n-contexts", "4", "--output-dir", str(out), *more]
    return peira(words)


def strict(path: Path) -> Any:
    def refuse(text: str) -> None:
        raise AssertionError(f"{path}: {text} is not strict JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def chosen_conditions(name: str) -> tuple[str, ...]:
    return find(name).conditions if name != "park" else ("ring:10", "days")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A finished run of an experiment, made once; tests that change it take a copy."""

    @cache
    def made(name: str) -> Path:
        chosen = chosen_conditions(name)
        flags = [word for c in chosen if len(chosen) > 1 for word in ("--condition", c)]
        lengths = ["--lengths", SHORT.get(name, "10,20,30")] if name != "css" else []
        folder = tmp_path_factory.mktemp(name) / "r"
        assert probe(folder, name, *lengths, *flags) == 0
        return folder

    return made


@pytest.fixture
def css(finished: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a finished css run."""
    return Path(shutil.copytree(finished("css"), tmp_path / "r"))


@pytest.mark.parametrize("name", [e.name for e in ENTRIES])
def test_every_experiment_ends_with_the_guides_fields(
    name: str, finished: Callable[[str], Path]
) -> None:
    chosen, folder = chosen_conditions(name), finished(name)
    found = strict(folder / "results.json")
    assert found["label"] == "simulated" and found["config"]["n_contexts"] == 4
    assert {"peira", "numpy"} <= {
        n for n, v in strict(folder / "config.json")["versions"].items() if v
    }
    assert set(chosen) == set(found["conditions"])
    for cell in found["results"].values():
        assert all(field in cell for field in GUIDE)
    for path in folder.rglob("*.json"):
        strict(path)
    further = [f for c in chosen for f in find(name).further.get(c, ())]
    for figure in (*find(name).figures, *further):
        assert (folder / "figures" / f"{figure}.png").stat().st_size > 5000
    report = (folder / "report.md").read_text()
    assert "imulated" in report


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--layers", "0,99"], "99"),
        (["--layers", "0,x"], "layer"),
        (["--graph", "torus:4"], "torus"),
        (["--graph", "ring:5000"], "5000"),
        (["--lengths", "20,10"], "ascending"),
        (["--dtype", "int8"], "dtype"),
        (["--n-contexts", "1"], "contexts"),
        (["--walk", "hop"], "walk"),
        (["--condition", "other"], "condition"),
        (["--steer"], "park"),
        (["--vocabulary", "nowhere.txt"], "nowhere"),
        (["surplus"], "surplus"),
        (["--branching", "2,x", "--graph", "deep"], "whole numbers"),
        (["--mode", "mask"], "mask"),
        (["--condition"], "requires an argument"),
        (["--null", "twin"], "'shuffled', 'untrained' or 'none'"),
    ],
)
def test_bad_input_is_refused_and_named(
    flags: list[str], named: str, tmp_path: Path, capsys: Any
) -> None:
    assert probe(tmp_path / "r", "css", *flags) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "r" / "run.db").exists()


@pytest.mark.parametrize(
    ("name", "flags", "allowed"),
    [
        ("deep_hierarchy", ["--graph", "ring:8"], "deep"),
        ("superposition_collapse", ["--graph", "ring:15"], "dual"),
        ("context_switch", ["--graph", "grid:4x4"], "crossed"),
        ("context_switch", ["--graphs", "per_context"], "one"),
        ("park", ["--condition", "days", "--graph", "ring:8"], "ring:7"),
    ],
)
def test_a_graph_the_experiment_is_not_about_is_refused(
    name: str, flags: list[str], allowed: str, tmp_path: Path, capsys: Any
) -> None:
    assert probe(tmp_path / "r", name, *flags) == 2
    assert f"allowed: {allowed}" in capsys.readouterr().err
    assert not (tmp_path / "r" / "run.db").exists()


def test_steering_a_simulated_model_is_refused_before_the_work(tmp_path: Path, capsys: Any) -> None:
    assert probe(tmp_path / "r", "park", "--condition", "ring:8", "--steer") == 2
    assert "nothing to steer" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_a_checkpoint_that_is_none_is_refused_before_the_work(tmp_path: Path, capsys: Any) -> None:
    words = ["--lengths", "5,12", "--checkpoints", str(tmp_path)]
    assert probe(tmp_path / "r", "lee", *words) == 2
    assert "no config.json" in capsys.readouterr().err and not (tmp_path / "r" / "run.db").exists()


def test_scripts_and_paths_of_the_guide_are_names() -> None:
    for entry in ENTRIES:
        assert find(entry.script) is entry
        assert find(f"experiments/core/{entry.script}.py") is entry
    assert not probing.is_script("experiments/core/run_experiment.py")


def test_more_contexts_run_only_the_new_ones_and_keep_the_first(css: Path, tmp_path: Path) -> None:
    from peira.families.representations.files import read_npz

    first = read_npz((css / "contexts.npz").read_bytes())["natural.dirichlet_energy"]
    assert probe(css, "css", "--n-contexts", "7") == 0
    both = read_npz((css / "contexts.npz").read_bytes())["natural.dirichlet_energy"]
    assert (len(first), len(both)) == (4, 7)
    assert (both[:4] == first).all()
    told = strict(css / "config.json")["details"]["tokens_forwarded"]
    assert told == 7 * 2 * 50, "no context was run twice"
    fresh = tmp_path / "fresh"
    assert probe(fresh, "css", "--n-contexts", "7") == 0
    assert _results(fresh) == _results(css)


def _results(folder: Path) -> Any:
    return strict(folder / "results.json")["results"]


def test_other_settings_are_refused_by_name(css: Path, capsys: Any) -> None:
    assert probe(css, "css", "--dtype", "bfloat16") == 2
    assert "dtype" in capsys.readouterr().err
    assert probe(css, "css", "--seed", "7") == 2
    assert probe(css, "css", "--batch-size", "2") == 0


def test_checkpoints_resume_and_foreign_ones_do_not(css: Path, tmp_path: Path, capsys: Any) -> None:
    path = css / "checkpoint_layer_2.json"
    found = strict(path)
    assert found["contexts_done"] == found["contexts_planned"] == 4
    assert peira(["probe", "css", "--resume", str(path)]) == 0
    path.write_text(path.read_text()[:40])
    assert peira(["probe", "css", "--resume", str(path)]) == 2
    path.write_text(json.dumps({**found, "settings_hash": "0" * 16}))
    assert peira(["probe", "css", "--resume", str(path)]) == 2
    assert peira(["probe", "css", "--resume", str(tmp_path / "none")]) == 2
    assert peira(["probe", "park", "--resume", str(css)]) == 2
    capsys.readouterr()


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_a_context() -> None:
    """Die once the first context is saved."""
    from peira.families.representations.watching import Progress

    Progress.tick = die  # type: ignore[method-assign]


def before_the_third_is_kept() -> None:
    """Die between the two checkpoints of the third block."""
    from peira.engine.lab import Lab

    keep = Lab.checkpoint

    async def killing(lab: Lab, name: str, data: Any) -> None:
        if name == "contexts/000002":
            die()
        await keep(lab, name, data)

    Lab.checkpoint = killing  # type: ignore[method-assign]


def killed(words: list[str], prepare: Callable[[], None]) -> None:
    """Run `words` in a forked child that dies by SIGKILL, as prepared."""
    child = os.fork()
    if child == 0:
        prepare()
        peira(words)
        os._exit(1)  # it should be dead
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_after_each_context_and_resumed_gives_the_same_files(tmp_path: Path) -> None:
    from peira.families.representations.files import read_npz

    small = ["--n-contexts", "10", "--batch-size", "1", "--lengths", "20"]
    whole, resumed = tmp_path / "whole", tmp_path / "r"
    assert probe(whole, "css", *small) == 0
    words = ["probe", "css", "--model", MIXER, "--output-dir", str(resumed), *small]
    for _ in range(10):
        killed(words, after_a_context)
    assert peira(["probe", "css", "--resume", str(resumed)]) == 0
    assert _results(resumed) == _results(whole)
    one, other = (read_npz((d / "contexts.npz").read_bytes()) for d in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[k], other[k], equal_nan=one[k].dtype.kind == "f") for k in one)
    told = [strict(d / "config.json")["details"]["tokens_forwarded"] for d in (whole, resumed)]
    assert told == [10 * 2 * 20] * 2, "no context was run twice"


def test_what_a_kill_kept_from_its_block_is_forwarded_again_and_counted_once(
    tmp_path: Path,
) -> None:
    small = ["--n-contexts", "4", "--batch-size", "1", "--lengths", "20"]
    killed(
        ["probe", "css", "--model", MIXER, "--output-dir", str(tmp_path), *small],
        before_the_third_is_kept,
    )
    assert peira(["probe", "css", "--resume", str(tmp_path)]) == 0
    assert strict(tmp_path / "config.json")["details"]["tokens_forwarded"] == 4 * 2 * 20


def _env() -> dict[str, str]:
    src = str(Path(__file__).resolve().parents[2] / "src")
    return {**os.environ, "PYTHONPATH": src}


def test_a_token_budget_halts_with_its_own_code_and_goes_on(tmp_path: Path) -> None:
    assert probe(tmp_path / "r", "css", "--token-budget", "150") == 4
    assert strict(tmp_path / "r" / "checkpoint_layer_0.json")["contexts_done"] == 2
    assert probe(tmp_path / "r", "css", "--token-budget", "9999") == 0


def test_a_token_budget_is_the_runs_over_all_its_trials(tmp_path: Path, capsys: Any) -> None:
    words = ["--lengths", "10,20,30", "--condition", "ring:8", "--condition", "ring:9",
             "--null", "shuffled"]  # fmt: skip
    each = 4 * 2 * 30
    assert probe(tmp_path / "r", "park", *words, "--token-budget", str(each + 60)) == 4
    capsys.readouterr()
    with RunView(tmp_path / "r") as run:
        assert (run.tally.done, run.tally.halted) == (1, 1)
    assert probe(tmp_path / "r", "park", *words, "--token-budget", str(2 * each)) == 0


@pytest.mark.parametrize("name", ["css", "hierarchical", "loo", "block_permutation"])
def test_every_context_may_have_a_graph_of_its_own(name: str, tmp_path: Path) -> None:
    small = ["--lengths", "8,20", "--graphs", "per_context"]
    assert (
        probe(tmp_path / "r", name, *small, *(["--condition", "semantic"] * (name == "loo"))) == 0
    )
    found = strict(tmp_path / "r" / "results.json")
    (last, *_) = [found["results"][key] for key in list(found["results"])[-1:]]
    assert last["dirichlet_energy_n"] == 4 and last.get("population_overlap_2") is None


def test_contexts_are_measured_on_their_own_graph() -> None:
    settings = RepresentationSettings(
        experiment="block_permutation",
        model=MIXER,
        graph="dual",
        graphs="per_context",
        n_contexts=3,
    )
    spec, experiment = resolve(settings, 1, MIXER), of("block_permutation")
    drawn = [experiment.draw(spec, i) for i in range(3)]
    assert len({c.structure.adjacency.tobytes() for c in drawn}) == 3
    assert all(r["valid"][0] == 1 for r in experiment.measure(spec, drawn))


def test_a_graph_of_its_own_is_measured_by_the_walk_asked_for() -> None:
    settings = RepresentationSettings(
        experiment="css", model=MIXER, graphs="per_context", walk="lazy:0.4", n_contexts=2
    )
    spec = resolve(settings, 1, MIXER)
    context = spec.draw(1)
    assert np.array_equal(spec.graph_of(1).adjacency, context.structure.adjacency)
    assert np.diag(spec.graph_of(1).steps()) == pytest.approx(0.4)


def test_long_experiments_are_saved_context_by_context() -> None:
    from peira.families.representations.trial import block_size

    for name in ("loo_multilayer", "incongruous_injection"):
        settings = RepresentationSettings(experiment=name, model=MIXER)
        assert block_size(resolve(settings, 1, MIXER)) == 1


@pytest.mark.parametrize(
    ("null", "wording"),
    [
        ("none", "nothing is claimed"),
        ("untrained", "untrained twin"),
        ("shuffled", "order-dependent"),
    ],
)
def test_the_answer_says_only_what_the_nulls_allow(
    null: str, wording: str, tmp_path: Path, capsys: Any
) -> None:
    assert probe(tmp_path / "r", "css", "--null", null) == 0
    answer = strict(tmp_path / "r" / "results.json")["answer"]
    assert wording in answer and "that of the graph" not in answer


def test_offline_says_that_no_model_is_used(tmp_path: Path, capsys: Any) -> None:
    words = ["probe", "css", "--model", "peira/tiny-graph-tracer", "--offline", "--n-contexts", "4"]
    assert peira([*words, "--output-dir", str(tmp_path / "r")]) == 0
    assert "sim:mixer: simulated" in capsys.readouterr().err.splitlines()[0]


def test_overflow_leaves_strict_files_and_a_reason(tmp_path: Path) -> None:
    words = ["probe", "css", "--model", MIXER + ",overflow=1", "--n-contexts", "4",
             "--output-dir", str(tmp_path / "r")]  # fmt: skip
    assert peira(words) == 0
    found = strict(tmp_path / "r" / "results.json")
    assert found["results"]["layer_1"]["dirichlet_energy"] is None
    assert found["results"]["layer_1"]["dirichlet_energy_n"] == 0
    assert found["reasons"]["results.layer_1.dirichlet_energy"] == "nonfinite"
    assert found["results"]["layer_0"]["dirichlet_energy_n"] == 4


def test_tracking_without_the_package_is_one_local_run(css: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert probe(css, "css", "--wandb", "icl") == 0
    assert probe(css, "css", "--wandb", "icl") == 0
    runs = list((css / "wandb-local" / "icl").iterdir())
    assert len(runs) == 1
    assert {"config.json", "summary.json", "history.jsonl"} <= {p.name for p in runs[0].iterdir()}


def test_activations_are_saved_on_request(tmp_path: Path) -> None:
    assert probe(tmp_path / "r", "css", "--save-activations", "tokens") == 0
    with np.load(tmp_path / "r" / "raw_data" / "activations.npz") as saved:
        assert saved["layer_2"].shape == (4, 50, 32) and saved["nodes"].shape == (4, 50)


def test_conditions_are_compared_over_the_same_walks(
    finished: Callable[[str], Path], tmp_path: Path, capsys: Any
) -> None:
    loo = Path(shutil.copytree(finished("loo"), tmp_path / "r"))
    capsys.readouterr()
    assert peira(["analyse", str(loo)]) == 0
    told = (loo / "analysis" / "findings.json").read_text()
    assert "semantic_minus_unrelated" in told
    assert peira(["plot", str(loo), "loo_heatmap", "--output", str(tmp_path / "h.png")]) == 0
    assert (tmp_path / "h.png").stat().st_size > 5000


def test_runs_are_compared_over_the_contexts_they_share(css: Path, tmp_path: Path) -> None:
    from peira.families import load_family
    from peira.families.representations.files import read_npz
    from peira.store.compare import compare, load_side

    noisy = ["--model", MIXER + ",sigma=1", "--n-contexts", "4", "--output-dir"]
    assert peira(["probe", "css", *noisy, str(tmp_path / "same")]) == 0
    assert peira(["probe", "css", *noisy, str(tmp_path / "other"), "--seed", "7"]) == 0
    own, same, other = (load_side(str(d), tmp_path, load_family)
                        for d in (css, tmp_path / "same", tmp_path / "other"))  # fmt: skip
    changes = compare(own, same).changes
    assert {c.first.labels.get("layer") for c in changes} == {"layer 0", "layer 1", "layer 2", ""}
    energy = {c.first.labels["layer"]: c for c in changes if c.first.quantity == "dirichlet_energy"}
    a, b = (read_npz((d / "contexts.npz").read_bytes())["natural.dirichlet_energy"][:, 2, -1]
            for d in (css, tmp_path / "same"))  # fmt: skip
    told = energy["layer 2"].change
    assert told is not None and told.n == 4 and energy["layer 2"].q is not None
    assert told.estimate == pytest.approx(float((b - a).mean()), abs=1e-6)
    assert all(c.change is None for c in compare(own, other).changes)


MIXER_32 = "sim:mixer,d=16,layers=32"
LOO = "experiments/core/run_multilayer_loo_experiment.py"
GUIDE_LINES = (  # in the guide's order; the model is replaced, and the numbers at the end make it small
    f"experiments/core/run_experiment.py --model {MIXER_32} --layers 0,5,11"
    " --output-dir results/test_run --n-contexts 2",
    f"experiments/core/run_experiment.py --model {MIXER_32} --layers 0,8,16,24,31 --dtype bfloat16"
    " --n-contexts 2",
    "experiments/analysis/compare_experiments.py --results results/test_run results/css",
    f"{LOO} --model {MIXER} --output-dir results/loo_jan22 --n-contexts 2 --lengths 6,12"
    " --condition semantic --layers 2",
    "experiments/analysis/compare_loo_metrics.py --results-dir results/loo_jan22",
    "experiments/logging/log_multilayer_loo_to_wandb.py --results-dir results/loo_jan22"
    " --project icl-influence",
    "experiments/plotting/plot_loo_heatmap.py --results-dir results/loo_jan22"
    " --output results/loo_jan22/heatmap.png",
    f"{LOO} --resume results/loo_jan22/checkpoint_layer_2.json",
    "experiments/analysis/write_summary.py --results-dir results/loo_jan22",
)


def test_a_workspace_runs_the_guides_lines(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    ws = workspace.write_workspace(tmp_path / "ws")
    monkeypatch.chdir(ws)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for line in GUIDE_LINES:
        script, *words = line.split()
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
        assert ended.value.code == 0, line
    capsys.readouterr()
    assert Path("results/loo_jan22/heatmap.png").exists()
    assert list(Path("results/loo_jan22/wandb-local/icl-influence").glob("*/artifact/results.json"))
    assert list(Path("experiments").glob("*_loo_jan22.md"))
    assert {p.stem for p in Path("experiments/core").glob("*.py")} >= {
        e.script for e in ENTRIES if e.name not in workspace.REPRODUCTIONS
    }


def test_the_workspaces_shell_files_run_and_watch(tmp_path: Path) -> None:
    ws = workspace.write_workspace(tmp_path / "ws")
    small = ["--model", MIXER, "--n-contexts", "2", "--lengths", "6,12", "--condition", "semantic"]
    _shell(ws, "run_full_multilayer_experiment.sh", *small)
    assert (ws / "results/loo_multilayer/results.json").is_file()
    assert "order-dependent" in (ws / "logs/multilayer_loo.log").read_text()
    assert '"contexts_done": 2' in _shell(
        ws, "monitor_full_experiment.sh", "results/loo_multilayer", "0"
    )


def _shell(cwd: Path, *words: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", *words], cwd=cwd, env={**_env(), "PATH": path}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.torch
def test_the_guides_template_and_the_shipped_one_run(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `local` (torch) is not installed")
    guide = Path(__file__).with_name("guide_template.txt").read_text()  # verbatim
    (tmp_path / "mine.py").write_text(guide)
    assert peira(["probe", str(tmp_path / "mine.py"), "--model", "peira/tiny-graph-tracer",
                  "--output-dir", str(tmp_path / "mine")]) == 0  # fmt: skip
    assert strict(tmp_path / "mine" / "config.json")["model"] == "peira/tiny-graph-tracer"
    assert "src" not in sys.modules
    made = workspace.write_script("css_again", tmp_path)
    out = tmp_path / "out"
    assert peira(["probe", str(made), "--model", "peira/tiny-graph-tracer", "--n-contexts", "5",
                  "--output-dir", str(out)]) == 0  # fmt: skip
    found = strict(out / "results.json")
    assert (
        len(found["layer_3"]["css_per_token"]) == 49 and found["layer_0"]["cluster_separation"] > 0
    )


@pytest.mark.torch
def test_the_embedded_model_is_used_and_named(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("torch", reason="the extra `local` (torch) is not installed")
    assert peira(["probe", "css", "--model", "peira/tiny-graph-tracer", "--n-contexts", "5", "--layers",
                  "0,3", "--output-dir", str(tmp_path / "r")]) == 0  # fmt: skip
    assert "tiny" in capsys.readouterr().err
    found = strict(tmp_path / "r" / "results.json")
    assert found["label"] == "tiny" and set(found["results"]) == {"layer_0", "layer_3"}
    assert "tiny" in (tmp_path / "r" / "report.md").read_text()
