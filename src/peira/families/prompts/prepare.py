"""Where a study's items come from: prepared files, official files, the sample.

Invariant: prepared data is used only while its hashes match the manifest beside it; `sample` and
`simulated` neither read nor write `prepared_dir`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from peira.errors import InputError
from peira.families.prompts import loaders
from peira.families.prompts.data import Loaded, merge, read_bytes, read_items
from peira.store.rundir import dumps, write_file

SCHEMA_VERSION = 1
MANIFEST = "prepared_manifest.json"
BOOKS = {"open_book": "open", "closed_book": "closed"}
Source = Literal["prepared", "sample", "simulated", "hf"]


class DataFile(BaseModel):
    """One of `data.files`: a table, and which of its columns is what, or an official file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    dataset: str = ""
    loader: Literal["generic", "squad_v2", "triviaqa", "nq_open"] = "generic"
    columns: dict[str, str] = {}

    def load(self) -> Loaded:
        """Its items."""
        if self.loader == "generic":
            return loaders.generic(self.path, self.dataset, self.columns)
        return loaders.official(self.loader, self.path)


@dataclass(frozen=True, slots=True)
class DataPlan:
    """What is needed to find the items. `closed`, `opened` size the simulated source."""

    source: Source
    prepared_dir: Path
    raw_dir: Path
    files: tuple[DataFile, ...] = ()
    closed: int = 400
    opened: int = 200


def find_items(plan: DataPlan) -> Loaded:
    """The items of a plan, without writing anything. Raises InputError with the remedy."""
    if plan.source == "sample":
        return loaders.sample()
    if plan.source == "simulated":
        return loaders.simulated(plan.closed, plan.opened)
    if prepared_fault(plan) is not None:
        return load_sources(plan)
    books = (read_items(plan.prepared_dir / f"{book}.jsonl") for book in BOOKS)
    return Loaded(tuple(item for part in books for item in part.items))


def prepare(plan: DataPlan) -> Loaded:
    """As `find_items`, leaving valid prepared files behind where the source is `prepared`."""
    loaded = find_items(plan)
    if plan.source in ("prepared", "hf") and prepared_fault(plan) is not None:
        write_prepared(plan, loaded)
    return loaded


def require_prepared(plan: DataPlan) -> None:
    """For `--skip_prepare`: no loader may run. Raises InputError unless the data is valid."""
    if plan.source in ("sample", "simulated"):
        return
    if fault := prepared_fault(plan):
        raise InputError(
            f"{plan.prepared_dir}: {fault}\n"
            "  allowed: prepared data whose hashes match its manifest\n"
            "  remedy: run once without --skip_prepare"
        )


def prepared_fault(plan: DataPlan) -> str | None:
    """Why the prepared data cannot be used, or None."""
    path = plan.prepared_dir / MANIFEST
    if not path.is_file():
        return f"no {MANIFEST}"
    try:
        manifest = orjson.loads(path.read_bytes())
        if manifest["schema_version"] != SCHEMA_VERSION:
            return f"schema {manifest['schema_version']}, not {SCHEMA_VERSION}"
        for book in manifest["datasets"].values():
            if _sha256(plan.prepared_dir / book["path"]) != book["sha256"]:
                return f"{book['path']} does not match its hash"
        if plan.files and _listed(manifest) != {str(f.path): _sha256(f.path) for f in plan.files}:
            return "made from other files than data.files names"
    except (OSError, KeyError, TypeError, orjson.JSONDecodeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def load_sources(plan: DataPlan) -> Loaded:
    """Items from data.files, else the official files of raw_dir, else Hugging Face."""
    if plan.files:
        return _together(file.load() for file in plan.files)
    found = loaders.official_files(plan.raw_dir) if plan.source == "prepared" else []
    if found:
        return _together(loaders.official(name, path) for name, path in found)
    return loaders.hugging_face()


def write_prepared(plan: DataPlan, loaded: Loaded) -> None:
    """Write both books and the manifest, each whole or not at all."""
    paths = [f.path for f in plan.files] or [p for _, p in loaders.official_files(plan.raw_dir)]
    sources = [{"path": str(path), "sha256": _sha256(path)} for path in paths]
    books = {}
    for book, kind in BOOKS.items():
        lines = [item.line for item in loaded.items if item.type == kind]
        content = b"".join(line + b"\n" for line in lines)
        write_file(plan.prepared_dir / f"{book}.jsonl", content)
        books[book] = {
            "path": f"{book}.jsonl",
            "items": len(lines),
            "sha256": hashlib.sha256(content).hexdigest(),
            "sources": sources or [{"path": "huggingface", "sha256": ""}],
        }
    manifest = {"schema_version": SCHEMA_VERSION, "datasets": books}
    write_file(plan.prepared_dir / MANIFEST, dumps(manifest))


def _together(parts: Iterable[Loaded]) -> Loaded:
    listed = list(parts)
    whole = merge((item, item.key) for part in listed for item in part.items)
    return Loaded(whole.items, whole.merged + sum(part.merged for part in listed))


def _listed(manifest: Mapping[str, Any]) -> dict[str, str]:
    books = manifest["datasets"].values()
    return {s["path"]: s["sha256"] for book in books for s in book["sources"]}


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
