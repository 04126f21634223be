"""Going on with a finished run (more contexts), and checkpoints while one is going.

Invariant: run.db stays the truth; a trial that is reopened gets its finished contexts back as
checkpoints, and checkpoint files are projections of what is safe there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson

from peira.engine.attempt import decompress
from peira.engine.journal import Journal
from peira.errors import StoreError
from peira.families.representations.fields import BLOCKS, TOKENS
from peira.families.representations.files import checkpoint_files
from peira.store.records import RunView
from peira.store.rundir import RunDir, write_file

EVERY = 60.0  # seconds between checkpoint files


def reopen(journal: Journal) -> int:
    """Make finished trials with fewer contexts than their settings now ask for pending again, their
    contexts kept. Returns how many."""
    rows = journal.read(
        "SELECT t.number, t.outcome, c.settings FROM trials t JOIN cells c ON c.number=t.cell"
        " WHERE t.state='done' AND t.position IS NOT NULL"
    )
    count = 0
    for number, data, settings in rows:
        outcome = orjson.loads(data)
        if outcome["n_contexts"] < orjson.loads(settings)["n_contexts"]:
            _reopened(journal, number, outcome["tokens_forwarded"])
            count += 1
    return count


def _reopened(journal: Journal, number: int, tokens: int) -> None:
    put = "INSERT OR REPLACE INTO checkpoints VALUES(?,?,?)"
    kept = journal.read(
        "SELECT data FROM artifacts WHERE trial=? AND name='raw_data/gram.npz'", (number,)
    )
    if kept:
        journal.put(put, (number, f"{BLOCKS}000000", decompress(kept[0][0])))
        journal.put(put, (number, TOKENS, str(tokens).encode()))
    journal.put("UPDATE trials SET state='pending' WHERE number=?", (number,))


def tokens_so_far(journal: Journal) -> int:
    """Tokens that the run's trials, done or begun, have forwarded."""
    done = journal.read("SELECT outcome FROM trials WHERE state='done' AND outcome IS NOT NULL")
    begun = journal.read("SELECT c.data FROM checkpoints c JOIN trials t ON t.number=c.trial"
                         " WHERE (c.name=? OR c.name LIKE ?) AND t.state!='done'",
                         (TOKENS, f"{TOKENS}/%"))  # fmt: skip
    finished = (int(orjson.loads(data)["tokens_forwarded"]) for (data,) in done)
    return sum(finished) + sum(int(data) for (data,) in begun)


@contextlib.contextmanager
def keeper(path: Path) -> Iterator[None]:
    """Write checkpoint_layer_<k>.json each minute while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_keep, args=(path, stop), name="checkpoints", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _keep(path: Path, stop: threading.Event) -> None:
    wait = 1.0
    while not stop.wait(wait):
        wait = EVERY if project(path) else 1.0


def project(path: Path) -> bool:
    """Write the checkpoint files of a run; False where there is nothing to write yet."""
    if not RunDir(path).exists:
        return False
    try:
        with RunView(path) as run:
            if "study" not in run.meta:
                return False
            written = 0
            for name, data in checkpoint_files(run):
                write_file(path / name, data)
                written += 1
    except StoreError:
        return False  # the driver is only now making run.db; the next turn writes
    return written > 0
