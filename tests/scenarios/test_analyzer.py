"""BatchAnalyzer: the guide's Python block, from files alone, with nothing that raises."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from peira import BatchAnalyzer
from peira.errors import InputError
from tests.scenarios.conftest import LEVEL, Bench

TWO = {"type": "actor_model", "actor": "regulator", "values": ["sim:actor", "sim:actor,lift=3"],
       "labels": ["firm", "soft"]}  # fmt: skip


def filled(bench: Bench) -> BatchAnalyzer:
    bench.scenario(success_criteria={"high": {"cooperation_level": ">= 6"}})
    bench.go(runs_per_variation=6, variations=[TWO])
    return BatchAnalyzer(bench.run)


def test_the_guides_block_runs_with_only_its_import_changed(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(bench)
    analyzer = BatchAnalyzer(str(bench.run))
    analyzer.collect_run_data()
    metrics = analyzer.calculate_metric_statistics()
    print(f"Average cooperation_level: {metrics['cooperation_level']['mean']:.2f}")
    comparison = analyzer.compare_variations("cooperation_level")
    print("Best variation:", comparison[0])
    patterns = analyzer.identify_patterns()
    print(f"Success rate: {patterns['success_rate'] * 100:.1f}%")
    out = capsys.readouterr().out
    assert "Average cooperation_level: " in out and "Success rate: " in out
    assert comparison[0][0] == 2 and comparison[0][6] == "regulator=soft"


def test_collecting_twice_changes_nothing(bench: Bench) -> None:
    analyzer = filled(bench)
    first = [dict(row) for row in analyzer.collect_run_data()]
    assert analyzer.collect_run_data() == first and len(first) == 12
    assert set(first[0]) >= {"run_id", "variation_id", "metrics", "cost", "success",
                             "turns_completed"}  # fmt: skip


def test_files_alone_give_the_numbers_of_the_database(bench: Bench) -> None:
    from peira.cli.finish import finish

    filled(bench)
    finish(bench.run, quiet=True, figures=False)
    official = bench.json("analysis/metrics-analysis.json")
    (bench.run / "run.db").unlink()
    found = BatchAnalyzer(bench.run).calculate_metric_statistics()
    mine, theirs = found["cooperation_level"], official["cooperation_level"]
    for key in ("n", "missing", "mean", "std", "ci"):
        assert mine[key] == pytest.approx(theirs[key])
    assert [e["diff"] for e in mine["effects"]] == [e["diff"] for e in theirs["effects"]]


def test_a_damaged_file_is_a_warning_and_missing_data(bench: Bench) -> None:
    filled(bench)
    (bench.run / "runs" / "var-001-run-001" / "metrics.json").write_text('{"final')
    (bench.run / "runs" / "var-001-run-002" / "scenario-state.json").write_text("")
    analyzer = BatchAnalyzer(bench.run)
    with pytest.warns(UserWarning, match="damaged"):
        rows = {row["run_id"]: row for row in analyzer.collect_run_data()}
    assert rows["var-001-run-001"]["metrics"] == {}
    assert rows["var-001-run-002"]["state"] == "failed" and len(rows) == 12


def test_the_old_tools_word_completed_is_accepted(bench: Bench) -> None:
    filled(bench)
    for path in (bench.run / "runs").glob("*/scenario-state.json"):
        data = json.loads(path.read_text())
        path.write_text(json.dumps(data | {"status": "completed"}))
    found = BatchAnalyzer(bench.run).calculate_variation_statistics()
    assert found["1"]["done"] == 6


def test_undefined_numbers_are_nan_and_sort_last(bench: Bench) -> None:
    never = LEVEL | {"pattern": "never (\\d+)"}
    bench.scenario(metrics={"cooperation_level": LEVEL, "never": never})
    bench.go(variations=[TWO])
    analyzer = BatchAnalyzer(bench.run)
    assert math.isnan(analyzer.calculate_metric_statistics()["never"]["mean"])
    assert math.isnan(analyzer.collect_run_data()[0]["metrics"]["never"])
    rows = analyzer.compare_variations("never")
    assert [row[4:6] for row in rows] == [(0, 1), (0, 1)]
    with pytest.raises(InputError, match="cooperation_level"):
        analyzer.compare_variations("cooperation")


def test_a_level_with_commas_is_one_level(bench: Bench) -> None:
    bench.scenario()
    bench.go(variations=[TWO | {"labels": ["firm, mostly", "soft"]}])
    found = BatchAnalyzer(bench.run).calculate_variation_statistics()
    assert [v["factors"] for v in found.values()] == [
        {"regulator": "firm, mostly"}, {"regulator": "soft"}
    ]  # fmt: skip


def test_without_runs_it_reads_the_database(bench: Bench) -> None:
    bench.scenario()
    bench.go(save_individual_runs=False)
    assert BatchAnalyzer(bench.run).collect_run_data()[0]["turns_completed"] == 3


def test_report_and_data_are_saved(bench: Bench) -> None:
    analyzer = filled(bench)
    report = analyzer.generate_analysis_report()
    for heading in ("What was run", "Success", "Metrics", "Comparison of variations",
                    "Effects and variance", "Trajectories", "Patterns", "Cost efficiency",
                    "Quality", "Limits of this evidence", "Reproduce"):  # fmt: skip
        assert f"## {heading}" in report
    folder = analyzer.save_analysis_data()
    assert {p.name for p in folder.iterdir()} >= {
        "analysis-report.md", "metrics-analysis.json", "variation-statistics.json", "patterns.json"
    }  # fmt: skip


def test_a_directory_without_runs_is_refused(bench: Bench) -> None:
    filled(bench)
    shutil.rmtree(bench.run / "runs")
    (bench.run / "run.db").unlink()
    with pytest.raises(InputError, match="no runs here"):
        BatchAnalyzer(bench.run)
