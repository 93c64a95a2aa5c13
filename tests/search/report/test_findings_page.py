"""The part of the page about the space says what was found in words, tables and plots."""

import numpy as np
import pytest

from fbnetv3.search.report.analysis import Coverage
from fbnetv3.search.report.findings import Findings
from fbnetv3.search.report.findings_page import (
    calibration_section,
    findings_plots,
    findings_section,
    plot_parts,
    plot_wishes,
    points_words,
    share_words,
    summary_words,
)
from fbnetv3.search.report.importance import Importance
from fbnetv3.search.report.recipes import Recipes
from fbnetv3.search.report.variance import Decomposition, Flips
from tests.search.made_up import Page
from tests.search.report.known import NAMES
from tests.search.report.test_recipes import preference

PARTS = Decomposition(np.array([[0.1, 0.6, 0.2, 0.1]] * 3), np.array([[0.3, 0.5, 0.2]] * 3), np.array([1.5] * 3))
FLIPS = Flips(np.array([0.2] * 3), np.array([0.05] * 3))
RECIPES = Recipes(
    (210_000, 300_000), (preference((0, 2), (0, 2)),), np.zeros((2, 1), int), np.array([[1.0, -0.5], [3.0, 0.5]])
)
IMPORTANCE = Importance(tuple(NAMES), np.zeros((2, len(NAMES))), np.array([0.6, 0.8]))
FOUND = Findings(IMPORTANCE, PARTS, FLIPS, RECIPES)


def section(findings, space):
    return Page(findings_section(findings, findings_plots(findings), space, "flops"))


def test_the_parts_are_listed_with_their_meaning(space, drawn):
    page = section(FOUND, space)
    assert page.row("architecture")[:3] == ["architecture", "10% (10% to 10%)", "30% (30% to 30%)"]
    assert page.row("noise of a training")[1:3] == ["10% (10% to 10%)", "-"]
    assert "an architecture gains more from a recipe" in page.row("both together")[3]
    assert "it explains 70% of the variance of trials that it has not seen" in page.words


def test_the_wishes_of_small_and_large_networks(space, drawn):
    page = section(FOUND, space)
    assert page.row("x") == ["x", "1 (100%)", "3 (100%)", "higher for large networks (100%)"]
    assert "Small networks have at most 210,000 FLOPs" in page.words
    assert "With SGD, the learning rate is 20 times as large." in page.words
    assert "small ones lose 2.0 points (1.1 to 2.9) (Table 6)" in page.words
    assert "the other one is better in 20% (20% to 20%) of the cases" in page.words
    assert "Kendall’s tau 0.60" in page.words


def test_a_space_without_recipes_has_no_wishes(space, drawn):
    page = section(Findings(IMPORTANCE, PARTS), space)
    assert "small and large networks want" not in page.words
    assert page.row("architecture")


@pytest.mark.parametrize("findings", [Findings(), Findings(Importance(("lr",), np.zeros((1, 1)), np.array([-0.1])))])
def test_trials_that_tell_nothing_get_one_line(space, drawn, findings):
    page = section(findings, space)
    assert page.rows == []
    assert "Importance of the coordinates is left out" in page.words


def test_the_largest_part_is_named():
    assert summary_words(PARTS).startswith("Most of the variance is due to the recipe (60%).")
    assert "a standard deviation of about 1.5 points" in summary_words(PARTS)


def test_a_loss_that_may_be_a_gain_is_called_unsure():
    assert share_words(np.array([0.1, 0.1])) == "10% (10% to 10%)"
    assert points_words(np.zeros(2)) == "nothing, because it is best for them too"
    assert points_words(np.array([-0.02, 0.03])) == "nothing"
    assert points_words(np.array([1.0, 1.0])) == "1.0 points (1.0 to 1.0)"
    assert points_words(np.array([-1.0, 1.0])) == "0.0 points (-0.9 to 0.9: it is not sure that they lose at all)"


def test_the_parts_are_drawn(drawn):
    plot_parts(PARTS)
    (axes,) = drawn[0].axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([10, 60, 20, 10, 30, 50, 20])
    assert axes.get_yticklabels()[0].get_text() == "architecture"


def test_the_wishes_are_drawn(drawn):
    plot_wishes(RECIPES)
    (axes,) = drawn[0].axes
    small, large = axes.lines
    assert (small.get_label(), large.get_label()) == ("small networks", "large networks")
    assert small.get_ydata().tolist() == [1, 0, 0]
    assert large.get_ydata().tolist() == [0, 0, 1]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3"]


def test_calibration_in_words():
    words = Page(calibration_section(Coverage(30, (0.5, 0.7, 0.9)))).words
    assert "Of 30 trainings with a prediction, 50%, 70%, 90% came out inside" in words
    assert "that should hold 50%, 80%, 95% of them" in words
    assert calibration_section(None) == ""
