"""`peira archive [RUN]`: seal a copy of a run; verify one; restore one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags

Run = Annotated[str | None, typer.Argument(metavar="RUN", help="Default: newest finished run.")]
Name = Annotated[str | None, typer.Option("--experiment-name", help="The archive's name.")]
Trial = Annotated[str | None, typer.Option("--trial", help="One trial's files only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be archived.")]
Incomplete = Annotated[bool, typer.Option("--allow-incomplete", help="Archive as `partial`.")]
Directory = Annotated[Path, typer.Option("--experiments-dir", help="Where runs are kept.")]
Verify = Annotated[str | None, typer.Option("--verify", help="Check an archive's digests.")]
Restore = Annotated[str | None, typer.Option("--restore", help="Make an archive a run again.")]
To = Annotated[Path | None, typer.Option("--to", help="Folder of the restored run.")]


def command(
    run: Run = None,
    experiment_name: Name = None,
    trial: Trial = None,
    dry_run: DryRun = False,
    allow_incomplete: Incomplete = False,
    experiments_dir: Directory = Path("experiments"),
    verify: Verify = None,
    restore: Restore = None,
    to: To = None,
    json: flags.Json = False,
) -> int:
    """Seal a copy of a run beside it: database, files, digests. The run stays."""
    from peira.cli.display import as_json, say
    from peira.store import archive
    from peira.store.rundir import find_run

    if verify is not None:
        return _verify(archive.find(verify, experiments_dir))
    if restore is not None:
        return _restore(archive.find(restore, experiments_dir), to)
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
