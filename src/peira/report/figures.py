"""The look of every figure: paper quality, colour-blind safe, labelled, reproducible byte for byte.

    with style():
        figure, axes = canvas(5.5, 3.4)
        axes.errorbar(...)
        return finish(figure, n="n = 40 trials", simulated=run.simulated,
                      caption="Bars are 95 % t intervals.")

A figure maker returns a Figure and saves nothing. Invariant: every figure says its n and, where
subjects were simulated, that they were; error bars and bands are never drawn without a caption that
says what they are (statistics §11.4).
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peira.errors import ReportRefused
from peira.report.tables import harmless

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008), ordered so that neighbours differ in lightness too; yellow left out, since it
# does not show on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
INK, FAINT, GRID = "#222222", "#6b6b6b", "#e4e4e4"
SEQUENTIAL, DIVERGING = (
    "cividis",
    "PuOr",
)  # colour maps that survive colour blindness and grey print
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 200
DEFINED = re.compile(
    r"interval|\bCI\b|\bSE\b|\bSD\b|\bIQR\b|standard (error|deviation)|band|quantile|quartile"
    r"|range|percentile|shaded",
    re.IGNORECASE,
)


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this context: sizes, fonts and colours of all Peira figures."""
    import matplotlib
    from cycler import cycler

    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans", "font.size": 8.5, "text.color": INK,
        "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.titleweight": "bold",
        "axes.labelsize": 8.5, "axes.labelcolor": INK, "axes.edgecolor": FAINT,
        "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False,
        "axes.axisbelow": True, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
        "axes.prop_cycle": cycler(color=PALETTE), "image.cmap": SEQUENTIAL,
        "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK,
        "ytick.labelcolor": INK, "xtick.labelsize": 8, "ytick.labelsize": 8,
        "lines.linewidth": 1.4, "lines.markersize": 4.5, "errorbar.capsize": 0,
        "legend.frameon": False, "legend.fontsize": 8, "figure.facecolor": "white",
        "figure.dpi": 100, "savefig.facecolor": "white", "svg.hashsalt": "peira",
        "axes.formatter.use_mathtext": False, "axes.unicode_minus": True,
    }  # fmt: skip
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def canvas(
    width: float = 5.5, height: float = 3.4, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """(figure, axes) in inches, without pyplot and its global state. `options` go to
    `Figure.subplots` (sharex, squeeze, width_ratios…)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def plain(text: str) -> str:
    """Text from a study or a model as a label: its dollar signs start no formula, and characters
    that cannot be drawn are replaced."""
    return harmless(text).replace("\t", " ").replace("$", r"\$")


def finish(figure: Figure, *, n: str, simulated: bool, caption: str = "") -> Figure:
    """Add n and the caption below, and the SIMULATED mark. Raises ReportRefused for error bars or
    bands that the caption does not define, and for an empty `n`."""
    _check(figure, n, caption)
    words = " ".join(part for part in (caption.strip(), n.strip()) if part)
    across = max(40, int(figure.get_figwidth() * 18))
    figure.text(
        0.012,
        -0.012,
        textwrap.fill(plain(words), across),
        ha="left",
        va="top",
        fontsize=7,
        color=FAINT,
    )
    if simulated:
        figure.text(
            0.988, 1.012, "SIMULATED SUBJECTS", ha="right", va="bottom", fontsize=7,
            fontweight="bold", color="#A34700",
            bbox={"boxstyle": "square,pad=0.35", "facecolor": "#FFF3E6", "edgecolor": "#A34700",
                  "linewidth": 0.6},
        )  # fmt: skip
    return figure


def _check(figure: Figure, n: str, caption: str) -> None:
    if not n.strip():
        raise ReportRefused(
            "a figure must say its n\n  remedy: finish(figure, n='n = 40 trials', …)"
        )
    if _has_bars(figure) and not DEFINED.search(caption):
        raise ReportRefused(
            f"a figure draws error bars or a band, but its caption {caption!r} does not define them\n"
            "  remedy: say what they are, as in caption='Bars are 95 % t intervals.'"
        )


def _has_bars(figure: Figure) -> bool:
    from matplotlib.collections import FillBetweenPolyCollection
    from matplotlib.container import ErrorbarContainer

    return any(
        any(isinstance(c, ErrorbarContainer) for c in axes.containers)
        or any(isinstance(c, FillBetweenPolyCollection) for c in axes.collections)
        for axes in figure.axes
    )


def draw(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The figure as bytes; the same figure gives the same bytes (no date, no random ids)."""
    out = io.BytesIO()
    metadata = {"Date": None, "Creator": "Peira"} if form == "svg" else {"Software": None}
    with style(), warnings.catch_warnings():
        # A label in a script the font lacks is drawn as boxes; the tables have the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            out, format=form, dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata=metadata
        )
    return out.getvalue()


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.png (200 dpi) and `stem`.svg, each replaced whole. Returns their paths."""
    from peira.store.rundir import write_file

    paths = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    write_file(paths[0], draw(figure, "png"))
    write_file(paths[1], draw(figure, "svg"))
    return paths
