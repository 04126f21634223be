"""Figures say n and simulated, define their bars, and are the same bytes each time."""

import pytest

from peira.errors import ReportRefused
from peira.report.figures import canvas, draw, finish, plain, save, style


def bars(caption="Bars are 95 % t intervals.", n="n = 3 trials.", simulated=True, band=False):
    with style():
        figure, axes = canvas(3, 2)
        if band:
            axes.fill_between([0, 1], [0, 1], [1, 2])
        else:
            axes.errorbar([1, 2], [1, 2], yerr=[0.1, 0.2])
        return finish(figure, n=n, simulated=simulated, caption=caption)


def words(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_a_figure_says_its_n_and_that_subjects_were_simulated():
    assert "n = 3 trials." in words(bars()) and "SIMULATED" in words(bars())
    assert "SIMULATED" not in words(bars(simulated=False))


@pytest.mark.parametrize("band", [False, True])
def test_bars_and_bands_that_nobody_defines_are_refused(band):
    with pytest.raises(ReportRefused, match="does not define"):
        bars(caption="Means.", band=band)


def test_a_figure_without_n_is_refused():
    with pytest.raises(ReportRefused, match="n"):
        bars(n=" ")


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_figure_is_the_same_bytes(form):
    assert draw(bars(), form) == draw(bars(), form)


def test_saving_writes_both_forms(tmp_path):
    png, svg = save(bars(), tmp_path / "a.b")
    assert png.read_bytes()[:4] == b"\x89PNG" and b"<svg" in svg.read_bytes()
    assert png.name == "a.b.png"


def test_labels_from_outside_start_no_formula_and_no_warning():
    with style():
        figure, axes = canvas(3, 2)
        axes.set_title(plain("costs $5 and $x^{ \x1b[31m \u202e 漢字"))
        draw(finish(figure, n="n = $1", simulated=False), "svg")
