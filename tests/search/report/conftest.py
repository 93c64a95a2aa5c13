"""Reports without the drawing of their plots, which is the slow part."""

import pytest

from fbnetv3.pages import plots
from fbnetv3.search.space.reader import load_space


@pytest.fixture(scope="session")
def space():
    return load_space("micro")


@pytest.fixture
def drawn(monkeypatch):
    """The figures of all plots that are made, in order. No figure is rendered: every PNG is the same few bytes."""
    figures = []

    def keep(figure):
        figures.append(figure)
        return b"a PNG"

    monkeypatch.setattr(plots, "png_of", keep)
    return figures
