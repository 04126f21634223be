"""What a command shows while it works and when it ends: live on a terminal, plain lines otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TextIO

from peira.api import RunReport, Session, live

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REMEDY = "\n  remedy: "
PLAIN_EVERY = 5.0  # seconds between plain lines


def console(stderr: bool = False) -> Console:
    """A rich console that respects NO_COLOR and pipes; a reader that leaves early is no bug."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    found = Piped(stderr=stderr, highlight=False)
    if not found.is_terminal:
        found.width = _width()
    return found


def _width() -> int:
    """Of the terminal at the other end of a pipe (`peira list | head`), else wide."""
    for descriptor in (2, 0):
        with contextlib.suppress(OSError):
            return os.get_terminal_size(descriptor).columns
    return 200


def say(text: str = "") -> None:
    """One line to standard output."""
    sys.stdout.write(folded(text, sys.stdout) + "\n")


def note(text: str) -> None:
    """One line to standard error: progress and remarks, never results."""
    sys.stderr.write(folded(text, sys.stderr) + "\n")


def folded(text: str, stream: TextIO) -> str:
    """The text, its lines broken between words where the stream is a terminal."""
    return text if not stream.isatty() else "\n".join(_folded(text, _columns()))


def _folded(text: str, width: int) -> Iterable[str]:
    for line in text.split("\n"):
        if len(line) <= width:
            yield line
        else:
            indent = line[: len(line) - len(line.lstrip())]
            yield from wrap(line, width, subsequent_indent=indent, break_on_hyphens=False,
                            break_long_words=False)  # fmt: skip


def _columns() -> int:
    return shutil.get_terminal_size().columns


def as_json(data: Any) -> None:
    """Strict JSON to standard output."""
    from peira.store.rundir import dumps

    sys.stdout.write(dumps(data).decode() + "\n")


def table(title: str, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table whose cells may hold anybody's words; one too wide for the terminal is turned or
    split, as tables of an analysis are."""
    from peira.report.tables import Drawn, grids, harmless

    lines = [["" if cell is None else harmless(str(cell)) for cell in row] for row in rows]
    columns = zip(header, zip(*lines, strict=True) if lines else [()] * len(header), strict=True)
    out = console()
    say(harmless(title))
    for grid in grids([Drawn(head, tuple(cells), True) for head, cells in columns], out.width):
        out.print(grid)


def watcher(as_json_lines: bool) -> Callable[[Session], None]:
    """What to do when a run starts: show it live, in plain lines, or as JSON lines."""

    def start(session: Session) -> None:
        show = _json_lines if as_json_lines else _rich if console(True).is_terminal else _plain
        session.watch = asyncio.get_running_loop().create_task(show(session))  # type: ignore[attr-defined]

    return start


async def _json_lines(session: Session) -> None:
    while True:
        note(json.dumps(live(session)))
        await asyncio.sleep(1.0)


async def _plain(session: Session) -> None:
    note(f"{session.question.study.name or 'study'}: {_line(live(session))}")
    while True:
        await asyncio.sleep(PLAIN_EVERY)
        note(_plain_line(live(session)))


def _plain_line(state: Mapping[str, Any]) -> str:
    """How far the run is, and who is being waited for."""
    return " · ".join([_line(state), *(text for text in state["pace"] if ", paused " in text)])


async def _rich(session: Session) -> None:
    from rich.live import Live

    from peira.engine.desk import screens

    shown = Live(_panel(session), console=console(True), refresh_per_second=4, transient=True)
    screens.append(shown)
    shown.start()
    try:
        while True:
            await asyncio.sleep(0.25)
            shown.update(_panel(session))
    finally:
        screens.remove(shown)
        shown.stop()


def _panel(session: Session) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    state = live(session)
    finished = state["planned"] - state["pending"]
    head = Text(session.question.study.name or "study", style="bold")
    if session.options.simulated:
        head.append("  simulated subjects", style="yellow")
    bar = Table.grid()  # a bare progress bar would not end its line
    bar.add_row(ProgressBar(total=max(1, state["planned"]), completed=finished, width=60))
    lines: list[RenderableType] = [head, bar, Text(_line(state))]
    lines += [Text(f"  {text}", style="dim") for text in state["pace"]]
    if state["halt"]:
        lines.append(Text(state["halt"].splitlines()[0], style="red"))
    return Group(*lines, *_trials(state["active"], console(True).height - len(lines) - 2))


def _trials(active: list[dict[str, Any]], room: int) -> list[RenderableType]:
    """One line for each trial at work, as many as there is room for."""
    from rich.table import Table
    from rich.text import Text

    shown = active if len(active) <= room else active[: max(1, room - 1)]
    grid = Table.grid(padding=(0, 2))
    for each in shown:
        cells = (f"  {each['trial']}", each["at"], f"${each['usd']:.4f}", _since(each["since"]))
        grid.add_row(*(Text(cell, style="dim") for cell in cells))
    more = [Text(f"  and {len(active) - len(shown)} more", style="dim")]
    return [grid, *(more if len(shown) < len(active) else [])]


def _since(start: float) -> str:
    return _span(time.time() - start)


def _line(state: Mapping[str, Any]) -> str:
    parts = [
        f"{state['done']}/{state['planned']} done",
        f"{state['failed']} failed", f"{state['halted']} halted",
        _calls(state["in_flight"]), _money(state), _eta(state),
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def _calls(n: int) -> str:
    return f"{n} call{'' if n == 1 else 's'} in flight"


def _money(state: Mapping[str, Any]) -> str:
    if state["budget_usd"] is not None:
        return f"${state['spent_usd']:.4f} of ${state['budget_usd']:.2f}"
    return f"${state['spent_usd']:.4f}"


def _eta(state: Mapping[str, Any]) -> str:
    here, pending = state["finished_here"], state["pending"]
    elapsed = state["time"] - state["started"]
    if not here or not pending:
        return f"{elapsed:.0f} s"
    soon, late = (_span(pending * elapsed / rate) for rate in reversed(_counted(here)))
    between = soon if soon == late else f"{soon} to {late}"
    return f"{elapsed:.0f} s, about {between} left"


def _counted(n: int) -> tuple[float, float]:
    """80 % limits of the mean of a Poisson count (Wilson and Hilferty 1931)."""
    low, high = (
        k * (1 - 1 / (9 * k) + z / (3 * math.sqrt(k))) ** 3 for k, z in ((n, -1.28), (n + 1, 1.28))
    )
    return low, high


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ending(report: RunReport) -> None:
    """How a run ended, in three to five lines."""
    say(f"{report.path}: {report.tally}")
    if report.causes:
        say("  causes: " + ", ".join(f"{cause} {n}" for cause, n in report.causes.items()))
    if report.note:
        say(f"  {report.note}")
    if report.message:
        note(f"  halted: {report.message.partition(REMEDY)[0]}")
    unsettled = f" ({report.unsettled_usd:.4f} unsettled)" if report.unsettled_usd else ""
    say(
        f"  ran {report.ran} trial{'' if report.ran == 1 else 's'} in {_span(report.seconds)},"
        f" spent ${report.spent_usd:.4f}{unsettled}"
    )


def remedy(report: RunReport, otherwise: str, same: str = "the same command") -> str:
    """What to do about a run that did not finish, in one line: as whatever halted it says. `same`:
    the command that goes on with it."""
    told = report.message.partition(REMEDY)[2].replace("the same command", same)
    return f"  remedy: {told or otherwise}"


def report_dict(report: RunReport) -> dict[str, Any]:
    """The same as plain data."""
    tally = report.tally
    return {
        "run": str(report.path), "planned": tally.planned, "done": tally.done,
        "failed": tally.failed, "halted": tally.halted, "pending": tally.pending,
        "causes": dict(report.causes), "ran": report.ran, "spent_usd": report.spent_usd,
        "unsettled_usd": report.unsettled_usd, "seconds": report.seconds,
        "exit_code": report.exit_code, "message": report.message, "note": report.note,
    }  # fmt: skip
