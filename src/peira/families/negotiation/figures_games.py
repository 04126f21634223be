"""Pictures over games: rounds to agreement, tokens, deals against their frontiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peira.families.negotiation import model_tables
from peira.families.negotiation.rows import Games, Row
from peira.families.negotiation.settings import PHASES
from peira.report.figures import (
    FAINT,
    INK,
    MARKERS,
    PALETTE,
    canvas,
    finish,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


from peira.families.negotiation.figure_parts import how_many, label_of


def convergence(games: Games) -> Figure:
    """Share of games still without a deal after each round, by competition level."""
    with style():
        figure, axes = canvas(5.2, 3.3)
        for k, level in enumerate(games.levels):
            rows = [row for row in games.rows if row.level == level]
            curve = model_tables.survival(rows)
            if not curve:
                continue
            rounds = [r for r, _ in curve]
            colour = PALETTE[k % len(PALETTE)]
            done = sum(row.done for row in rows)
            axes.step(rounds, [v.estimate for _, v in curve], where="post", color=colour,
                      marker=MARKERS[k % len(MARKERS)], markersize=3.5, label=f"c = {level:g} (n {done})")  # fmt: skip
            axes.fill_between(rounds, [v.low for _, v in curve], [v.high for _, v in curve],
                              step="post", color=colour, alpha=0.12, linewidth=0)  # fmt: skip
        axes.set_xlabel("round")
        axes.set_ylabel("share of games without a deal")
        axes.set_ylim(-0.02, 1.04)
        axes.set_title("Rounds to agreement")
        axes.legend(title="competition level", title_fontsize=8)
        return finish(figure, n=how_many(games), simulated=games.simulated,
                      caption="Kaplan-Meier steps; games without a deal are censored at the last round."
                      " Shaded: 95 % Wilson intervals.")  # fmt: skip


def tokens(games: Games) -> Figure:
    """Completion and prompt tokens a seat and game, by phase and model."""
    import numpy as np

    table = model_tables.tokens(games)
    models = [m for m in games.models if any(row["model"] == m for row in table.rows)]
    with style():
        figure, panels = canvas(7.2, 1.3 + 0.34 * len(models), 1, 2, sharey=True)
        keys = (("out", "Tokens written"), ("in", "Tokens read"))
        for axes, (key, title) in zip(panels, keys, strict=True):
            left, places = np.zeros(len(models)), range(len(models))
            for k, phase in enumerate(PHASES):
                width = np.array([_phase_mean(table.rows, m, phase, key) for m in models])
                axes.barh(places, width, left=left, color=PALETTE[k], height=0.66, label=phase)
                left += width
            axes.set_title(title)
            axes.set_xlabel("tokens a seat and game (mean)")
            axes.grid(False, axis="y")
        panels[0].set_yticks(range(len(models)), [label_of(games, m) for m in models])
        panels[0].invert_yaxis()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=5)
        return finish(figure, n=how_many(games), simulated=games.simulated,
                      caption="Intervals stand in the table of tokens by model and phase.")  # fmt: skip


def _phase_mean(rows: Sequence[Mapping[str, Any]], model: str, phase: str, key: str) -> float:
    mine = (row[key].estimate for row in rows if (row["model"], row["phase"]) == (model, phase))
    return float(next(mine, None) or 0.0)


def pareto(games: Games) -> Figure:
    """Deals in utility space against the frontiers and Nash points of their instances, by level."""
    levels = games.levels[:6]
    with style():
        figure, panels = canvas(
            2.5 * len(levels) + 0.4, 3.2, 1, len(levels), squeeze=False, sharex=True, sharey=True
        )
        for axes, level in zip(panels[0], levels, strict=True):
            rows = [row for row in games.done if row.level == level and row.pair]
            _pareto_panel(axes, rows)
            deals = sum(row.deal for row in rows)
            axes.set_title(f"c = {level:g}\n{deals} deals, {len(rows) - deals} without")
            axes.set_xlabel("weaker's raw utility (%)")
        panels[0][0].set_ylabel("stronger's raw utility (%)")
        handles, names = panels[0][0].get_legend_handles_labels()
        if not names:
            handles, names = panels[0][-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
        return finish(figure, n=how_many(games), simulated=games.simulated,
                      caption="Thin lines: Pareto frontiers of the instances played. Dots are jittered by"
                      " at most half a point.")  # fmt: skip


def _pareto_panel(axes: Axes, rows: Sequence[Row]) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    seen: set[Any] = set()
    for row in rows:
        assert row.outcome is not None and row.strong_seat is not None
        flip = row.strong_seat == 0
        key = (row.outcome["values"].__repr__(), flip)
        if key not in seen:
            seen.add(key)
            _frontier_line(axes, row, flip)
    played = [(row, row.outcome) for row in rows if row.outcome]
    deals = np.array([_weak_strong(told["raw"], row) for row, told in played if row.deal])
    nash = np.array([_weak_strong(told["yardsticks"]["nash"], row) for row, told in played])
    if len(deals):
        deals = deals + rng.uniform(-0.5, 0.5, deals.shape)
        axes.plot(*deals.T, "o", color=PALETTE[0], markersize=2.6, alpha=0.55, label="deals")
    if len(nash):
        axes.plot(*nash.T, "*", color=PALETTE[1], markersize=6, alpha=0.8, label="Nash points")
    if len(deals):
        axes.plot(*deals.mean(axis=0), "P", color=INK, markersize=7, label="mean deal")
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.5, linestyle=":")
    axes.set_xlim(-4, 104)
    axes.set_ylim(-4, 104)


def _weak_strong(values: Sequence[float], row: Row) -> tuple[float, float]:
    """(weaker's, stronger's), in percent of what all items are worth to each."""
    seat = row.strong_seat or 0
    weak, strong = _totals(row, 1 - seat), _totals(row, seat)
    return 100.0 * float(values[1 - seat]) / weak, 100.0 * float(values[seat]) / strong


def _totals(row: Row, seat: int) -> float:
    return sum(row.outcome["values"][seat]) if row.outcome is not None else 1.0


def _frontier_line(axes: Axes, row: Row, flip: bool) -> None:
    from peira.families.negotiation.game import Game
    from peira.families.negotiation.yardsticks import solutions

    assert row.outcome is not None
    values = tuple(tuple(v) for v in row.outcome["values"])
    if any(key == "cooperation" for key, _ in row.extra):
        return
    frontier = solutions(Game(tuple(row.outcome["items"]), values)).frontier
    if frontier is None:
        return
    points = 100.0 * frontier.utilities / [_totals(row, 0), _totals(row, 1)]
    points = points[:, ::-1] if flip else points
    points = points[points[:, 0].argsort()]
    axes.plot(*points.T, "-", color="#9a9a9a", linewidth=0.5, alpha=0.5, zorder=1)
