"""Results to Weights & Biases, or, without package, key or network, to `wandb-local/`.

Invariant: the run's id comes from the run's hash, so logging twice updates one run.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from peira.families.representations import experiments
from peira.families.representations.analysis import analyse
from peira.families.representations.files import trials_of
from peira.report.figures import draw
from peira.report.tables import to_csv
from peira.store.records import RunView
from peira.store.rundir import dumps, write_file

TRACKED = ("dirichlet_energy", "cluster_separation", "neighbour_mass")


@dataclass(frozen=True)
class Story:
    """What is logged of a run."""

    id: str
    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    tables: Mapping[str, Any]
    history: list[dict[str, Any]]
    figures: Mapping[str, bytes]


def log_run(path: Path, project: str) -> str:
    """Log a run; returns one line that says where. Never raises for what is missing."""
    with RunView(path) as run:
        story = story_of(run)
    why = _unable() or _online(story, project, path)
    if why is None:
        return f"logged to W&B project {project}, run {story.id}"
    target = path / "wandb-local" / project / story.id
    _local(story, target)
    if (path / "results.json").is_file():
        write_file(target / "artifact" / "results.json", (path / "results.json").read_bytes())
    return f"W&B: {why}; written to {target} instead"


def story_of(run: RunView) -> Story:
    """Config, summary, tables, history and figures of a run."""
    found, analysis = trials_of(run), analyse(run)
    first = found[0][1] if found else {}
    makers = experiments.figures(first) if found else {}
    identity = sha256(f"{run.study.hash}|{run.path.resolve()}".encode()).hexdigest()[:12]
    return Story(
        identity, run.path.name, first.get("config", {}),
        {"answer": analysis.answer, "simulated": run.simulated, "label": first.get("label"),
         **{f.name: f.estimate.estimate for f in analysis.findings}},
        {t.name: t for t in analysis.tables}, history_of(found),
        {name: draw(maker(), "png") for name, maker in makers.items()},
    )  # fmt: skip


def history_of(found: Any) -> list[dict[str, Any]]:
    """One row per trial × layer × length, with `length` and `layer` as x-axes."""
    return [
        {"condition": data["condition"], "layer": layer.removeprefix("layer_"), "length": int(n),
         **{name: cell.get(name) for name in TRACKED}}
        for _, data in found for layer, cells in data["results"].items()
        for n, cell in cells["by_length"].items()
    ]  # fmt: skip


def _unable() -> str | None:
    if importlib.util.find_spec("wandb") is None:
        return "package not installed (pip install 'peira[wandb]')"
    offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    if os.environ.get("WANDB_MODE") == "disabled":
        return "disabled by WANDB_MODE"
    netrc = Path.home() / ".netrc"
    known = netrc.is_file() and "api.wandb.ai" in netrc.read_text("utf-8", "replace")
    if not offline and not os.environ.get("WANDB_API_KEY") and not known:
        return "no key"
    return None


def _online(story: Story, project: str, path: Path) -> str | None:
    """Log with the package; the reason if it cannot."""
    import io

    import wandb
    from PIL import Image

    try:
        run = wandb.init(project=project, id=story.id, name=story.name, resume="allow",
                         config=dict(story.config), settings=wandb.Settings(silent=True))  # fmt: skip
        for name in TRACKED:
            run.define_metric(name, step_metric="length")
        for row in story.history:
            run.log(row)
        for name, table in story.tables.items():
            columns = [c.key for c in table.columns]
            cells = ([row.get(key) for key in columns] for row in table.rows)
            rows = [[getattr(cell, "estimate", cell) for cell in row] for row in cells]
            run.log({f"table/{name}": wandb.Table(columns=columns, data=rows)})
        for name, data in story.figures.items():
            run.log({f"figure/{name}": wandb.Image(Image.open(io.BytesIO(data)))})
        run.summary.update(dict(story.summary))
        artifact = wandb.Artifact(f"{story.name}-{story.id}", type="results")
        artifact.add_file(str(path / "results.json"))
        run.log_artifact(artifact)
        run.finish()
    except (wandb.errors.Error, OSError) as error:
        return str(error).splitlines()[0][:120]
    return None


def _local(story: Story, target: Path) -> None:
    """The same as files."""
    write_file(target / "config.json", dumps(dict(story.config)))
    write_file(target / "summary.json", dumps(dict(story.summary)))
    write_file(
        target / "history.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in story.history)
    )
    for name, table in story.tables.items():
        write_file(target / "tables" / f"{name}.csv", to_csv(table))
    for name, data in story.figures.items():
        write_file(target / "figures" / f"{name}.png", data)
