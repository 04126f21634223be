"""Batch mode against the fault server: the trial does not know, the numbers do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from peira import api
from peira.cli.main import run
from peira.families.prompts.evaluated import Evaluated
from peira.testing.faults import Faults
from peira.testing.server import FaultServer
from tests.subjects.conftest import drivers

__all__ = ["drivers"]

Read = Callable[[Path], Evaluated]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(Faults(polls=1)).running() as running:
        yield running


def provider(server: FaultServer, **batch: Any) -> dict[str, Any]:
    quick = {"kind": "openai", "gather_seconds": 0.05, "poll_seconds": 0.02}
    return {
        "model_id": "stub-model",
        "provider": {
            "base_url": f"{server.url}/v1", "batch": quick | batch,
        },
        "pricing": {"input_per_million": 1.0, "output_per_million": 2.0},
    }  # fmt: skip


def texts(found: Evaluated) -> list[list[str]]:
    return [trial.columns["text"] for trial in found.trials]


def test_batch_and_live_give_the_same_rows_at_half_the_price(
    config: Callable[..., Path], folder: Path, server: FaultServer, read: Read
) -> None:
    live = api.run(config(**provider(server)), api.Options(run_dir=folder / "live"))
    assert not server.jobs.jobs
    batch = api.run(
        config(**provider(server, parts=3), use_batch_api=True),
        api.Options(run_dir=folder / "batch"),
    )
    assert (live.exit_code, batch.exit_code) == (0, 0)
    assert len(server.jobs.jobs) == 6  # three parts of each of two arms
    assert sum(server.jobs.rows.values()) == len(server.jobs.rows) == 80
    first, second = read(live.path), read(batch.path)
    assert texts(first) == texts(second)
    assert first.trials[0].columns["keys"] == second.trials[0].columns["keys"]
    assert second.trials[0].columns["mode"] == "batch"
    assert batch.spent_usd == pytest.approx(live.spent_usd / 2, abs=1e-4)
    (costs,) = (folder / "batch" / "trials").glob("*/results/costs.json")
    assert orjson.loads(costs.read_bytes())["batch_discount_applied"] is True


def test_a_shared_control_is_one_row_of_one_job(
    config: Callable[..., Path], folder: Path, server: FaultServer
) -> None:
    sets = {
        name: {"control": "c.txt", "arm_" + name: f"{file}.txt"}
        for name, file in (("one", "t"), ("two", "u"), ("three", "v"))
    }
    report = api.run(
        config(
            **provider(server), use_batch_api=True, prompt_sets=sets, sweep={"prompt_sets": "all"}
        ),
        api.Options(run_dir=folder / "run"),
    )
    assert report.exit_code == 0
    assert sum(server.jobs.rows.values()) == 160  # not 240


def test_each_job_carries_its_own_model_and_sampling(
    config: Callable[..., Path], folder: Path, server: FaultServer
) -> None:
    given = provider(server) | {
        "sweep": {"models": ["m1", "m2"], "top_p": [1.0, 0.5]}, "use_batch_api": True,
    }  # fmt: skip
    report = api.run(config(**given), api.Options(run_dir=folder / "run"))
    assert report.exit_code == 0
    seen = set()
    for name, data in server.jobs.files.items():
        if not name.startswith("file-"):
            continue
        bodies = [orjson.loads(line)["body"] for line in data.splitlines()]
        kinds = {(b["model"], b["top_p"], b["messages"][0]["content"]) for b in bodies}
        assert len(kinds) == 1
        seen |= kinds
    assert len(seen) == 8  # two models, two values of top_p, two arms


def test_detaching_leaves_the_jobs_to_the_provider_and_resuming_finds_them(
    config: Callable[..., Path], server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config(**provider(server))
    command = ["evaluate", "--config", "c.yaml", "--run-id", "d", "--mode", "batch",
               "--skip-stats", "--skip-report"]  # fmt: skip
    assert run([*command, "--detach"]) == 0
    assert "job-0001" in capsys.readouterr().err
    assert run([*command, "--resume"]) == 0
    assert set(server.jobs.rows.values()) == {1} and len(server.jobs.rows) == 80
    (inputs,) = Path("experiments/run_d/batch_inputs").glob("*.jsonl")
    assert len(inputs.read_bytes().splitlines()) == 80


def test_rows_that_a_job_does_not_deliver_are_asked_for_again(
    config: Callable[..., Path], folder: Path, server: FaultServer
) -> None:
    server.faults = Faults(polls=1, batch_missing=0.2, batch_errors=0.2)
    report = api.run(
        config(**provider(server), use_batch_api=True), api.Options(run_dir=folder / "run")
    )
    assert report.exit_code == 0
    assert len(server.jobs.rows) == 80
    assert max(server.jobs.rows.values()) == 2


def test_a_driver_killed_at_any_step_of_a_job_buys_no_row_twice(
    config: Callable[..., Path], folder: Path, server: FaultServer, read: Read, drivers: Any
) -> None:
    """kill -9 at each request of the batch interface in turn, before the provider acts on it or
    after it acted; then the same study again."""
    sizes = {"closed_book_max_items": 6, "open_book_max_items": 3}
    sets = {"plain": {"control": str(folder / "c.txt"), "treatment": str(folder / "t.txt")}}
    study = api.ask(
        config(**provider(server), use_batch_api=True, sizes=sizes, prompt_sets=sets)
    ).study
    study = study.model_copy(update={"save_individual_runs": False, "aggregate_metrics": False})
    lines: list[str] = []
    server.on_request = lines.append
    assert drivers.run(study, folder / "whole") == 0
    whole, steps = texts(read(folder / "whole")), len(lines)
    assert steps >= 8
    for step in range(1, steps + 1):
        target = folder / f"killed-{step}"
        server.jobs.rows.clear()
        first = _killed_at(step, server, drivers, study, target)
        code = drivers.run(study, target) if first == -9 else first
        assert code == 0, step
        assert set(server.jobs.rows.values()) == {1}, step
        assert len(server.jobs.rows) == 18, step
        assert texts(read(target)) == whole, step


def _killed_at(step: int, server: FaultServer, drivers: Any, study: Any, target: Path) -> int:
    seen: list[str] = []

    def count(line: str) -> None:
        seen.append(line)
        if len(seen) == step:
            drivers.kill()

    server.on_request = server.on_answer = None
    setattr(server, "on_answer" if step % 2 else "on_request", count)
    try:
        return int(drivers.run(study, target))
    finally:
        server.on_request = server.on_answer = None
