"""The style of plots, and counts in words."""

import io

import pytest
from PIL import Image

from fbnetv3.pages import plots
from fbnetv3.pages.plots import count, finish, plot_axes, plot_row, png_of


@pytest.mark.parametrize(("n", "words"), [(0, "0 epochs"), (1, "1 epoch"), (1234, "1,234 epochs")])
def test_things_are_counted_in_words(n, words):
    assert count(n, "epoch") == words


def test_equal_figures_give_equal_images():
    images = []
    for _ in range(2):
        axes = plot_axes("x", "y")
        axes.plot([1, 2], [3, 4])
        images.append(png_of(axes.figure))
    assert images[0] == images[1]
    with Image.open(io.BytesIO(images[0])) as image:
        assert image.size == (936, 630)  # 5.2 x 3.5 inches at 180 dots
        assert "Software" not in image.info


def test_panels_share_the_axis_of_a_label():
    left, right = plot_row(2, "accuracy")
    assert (left.get_ylabel(), right.get_ylabel()) == ("accuracy", "")
    assert left.get_shared_y_axes().joined(left, right)
    left, right = plot_row(2)
    assert not left.get_shared_y_axes().joined(left, right)


def test_a_plot_of_one_kind_has_no_legend(monkeypatch):
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")
    axes = plot_axes("x", "y")
    axes.plot([1, 2], [3, 4])
    plot = finish("name", "title", "caption", axes, integer=True)
    assert (plot.name, plot.title, plot.caption, plot.png) == ("name", "title", "caption", b"a PNG")
    assert axes.get_legend() is None
