"""Scenario folders, batches and scripted subjects for the tests of this family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from peira import api
from peira.families.scenarios.batch import Batch, from_run
from peira.store.records import RunView
from peira.subjects.subject import Reply, Request

LEVEL = {
    "description": "level", "type": "float", "extraction_method": "regex", "source": ["world"],
    "pattern": r"cooperation level: (\d+(?:\.\d+)?)", "range": [0, 10], "primary": True,
    "goal": "maximise",
}  # fmt: skip


def write_scenario(folder: Path, **changes: Any) -> Path:
    """A two-actor scenario of three turns with simulated seats; `changes` replace its parts:
    `actors` {short: fields}, `metrics`, `events`, `quality`, `background` {file: text}, `files`
    {name: text}, anything else a key of scenario.yaml (None removes it)."""
    parts = {name: changes.pop(name, None) for name in
             ("actors", "metrics", "events", "quality", "background", "files")}  # fmt: skip
    scenario = {
        "name": "Test", "initial_world_state": "A table. The cooperation level: 4.0.", "turns": 3,
        "turn_duration": "1 week", "world_state_model": "sim:world",
    }  # fmt: skip
    scenario = {k: v for k, v in (scenario | changes).items() if v is not None}
    actors = parts["actors"] or {"regulator": {}, "tech-company": {}}
    (folder / "actors").mkdir(parents=True, exist_ok=True)
    _dump(folder / "scenario.yaml", scenario)
    for short, fields in actors.items():
        base = {"name": short.replace("-", " ").title(), "llm_model": "sim:actor,lift=0"}
        _dump(folder / "actors" / f"{short}.yaml", base | fields)
    metrics = {"cooperation_level": LEVEL} if parts["metrics"] is None else parts["metrics"]
    _dump(folder / "metrics.yaml", {"metrics": metrics})
    if parts["events"]:
        _dump(folder / "exogenous-events.yaml", {"exogenous_events": parts["events"]})
    if parts["quality"]:
        _dump(folder / "validation-rules.yaml", parts["quality"])
    for name, text in {**(parts["background"] or {}), **(parts["files"] or {})}.items():
        path = folder / ("background" if name.endswith(".md") else "") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def _dump(path: Path, data: Any) -> None:
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


QUALITY = {
    "validation_model": "sim:judge",
    "checks": {
        "actor_decision_consistency": {}, "world_state_coherence": {},
        "information_access_consistency": {},
    },
}  # fmt: skip


class Scripted:
    """A wire that answers by a function of the request and keeps every request."""

    free = True

    def __init__(self, answer: Callable[[Request], str | Reply | dict[str, Any]]) -> None:
        self._answer = answer
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Reply:
        self.requests.append(request)
        said = self._answer(request)
        if isinstance(said, Reply):
            return said
        return Reply(said if isinstance(said, str) else json.dumps(said), served_model="scripted")

    async def close(self) -> None:
        return None


def polite(request: Request) -> dict[str, Any]:
    """A usable answer to any call."""
    label = request.label
    if "/quality" in label:
        return {"verdict": "yes", "issues": [], "severity": "low"}
    if "bilateral offer" in label:
        return {"target": None}
    if "decision" in label:
        return {"action": "waits", "reasoning": "nothing to do", "goals": ["wait"]}
    if "world" in label:
        return {"narrative": "Nothing happens. The cooperation level: 5.0."}
    if "summary" in label:
        return {"summary": "Nothing happened."}
    if "proposal" in label:
        return {"partners": []}
    return {"metrics": {}} if "metrics" in label else {"message": "yes", "accept": True}


class Bench:
    """Runs batches in a temporary directory and reads what they leave."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"

    def config(self, name: str = "batch-config.yaml", **fields: Any) -> Path:
        path = self.root / name
        base = {
            "experiment_name": "Test batch", "base_scenario": str(self.root / "scenario"),
            "output_dir": str(self.run), "max_parallel": 4,
        }  # fmt: skip
        _dump(path, base | fields)
        return path

    def scenario(self, **changes: Any) -> Path:
        return write_scenario(self.root / "scenario", **changes)

    def go(self, options: dict[str, Any] | None = None, **fields: Any) -> api.RunReport:
        """Run a batch over the scenario (a plain one if none was written)."""
        if not (self.root / "scenario").is_dir():
            self.scenario()
        return api.run(self.config(**fields), api.Options(**(options or {})))

    def batch(self) -> Batch:
        with RunView(self.run) as run:
            return from_run(run)

    def calls(self) -> int:
        """Replies in the ledger."""
        with RunView(self.run) as run:
            return int(run.query("SELECT COUNT(*) FROM replies WHERE state='done'")[0][0])

    def events(self, number: int = 1) -> list[dict[str, Any]]:
        with RunView(self.run) as run:
            return run.events(number)

    def turns(self, number: int = 1) -> list[dict[str, Any]]:
        return [event["turn"] for event in self.events(number) if event["kind"] == "turn"]

    def json(self, name: str) -> Any:
        return json.loads((self.run / name).read_text())

    def play(self, answer: Callable[[Request], Any] = polite, **scenario: Any) -> Scripted:
        """One trial in which every seat is `answer`; returns the wire with its requests."""
        wire = Scripted(answer)
        seats = {"world_state_model": "x", **scenario}
        actors = seats.pop("actors", None) or {"regulator": {}, "tech-company": {}}
        seats["actors"] = {short: {"llm_model": "x"} | fields for short, fields in actors.items()}
        self.scenario(**seats)
        self.report = self.go({"wires": {"x": wire, "secret/model": wire}})
        return wire


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
