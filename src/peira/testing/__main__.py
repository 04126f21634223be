"""`python -m peira.testing`: the fault server from the command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import orjson

from peira.testing.asked import Answerer, Asked, plain_answer
from peira.testing.faults import KINDS, Faults
from peira.testing.server import FaultServer


def main() -> None:
    """Serve until interrupted; the first line printed is the address."""
    options = _parser().parse_args()
    faults = Faults(
        rate=options.rate, kinds=tuple(options.kinds.split(",")), latency=options.latency,
        jitter=options.jitter, refuse=options.refuse, truncate=options.truncate, seed=options.seed,
        status=options.status, status_from=options.status_from, retry_after=options.retry_after,
    )  # fmt: skip
    server = FaultServer(faults, answer=_answerer(options.answers), port=options.port)
    try:
        asyncio.run(_serve(server, options.log))
    except KeyboardInterrupt:
        sys.stderr.write(f"{len(server.log)} requests\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peira.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    parser.add_argument("--rate", type=float, default=0.0, help="share of requests with a fault")
    parser.add_argument("--kinds", default=",".join(KINDS), help="faults to draw from")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--jitter", type=float, default=0.0, help="further seconds, at random")
    parser.add_argument("--retry-after", type=float, default=0.01, help="seconds asked for on 429")
    parser.add_argument("--refuse", type=float, default=0.0, help="share of refusals")
    parser.add_argument("--truncate", type=float, default=0.0, help="share of replies cut short")
    parser.add_argument("--status", type=int, default=0, help="answer with this status…")
    parser.add_argument("--status-from", type=int, default=1, help="…from this request on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, help="JSON: text of the last message -> answer")
    parser.add_argument("--log", type=Path, help="append each request as a JSON line")
    return parser


def _answerer(path: Path | None) -> Answerer:
    if path is None:
        return plain_answer
    known = orjson.loads(path.read_bytes())

    def answer(asked: Asked) -> str:
        prompt = asked.messages[-1][1] if asked.messages else ""
        return str(known.get(prompt, plain_answer(asked)))

    return answer


async def _serve(server: FaultServer, log: Path | None) -> None:
    await server.start()
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    written = 0
    while True:
        await asyncio.sleep(0.2)
        if log is not None and len(server.log) > written:
            with log.open("ab") as file:
                for entry in server.log[written:]:
                    file.write(orjson.dumps(entry) + b"\n")
            written = len(server.log)


if __name__ == "__main__":
    main()
