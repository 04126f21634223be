"""Peira against Inspect AI through an OpenAI-compatible provider: calls a second, CPU a call.

    python benchmarks/bench_inspect.py --inspect-python PATH_TO_A_PYTHON_WITH_INSPECT_AI

Both ask the same server (50 ms) the same prompts, 200 at a time, in processes of their own, one
after the other. Inspect's part runs in its own environment (inspect-ai 0.3.285, openai, aiohttp).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

INSPECT = """
import asyncio, json, sys, time
from inspect_ai.model import GenerateConfig, get_model, ChatMessageSystem, ChatMessageUser
url, calls, concurrency, prompt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

async def main():
    model = get_model("openai-api/served/m", base_url=url + "/v1", api_key="none",
                      config=GenerateConfig(max_connections=concurrency, max_tokens=60,
                                            temperature=0.5))
    async def run(count, base):
        left = iter(range(count))
        async def lane():
            for number in left:
                await model.generate([ChatMessageSystem(content="s"),
                                      ChatMessageUser(content=f"{base + number} {prompt}")])
        await asyncio.gather(*(lane() for _ in range(concurrency)))
    await run(concurrency, 10**6)
    start, cpu = time.perf_counter(), time.process_time()
    await run(calls, 0)
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]))

asyncio.run(main())
"""


def inspect(
    python: str, url: str, calls: int, concurrency: int, prompt: str
) -> tuple[float, float]:
    """(wall, CPU) of Inspect's own part."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", INSPECT, url, str(calls), str(concurrency), prompt],
            capture_output=True, text=True, cwd=folder,
            env={**os.environ, "SERVED_API_KEY": "none", "PYTHONPATH": ""},
        )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inspect-python", default=os.environ.get("INSPECT_PYTHON"))
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.inspect_python is None:
        print(
            "left out: name a Python that has Inspect AI with --inspect-python or INSPECT_PYTHON\n"
            "  python -m venv inspect && inspect/bin/pip install inspect-ai==0.3.285 openai aiohttp"
        )
        return
    import bench_http
    import uvloop

    queue: multiprocessing.Queue = multiprocessing.Queue()
    server = multiprocessing.Process(target=bench_http.serve, args=(0.05, queue), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{queue.get()}"
    runs: dict[str, list[tuple[float, float]]] = {"peira": [], "inspect": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            runs["peira"].append(
                uvloop.run(bench_http.peira(url, options.concurrency, options.calls, Path(folder)))
            )
        runs["inspect"].append(
            inspect(
                options.inspect_python, url, options.calls, options.concurrency, bench_http.PROMPT
            )
        )
    server.terminate()
    rates = {}
    for name, found in runs.items():
        wall, cpu = min(each[0] for each in found), min(each[1] for each in found)
        rates[name] = (options.calls / wall, 1000 * cpu / options.calls)
        print(f"  {name:<8} {rates[name][0]:7.0f} calls/s   {rates[name][1]:.3f} ms CPU a call")
    print(
        f"  throughput: {rates['peira'][0] / rates['inspect'][0]:.1f} times Inspect's (wanted: 10)"
    )
    print(f"  calls per CPU second: {rates['inspect'][1] / rates['peira'][1]:.1f} times Inspect's")


if __name__ == "__main__":
    main()
