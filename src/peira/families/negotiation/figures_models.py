"""Pictures over models: the scaling law, seat orders, behaviour, games of three and more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peira.families.negotiation import group_tables, model_tables, scaling_law
from peira.families.negotiation.behaviour_table import behaviours, table_of
from peira.families.negotiation.rows import AXIS_LABELS, Games
from peira.report.figures import (
    FAINT,
    INK,
    MARKERS,
    PALETTE,
    canvas,
    finish,
    plain,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from peira.store.records import RunView

from peira.families.negotiation.figure_parts import dot, how_many, label_of, pair_label

HEADS = {  # laws that are drawn -> title, unit
    "unconditional": ("Utility, no deal included", "points"),
    "nash_shares": ("In shares of the Nash point", "shares of Nash"),
}


def scaling(games: Games) -> Figure:
    """Model scores on capability: raw utility difference beside the instance-normalised one."""
    found = [law for law in scaling_law.laws(games)
             if law.axis == games.axes[0] and law.outcome in HEADS and law.scores.scores]  # fmt: skip
    with style():
        figure, panels = canvas(3.5 * len(found) + 0.4, 3.5, 1, len(found), squeeze=False)
        for axes, law in zip(panels[0], found, strict=True):
            _law_panel(axes, games, law)
        star = " One model takes part in every game: conditional on it." if found[0].star else ""
        fitted = any(law.fit.reason is None for law in found)
        caption = ("Line: least squares over models; shaded: 95 % prediction band for a new model, hatched"
                   " outside the observed range." if fitted else "Fewer than six models: no line is fitted.")  # fmt: skip
        return finish(figure, n=f"n = {len(found[0].x)} models, {found[0].scores.n_games:,} games.",
                      simulated=games.simulated, caption=f"Dots: least-squares model scores. {caption}{star}")  # fmt: skip


def _law_panel(axes: Axes, games: Games, law: scaling_law.Law) -> None:
    from peira.stats.scaling import band, extrapolation_grid

    if law.fit.reason is None and law.fit.x_range is not None:
        grid = extrapolation_grid(law.fit.x_range)
        limits = band(law.fit, grid)
        if not isinstance(limits, str):
            inside = ~limits.extrapolated
            axes.plot(grid[inside], limits.mean[inside], color=PALETTE[0])
            axes.fill_between(grid[inside], limits.low[inside], limits.high[inside],
                              color=PALETTE[0], alpha=0.15, linewidth=0)  # fmt: skip
            for side in (grid <= law.fit.x_range[0], grid >= law.fit.x_range[1]):
                axes.plot(grid[side], limits.mean[side], color=PALETTE[0], linestyle=":")
                axes.fill_between(grid[side], limits.low[side], limits.high[side], facecolor="none",
                                  edgecolor=PALETTE[0], alpha=0.35, hatch="////", linewidth=0)  # fmt: skip
        _other_form(axes, law, grid)
    axes.plot(law.x, law.scores.scores, "o", color=PALETTE[1], zorder=3)
    _point_labels(axes, law)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    axes.set_xlabel(AXIS_LABELS.get(law.axis, law.axis))
    head, unit = HEADS[law.outcome]
    axes.set_ylabel(f"model score ({unit})")
    slope = law.slope
    said = (
        f"\nslope {slope.estimate:.3g} [{slope.low:.3g}, {slope.high:.3g}]" if slope.defined else ""
    )
    axes.set_title(head + said)


def _other_form(axes: Axes, law: scaling_law.Law, grid: Any) -> None:
    """The best other form, so that the line is not taken for the only reading."""
    if law.forms is None:
        return
    others = {n: w for n, w in law.forms.weights.items() if n not in ("linear", "constant")}
    if not others:
        return
    name = max(others, key=lambda key: others[key])
    drawn, linear = law.forms.fits[name].predict(grid), law.forms.weights.get("linear", 0)
    axes.plot(grid, drawn, color=PALETTE[2], linestyle="--", linewidth=1)
    axes.plot([], [], color=PALETTE[2], linestyle="--", label=f"{name} (weight {others[name]:.2f})")
    axes.plot([], [], color=PALETTE[0], label=f"linear (weight {linear:.2f})")
    axes.legend(loc="upper left", fontsize=7)


def _point_labels(axes: Axes, law: scaling_law.Law) -> None:
    """Names beside the dots, on either side by turns so that neighbours do not collide."""
    order = sorted(range(len(law.x)), key=lambda k: (law.x[k], law.scores.scores[k]))
    for place, k in enumerate(order):
        left = place % 2 == 1 or place == len(order) - 1
        axes.annotate(
            plain(str(law.scores.models[k]).removeprefix("sim:")), (law.x[k], law.scores.scores[k]),
            xytext=(-6 if left else 6, 0), textcoords="offset points", fontsize=6.5, color=INK,
            ha="right" if left else "left", va="center",
        )  # fmt: skip


def order_effects(games: Games) -> Figure:
    """Strong − weak under both seat orders, and what sitting first is worth."""
    rows = model_tables.order_effects(games).rows
    labels = ["all pairs" if row["weak"] == "all" else pair_label(games, (row["weak"], row["strong"]))
              for row in rows]  # fmt: skip
    with style():
        figure, (left, right) = canvas(7.4, 1.3 + 0.34 * len(rows), 1, 2, sharey=True)
        for place, row in enumerate(rows):
            for shift, key, colour, marker in ((-0.13, "strong_first", PALETTE[0], "o"),
                                               (0.13, "weak_first", PALETTE[1], "s")):  # fmt: skip
                dot(left, row[key], place + shift, colour, marker)
            dot(right, row["seat"], place, PALETTE[2], "D")
        for axes in (left, right):
            axes.axvline(0, color=FAINT, linewidth=0.7)
            axes.grid(False, axis="y")
        left.plot([], [], "o", color=PALETTE[0], label="stronger sits first")
        left.plot([], [], "s", color=PALETTE[1], label="weaker sits first")
        _names(left, labels)
        left.set_xlabel("stronger's utility less weaker's (points)")
        right.set_xlabel("utility gained by sitting first (points)")
        left.set_title("By seat order")
        right.set_title("Worth of the first seat")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return finish(figure, n=f"n = {rows[-1]['seat'].n} instances, {how_many(games)[4:]}",
                      simulated=games.simulated, caption="Bars are 95 % intervals over instances.")  # fmt: skip


def _dots(axes: Axes, values: Sequence[Any], colour: int, label: str) -> None:
    """One estimate a row."""
    for place, value in enumerate(values):
        dot(axes, value, place, PALETTE[colour], MARKERS[colour])
    axes.set_xlabel(label)
    axes.grid(False, axis="y")


def _names(axes: Axes, labels: Sequence[str], **style: Any) -> None:
    """Rows from the top down."""
    axes.set_yticks(range(len(labels)), labels, **style)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def behaviour(run: RunView, games: Games) -> Figure:
    """Rule-checked behaviour by model."""
    places = {model: place for place, model in enumerate(games.models)}
    rows = sorted(table_of(behaviours(run, games)).rows, key=lambda row: places[row["model"]])
    parts = (("own", "false in own favour"), ("against", "false against self"),
             ("kept", "promises kept"), ("consistent", "word = private plan"))  # fmt: skip
    with style():
        figure, panels = canvas(8.2, 1.4 + 0.32 * len(rows), 1, len(parts), sharey=True)
        for k, (axes, (key, title)) in enumerate(zip(panels, parts, strict=True)):
            _dots(axes, [row[key] for row in rows], k, "share")
            axes.set_title(title)
            axes.set_xlim(-0.04, 1.04)
        labels = [f"{label_of(games, row['model'])}\n{row['claims']} claims" for row in rows]
        _names(panels[0], labels, fontsize=7)
        return finish(figure, n=how_many(games), simulated=games.simulated,
                      caption="Shares of verifiable claims (means over games), of promises put to a test, and"
                      " of items on which word and private plan can be compared; lines are 95 % intervals.")  # fmt: skip


def seats(games: Games) -> Figure:
    """Games of three and more: utility and share by model and by seat."""
    rows = group_tables.seats_table(games).rows
    with style():
        figure, panels = canvas(7.0, 1.2 + 0.32 * len(rows), 1, 2, sharey=True)
        _dots(panels[0], [row["utility"] for row in rows], 0, "utility (points)")
        _dots(panels[1], [row["share"] for row in rows], 1, "share of the total")
        most = max(len(row.models) for row in games.rows)
        panels[1].axvline(1 / most, color=FAINT, linewidth=0.7)
        labels = [label_of(games, r["name"]) if r["kind"] == "model" else r["name"] for r in rows]
        _names(panels[0], labels)
        panels[0].set_title("Who gets what")
        return finish(figure, n=how_many(games), simulated=games.simulated,
                      caption="Means over instances; lines are 95 % t intervals. Grey line: equal shares.")  # fmt: skip
