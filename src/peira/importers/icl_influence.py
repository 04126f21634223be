"""`peira import icl-influence DIR`: results.json files of the guide's older scripts.

Each `results.json` (with its `config.json` where there is one) becomes a finished trial. Invariant:
numbers are taken as they stand; NaN and infinities, which strict JSON forbids, become null with the
code `nonfinite_in_source`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peira.errors import InputError
from peira.families.representations import catalogue
from peira.families.representations.files import contexts_npz
from peira.families.representations.metrics import FIELDS
from peira.families.representations.outcome import outcome_of
from peira.families.representations.settings import model_slug
from peira.importers.base import ImportedTrial, Notes
from peira.store.rundir import dumps

FAMILY = "representations"
ABOUT = "folders with results.json as the guide describes them"
NONFINITE = "nonfinite_in_source"


def read(directory: Path, notes: Notes) -> Iterator[ImportedTrial]:
    """Every results.json below a folder; one without layers is left out with a warning."""
    files = sorted(directory.rglob("results.json")) if directory.is_dir() else [directory]
    for number, path in enumerate(files):
        with notes.leaving_out(path):
            yield trial(path, number)


def trial(path: Path, number: int) -> ImportedTrial:
    """One file as a finished trial."""
    try:
        raw = json.loads(path.read_text("utf-8"))  # Python's reader takes NaN and Infinity
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    layers = raw.get("results", raw) if isinstance(raw, Mapping) else {}
    layers = {k: v for k, v in layers.items() if k.startswith("layer_") and isinstance(v, Mapping)}
    if not layers:
        raise InputError(f"{path}: no results.layer_<k>\n  allowed: {ABOUT}")
    reasons: dict[str, str] = {}
    clean = {key: _finite(cell, f"results.{key}", reasons) for key, cell in layers.items()}
    data = summary(path, raw, clean, reasons)
    arrays: dict[str, Any] = {}
    return ImportedTrial(
        slug=f"{data['experiment']}/{model_slug(data['model'])}/{model_slug(path.parent.name)}-{number}",
        seed=int(raw.get("config", {}).get("seed", 42)) + 1_000_000 * number,
        settings={"experiment": data["experiment"], "model": data["model"],
                  "n_contexts": max(2, data["n_contexts"])},
        outcome=outcome_of(data),
        artifacts={"summary.json": dumps(data), "contexts.npz": contexts_npz(arrays)},
        subjects={"model": {"name": data["model"], "served_model": data["model"], "simulated": False}},
    )  # fmt: skip


def _finite(value: Any, path: str, reasons: dict[str, str]) -> Any:
    """Numbers that strict JSON allows; the others null, with a reason."""
    if isinstance(value, Mapping):
        return {k: _finite(v, f"{path}.{k}", reasons) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v, path, reasons) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        reasons[path] = NONFINITE
        return None
    return value


def summary(
    path: Path, raw: Mapping[str, Any], layers: Mapping[str, Any], reasons: dict[str, str]
) -> dict[str, Any]:
    """The guide's numbers under this family's names; what it did not record is null."""
    config = dict(raw.get("config", {}))
    for name in FIELDS:
        for cell in layers.values():
            cell.setdefault(name, None)
            cell |= {
                f"{name}_ci": cell.get(f"{name}_ci"),
                f"{name}_n": int(config.get("n_contexts", 0)),
            }
    for cell in layers.values():
        cell.setdefault("css_q", [None] * len(cell.get("css_per_token", [])))
        cell.setdefault("css_r", [None] * len(cell.get("css_per_token", [])))
        cell["by_length"] = {}
    experiment = str(raw.get("experiment", "css"))
    known = experiment if experiment in catalogue.BY_NAME else "css"
    return {
        "experiment": known, "question": catalogue.find(known).question, "condition": "main",
        "model": str(raw.get("model", "unknown")), "label": None,
        "n_contexts": int(config.get("n_contexts", 0)),
        "layers": [k.removeprefix("layer_") for k in layers], "lengths": [0], "window": None,
        "graph": "as recorded", "walk": "as recorded", "null": [], "config": config,
        "answer": f"Recorded by another tool ({path.parent.name}): energies there are not normalised"
                  " and have no null, so nothing is claimed.",
        "results": layers, "findings": [], "reasons": reasons,
        "diagnostics": {"claims": {"wording": "order-dependent", "cells": 0, "of": 0},
                        "nonfinite_contexts": {}},
        "curves": {}, "versions": {},
        "details": {"dtype": "recorded", "device": "recorded", "tokens_forwarded": 0},
    }  # fmt: skip
