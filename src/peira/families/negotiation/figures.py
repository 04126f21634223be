"""The pictures of a run: which there are, and who draws them.

One function, one figure; each takes the tidy games and saves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from peira.families.negotiation import scaling_law
from peira.families.negotiation.rows import games_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peira.store.records import RunView

from peira.families.negotiation import figures_cells, figures_games, figures_models, model_tables
from peira.families.negotiation.figures_cells import HEATMAPS

GROUPS: Mapping[str, tuple[str, ...]] = {
    "heatmaps": tuple(f"mmlu_ordered_{name}" for name in HEATMAPS),
    "convergence": ("convergence_rounds",),
    "tokens": ("token_usage",),
    "counts": ("run_counts",),
}


def figures(run: RunView) -> Mapping[str, Callable[[], Figure]]:
    """Makers of the figures that this run has data for, drawn on demand."""
    games = games_of(run)
    if not games.done:
        return {}
    makers: dict[str, Callable[[], Figure]] = {}  # what answers the question first
    if any(len(each.x) >= 3 for each in scaling_law.laws(games)):
        makers["scaling"] = partial(figures_models.scaling, games)
    if games.swapped and len(games.pairs) == 1:
        makers["order_effects"] = partial(figures_models.order_effects, games)
    if games.pairs:
        makers |= {
            f"mmlu_ordered_{name}": partial(figures_cells.heatmap, games, name) for name in HEATMAPS
        }
        if games.swapped:
            makers["order_effects"] = partial(figures_models.order_effects, games)
        makers["pareto"] = partial(figures_games.pareto, games)
    else:
        makers["seats"] = partial(figures_models.seats, games)
    makers["behaviour"] = lambda: figures_models.behaviour(run, games)
    makers["convergence_rounds"] = partial(figures_games.convergence, games)
    if model_tables.tokens(games).rows:
        makers["token_usage"] = partial(figures_games.tokens, games)
    if games.pairs:
        makers["run_counts"] = partial(figures_cells.run_counts, games)
    return makers
