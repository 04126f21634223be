"""Executors by name; each loads only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from peira.engine.engine import Executor
from peira.engine.executors.pool import Post
from peira.errors import InputError

MODULES = {
    "processes": "peira.engine.executors.processes:ProcessesExecutor",
    "ray": "peira.engine.executors.ray:RayExecutor",
    "slurm": "peira.engine.executors.slurm:SlurmExecutor",
}
NAMES = ("local", *MODULES)


def make(name: str, post: Post, options: Mapping[str, Any]) -> Executor:
    """The executor `name`. Raises InputError for an unknown one, or an option it does not have."""
    kind = _load(name)
    try:
        chosen = kind.Options.model_validate(dict(options))
    except ValidationError as error:
        raise InputError(_fault(name, kind, error)) from error
    executor: Executor = kind(post, chosen)
    return executor


def _load(name: str) -> Any:
    if name not in MODULES:
        raise InputError(f"--executor {name}: unknown\n  allowed: {', '.join(NAMES)}")
    module, _, attribute = MODULES[name].partition(":")
    return getattr(import_module(module), attribute)


def _fault(name: str, kind: Any, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    option = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.Options.model_fields)
        return f"--executor-option {option}: {name} has no such option\n  allowed: {known}"
    return (
        f"--executor-option {option}={first.get('input')!r}\n"
        f"  allowed: {first['msg']} ({kind.Options.model_fields[option].description})"
    )
