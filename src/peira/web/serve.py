"""Serving the view: on loopback, behind a random token, in a process of its own beside a run.

`serve` is `peira view`; `alongside` shows a run while it goes on, from a second, lower-priority
process, so that looking takes nothing from the run; people's answers come back through the mailbox.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peira.errors import InputError
from peira.web.guard import LOOPBACK, Door
from peira.web.house import HERE

TOKEN = "PEIRA_VIEW_TOKEN"
DEFAULT_PORT = 8321


@dataclass(frozen=True, slots=True)
class Place:
    """Where to serve. Port 0 takes any free one; without one, 8321 or the next free."""

    root: Path
    host: str = "127.0.0.1"
    port: int | None = None


def serve(place: Place, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `ready` is given the address with its token. Raises InputError when
    the directory is missing or the port is taken."""
    if not place.root.is_dir():
        raise InputError(f"{place.root}: no such directory\n  remedy: peira view experiments")
    listener = bound(place.host, place.port)
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    ready(_url(listener, place.host, token))
    _run(place.root, listener, place.host, token)


@contextlib.contextmanager
def alongside(run_dir: Path, say: Callable[[str], None] | None = None) -> Iterator[str]:
    """Show a run while the block runs; seats held by people are asked in the browser. Yields the
    address."""
    from peira.engine.desk import use_desk
    from peira.web.desk import BrowserDesk

    run_dir.mkdir(parents=True, exist_ok=True)
    listener, token = bound("127.0.0.1", None), secrets.token_urlsafe(24)
    address = _url(listener, "127.0.0.1", token, f"run/{HERE}")
    child = subprocess.Popen(
        [sys.executable, "-m", "peira.web.serve", str(run_dir.resolve()), str(listener.fileno())],
        pass_fds=[listener.fileno()], env=os.environ | {TOKEN: token}, start_new_session=True,
    )  # fmt: skip
    listener.close()
    (say or _to_stderr)(f"view: {address}")
    use_desk(BrowserDesk(run_dir))
    try:
        yield address
    finally:
        use_desk(None)
        child.terminate()
        child.wait(timeout=10)


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


def bound(host: str, port: int | None) -> socket.socket:
    """A listening socket. Raises InputError when it cannot be had."""
    wanted = range(DEFAULT_PORT, DEFAULT_PORT + 50) if port is None else (port,)
    for number in wanted:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if port is not None:
                raise InputError(
                    f"{host}:{port}: cannot be served ({error.strerror})\n"
                    "  remedy: another --port, or none for the next free one"
                ) from error
            continue
        return listener
    raise InputError(f"{host}: no free port from {DEFAULT_PORT}\n  remedy: --port 0")


def _url(listener: socket.socket, host: str, token: str, page: str = "") -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/{page}?token={token}"


def _run(root: Path, listener: socket.socket, host: str, token: str) -> None:
    import uvicorn

    from peira.web.app import make_app

    threading.Thread(target=_warm, daemon=True).start()
    port = listener.getsockname()[1]
    hosts = ("*",) if host in ("0.0.0.0", "::") else (*LOOPBACK, host, f"[{host}]")
    door = Door(token, hosts, cookie=f"peira-view-{port}")
    app = make_app(root, door)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    app.closing = lambda: server.should_exit
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _warm() -> None:
    """Load what the first map or figure needs while nobody waits for it."""
    from peira.report.figures import style
    from peira.stats.intervals import mean_interval

    mean_interval([0.0, 1.0])
    with style():
        pass


def _child() -> None:
    """The process that `alongside` starts: directory and socket come as arguments, the token in the
    environment, where other users cannot read it."""
    with contextlib.suppress(OSError):
        os.nice(5)
    token = os.environ.pop(TOKEN)
    listener = socket.socket(fileno=int(sys.argv[2]))
    _run(Path(sys.argv[1]), listener, "127.0.0.1", token)


if __name__ == "__main__":
    _child()
