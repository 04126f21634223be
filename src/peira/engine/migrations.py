"""run.db's schema as numbered migrations, applied in order, never edited once released."""

from __future__ import annotations

import sqlite3

from peira.errors import StoreError

MIGRATIONS: tuple[str, ...] = (
    # 1: trials, what they bought, what they left
    """
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE cells(
        number INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE,
        settings BLOB NOT NULL, factors BLOB NOT NULL);
    CREATE TABLE trials(
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, slug TEXT NOT NULL UNIQUE COLLATE NOCASE,
        cell INTEGER NOT NULL REFERENCES cells(number), seed INTEGER NOT NULL,
        replicate INTEGER NOT NULL, position INTEGER, state TEXT NOT NULL DEFAULT 'pending',
        cause TEXT, message TEXT, attempts INTEGER NOT NULL DEFAULT 0,
        started REAL, finished REAL, seconds REAL,
        outcome BLOB, usage BLOB, subjects BLOB, simulated INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX trials_by_state ON trials(state, position);
    CREATE INDEX trials_by_position ON trials(position);
    CREATE INDEX trials_by_cell ON trials(cell, state) WHERE position IS NOT NULL;
    CREATE TABLE attempts(
        trial INTEGER NOT NULL, attempt INTEGER NOT NULL, started REAL, finished REAL,
        state TEXT NOT NULL, cause TEXT, message TEXT, PRIMARY KEY(trial, attempt)) WITHOUT ROWID;
    CREATE TABLE replies(
        number INTEGER PRIMARY KEY, trial INTEGER NOT NULL, key TEXT NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 1, hash BLOB NOT NULL, state TEXT NOT NULL,
        model TEXT NOT NULL, reply BLOB, cost INTEGER NOT NULL DEFAULT 0,
        worst INTEGER NOT NULL DEFAULT 0, buyer INTEGER NOT NULL DEFAULT 0);
    CREATE UNIQUE INDEX replies_by_key ON replies(trial, key, attempt);
    CREATE INDEX replies_that_cost ON replies(buyer) WHERE cost > 0 OR worst > 0;
    CREATE TABLE transcripts(trial INTEGER PRIMARY KEY, events BLOB NOT NULL);
    CREATE TABLE artifacts(
        trial INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY(trial, name));
    CREATE TABLE checkpoints(
        trial INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY(trial, name));
    """,
    # 2: batch jobs at providers, and what each was to buy
    """
    CREATE TABLE batch_jobs(
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, subject TEXT NOT NULL,
        state TEXT NOT NULL, file TEXT NOT NULL DEFAULT '', job TEXT NOT NULL DEFAULT '',
        words TEXT NOT NULL DEFAULT '', created REAL NOT NULL, updated REAL NOT NULL,
        planned INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0, worst INTEGER NOT NULL);
    CREATE INDEX batch_jobs_by_state ON batch_jobs(state, subject);
    CREATE TABLE batch_rows(
        job INTEGER NOT NULL, custom_id TEXT NOT NULL, trial INTEGER NOT NULL,
        buyer INTEGER NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL, model TEXT NOT NULL,
        worst INTEGER NOT NULL, tries INTEGER NOT NULL,
        PRIMARY KEY(job, custom_id)) WITHOUT ROWID;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring run.db to the newest schema. Raises StoreError for a newer one than we know."""
    version = _version(connection)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN;{script}PRAGMA user_version={number};COMMIT;")


def check_readable(connection: sqlite3.Connection) -> None:
    """A reader cannot migrate: raises StoreError unless the schema is the newest."""
    if (version := _version(connection)) < len(MIGRATIONS):
        raise StoreError(
            f"run.db has schema {version}; this Peira reads {len(MIGRATIONS)}\n"
            "  remedy: peira run with its study brings it up to date"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"run.db has schema {version}; this Peira knows {len(MIGRATIONS)}\n"
            "  remedy: upgrade Peira (pip install -U peira)"
        )
    return int(version)
