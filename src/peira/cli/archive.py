"""`peira archive [RUN]`: seal a copy of a run; verify one; restore one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An archive that is there already."""

    verify: Annotated[str | None, "Check an archive's digests."] = None
    restore: Annotated[str | None, "Make an archive a run again."] = None
    to: Annotated[Path | None, "Folder of the restored run."] = None


def command(
    kept: Kept,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Default: newest finished run.")
    ] = None,
    experiment_name: Annotated[str | None, "The archive's name."] = None,
    trial: Annotated[str | None, "One trial's files only."] = None,
    dry_run: Annotated[bool, "Say what would be archived."] = False,
    allow_incomplete: Annotated[bool, "Archive as `partial`."] = False,
    experiments_dir: flags.ExperimentsDir = Path("experiments"),
    json: flags.Json = False,
) -> int:
    """Seal a copy of a run beside it: database, files, digests. The run stays."""
    from peira.cli.display import as_json, say
    from peira.store import archive
    from peira.store.rundir import find_run

    if kept.verify is not None:
        return _verify(archive.find(kept.verify, experiments_dir))
    if kept.restore is not None:
        return _restore(archive.find(kept.restore, experiments_dir), kept.to)
    named = experiment_name is not None
    source = (
        find_run(run, experiments_dir) if run else archive.newest_unarchived(experiments_dir, named)
    )
    name = experiment_name or f"archive_{source.path.name.removeprefix('run_')}"
    _check(name)
    sealed = archive.seal(
        source, source.path.parent / name, allow_incomplete=allow_incomplete, trial=trial,
        dry_run=dry_run,
    )  # fmt: skip
    if json:
        as_json({"path": str(sealed.path), "files": sealed.files, "partial": sealed.partial,
                 "how": sealed.how})  # fmt: skip
        return 0
    if dry_run:
        say(f"from {source.path}")
        for path in archive.projections(source.path):
            say(f"  {path.relative_to(source.path)}")
        say("  run.db")
    say(sealed.describe())
    return 0


def _check(name: str) -> None:
    import re

    from peira.errors import InputError

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InputError(f"--experiment-name {name}\n  allowed: letters, digits, dots, `_` and `-`")


def _verify(folder: Path) -> int:
    from peira.cli.display import say
    from peira.store.archive import verify

    faults = verify(folder)
    for fault in faults:
        say(f"  {fault}")
    say(f"{folder}: {'differs from its manifest' if faults else 'as sealed'}")
    return 3 if faults else 0


def _restore(folder: Path, to: Path | None) -> int:
    from peira.cli.display import say
    from peira.store.archive import read_manifest, restore

    manifest = read_manifest(folder) or {}
    target = to or folder.parent / str(manifest.get("run_id", f"run_{folder.name}"))
    restore(folder, target)
    say(f"{target}: restored; peira status {target}")
    return 0
