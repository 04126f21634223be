"""Calls to a served model: Peira against a bare aiohttp client, side by side in one run.

    python benchmarks/bench_http.py [--calls 6000] [--concurrency 200] [--latency 0.05]

The server is a process of its own. `bare` posts the same bodies with aiohttp and reads the JSON;
`peira` does all that a priced call of a study does: fit, ledger (two durable commits), budget, pace,
wire, transcript event. Prints throughput, CPU of the client a call, and their ratios; then holds
1,000 calls in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from peira.engine.budget import Account, Budget
from peira.engine.journal import Journal
from peira.engine.lab import Bench, Lab, TrialTask
from peira.engine.ledger import Ledger, Sharing
from peira.engine.loops import driving
from peira.subjects.route import Routes
from peira.subjects.subject import Sampling, system, user

PROMPT = "The quick brown fox jumps over the lazy dog. " * 12
SAMPLING = Sampling(max_tokens=60, temperature=0.5)


def serve(latency: float, port: multiprocessing.Queue) -> None:
    """A lean server: same reply to all, so that it is not the bottleneck."""
    import uvloop
    from aiohttp import web

    body = json.dumps(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok " * 20}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 150, "completion_tokens": 20, "total_tokens": 170}}
    ).encode()  # fmt: skip
    state = {"now": 0, "peak": 0}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        state["now"] += 1
        state["peak"] = max(state["peak"], state["now"])
        await asyncio.sleep(latency)
        state["now"] -= 1
        if request.path == "/peak":
            return web.json_response(state)
        return web.Response(body=body, content_type="application/json")

    async def main() -> None:
        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        port.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    uvloop.run(main())


async def lanes(concurrency: int, calls: int, call) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of `calls` calls, `concurrency` at a time."""
    left = iter(range(calls))

    async def lane() -> None:
        for number in left:
            await call(number)

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    return time.perf_counter() - start, time.process_time() - cpu


async def bare(url: str, concurrency: int, calls: int) -> tuple[float, float]:
    """A plain aiohttp client doing the least a client can do."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int) -> None:
            body = {
                "model": "m", "max_tokens": 60, "temperature": 0.5,
                "messages": [{"role": "system", "content": "s"},
                             {"role": "user", "content": f"{number} {PROMPT}"}],
            }  # fmt: skip
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                json.loads(await response.read())["choices"][0]["message"]["content"]

        await lanes(concurrency, concurrency * 4, call)
        return await lanes(concurrency, calls, call)


async def peira(url: str, concurrency: int, calls: int, folder: Path) -> tuple[float, float]:
    """Everything a priced call of a study goes through."""
    journal = Journal(folder / "run.db", costly=True)
    ledger = Ledger(journal, Budget(Account(10**12)))
    price = {"input_per_million": 1.0, "output_per_million": 2.0}
    options = {"base_url": f"{url}/v1", "model": "m", "price": price, "max_concurrency": 1024}
    routes = Routes(overrides={"served": options}, budgeted=True)
    bench = Bench(routes, ledger, Sharing())
    lab = Lab(TrialTask(1, "1", "t", 1, 1, 0, {}, {}), bench)
    subject = lab.subject("served", "seat")

    async def call(number: int) -> None:
        messages = [system("s"), user(f"{number} {PROMPT}")]
        await subject.reply(messages, SAMPLING, label=f"call {number}")

    async def warm(number: int) -> None:
        await call(-number - 1)

    try:
        with driving():  # as the driver of a run does
            await lanes(concurrency, concurrency * 4, warm)
            return await lanes(concurrency, calls, call)
    finally:
        await routes.close()
        journal.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=6000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=1000)
    options = parser.parse_args()
    import uvloop

    queue: multiprocessing.Queue = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(options.latency, queue), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{queue.get()}"
    best: dict[str, list[tuple[float, float]]] = {"bare aiohttp": [], "peira": []}
    for _ in range(options.rounds):
        best["bare aiohttp"].append(uvloop.run(bare(url, options.concurrency, options.calls)))
        with tempfile.TemporaryDirectory() as folder:
            best["peira"].append(
                uvloop.run(peira(url, options.concurrency, options.calls, Path(folder)))
            )
    print(
        f"{options.calls} calls, {options.concurrency} at a time, {options.latency * 1000:.0f} ms"
    )
    rates = {}
    for name, runs in best.items():
        wall, cpu = min(run[0] for run in runs), min(run[1] for run in runs)
        rates[name] = options.calls / wall
        print(
            f"  {name:<13} {rates[name]:7.0f} calls/s   {1000 * cpu / options.calls:.3f} ms CPU a call"
        )
    print(f"  peira / bare: {rates['peira'] / rates['bare aiohttp']:.3f}  (wanted: 0.85)")
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = uvloop.run(peira(url, options.many, options.many * 6, Path(folder)))
    calls = options.many * 6
    print(
        f"{options.many} at a time: {calls / wall:.0f} calls/s, {1000 * cpu / calls:.3f} ms CPU a call"
    )
    server.terminate()


if __name__ == "__main__":
    sys.exit(main())
