"""docs/coming-from.md: every command, file and field of the guides is mapped, and what it is mapped
to is run here (the evaluation guide's own lines: tests/prompts; a workspace's: tests/representations).
"""

import ast
import json
import re
from pathlib import Path

import pytest

from peira import api
from peira.cli.main import run
from peira.families.representations.catalogue import ENTRIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")
NAMED_BY_GUIDES = [
    "run_strong_models_experiment.py",
    "generate_configs_both_orders.sh",
    "generate_single_config.sh",
    "run_all_simple.sh",
    "run_single_experiment_simple.sh",
    "run_qwen_large_models_comp1.sh",
    "run_all_3agent.sh",
    "collect_results.sh",
    "create_mmlu_ordered_heatmaps.py",
    "analyze_convergence_rounds.py",
    "analyze_token_usage.py",
    "analyze_number_of_runs_in_heatmap.py",
    "visualize_negotiation_results.py",
    "analyze_qwen_results.py",
    "analyze_order_effects.py",
    "--models",
    "--competition-level",
    "--num-items",
    "--max-rounds",
    "--num-runs",
    "--batch",
    "--output-dir",
    "WEAK_MODELS",
    "STRONG_MODELS",
    "COMPETITION_LEVELS",
    "NUM_RUNS",
    "RUN_SEEDS",
    "experiment_id",
    "weak_model",
    "strong_model",
    "model_order",
    "competition_level",
    "run_number",
    "num_items",
    "max_rounds",
    "random_seed",
    "output_dir",
    "result.json",
    "all_results.json",
    "summary.json",
    "results.csv",
    "config_N.json",
    "all_interactions.json",
    "run_1_experiment_results.json",
    "completed_N.flag",
    "experiment_N.log",
    "scripts.run_all",
    "list_runs.py",
    "compare_runs.py",
    "archive_run.py",
    "clean_workspace.py",
    "--archive",
    "--condition",
    "--parts_per_dataset",
    "--max_concurrent_jobs",
    "--resume",
    "--run_id",
    "--skip_prepare",
    "--skip_build",
    "--run1",
    "--run2",
    "--experiment_name",
    "--dry_run",
    "--clean_prepared",
    "--experiments_dir",
    "experiments_dir",
    "prompt_sets",
    "temps",
    "predictions.csv",
    "per_item_scores.csv",
    "significance.json",
    "costs.json",
    "reports/report.md",
    "multi_trial_manifest.json",
    "aggregate_report.md",
    "batch_runner.py",
    "batch_analyzer.py",
    "--report",
    "BatchAnalyzer",
    "collect_run_data",
    "calculate_metric_statistics",
    "compare_variations",
    "identify_patterns",
    "experiment_name",
    "base_scenario",
    "runs_per_variation",
    "max_parallel",
    "timeout_per_run",
    "budget_limit",
    "cost_per_run_limit",
    "variations",
    "save_individual_runs",
    "aggregate_metrics",
    "metrics.yaml",
    "extraction_method",
    "pattern",
    "batch-config.yaml",
    "batch-summary.json",
    "batch-state.json",
    "batch-costs.json",
    "runs_completed",
    "runs_failed",
    "failed_runs",
    "world-state-*.md",
    "actor-*.md",
    "metrics.json",
    "scenario-state.json",
    "scenario.log",
    "analysis-report.md",
    "metrics-analysis.json",
    "variation-statistics.json",
    "patterns.json",
    "compare_experiments.py",
    "compare_loo_metrics.py",
    "plot_loo_heatmap.py",
    "log_multilayer_loo_to_wandb.py",
    "run_full_multilayer_experiment.sh",
    "monitor_full_experiment.sh",
    "--model",
    "--n-contexts",
    "--layers",
    "--dtype",
    "--seed",
    "--verbose",
    "checkpoint_layer_16.json",
    "results.json",
    "config.json",
    "figures/",
    "raw_data/",
    "css_per_token",
    "dirichlet_energy",
    "cluster_separation",
    "src.data",
    "src.models",
    "src.metrics",
    "HookedLLM.from_pretrained",
    "OPENROUTER_API_KEY",
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GOOGLE_API_KEY",
    "XAI_API_KEY",
    "configs.py",
    "MAX_PARALLEL",
    "experiments/results/scaling_experiment/",
    "pytest tests/",
    "src/batch_analyzer.py experiments/my-experiment/`",
    "success_rate",
    ":free",
    "nohup",
    "logging.DEBUG",
    "--results",
    "--results-dir",
    "--project",
    "timestamp",
]
ELSEWHERE = {  # commands of the page that no test of this file runs: the test that does, and its words
    "peira doctor": ("subjects/test_commands.py", '"doctor"'),
    "peira view": ("web/test_browser.py", '"view"'),
    "peira run studies/negotiation/": ("cli/test_commands.py", "every_study_that_ships"),
    "peira plot RUN all": ("cli/test_commands.py", "/figures"),  # every run draws all of them
    "peira import bargain": ("importers/test_bargain.py", "write_run"),
    "peira import excellence": ("importers/test_layouts.py", "imported(excellence"),
    "peira import icl-influence": ("representations/test_recorded.py", '"icl-influence"'),
    "peira import iclr-induction": ("representations/test_recorded.py", '"iclr-induction"'),
    "peira evaluate": ("prompts/test_commands.py", "scripts.run_all"),
    "peira list -v": ("prompts/test_commands.py", "list_runs.py -v"),
    "peira compare": ("prompts/test_commands.py", "compare_runs.py --run1"),
    "peira archive": ("prompts/test_commands.py", "archive_run.py --experiment_name"),
    "peira clean": ("prompts/test_commands.py", "clean_workspace.py"),
    "peira probe": ("representations/test_probe.py", "every_experiment_ends"),
}


def test_everything_that_a_guide_names_is_on_the_page():
    wanted = [*NAMED_BY_GUIDES, *(f"{entry.script}.py" for entry in ENTRIES)]
    assert [name for name in wanted if name not in PAGE] == []


def test_every_command_of_the_page_is_run_by_a_test():
    guides = [
        test
        for test in ast.parse(Path(__file__).read_text(encoding="utf-8")).body
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_the_")
    ]
    here = [word.value for test in guides for word in ast.walk(test)
            if isinstance(word, ast.Constant) and len(str(word.value)) > 7]  # fmt: skip
    for command in set(re.findall(r"`(peira \w[^`]+)`", PAGE)):
        there = [told for start, told in ELSEWHERE.items() if command.startswith(start)]
        for file, words in there:
            assert words in (ROOT / "tests" / file).read_text(encoding="utf-8"), command
        bare = command.removeprefix("peira ")
        assert there or any(part in command or bare in part for part in here), command


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    for name in ("studies", "scenarios", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mapped(fragment: str) -> str:
    """The first command of the page that begins so, as it stands there."""
    return next(x for x in re.findall(r"`(peira [^`]+)`", PAGE) if fragment in x)


def peira(line: str, **names: str) -> int:
    words = [names.get(word, word) for word in line.split()]
    return run(words[1:])


def test_the_negotiation_guides_commands(clone, capsys):
    flags = "--competition-level 0.95 --num-items 5 --max-rounds 10 --num-runs 5 --batch"
    models = "sim:skill=0.2 sim:skill=0.9"
    line = (
        f"peira negotiate --models {models} {flags} --output-dir D"  # docs/negotiation.md runs it
    )
    assert peira(f"{line} --dry-run") == 0
    (clone / "orders.yaml").write_text(
        "family: negotiation\nname: E\nfixed: {num_items: 3, max_rounds: 2}\nfactors:\n"
        "  weak_model: ['sim:skill=0.2']\n  strong_model: ['sim:skill=0.9']\n"
        "  model_order: [weak_first, strong_first]\n"
    )
    api.run("orders.yaml")  # neither figures nor a report: the commands below make their own
    for part in ("collect RUN",
                 "plot RUN heatmaps", "plot RUN convergence", "plot RUN tokens", "plot RUN counts",
                 "analyse RUN --by model", "analyse RUN --by order", "status RUN --watch",
                 "status RUN --failed", "show RUN 3"):  # fmt: skip
        assert peira(mapped(part).replace(" 3", " 0"), RUN="E") == 0, part
    assert peira(f"{mapped('scaling.yaml --write-configs')} --simulate") == 0
    (config,) = clone.glob("experiments/*/configs/config_42.json")
    assert json.loads(config.read_text())["experiment_id"] == 42
    assert peira("peira run config_42.json --dry-run", **{"config_42.json": str(config)}) == 0
    for name in ("qwen_sizes", "three_agents", "scaling.yaml --parallel 8", "--only 42"):
        assert peira(f"{mapped(name)} --simulate --dry-run") == 0


def test_the_scenario_guides_commands(clone, capsys):
    folder = clone / "experiments/my-experiment"
    folder.mkdir(parents=True)
    (folder / "batch-config.yaml").write_text(
        "experiment_name: mine\nbase_scenario: scenarios/test-regulation-negotiation\n"
        "runs_per_variation: 1\noutput_dir: experiments/my-experiment\n"
        "aggregate_metrics: false\nvariations:\n"  # `analyse` and `report` make theirs below
        "  - {type: actor_model, actor: regulator, values: [sim:actor, 'sim:actor,lift=1']}\n"
    )
    line = f"{mapped('run experiments/my-experiment')} --simulate --output-dir {folder}"
    assert peira(line) == 0
    assert peira(f"{line} --resume --dry-run") == 0
    for part in ("analyse experiments", "status experiments", "report experiments"):
        assert peira(mapped(part)) == 0
    for name in ("batch-config.yaml", "batch-summary.json", "batch-state.json", "batch-costs.json",
                 "runs/var-001-run-001/scenario.log", "analysis/analysis-report.md",
                 "analysis/metrics-analysis.json", "analysis/variation-statistics.json",
                 "analysis/patterns.json"):  # fmt: skip
        assert (folder / name).is_file(), name
    for path in folder.glob("run.db*"):  # as the other tool would have left it
        path.unlink()
    assert peira(f"{mapped('import scenario-lab')} --out imported", DIR=str(folder)) == 0
    summary = json.loads((folder / "batch-summary.json").read_text())
    assert {"runs_completed", "runs_failed", "failed_runs"} <= set(summary)


def test_the_representation_guides_commands(clone, capsys):
    (clone / "loo.yaml").write_text(
        "family: representations\nname: loo\noutput_dir: loo_multilayer\nfixed:\n"
        "  {experiment: loo_multilayer, model: 'sim:mixer,d=8,layers=1', n_contexts: 2,"
        " lengths: [6, 8], null: [none]}\n"
    )
    api.run("loo.yaml")  # as `peira probe loo_multilayer`, without its figures
    assert peira(mapped("compare A B C"), **dict.fromkeys("ABC", "loo_multilayer")) == 0
    assert peira(mapped("analyse D"), D="loo_multilayer") == 0
    assert peira(mapped("loo_heatmap"), D="loo_multilayer", F="heat.png") == 0
    assert peira(mapped("report D --summary"), D="loo_multilayer") == 0
    assert peira(mapped("report D --wandb"), D="loo_multilayer") == 0
    assert peira(mapped("new experiment NAME --script"), NAME="again") == 0
    assert peira(mapped("new workspace"), DIR="ws") == 0
    for entry in ENTRIES:
        assert f"`peira probe {entry.name}`" in PAGE.replace(
            "`peira probe css` with", "`peira probe css`"
        )
