"""manifest.json: what reproducing a run needs."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from peira import __version__
from peira.store.rundir import utc_now
from peira.study.study import Study
from peira.subjects.route import Route

PACKAGES = (
    "numpy", "scipy", "statsmodels", "pydantic",
    "aiohttp", "genai-prices", "torch", "transformers",
)  # fmt: skip


def frozen(
    previous: dict[str, Any],
    declared: dict[str, Any],
    replicates: int,
    *,
    started: bool,
    seen: bool,
) -> dict[str, Any]:
    """The hypotheses of a run: what was declared when its first trial started. Replicates may be
    added until a trial has ended, since then there is a result to look at."""
    now = {"declared": declared, "replicates": replicates, "frozen": utc_now()}
    kept = previous.get("hypotheses")
    if not started or kept is None:
        return now
    return dict(kept) if seen else {**kept, "replicates": replicates}


def manifest(
    study: Study, routes: list[Route], previous: dict[str, Any] | None,
    hypotheses: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The manifest of a run about to start; a changed study is added as an amendment."""
    previous = previous or {}
    amendments = list(previous.get("amendments", []))
    if previous and previous.get("study_hash") != study.hash:
        amendments.append({"time": utc_now(), "from": previous.get("study_hash"), "to": study.hash})
    return {
        "schema_version": 1,
        "created": previous.get("created", utc_now()),
        "updated": utc_now(),
        "study": study.model_dump(mode="json", exclude_defaults=True),
        "study_hash": study.hash,
        "amendments": amendments,
        **({"hypotheses": hypotheses} if hypotheses else {}),
        "seeds": study.trial_seeds,
        "subjects": {route.name: _subject(route) for route in routes},
        "not_reproducible": [route.name for route in routes if not _repeats(route)],
        "peira": __version__,
        "git": git_version(Path.cwd()),
        "python": platform.python_version(),
        "packages": versions(),
        "host": {"system": platform.platform(), "machine": platform.machine()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _subject(route: Route) -> dict[str, Any]:
    return {
        "model": route.model, "provider": route.provider, "simulated": route.simulated,
        **route.details,
    }  # fmt: skip


def _repeats(route: Route) -> bool:
    """False for a provider that takes no seed: asked again, it need not answer the same."""
    own = route.simulated or route.provider in ("local", "script", "replay")
    return bool(route.details.get("seeds", own))


def versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_version(folder: Path) -> str | None:
    """Commit of the working directory, marked `-dirty` if it differs; None outside git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
