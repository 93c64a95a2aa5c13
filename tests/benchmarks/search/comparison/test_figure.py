"""The figures of a comparison: which cases and methods they show, lines, and names that do not overlap."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.comparison.figure import (
    ACCURACY,
    LABELS,
    LOSS,
    draw_curves,
    label,
    panels,
    plots,
    spread,
)
from fbnetv3.benchmarks.search.comparison.methods import METHODS

pytest.importorskip("matplotlib")
CURVES = {"nars": [70.0, 74.0, 75.0, 76.0], "random": [70.0, 71.0, 72.0, 73.0], "tpe": [70.0, 70.0, 70.0, 73.01]}


def case(table, setting, trainings, *orders):
    methods = {name: {"curve": curve, "family": "rival"} for name, curve in CURVES.items()}
    methods |= {name: {"curve": CURVES["random"], "family": "order"} for name in orders}
    return {"table": table, "setting": setting, "trainings": trainings, "best": 77.0, "methods": methods}


CASES = {
    "a/24": case("a_b", "trainings_24", 24),
    "a/48": case("a_b", "trainings_48", 48, "recipe_only"),
    "a/48%": case("a_b", "trainings_48_flops_30%", 48),
    "c/48": case("c", "trainings_48", 48),
}


def test_a_panel_is_the_case_of_a_table_with_the_most_trainings():
    assert list(panels(CASES, budget="")) == ["a b", "c"]
    assert list(panels(CASES, budget="30%")) == ["a b, flops 30%"]
    assert list(panels(CASES)) == ["a/48", "a/48%", "c/48"]
    assert list(panels(CASES, budget="")["c"]["methods"]) == ["nars", "random", "tpe"]
    [(title, panel)] = panels(CASES, "order", "").items()
    assert (title, list(panel["methods"])) == ("a b", ["nars", "recipe_only"])


def test_there_is_a_figure_for_every_budget_and_family():
    assert list(plots({"cases": CASES, "overall": {}})) == [
        "compare.png",
        "compare_orders.png",
        "compare_flops_30%.png",
    ]
    assert list(plots({"cases": {"x": CASES["c/48"]}})) == ["compare.png"]


def test_on_a_table_a_line_is_the_regret():
    (axes,) = draw_curves({"a": {"best": 77.0, "methods": CURVES}}).axes
    assert (axes.get_title(), axes.get_ylabel(), axes.get_yscale()) == ("a", LOSS, "log")
    *others, ours = axes.lines
    assert ours.get_label() == "nars"
    assert list(ours.get_xdata()) == [1, 2, 3, 4]
    assert list(ours.get_ydata()) == [7.0, 3.0, 2.0, 1.0]
    assert all(ours.get_linewidth() > 2 * line.get_linewidth() for line in others)
    for line in others:  # grey
        assert len({line.get_color()[i : i + 2] for i in (1, 3, 5)}) == 1


def test_of_real_trainings_a_line_is_the_best_accuracy_so_far():
    (axes,) = draw_curves({"a": {"best": None, "methods": CURVES}}).axes
    assert (axes.get_ylabel(), axes.get_yscale()) == (ACCURACY, "linear")
    assert list(axes.lines[-1].get_ydata()) == CURVES["nars"]


def test_a_table_that_is_solved_has_a_line_too():
    (axes,) = draw_curves({"a": {"best": 76.0, "methods": CURVES}}).axes
    assert axes.lines[-1].get_ydata()[-1] == pytest.approx(6.0 / 1000)


def test_names_are_at_the_ends_of_lines_and_do_not_overlap():
    figure = draw_curves({"a": {"best": 77.0, "methods": CURVES | {"gp": CURVES["random"]}}})
    figure.draw_without_rendering()
    Text = pytest.importorskip("matplotlib.text").Text  # noqa: N806
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["random", "TPE", "Gaussian process", "NARS"]
    # Of the text alone: that of an annotation has its line too.
    boxes = sorted((Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_labels_are_words():
    assert [label(name) for name in ("tpe_sequential", "cmaes", "nars_no_stage3", "architecture_only_random")] == [
        "TPE, one by one",
        "CMA-ES",
        "no stage 3",
        "architecture only random",
    ]
    assert {label(name) for name in LABELS} == set(LABELS.values())
    assert set(LABELS) <= set(METHODS)


def test_heights_are_spread_as_little_as_necessary():
    assert spread([0.5, 0.1, 0.5], 0.2) == pytest.approx([0.4, 0.1, 0.6])
    assert spread([1.0, 0.95], 0.1) == pytest.approx([1.0, 0.9])
    assert spread([0.3], 0.1) == [0.3]
    assert np.diff(spread([0.5] * 30, 0.05)) == pytest.approx(0.05)  # more than fit


def test_a_committed_result_is_drawn_as_a_png():
    image = Image.open(io.BytesIO(plots(load_result("compare_quickstart").values)["compare.png"]))
    assert image.format == "PNG"
    assert image.width > 400
