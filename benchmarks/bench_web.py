"""How long the view takes: server time of first pages, in CPU and wall milliseconds.

    python benchmarks/bench_web.py [--runs 200] [--trials 100000]

Targets: a directory of 200 runs and a run of 100,000 trials under 300 ms, a trial page under 100 ms,
a figure under 1 s. `cold` is the first request of a fresh application (its
templates are compiled too), `warm` the best of five.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from peira.engine.attempt import compress
from peira.engine.journal import connect
from peira.families import BUILT_IN
from peira.study.study import Study
from peira.web.app import make_app
from peira.web.guard import Door

TOKEN = "bench"
FACTORS = {"weak": [f"model-{i}" for i in range(5)], "strong": [f"model-{i}" for i in range(5, 10)],
           "competition": [0.0, 0.25, 0.5, 0.75, 1.0]}  # fmt: skip


def make_run(folder: Path, trials: int, paid: bool) -> None:
    """A finished run, written straight into run.db."""
    folder.mkdir(parents=True)
    connection = connect(folder / "run.db", costly=False)
    draw = random.Random(trials)
    cells = [
        (w, s, c)
        for w in FACTORS["weak"]
        for s in FACTORS["strong"]
        for c in FACTORS["competition"]
    ]
    replicates = -(-trials // len(cells))
    study = Study(family="negotiation", name=folder.name, factors=FACTORS, replicates=replicates)
    now = time.time()
    manifest = {"subjects": {"sim:x": {"simulated": not paid}}, "created": "2026-01-01T00:00:00Z"}
    live = {"time": now, "ended": now, "started": now - 60, "done": trials, "failed": 0, "halted": 0,
            "pending": 0, "in_flight": 0, "spent_usd": 1.0, "active": [], "pace": [], "halt": None,
            "finished_here": trials}  # fmt: skip
    meta = {"study": study.model_dump(mode="json"), "family": BUILT_IN["negotiation"], "manifest": manifest,
            "live": live, "simulated": False}  # fmt: skip
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO meta VALUES(?,?)", [(k, orjson.dumps(v).decode()) for k, v in meta.items()]
    )
    connection.executemany("INSERT INTO cells VALUES(?,?,?,?)", [
        (i, str(i), orjson.dumps({"models": [w, s]}),
         orjson.dumps({"weak": w, "strong": s, "competition": c})) for i, (w, s, c) in enumerate(cells)
    ])  # fmt: skip
    connection.executemany(
        "INSERT INTO trials(number, id, slug, cell, seed, replicate, position, state, cause, attempts,"
        " started, finished, seconds, outcome, usage, subjects, simulated)"
        " VALUES(?,?,?,?,?,?,?,?,?,1,?,?,1.0,?,?,?,?)",
        (trial(n, cells, now, draw, paid) for n in range(trials)),
    )
    events = compress(orjson.dumps(transcript()))
    connection.executemany(
        "INSERT INTO transcripts VALUES(?,?)", ((n, events) for n in range(0, trials, 100))
    )
    if paid:
        connection.executemany(
            "INSERT INTO replies(trial, key, hash, state, model, reply, cost, worst, buyer)"
            " VALUES(?,?,x'00','done','m',?,120,0,?)",
            ((n, f"call {k}", events[:200], n) for n in range(trials) for k in range(4)),
        )
    connection.execute("COMMIT")
    connection.close()


def trial(
    n: int, cells: list[tuple[str, str, float]], now: float, draw: random.Random, paid: bool
) -> tuple:
    """One row of trials, with an outcome of a usual size."""
    cell = n % len(cells)
    done = draw.random() > 0.03
    outcome = {"consensus": draw.random() > 0.2, "utility_difference": draw.gauss(5, 20),
               "total_utility": draw.gauss(150, 20), "final_round": draw.randint(1, 10),
               "values": [[draw.randint(0, 50) for _ in range(5)] for _ in range(2)],
               "spent": {p: {"calls": 2, "tokens": 900} for p in ("talk", "vote", "propose")}}  # fmt: skip
    usage = {"a": {"calls": 10, "tokens_in": 9000, "tokens_out": 1200}}
    return (n, f"{n:032x}", "/".join(map(str, cells[cell])) + f"/run_{n}", cell, n, n // len(cells), n,
            "done" if done else "failed", None if done else "provider", now - 60,
            now - 60 + 60 * n / 100_000, orjson.dumps(outcome) if done else None,
            orjson.dumps(usage), orjson.dumps({"a": {"name": "m"}}), int(not paid))  # fmt: skip


def transcript() -> list[dict]:
    """Forty calls of three hundred words."""
    return [{"n": k, "kind": "call", "seat": f"Agent {k % 2 + 1}", "label": f"round {k // 4 + 1}/talk",
             "reply": "a word " * 300, "reasoning": "a thought " * 100, "finish": "stop", "model": "m",
             "served_model": "m", "usage": {"prompt_tokens": 900, "completion_tokens": 300}, "cost": 100,
             "seconds": 1.0, "messages": [{"role": "user", "content": "prompt " * 600}]}
            for k in range(40)]  # fmt: skip


def ask(app, address: str) -> int:
    """One request over ASGI; returns the length of the answer."""
    parts = urlsplit(address)
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": parts.path,
             "query_string": parts.query.encode(), "scheme": "http", "root_path": "",
             "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())],
             "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}  # fmt: skip
    got = {"length": 0, "status": 0}

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        got["status"] = message.get("status", got["status"])
        got["length"] += len(message.get("body", b""))

    asyncio.run(app(scope, receive, send))
    assert got["status"] == 200, (address, got["status"])
    return got["length"]


def clock(app, address: str) -> tuple[float, float, int]:
    """(wall ms, CPU ms, bytes) of one request."""
    wall, cpu = time.perf_counter(), time.process_time()
    length = ask(app, address)
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu), length


def show(name: str, root: Path, address: str, target: float) -> None:
    """Print one line: cold, and the best of five warm."""
    app = make_app(root, Door(TOKEN))
    cold = clock(app, address)
    warm = min(clock(app, address) for _ in range(5))
    verdict = "ok" if cold[1] < target else "SLOW"  # CPU: the machine may be shared
    print(f"{name:<44} cold {cold[0]:7.1f} ms ({cold[1]:6.1f} CPU)  warm {warm[0]:6.1f} ms"
          f" ({warm[1]:6.1f} CPU)  {cold[2] / 1024:7.0f} KiB  target {target:.0f} {verdict}")  # fmt: skip


def main() -> None:
    """Build, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--trials", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(options.runs):
            make_run(root / "many" / f"run-{number:03d}", 50, paid=number % 2 == 0)
        make_run(root / "large/free", options.trials, paid=False)
        make_run(root / "large/paid", options.trials, paid=True)
        ask(make_app(root / "many", Door(TOKEN)), "/part/heat/run-000")  # imports
        print(f"sqlite {sqlite3.sqlite_version}, {options.runs} runs, {options.trials:,} trials")
        show(f"first page of {options.runs} runs", root / "many", "/", 300)
        for run in ("free", "paid"):
            large = root / "large"
            show(f"run page, {run}", large, f"/run/{run}", 300)
            show(f"trials page, {run}", large, f"/trials/{run}", 300)
            show("  last page", large, f"/trials/{run}?page=1000", 300)
            show(
                "  sorted by an outcome",
                large,
                f"/trials/{run}?sort=outcome:utility_difference",
                300,
            )
            show("  sorted by a factor", large, f"/trials/{run}?sort=factor:strong&down=1", 300)
            show("  search", large, f"/trials/{run}?q=model-7", 300)
            show(
                "  filtered by two factors",
                large,
                f"/trials/{run}?f.weak=model-1&f.competition=0.5",
                300,
            )
            show("part: progress", large, f"/part/progress/{run}", 300)
            show("part: cells", large, f"/part/cells/{run}", 300)
            show("part: map", large, f"/part/heat/{run}?outcome=utility_difference", 300)
            show("part: failures", large, f"/part/failures/{run}", 300)
            show("part: over time", large, f"/part/time/{run}", 300)
            show("trial page", large, f"/trial/0/{run}", 100)


if __name__ == "__main__":
    main()
