"""A small study of prompts, made quickly: config file, run, rows read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from peira import api
from peira.families.prompts.evaluated import Evaluated, evaluate
from peira.store.records import RunView
from peira.subjects.subject import Reply, Request, Usage

BASE: dict[str, Any] = {
    "model_id": "sim:respondent",
    "prompt_sets": {"plain": {"control": "c.txt", "treatment": "t.txt"}},
    "data": {"source": "simulated"},
    "sizes": {"closed_book_max_items": 40, "open_book_max_items": 0},
    "top_k": None,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with four prompts."""
    for name in ("c", "t", "u", "v"):
        (tmp_path / f"{name}.txt").write_text(f"You are prompt {name}.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> Callable[..., Path]:
    """Writes c.yaml: the base config with changes."""

    def write(**changes: Any) -> Path:
        path = folder / "c.yaml"
        path.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def run_study(config: Callable[..., Path], folder: Path) -> Callable[..., api.RunReport]:
    """Runs the changed base config in `run`; options of the api by `options`."""

    def run(options: api.Options | None = None, **changes: Any) -> api.RunReport:
        given = options or api.Options()
        if given.run_dir is None:
            given = replace(given, run_dir=folder / "run")
        return api.run(config(**changes), given)

    return run


@pytest.fixture
def read() -> Iterator[Callable[[Path], Evaluated]]:
    """Reads a run's rows and scores."""
    opened: list[RunView] = []

    def evaluated(path: Path) -> Evaluated:
        opened.append(RunView(path))
        return evaluate(opened[-1])

    yield evaluated
    for view in opened:
        view.close()


class CountingWire:
    """A model that answers by a function and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], str | Exception], free: bool = False) -> None:
        self.free = free
        self.answer = answer
        self.asked: list[Request] = []

    async def send(self, request: Request) -> Reply:
        self.asked.append(request)
        answer = self.answer(request)
        if isinstance(answer, Exception):
            raise answer
        finish = {"<cut>": "length", "<refused>": "refusal"}.get(answer, "stop")
        return Reply(answer, usage=Usage(10, 3), served_model="stub-1", finish=finish)  # type: ignore[arg-type]

    async def close(self) -> None:
        return None
