"""`peira collect RUN`: rebuild every file of a run from run.db."""

from __future__ import annotations

from peira.cli import flags


def command(run: flags.RunArgument, json: flags.Json = False) -> int:
    """Rebuild every projection (JSON, CSV, trial folders, report) from run.db."""
    from peira import api
    from peira.cli.display import as_json, say
    from peira.store.rundir import find_run

    directory = find_run(run)
    count = api.collect(directory)
    if json:
        as_json({"run": str(directory.path), "trial_folders": count})
    else:
        say(f"{directory.path}: rebuilt {count} trial folders and the run's files")
    return 0
