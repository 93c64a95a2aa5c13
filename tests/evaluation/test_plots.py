"""What is drawn: the share of every prediction, the most confused of many classes, bars and dots of the bins."""

import numpy as np
import pytest

from fbnetv3.evaluation import plots
from fbnetv3.evaluation.plots import MOST_CLASSES, plot_confusion, plot_reliability
from tests.evaluation.known import found
from tests.pages.drawing import kept_figures


@pytest.fixture
def drawn(monkeypatch):
    return kept_figures(monkeypatch, plots)


def test_a_row_of_the_matrix_is_the_share_of_a_class(drawn):
    plot_confusion(found())
    axes = drawn[0].axes[0]
    assert np.allclose(axes.images[0].get_array(), [[200 / 3, 100 / 3, 0], [200 / 3, 100 / 3, 0], [0, 0, 0]])
    assert [text.get_text() for text in axes.texts] == ["2", "1", "2", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ant", "bee", "cow"]


def test_of_many_classes_the_most_confused_ones_are_drawn(drawn):
    count = MOST_CLASSES + 10
    rows = [(k, tuple(np.eye(count)[k] * 0.9 + 0.1 / count)) for k in range(count)]
    rows[-1] = (count - 1, rows[0][1])  # the last class is taken for the first one
    plot = plot_confusion(found(rows, tuple(f"class {k}" for k in range(count))))
    names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert (len(names), names[0], names[-1]) == (MOST_CLASSES, "class 0", f"class {count - 1}")
    assert f"Of {count} classes, {MOST_CLASSES} are shown: those of the most frequent mistakes" in plot.caption
    drawn.clear()
    plot_confusion(found(rows[:2], tuple(f"class {k}" for k in range(count))))  # no other class was met
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == ["class 0", "class 1"]


def test_names_are_no_formulas_and_need_not_be_text():
    """Drawn for real: matplotlib would fail with such a formula, and with half a character."""
    plot = plot_confusion(found(classes=("$a_$", "\udcff", "猫" * 40)))
    assert plot.png.startswith(b"\x89PNG")


def test_bars_are_the_shares_of_right_predictions(drawn):
    rows = [(0, (0.75, 0.25))] * 3 + [(1, (0.75, 0.25))]
    plot = plot_reliability(found(rows, ("a", "b")))
    upper, lower = drawn[0].axes
    assert [bar.get_height() for bar in upper.patches] == [75.0]
    assert [bar.get_height() for bar in lower.patches if bar.get_height()] == [4]
    assert "4 images in 15 bins" in plot.caption
    assert "0.0 points" in plot.caption
