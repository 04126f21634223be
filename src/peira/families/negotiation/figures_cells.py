"""Heat maps: outcomes and run counts by pair and competition level.

Invariant: every cell says its n, and a cell without data is visibly missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peira.families.negotiation import cell_tables
from peira.families.negotiation.rows import Games, Row
from peira.families.negotiation.scaling_law import unlike_scales
from peira.report.figures import (
    DIVERGING,
    FAINT,
    INK,
    SEQUENTIAL,
    canvas,
    finish,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


from peira.families.negotiation.figure_parts import axis_note, how_many, pair_label

MOST_PAIRS = 40
COUNTS = "Blues"
HEATMAPS: Mapping[str, tuple[str, Callable[[Row], float | None], str]] = {
    "utility_difference": ("Stronger's utility less weaker's", Row.difference, DIVERGING),
    "strong_utility": ("Stronger model's utility", cell_tables.strong(cell_tables.utility), SEQUENTIAL),
    "weak_utility": ("Weaker model's utility", cell_tables.weak(cell_tables.utility), SEQUENTIAL),
    "total_utility": (
        "Total utility",
        lambda row: None if row.outcome is None else float(row.outcome["total_utility"]),
        SEQUENTIAL,
    ),
}  # fmt: skip


def heatmap(games: Games, name: str) -> Figure:
    """Mean of one outcome by pair (ordered by capability) and competition level, n in each cell."""
    import numpy as np

    title, measure, colours = HEATMAPS[name]
    pairs = games.pairs[:MOST_PAIRS]
    values = np.full((len(pairs), len(games.levels)), np.nan)
    words: dict[tuple[int, int], str] = {}
    for i, pair in enumerate(pairs):
        for j, level in enumerate(games.levels):
            rows = games.of(pair, level)
            found = cell_tables.mean_of(rows, measure, title)
            done = sum(row.done for row in rows)
            if found.estimate is not None:
                values[i, j] = found.estimate
                lost = f", {len(rows) - done} missing" if done < len(rows) else ""
                words[i, j] = f"{round(found.estimate, 1) + 0.0:.1f}\nn {done}{lost}"
    with style():
        figure, axes = canvas(
            1.9 + 1.05 * max(3, len(games.levels)), 1.0 + 0.42 * max(2, len(pairs))
        )
        drawn = _cells(axes, values, words, colours, symmetric=colours == DIVERGING)
        axes.set_xticks(range(len(games.levels)), [f"{level:g}" for level in games.levels])
        axes.set_yticks(range(len(pairs)), [pair_label(games, pair) for pair in pairs])
        axes.set_xlabel("competition level (cosine of the value vectors)")
        axes.set_title(title)
        figure.colorbar(drawn, ax=axes, label="points", shrink=0.9)
        more = f" The first {MOST_PAIRS} of {len(games.pairs)} pairs."
        more = more if len(games.pairs) > MOST_PAIRS else ""
        scales = (
            " Instances differ in what all items are worth: points do not compare across them."
            if unlike_scales(games) else ""
        )  # fmt: skip
        return finish(
            figure, n=how_many(games), simulated=games.simulated,
            caption="Means over games, both seat orders averaged; utility is discounted and no deal"
            f" counts as the disagreement payoff. Hatched: no data. {axis_note(games)}{more}{scales}",
        )  # fmt: skip


def _cells(
    axes: Axes,
    values: Any,
    words: Mapping[tuple[int, int], str],
    colours: str,
    symmetric: bool = False,
    floor: float | None = None,
) -> Any:
    """Coloured cells with their text; cells without data are hatched."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    known = values[np.isfinite(values)]
    top = float(np.abs(known).max()) if known.size else 1.0
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if symmetric:
        low, high = -top, top
    low = low if floor is None else floor
    norm = Normalize(low, high if high > low else low + 1.0)
    drawn = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
    axes.grid(False)
    for (i, j), value in np.ndenumerate(values):
        if not np.isfinite(value):
            axes.fill([j - 0.5, j + 0.5, j + 0.5, j - 0.5], [i - 0.5, i - 0.5, i + 0.5, i + 0.5],
                      fill=False, hatch="////", edgecolor="#cfcfcf", linewidth=0)  # fmt: skip
            axes.text(j, i, "missing", ha="center", va="center", fontsize=6.5, color=FAINT,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
            continue
        red, green, blue, _ = colormaps[colours](norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(j, i, words.get((i, j), ""), ha="center", va="center", fontsize=6.5,
                  linespacing=1.15, color="white" if dark else INK)  # fmt: skip
    return drawn


def run_counts(games: Games) -> Figure:
    """Finished games by pair, order and level: gaps stand out."""
    import numpy as np

    rows = [(pair, order) for pair in games.pairs[:MOST_PAIRS]
            for order in sorted({r.order or "" for r in games.of(pair)})]  # fmt: skip
    values = np.full((len(rows), len(games.levels)), np.nan)
    words = {}
    for i, (pair, order) in enumerate(rows):
        for j, level in enumerate(games.levels):
            mine = [row for row in games.of(pair, level) if row.order == order]
            if mine:
                values[i, j] = sum(row.done for row in mine)
                words[i, j] = f"{values[i, j]:.0f} of {len(mine)}"
    with style():
        figure, axes = canvas(
            2.4 + 0.95 * max(3, len(games.levels)), 0.9 + 0.27 * max(3, len(rows))
        )
        drawn = _cells(axes, values, words, COUNTS, floor=0.0)
        axes.set_xticks(range(len(games.levels)), [f"{level:g}" for level in games.levels])
        labels = [f"{pair_label(games, pair)}, {order.replace('_', ' ')}" for pair, order in rows]
        axes.set_yticks(range(len(rows)), labels, fontsize=7)
        axes.set_xlabel("competition level")
        axes.set_title("Games finished, of those planned")
        figure.colorbar(drawn, ax=axes, label="games", shrink=0.9)
        return finish(
            figure, n=how_many(games), simulated=games.simulated, caption="Hatched: not planned."
        )
