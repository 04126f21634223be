"""`peira view [DIR]`: runs in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peira.cli import flags


def command(
    directory: Annotated[
        Path | None, typer.Argument(help="A directory of runs, or one run. Default: experiments/.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="0: any. Default: 8321 or the next."),
    ] = None,
    host: Annotated[str, "Where to listen; anything but loopback is seen by others."] = "127.0.0.1",
    no_browser: Annotated[bool, "Print the address; open nothing."] = False,
    json: flags.Json = False,
) -> int:
    """Serve a local page over a directory of runs, until Ctrl+C. It only reads, and needs the token
    in the address it prints."""
    from peira.cli.display import note, say
    from peira.web.guard import LOOPBACK
    from peira.web.serve import Place, serve

    root = directory or Path("experiments")
    if host not in LOOPBACK:
        note(f"{host} can be reached by others: whoever has the address sees every run in {root}")

    def ready(address: str) -> None:
        import sys
        from json import dumps

        say(dumps({"url": address}) if json else address)
        sys.stdout.flush()
        if not no_browser:
            _open(address)

    serve(Place(root, host, port), ready)
    return 0


def _open(address: str) -> None:
    """Open a browser where there is a screen; elsewhere the printed address has to do."""
    import os
    import sys
    import webbrowser

    if (
        sys.platform in ("darwin", "win32")
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    ):
        webbrowser.open(address)
