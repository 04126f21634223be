"""A workspace with the guide's paths, and the guide's `src` without installing anything so called.

Invariant: every script written is thin; the work is done in Peira, so that a workspace never ages.
"""

from __future__ import annotations

import contextlib
import importlib.util
import stat
import sys
import types
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from peira.errors import InputError
from peira.families.representations import HOMES
from peira.families.representations.catalogue import ENTRIES
from peira.store.rundir import write_file

REPRODUCTIONS = ("park", "lee")
LOGGED = {"loo_multilayer": "multilayer_loo"}  # names of the guide's log scripts that are not ours
SRC = {"data": "graphs", "models": "models", "metrics": "metrics"}  # the guide's modules, and ours
HOME = "peira.families.representations"
SCRIPT = '''#!/usr/bin/env python
"""{about}"""

import sys

from peira.cli.{home} import {function}

sys.exit({function}({words}sys.argv[1:]))
'''
TOOLS = {
    "analysis/compare_experiments.py": ("compare_experiments", "Compare runs: --results A B C."),
    "analysis/compare_loo_metrics.py": ("compare_loo_metrics", "Leave-one-out metrics of a run."),
    "analysis/write_summary.py": ("write_summary", "A run as experiments/<date>_<name>.md."),
    "plotting/plot_loo_heatmap.py": ("plot_loo_heatmap", "Layer by length, as a heat map."),
}


def write_workspace(target: Path) -> Path:
    """Write a workspace. Raises InputError if the folder holds one already."""
    if (target / "experiments").exists():
        raise InputError(f"{target}: holds experiments/ already\n  remedy: choose another folder")
    for name, text in contents().items():
        path = target / name
        write_file(path, text)
        if path.suffix in (".sh", ".py") and "src" not in path.parts[-2:]:
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return target


def contents() -> dict[str, str]:
    """Every file of a workspace, by its path."""
    out: dict[str, str] = {}
    for entry in ENTRIES:
        folder = "reproductions" if entry.name in REPRODUCTIONS else "core"
        about = f"{entry.question} Thin: peira probe {entry.name}."
        out[f"experiments/{folder}/{entry.script}.py"] = SCRIPT.format(
            about=about, home="main", function="run", words=f"{['probe', entry.name]} + "
        )
        logged = LOGGED.get(entry.name, entry.name)
        out[f"experiments/logging/log_{logged}_to_wandb.py"] = _tool(
            "log_to_wandb", "Log a run to W&B, or beside it."
        )
    for path, (function, about) in TOOLS.items():
        out[f"experiments/{path}"] = _tool(function, about)
    shipped = files(HOME) / "workspace_files"
    for name in ("run_full_multilayer_experiment.sh", "monitor_full_experiment.sh"):
        out[name] = (shipped / name).read_text("utf-8")
    out["CLAUDE.md"] = (shipped / "CLAUDE.md.txt").read_text("utf-8")
    out["src/__init__.py"] = '"""The guide\'s imports, from Peira."""\n'
    for name, module in SRC.items():
        line = f"from {HOME}.{module} import {', '.join(HOMES[module])}  # noqa: F401"
        out[f"src/{name}.py"] = f'"""The guide\'s src.{name}."""\n\n{line}\n'
    return out


def _tool(function: str, about: str) -> str:
    return SCRIPT.format(about=about, home="guide", function=function, words="")


def write_script(name: str, directory: Path) -> Path:
    """The guide's template with its gap filled. Raises InputError if the file exists."""
    stem = "".join(c if c.isalnum() else "_" for c in name.removesuffix(".py")).strip("_").lower()
    path = directory / f"{stem}.py"
    if not stem:
        raise InputError(f"peira new experiment {name}: not a name\n  allowed: letters, digits, _")
    if path.exists():
        raise InputError(f"{path}: exists already\n  remedy: choose another name")
    text = (files(HOME) / "workspace_files" / "template.py.txt").read_text("utf-8")
    write_file(path, text.format(name=stem))
    return path


@contextlib.contextmanager
def provide_src(folder: Path) -> Iterator[None]:
    """Make `src.data`, `src.models`, `src.metrics` mean Peira, unless a real `src` is importable."""
    sys.path.insert(0, str(folder))
    before = {name: module for name, module in sys.modules.items() if _is_src(name)}
    try:
        if not _real_src():
            _install()
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if _is_src(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_src(name: str) -> bool:
    return name == "src" or name.startswith("src.")


def _real_src() -> bool:
    """Is there an importable `src.data`? A bare folder called src is none."""
    try:
        return importlib.util.find_spec("src.data") is not None
    except (ImportError, ValueError):
        return False


def _install() -> None:
    package = types.ModuleType("src")
    package.__path__ = []
    sys.modules["src"] = package
    for name, module in SRC.items():
        made = types.ModuleType(f"src.{name}")
        for member in HOMES[module]:
            setattr(made, member, getattr(import_module(f"{HOME}.{module}"), member))
        sys.modules[made.__name__] = made
        setattr(package, name, made)
