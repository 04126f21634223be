"""`peira clean`: move the working paths' contents to a trash folder; nothing is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from peira.cli import flags

DEFAULT = Path("config/eval_config.yaml")
TRASH = ".peira-trash"
WORKING = {
    "batch_inputs_dir": "data/batch_inputs", "results_dir": "results", "reports_dir": "reports",
    "run_manifest": "results/run_manifest.json",
}  # fmt: skip
KEPT = {"raw_dir": "data/raw", "experiments_dir": "experiments"}


def command(
    config: Annotated[Path, "Whose `paths` to empty."] = DEFAULT,
    dry_run: Annotated[bool, "List exactly what would move."] = False,
    clean_prepared: Annotated[bool, "The prepared data too."] = False,
    purge: Annotated[bool, "Delete the trash."] = False,
    yes: Annotated[bool, "Purge without asking."] = False,
    json: flags.Json = False,
) -> int:
    """Empty the four working paths of an evaluation into .peira-trash/<time>/. Runs, raw data,
    tracked files and everything outside this folder stay."""
    from peira.cli.display import as_json, say

    root = Path.cwd()
    if purge:
        return _purge(root / TRASH, dry_run, yes)
    moves = list(_moves(root, _paths(config), clean_prepared))
    target = root / TRASH / _stamp(root / TRASH)
    if not dry_run:
        for path in moves:
            place = target / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    if json:
        as_json({"moved": [str(p.relative_to(root)) for p in moves], "dry_run": dry_run,
                 "trash": str(target) if moves else None})  # fmt: skip
        return 0
    for path in moves:
        say(f"  {path.relative_to(root)}")
    if not moves:
        say("nothing to clean")
    elif dry_run:
        say(f"{_entries(moves)} would move to {TRASH}/")
    else:
        say(f"{_entries(moves)} moved to {target.relative_to(root)}")
    return 0


def _paths(config: Path) -> dict[str, Any]:
    from peira.errors import InputError
    from peira.study.reader import load_yaml

    if config == DEFAULT and not config.exists():
        return {}
    data, _ = load_yaml(config)
    if not isinstance(data, dict):
        raise InputError(f"{config}: not a config\n  allowed: a mapping with `paths`, …")
    paths = data.get("paths")
    if paths is not None and not isinstance(paths, dict):
        raise InputError(f"{config}: paths: {paths!r}\n  allowed: a mapping of path names")
    return paths or {}


def _moves(root: Path, paths: dict[str, Any], prepared: bool) -> list[Path]:
    """What would move: the entries of the working folders, and the run manifest."""
    wanted = dict(WORKING) | ({"prepared_dir": "data/prepared"} if prepared else {})
    kept = [(root / str(paths.get(k, default))).resolve() for k, default in KEPT.items()]
    if not prepared:
        kept.append((root / str(paths.get("prepared_dir", "data/prepared"))).resolve())
    tracked = _tracked(root)
    found: dict[Path, None] = {}
    for name, default in wanted.items():
        path = root / str(paths.get(name, default))
        entries = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
        for entry in entries:
            if _may_move(entry, root, kept, tracked):
                found[entry] = None
    return list(found)


def _may_move(entry: Path, root: Path, kept: list[Path], tracked: set[Path]) -> bool:
    """Never raw data, runs, tracked files, nor anything outside the workspace."""
    from peira.store.rundir import DATABASE

    real = entry.resolve()
    inside = real.is_relative_to(root) and entry.absolute().is_relative_to(root)
    held = any(real.is_relative_to(k) or k.is_relative_to(real) for k in kept)
    own = any(path == real or path.is_relative_to(real) for path in tracked)
    run = real.is_dir() and any(real.rglob(DATABASE))
    return inside and not (held or own or run) and TRASH not in real.parts


def _tracked(root: Path) -> set[Path]:
    """Files under version control below `root`; none outside git."""
    import subprocess

    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return set()
    return {
        (root / name).resolve() for name in listed.decode("utf-8", "replace").split("\0") if name
    }


def _stamp(trash: Path) -> str:
    import time

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (stamp, *(f"{stamp}-{k}" for k in range(2, 1000)))
    return next(name for name in names if not (trash / name).exists())


def _purge(trash: Path, dry_run: bool, yes: bool) -> int:
    import shutil
    import sys

    from peira.cli.display import say

    entries = sorted(trash.iterdir()) if trash.is_dir() else []
    for entry in entries:
        say(f"  {TRASH}/{entry.name}")
    if not entries or dry_run:
        say("nothing to purge" if not entries else f"{_entries(entries)} would be deleted")
        return 0
    if not yes and not (sys.stdin.isatty() and input("delete for good? [y/N] ").lower() == "y"):
        say("nothing deleted   (--yes deletes without asking)")
        return 0
    shutil.rmtree(trash)
    say(f"{_entries(entries)} deleted")
    return 0


def _entries(paths: list[Path]) -> str:
    return "1 entry" if len(paths) == 1 else f"{len(paths)} entries"
