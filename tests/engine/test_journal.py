"""run.db keeps order, waits for the disk, and says what is wrong with it."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from peira.engine.budget import Account, Budget
from peira.engine.journal import Bulk, Journal, connect, connect_read_only
from peira.engine.ledger import Ledger, Purchase
from peira.engine.migrations import MIGRATIONS
from peira.engine.mounts import is_network_mount
from peira.errors import StoreError


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "run.db")
    yield made
    made.close()


def put(journal: Journal, key: str, value: str) -> None:
    journal.put("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, value))


def test_statements_are_committed_in_the_order_they_were_put(journal):
    for number in range(500):
        put(journal, "last", str(number))
    journal.flush()
    assert journal.read("SELECT value FROM meta WHERE key='last'") == [("499",)]


async def test_durable_returns_after_the_commit_others_can_see(journal):
    await journal.durable("INSERT INTO meta VALUES('a', '1')")
    reader = connect_read_only(journal.path)
    assert reader.execute("SELECT value FROM meta WHERE key='a'").fetchall() == [("1",)]
    reader.close()


async def test_many_durable_writes_share_commits(journal):
    await asyncio.gather(
        *(journal.durable("INSERT INTO meta VALUES(?, '')", (f"k{n}",)) for n in range(300))
    )
    assert journal.read("SELECT COUNT(*) FROM meta") == [(300,)]


PAIR = Bulk(
    "INSERT INTO meta(key, value) VALUES",
    "(?,?)",
    "ON CONFLICT(key) DO UPDATE SET value=excluded.value",
)


async def test_rows_of_a_bulk_share_a_step_and_come_after_what_was_put(journal):
    steps = []
    apply = journal._apply
    journal._apply = lambda statements: (steps.append(len(statements)), apply(statements))[1]
    with journal._lock:
        put(journal, "first", "row")
        while journal._waiting.qsize():  # the writer takes it, then waits for the lock:
            await asyncio.sleep(0)  # what follows is one commit
        waits = [journal.durable_all([(PAIR, (f"k{n}", "row"), False)]) for n in range(700)]
        put(journal, "k1", "put")
    await asyncio.gather(*waits)
    assert journal.read("SELECT COUNT(*), SUM(value='row') FROM meta") == [(701, 701)]
    assert sum(steps) < 8


async def test_an_intent_withdrawn_before_its_commit_charges_nothing(journal):
    """Cancelled while the intent waits for the disk: no request left, so none stays on the books."""
    ledger = Ledger(journal, Budget(Account(1000)))
    opening = asyncio.create_task(ledger.open(Purchase(1, 1, "key", b"x" * 16, "m", 500)))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await journal.durable("SELECT 1")  # by now the deletion is put
    journal.flush()
    assert journal.read("SELECT * FROM replies") == []
    assert ledger.budget.run == Account(1000)


async def test_a_bulk_row_that_fails_takes_its_whole_commit_with_it(journal):
    with journal._lock:
        good = journal.durable_all([(PAIR, ("good", "1"), False)])
        bad = journal.durable_all([(PAIR, ("bad", None), False)])
    ended = await asyncio.gather(good, bad, return_exceptions=True)
    kept = journal.read("SELECT key FROM meta")
    assert isinstance(ended[1], StoreError)
    assert kept == ([] if isinstance(ended[0], StoreError) else [("good",)])


async def test_a_bad_statement_fails_its_commit_whole_and_stops_the_journal(journal):
    put(journal, "kept", "1")
    journal.flush()
    with pytest.raises(StoreError):
        await journal.durable("INSERT INTO nonesuch VALUES(1)")
    with pytest.raises(StoreError):
        put(journal, "later", "1")
    assert journal.read("SELECT key FROM meta") == [("kept",)]


async def test_a_value_that_no_column_holds_is_an_error_and_not_an_endless_wait(journal):
    with pytest.raises(StoreError, match="too large"):
        await asyncio.wait_for(journal.durable("INSERT INTO meta VALUES('n', ?)", (2**70,)), 10)


def test_on_a_full_disk_the_ballast_makes_room_for_replies_in_flight(tmp_path):
    journal = Journal(tmp_path / "run.db")
    attempts = []
    apply = journal._apply

    def full_once(statements):
        attempts.append(len(statements))
        if len(attempts) == 1:
            raise sqlite3.OperationalError("database or disk is full")
        apply(statements)

    journal._apply = full_once
    put(journal, "paid", "1")
    journal.flush()
    assert journal.read("SELECT key FROM meta") == [("paid",)]
    assert not (tmp_path / "run.ballast").exists()
    journal.close()


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path):
    with sqlite3.connect(tmp_path / "run.db") as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match="upgrade Peira"):
        connect(tmp_path / "run.db")


def test_network_mounts_are_recognised(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\n")
    assert is_network_mount(tmp_path / "run", mounts)
    assert not is_network_mount(Path("/etc"), mounts)
    assert not is_network_mount(Path("/etc"), tmp_path / "absent")


def test_on_a_network_mount_wal_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("peira.engine.journal.is_network_mount", lambda path: True)
    connection = connect(tmp_path / "run.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)
    connection.close()
