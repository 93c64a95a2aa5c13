"""The plot of a comparison: lines, bands, and the regret where the best accuracy is known."""

import io

import pytest
from PIL import Image

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.comparison import METHODS
from fbnetv3.benchmarks.search.comparison_figure import LINES, draw_curves, plot

pytest.importorskip("matplotlib")
CURVES = {
    "nars": {"curve": [70.0, 74.0, 75.0, 76.0], "curve_std": [1.0, 0.5, 0.5, 0.25]},
    "random": {"curve": [70.0, 71.0, 72.0, 73.0], "curve_std": [1.0, 1.0, 1.0, 1.0]},
}


def test_every_method_has_a_colour_of_its_own():
    assert set(LINES) == set(METHODS)
    assert len(set(LINES.values())) == len(LINES)


def test_a_line_is_the_best_accuracy_so_far():
    (axes,) = draw_curves({"trainings_4": {"methods": CURVES}}).axes
    assert (axes.get_title(), axes.get_ylabel()) == ("trainings 4", "best so far (%)")
    for line, (method, row) in zip(axes.lines, CURVES.items(), strict=True):
        assert (line.get_label(), line.get_color()) == (method, LINES[method])
        assert list(line.get_xdata()) == [1, 2, 3, 4]
        assert list(line.get_ydata()) == row["curve"]


def test_on_a_table_a_line_is_the_regret_and_the_first_trainings_are_cut_off():
    (axes,) = draw_curves({"trainings_4": {"methods": CURVES, "best": 77.0}}).axes
    assert axes.get_ylabel() == "regret (points)"
    assert list(axes.lines[0].get_ydata()) == [7.0, 3.0, 2.0, 1.0]
    assert axes.get_ylim() == (0.0, 15.0)  # two and a half times the 6 points of random search after a quarter
    low, high = axes.collections[0].get_datalim(axes.transData).intervaly
    assert (low, high) == (0.75, 8.0)  # the regret of nars with its std: 1 - 0.25 and 7 + 1


def test_cases_stand_two_in_a_row_with_one_legend():
    figure = draw_curves({f"trainings_{n}": {"methods": CURVES} for n in (4, 8, 16)})
    assert [axes.get_title() for axes in figure.axes] == ["trainings 4", "trainings 8", "trainings 16"]
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 2)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(CURVES)


def test_a_committed_result_is_drawn_as_a_png():
    image = Image.open(io.BytesIO(plot(load_result("compare_quickstart").values)))
    assert image.format == "PNG"
    assert image.width > 400
