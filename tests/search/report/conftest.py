"""Reports without the drawing of their plots, which is the slow part."""

import pytest

from fbnetv3.pages import plots
from fbnetv3.search.space.reader import load_space
from tests.pages.drawing import kept_figures


@pytest.fixture(scope="session")
def space():
    return load_space("micro")


@pytest.fixture
def drawn(monkeypatch):
    return kept_figures(monkeypatch, plots)
