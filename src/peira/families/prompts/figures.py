"""The pictures of a prompt comparison: forest, outcomes, risk and coverage, costs, replicates.

Each maker takes what was told of a run, returns a Figure and saves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.prompts.analysis import WORDS, Told, tell
from peira.families.prompts.effects import Comparison
from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.naming import distinctions, labels
from peira.families.prompts.significance import Compared, means
from peira.families.prompts.truth import planted
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
    from matplotlib.figure import Figure

    from peira.store.records import RunView

MOST_ROWS = 40
PALE = ("abstained", "unscored")  # dark text reads better on these
OUTCOMES = (
    ("correct", PALETTE[2]), ("abstained", PALETTE[4]), ("wrong", PALETTE[1]), ("unscored", "#B8B8B8"),
)  # fmt: skip


def figures(run: RunView) -> Mapping[str, Callable[[], Figure]]:
    """Name -> maker, for what there is to draw."""
    told = tell(run)
    makers: dict[str, Callable[[Told, bool], Figure]] = {
        "forest": forest, "outcomes": outcomes, "risk_coverage": risk_coverage, "costs": costs,
        "replicates": replicates,
    }  # fmt: skip
    return {name: partial(makers[name], told, run.simulated) for name in _worth(told)}


def names(run: RunView) -> list[str]:
    """The figures a run has, in order."""
    return _worth(tell(run))


def _worth(told: Told) -> list[str]:
    if not told.significance.compared:
        return ["outcomes"] if told.found.trials else []
    replicated = any(max(t.settings.samples(x) for x in t.settings.temps) > 1 for t in
                     told.found.done)  # fmt: skip
    spent = any(len(set(t.costs.usd)) > 1 for t in told.found.done)
    return [
        "forest", "outcomes", "risk_coverage", *(["costs"] if spent else []),
        *(["replicates"] if replicated else []),
    ]  # fmt: skip


def forest(told: Told, simulated: bool) -> Figure:
    """Every primary comparison: δ, its interval, Holm p, and the planted truth if there is one."""
    compared, known = told.significance.compared, told.truth["trials"]
    metric = compared[0].stats.primary

    def row(axes: Any, place: int, part: Compared) -> None:
        _forest_row(axes, place, part, planted(part, known, metric))

    return _listed(
        compared, row, "Primary comparisons", simulated,
        "Points are mean paired differences, bars 95 % intervals. p: Holm over the run's"
        f" {told.significance.family_size} primary tests. Filled: a winner is named."
        + (" Crosses: the planted truth." if known else ""),
    )  # fmt: skip


def _listed(
    compared: Sequence[Compared], row: Callable[[Any, int, Compared], None], title: str,
    simulated: bool, caption: str,
) -> Figure:  # fmt: skip
    """Comparisons one below the other on one axis of δ; what does not fit is said."""
    shown, metric = labels(compared)[:MOST_ROWS], compared[0].stats.primary
    rest = len(compared) - len(shown)
    caption += f" The first {len(shown)} of {len(compared)}; the table has all." if rest else ""
    with style():
        figure, axes = canvas(6.6, max(1.7, 0.42 * len(shown) + 1.0))
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, part in enumerate(compared[:MOST_ROWS]):
            row(axes, place, part)
        axes.set_yticks(range(len(shown)), [plain(label) for label in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"difference in {WORDS.get(metric, metric)}, arm − reference")
        axes.set_title(title)
        return finish(figure, n=_n_items(compared), simulated=simulated, caption=caption)


def _forest_row(axes: Any, place: int, part: Compared, truth: float | None) -> None:
    entry = part.primary
    named = part.block["verdict"].endswith("higher")
    color = PALETTE[0] if named else FAINT
    if truth is not None:
        axes.plot(truth, place + 0.22, "x", color=PALETTE[1], markersize=5, zorder=4)
    if entry["delta_mean"] is None:
        axes.annotate("no value", (0.02, place), xycoords=("axes fraction", "data"), color=FAINT)
        return
    if entry["ci_95"] is not None:
        axes.hlines(place, *entry["ci_95"], color=color, linewidth=1.6)
    axes.plot(entry["delta_mean"], place, "o", color=color,
              markerfacecolor=color if named else "white", zorder=3)  # fmt: skip
    axes.annotate(
        f"{entry['delta_mean']:+.3f}   {_p(entry['p_adjusted'])}".replace("-", "−"), (1.02, place),
        xycoords=("axes fraction", "data"), va="center", fontsize=7.5, color=INK,
        annotation_clip=False,
    )  # fmt: skip


def _p(value: float | None) -> str:
    if value is None:
        return "p n/a"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _n_items(compared: Sequence[Compared]) -> str:
    sizes = sorted({part.primary["n_items"] for part in compared})
    return f"n = {sizes[0]:,} items." if len(sizes) == 1 else (
        f"n = {sizes[0]:,} to {sizes[-1]:,} items per comparison."
    )  # fmt: skip


def outcomes(told: Told, simulated: bool) -> Figure:
    """What became of the rows of each arm: correct, abstained, wrong, unscored."""
    words = distinctions(told.found.trials)
    bars = [b for t in told.found.trials for b in _outcome_bars(t, words[id(t)])][:MOST_ROWS]
    with style():
        figure, axes = canvas(6.6, max(1.8, 0.34 * len(bars) + 1.1))
        left = np.zeros(len(bars))
        for name, color in OUTCOMES:
            shares = np.array([bar["shares"][name] for bar in bars])
            axes.barh(range(len(bars)), shares, left=left, color=color, label=name, height=0.72)
            for place, (start, share) in enumerate(zip(left, shares, strict=True)):
                if share >= 0.07:
                    axes.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center",
                              fontsize=7, color=INK if name in PALE else "white")  # fmt: skip
            left = left + shares
        axes.set_yticks(range(len(bars)), [plain(bar["label"]) for bar in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of rows")
        axes.grid(visible=False)
        axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
        rows = sum(bar["rows"] for bar in bars)
        return finish(
            figure, n=f"n = {rows:,} rows.", simulated=simulated,
            caption="On unanswerable items to abstain is right. Unscored: cut, refused, empty, in"
            " error or not asked.",
        )  # fmt: skip


def _outcome_bars(trial: TrialData, words: str) -> list[dict[str, Any]]:
    em, quiet = trial.values("em"), trial.values("abstain_rate")
    answerable = np.array([item.answerable for item in trial.items])
    bars = []
    for kind in trial.types:
        of_type = trial.of_type(kind)
        for can, word in ((True, "answerable"), (False, "unanswerable")):
            items = of_type[answerable[of_type] == can]
            if not items.size:
                continue
            for place, arm in enumerate(trial.arm_names):
                right, silent = em[items][:, :, place], quiet[items][:, :, place]
                rows = right.size
                shares = {
                    "correct": ((right == 1) & (silent == 0)).sum() / rows,
                    "abstained": (silent == 1).sum() / rows,
                    "wrong": ((right < 1) & (silent == 0)).sum() / rows,
                    "unscored": np.isnan(right).sum() / rows,
                }
                label = f"{kind}, {word}: {arm}{words and f', {words}'}"
                bars.append({"label": label, "shares": shares, "rows": rows})
    return bars


def risk_coverage(told: Told, simulated: bool) -> Figure:
    """Each arm's coverage and its accuracy where it answered."""
    compared = [part for part in told.significance.compared if not part.at.trial.joined]
    kinds = sorted({part.at.kind for part in compared})
    with style():
        figure, grid = canvas(max(4.6, 3.3 * len(kinds)), 3.4, 1, len(kinds), squeeze=False)
        for axes, kind in zip(grid[0], kinds, strict=True):
            _risk_panel(axes, [part for part in compared if part.at.kind == kind])
            axes.set_title(f"{kind} items")
        grid[0][0].set_ylabel("accuracy where answered")
        handles = {
            h.get_label(): h for axes in grid[0] for h in axes.get_legend_handles_labels()[0]
        }
        figure.legend(
            handles=list(handles.values()),
            loc="outside upper left",
            ncols=min(2 * len(kinds), len(handles)),
        )
        return finish(
            figure, n=_n_items(compared), simulated=simulated,
            caption="Bars are 95 % intervals by clusters, in both directions. An arm that only"
            " abstains more moves to the left; one that knows more moves up.",
        )  # fmt: skip


def _risk_panel(axes: Any, compared: Sequence[Compared]) -> None:
    drawn: set[tuple[str, float, str]] = set()
    arms = list(dict.fromkeys(arm for part in compared for arm in part.at.trial.arm_names))
    for part in compared:
        for arm, risk in part.block["selective_risk"].items():
            key = (part.at.trial.record.slug, part.at.temp, arm)
            if key in drawn or risk["selective_accuracy"] is None:
                continue
            drawn.add(key)
            number = arms.index(arm)
            color, x, y = PALETTE[number % 7], risk["coverage"], risk["selective_accuracy"]
            if risk["coverage_ci_95"]:
                axes.hlines(y, *risk["coverage_ci_95"], color=color, linewidth=1, alpha=0.7)
            if risk["selective_accuracy_ci_95"]:
                axes.vlines(x, *risk["selective_accuracy_ci_95"], color=color, linewidth=1,
                            alpha=0.7)  # fmt: skip
            first = sum(k[2] == arm for k in drawn) == 1
            axes.plot(x, y, MARKERS[number % 7], color=color, label=plain(arm) if first else None)
            if "curve" in risk:
                points = [p for p in risk["curve"] if p["risk"] is not None]
                axes.plot([p["coverage"] for p in points], [1 - p["risk"] for p in points],
                          color=color, linewidth=1)  # fmt: skip
    axes.set_xlabel("coverage (share answered)")
    axes.margins(0.12)


def costs(told: Told, simulated: bool) -> Figure:
    """US dollars per item against the primary metric, one point an arm."""
    compared, done = told.significance.compared, told.found.done
    metric = compared[0].stats.primary
    arms = list(dict.fromkeys(arm for trial in done for arm in trial.arm_names))
    looks = {arm: (PALETTE[k % 7], MARKERS[k % 7]) for k, arm in enumerate(arms)}
    with style():
        figure, axes = canvas(5.0, 3.4)
        for trial in done:
            for temp in trial.settings.temps:
                for kind in trial.types:
                    _cost_points(axes, trial, temp, kind, looks)
        for arm, (color, marker) in looks.items():
            axes.plot([], [], marker, color=color, label=plain(arm))
        axes.set_xlabel("cost (US dollars per 1,000 items)")
        axes.set_ylabel(f"mean {WORDS.get(metric, metric)}")
        axes.margins(0.15)
        axes.legend()
        return finish(
            figure, n=_n_items(compared), simulated=simulated,
            caption="Hollow: closed items; filled: open items. Bars are 95 % intervals by clusters."
            " Up and to the left is better.",
        )  # fmt: skip


def _cost_points(
    axes: Any, trial: TrialData, temp: float, kind: Any, looks: Mapping[str, tuple[str, str]]
) -> None:
    found = means(trial, temp, kind, trial.settings.analysis.stats.primary)
    for place, arm in enumerate(trial.arm_names):
        color, marker = looks[arm]
        each = trial.usd[trial.of_type(kind)][:, trial.draws(temp), place].sum(axis=1).mean()
        mean = found[arm]
        if mean.low is not None:
            axes.vlines(1000 * each, mean.low, mean.high, color=color, linewidth=1, alpha=0.7)
        face = "white" if kind == "closed" else color
        axes.plot(1000 * each, mean.estimate, marker, color=color, markerfacecolor=face)


def replicates(told: Told, simulated: bool) -> Figure:
    """δ of each sample by itself beside δ of the means: how far one sample may be trusted."""
    compared = [part for part in told.significance.compared if not part.at.single]
    return _listed(
        compared, _replicate_row, "Samples one by one", simulated,
        "Ticks: δ from one sample per item. Point: δ of the items' means.",
    )  # fmt: skip


def _replicate_row(axes: Any, place: int, part: Compared) -> None:
    each = sample_deltas(part.at, part.stats.primary)
    axes.plot(each, np.full(len(each), place), "|", color=FAINT, markersize=9)
    if part.primary["delta_mean"] is not None:
        axes.plot(part.primary["delta_mean"], place, "o", color=PALETTE[0])


def sample_deltas(at: Comparison, metric: str) -> list[float]:
    """δ from each sample index by itself."""
    values = at.trial.values(metric)
    arm, control = (at.block(values, name) for name in (at.arm, at.reference))
    delta = arm - control
    return [
        float(column[np.isfinite(column)].mean()) for column in delta.T if np.isfinite(column).any()
    ]
