"""The pictures of a batch: trajectories, variations, two factors, cost against outcome.

Each maker draws one figure from `Results` and saves nothing. Invariant: every figure says its n; a
band or bar is defined in its caption; an empty cell is hatched, never coloured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.scenarios.analysis import Results
from peira.families.scenarios.batch import Batch, Trial, from_run
from peira.families.scenarios.summaries import as_number
from peira.report.figures import FAINT, INK, MARKERS, PALETTE, SEQUENTIAL, canvas, finish, style
from peira.stats.intervals import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from peira.store.records import RunView

FAINT_UP_TO = 8  # variations; with more, single trials would hide the means
DASHES = ("-", "--", ":", "-.")


def figures(run: RunView) -> Mapping[str, Callable[[], Figure]]:
    """Figure name -> maker, for what this batch can show."""
    return makers(Results(from_run(run)))


def makers(results: Results) -> dict[str, Callable[[], Figure]]:
    """The same from results; the main metric's figures have the plain names."""
    batch = results.batch
    found: dict[str, Callable[[], Figure]] = {}
    for place, name in enumerate(batch.drawn):
        tail = "" if place == 0 else f"-{name}"
        if batch.length > 1:
            found[f"trajectories{tail}"] = partial(trajectories, results, name)
        if len(batch.variations) > 1:
            found[f"comparison{tail}"] = partial(comparison, results, name)
        if len(batch.varied) >= 2 and place == 0:
            found["heat"] = partial(heat, results, name)
        if batch.spent > 0 and place == 0:
            found["cost"] = partial(cost, results, name)
    return found


def _label(batch: Batch, name: str) -> str:
    unit = batch.metrics[name].unit
    return f"{name} ({unit})" if unit else name


def _counts(batch: Batch) -> str:
    counts = batch.counts()
    lost = counts["planned"] - counts["done"]
    return f"n = {counts['done']} done trials" + (f", {lost} not done." if lost else ".")


def _short(text: str, limit: int = 44) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _names(batch: Batch) -> tuple[str, dict[int, str]]:
    """A heading, and a name for each variation: its levels alone, so that names stay apart."""
    factors = batch.varied
    cells = {trial.variation: trial.factors for trial in batch.trials}
    levels = {n: " · ".join(_short(cell.get(f, ""), 22) for f in factors) or batch.variations[n]
              for n, cell in sorted(cells.items())}  # fmt: skip
    return " · ".join(factors) or "variation", {n: f"{n}: {text}" for n, text in levels.items()}


# -- trajectories ---
def trajectories(results: Results, name: str) -> Figure:
    """Variation means over the turns with bands, single trials faint behind."""
    batch = results.batch
    with style():
        figure, axes = canvas(6.4, 3.8)
        heading, names = _names(batch)
        for place, (number, text) in enumerate(names.items()):
            colour = PALETTE[place % len(PALETTE)]
            trials = [t for t in batch.of(number) if t.done]
            if len(batch.variations) <= FAINT_UP_TO:
                _faint(axes, name, trials, colour)
            points = results.metrics[name]["trajectory"].get(str(number), {})
            _mean_line(axes, points, colour, place, text)
        unit = batch.turn_duration
        axes.set_xlabel(f"turn ({unit} each)" if unit else "turn")
        axes.set_ylabel(_label(batch, name))
        axes.set_title(f"{name} over the turns")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(batch.variations) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title=heading)
        caption = "Lines are means, bands pointwise 95 % t intervals."
        if len(batch.variations) <= FAINT_UP_TO:
            caption = f"{caption[:-1]}, faint lines single trials."
        return finish(figure, n=_counts(batch), simulated=batch.simulated, caption=caption)


def _faint(axes: Axes, name: str, trials: Sequence[Trial], colour: str) -> None:
    for trial in trials[:40]:
        points = [(t, as_number(v.get(name))) for t, v in sorted(trial.by_turn.items())]
        x = [t for t, _ in points]
        y = [math.nan if value is None else value for _, value in points]
        axes.plot(x, y, color=colour, alpha=min(0.25, 3 / max(1, len(trials))), linewidth=0.6)


def _mean_line(axes: Axes, points: Mapping[str, Any], colour: str, place: int, label: str) -> None:
    shown = [(int(t), p) for t, p in points.items() if p["mean"] is not None]
    if not shown:
        return
    x = [t for t, _ in shown]
    style_ = DASHES[(place + 2 * (place // len(PALETTE))) % len(DASHES)]
    axes.plot(x, [p["mean"] for _, p in shown], color=colour, label=label, linestyle=style_,
              marker=MARKERS[(place + place // len(PALETTE)) % len(MARKERS)], markersize=3.5)  # fmt: skip
    banded = [(t, *p["ci"]) for t, p in shown if p["ci"]]
    if banded:
        turns, low, high = zip(*banded, strict=True)
        axes.fill_between(turns, low, high, color=colour, alpha=0.12, linewidth=0)


# -- variations ---
def comparison(results: Results, name: str) -> Figure:
    """A dot and an interval per variation, with how many values are missing."""
    batch = results.batch
    heading, names = _names(batch)
    entries = [results.variations[str(n)]["metrics"][name] for n in names]
    with style():
        figure, axes = canvas(6.4, max(1.8, 0.9 + 0.32 * len(names)))
        for place, entry in enumerate(entries):
            _dot(axes, entry, place)
        axes.set_yticks(range(len(names)), names.values())
        axes.set_ylabel(heading)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(_label(batch, name))
        axes.set_title(f"{name} by variation")
        axes.grid(visible=False, axis="y")
        caption = (
            "Dots are means over done trials, bars 95 % t intervals; beside them n and missing."
        )
        return finish(figure, n=_counts(batch), simulated=batch.simulated, caption=caption)


def _dot(axes: Axes, entry: Mapping[str, Any], place: int) -> None:
    said = f"n {entry['n']}" + (f", {entry['missing']} missing" if entry["missing"] else "")
    if entry["mean"] is not None:
        if entry["ci"]:
            low, high = entry["ci"]
            axes.errorbar(entry["mean"], place, xerr=[[entry["mean"] - low], [high - entry["mean"]]],
                          fmt="o", color=PALETTE[0])  # fmt: skip
        else:
            axes.plot(entry["mean"], place, "o", color=PALETTE[0], markerfacecolor="white")
    axes.annotate(said, (1.01, place), xycoords=("axes fraction", "data"), va="center",
                  fontsize=7, color=FAINT)  # fmt: skip


# -- two factors ---
def heat(results: Results, name: str) -> Figure:
    """Mean, half-width and n in the cells of two factors; a third gives panels."""
    batch = results.batch
    first, second, *others = batch.varied
    third = others[0] if others else None
    panels: list[str | None] = list(batch.factors[third]) if third else [None]
    rows, columns = batch.factors[first], batch.factors[second]
    tables = [_table(batch, name, (first, second, third), panel) for panel in panels]
    known = [cell[0] for table in tables for cell in table.values() if cell[0] is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    with style():
        width = 1.6 + len(panels) * (0.9 + 1.1 * len(columns))
        figure, axes = canvas(
            max(4.0, width), 1.5 + 0.75 * len(rows), 1, len(panels), squeeze=False
        )
        image = None
        for panel, table, place in zip(panels, tables, axes[0], strict=True):
            image = _heat_panel(place, table, rows, columns, (low, high))
            place.set_xlabel(second)
            place.set_title(f"{third} = {panel}" if third else _label(batch, name))
        axes[0][0].set_ylabel(first)
        if image is not None:
            figure.colorbar(image, ax=axes[0].tolist(), label=f"mean {_label(batch, name)}")
        caption = (
            "Cells show the mean, ± the half-width of its 95 % t interval, and n; hatched cells hold"
            " no value."
        )
        return finish(figure, n=_counts(batch), simulated=batch.simulated, caption=caption)


Cell = tuple[float | None, float | None, int]


def _table(
    batch: Batch, name: str, factors: tuple[str, str, str | None], panel: str | None
) -> dict[tuple[str, str], Cell]:
    first, second, third = factors
    found: dict[tuple[str, str], Cell] = {}
    for a in batch.factors[first]:
        for b in batch.factors[second]:
            values = [
                as_number(t.final.get(name)) for t in batch.done
                if t.factors.get(first) == a and t.factors.get(second) == b
                and (third is None or t.factors.get(third) == panel)
            ]  # fmt: skip
            mean = t_interval(values)
            half = None if mean.low is None or mean.estimate is None else mean.estimate - mean.low
            found[a, b] = (mean.estimate, half, mean.n)
    return found


def _heat_panel(
    axes: Axes, table: Mapping[tuple[str, str], Cell], rows: Sequence[str],
    columns: Sequence[str], scale: tuple[float, float],
) -> Any:  # fmt: skip
    from matplotlib.patches import Rectangle

    grid = np.array([[_number(table[r, c][0]) for c in columns] for r in rows])
    low, high = scale
    image = axes.imshow(grid, cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto")
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            mean, half, n = table[row, column]
            if mean is None:
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="///",
                                         edgecolor=FAINT, linewidth=0))  # fmt: skip
                continue
            dark = high > low and (mean - low) / (high - low) < 0.55
            text = f"{mean:.3g}" + (f"\n± {half:.2g}" if half is not None else "") + f"\nn {n}"
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5,
                      color="white" if dark else INK)  # fmt: skip
    axes.set_xticks(range(len(columns)), [_short(c, 18) for c in columns])
    axes.set_yticks(range(len(rows)), [_short(r, 18) for r in rows])
    axes.grid(visible=False)
    return image


def _number(value: float | None) -> float:
    return math.nan if value is None else value


# -- cost ---
def cost(results: Results, name: str) -> Figure:
    """What a trial costs against what it brings: trials, variation means, the Pareto line."""
    batch = results.batch
    goal = batch.metrics[name].goal
    with style():
        figure, axes = canvas(6.4, 3.8)
        means: list[tuple[float, float]] = []
        heading, names = _names(batch)
        for place, (number, text) in enumerate(names.items()):
            colour, mark = (
                PALETTE[place % len(PALETTE)],
                MARKERS[(place + place // len(PALETTE)) % len(MARKERS)],
            )
            pairs = [
                (t.cost, value) for t in batch.done
                if t.variation == number and (value := as_number(t.final.get(name))) is not None
            ]  # fmt: skip
            if pairs:
                means.append(_cost_point(axes, pairs, colour, mark, text))
        line = _pareto(means, minimise=goal == "minimise")
        if len(line) > 1:
            axes.plot(*zip(*line, strict=True), color=INK, linewidth=0.9, linestyle="--",
                      label="Pareto line", zorder=1)  # fmt: skip
        axes.set_xlabel("cost of a trial (US dollars)")
        axes.set_ylabel(_label(batch, name))
        axes.set_title(f"Cost and {name}")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title=heading)
        caption = (
            "Small marks are trials, large ones means with 95 % t intervals in both directions."
        )
        return finish(figure, n=_counts(batch), simulated=batch.simulated, caption=caption)


def _cost_point(
    axes: Axes, pairs: Sequence[tuple[float, float]], colour: str, mark: str, label: str
) -> tuple[float, float]:
    x, y = zip(*pairs, strict=True)
    axes.plot(x, y, mark, color=colour, alpha=0.25, markersize=2.5, linestyle="none")
    means = t_interval(x), t_interval(y)
    centre = (means[0].estimate or 0.0, means[1].estimate or 0.0)
    bars = [
        [[m.estimate - m.low], [m.high - m.estimate]]
        if m.low is not None and m.high is not None and m.estimate is not None else None
        for m in means
    ]  # fmt: skip
    axes.errorbar(*centre, xerr=bars[0], yerr=bars[1], fmt=mark, color=colour, markersize=6,
                  label=label, markeredgecolor="white", zorder=3)  # fmt: skip
    return centre


def _pareto(means: Sequence[tuple[float, float]], *, minimise: bool) -> list[tuple[float, float]]:
    """The means that no other beats in both cost and outcome, by cost."""
    line: list[tuple[float, float]] = []
    for point in sorted(means, key=lambda p: (p[0], p[1] if minimise else -p[1])):
        better = not line or (point[1] < line[-1][1] if minimise else point[1] > line[-1][1])
        if better:
            line.append(point)
    return line
