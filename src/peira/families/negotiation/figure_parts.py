"""What the pictures share: labels, dots with intervals, the count of games."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peira.families.negotiation.rows import AXIS_LABELS, Games
from peira.report.figures import FAINT, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def label_of(games: Games, model: str) -> str:
    """A model's name, with its place on the main axis."""
    score = games.score(model)
    name = model.removeprefix("sim:")
    name = name if len(name) <= 26 else name[:25] + "…"
    known = score != float("inf") and "skill" not in name
    return plain(f"{name} ({score:.3g})" if known else name)


def pair_label(games: Games, pair: tuple[str, str]) -> str:
    return f"{label_of(games, pair[1])} vs {label_of(games, pair[0])}"


def axis_note(games: Games) -> str:
    axis = games.axes[0] if games.axes else None
    if axis is None:
        return "Rows are in order of the weaker, then the stronger name; no capability is known for all."
    return f"Rows are ordered by {AXIS_LABELS.get(axis, axis)} of the weaker, then of the stronger model."


def how_many(games: Games) -> str:
    done = len(games.done)
    missing = len(games.rows) - done
    return f"n = {done:,} games" + (f", {missing:,} missing." if missing else ", none missing.")


def dot(axes: Axes, value: Any, place: float, colour: str, marker: str) -> None:
    if value.estimate is None:
        axes.annotate("none", (0.02, place), xycoords=("axes fraction", "data"), fontsize=6.5,
                      color=FAINT, va="center")  # fmt: skip
        return
    axes.plot(value.estimate, place, marker, color=colour)
    if value.low is not None and value.high is not None:
        axes.hlines(place, value.low, value.high, color=colour, linewidth=1.3)
