"""The figures of docs/search.md: drawn from what is committed, small, and shown with words."""

import re

import numpy as np
import pytest
from PIL import Image

from fbnetv3.benchmarks.docs import figures
from tests.places import ROOT

DOCS = ROOT / "docs"
COMMAND = "run: python -m fbnetv3.benchmarks.docs.figures --out docs/figures"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_committed_figure_is_small_and_shown_with_words(name):
    file = DOCS / "figures" / f"{name}.png"
    assert file.stat().st_size < 110_000
    (words,) = re.findall(rf"!\[([^]]+)\]\(figures/{name}\.png\)\n\n\*[^*]+\*\n", (DOCS / "search.md").read_text())
    assert len(words) > 40


@pytest.mark.parametrize("name", sorted({*figures.FIGURES} - {"evolution"}))
def test_a_committed_figure_is_of_the_data(name):
    with Image.open(DOCS / "figures" / f"{name}.png") as image:
        assert image.text["Description"] == figures.fingerprint(figures.FIGURES[name][0]()), COMMAND


def test_equal_data_is_an_equal_figure_of_what_it_says(monkeypatch):
    pytest.importorskip("matplotlib")
    assert figures.draw_png("costs") == figures.draw_png("costs")
    drawn = figures.draw_costs({"fvcore": 0.5, "look-up": 2e-7})
    assert [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in drawn.patches] == [(0, 2e-7), (1, 0.5)]
    assert [text.get_text() for text in drawn.texts] == ["0.2 µs", "0.5 s"]


def test_the_space_figure_counts_every_draw():
    data = figures.space_data()
    assert sum(data["counts"]) == pytest.approx(2**17, abs=2)  # both ends are rounded
    edges, counts = np.array(data["edges"]), np.array(data["counts"])
    inside = counts[(edges[:-1] >= 400) & (edges[1:] <= 800)].sum() / 2**17
    assert inside == pytest.approx(data["inside"], abs=0.05)
    assert list(data["released"]) == ["B", "C", "D", "E"]
    assert data["released"]["B"] == pytest.approx(461.6, abs=0.1)


def test_a_curve_keeps_every_rise_and_its_end():
    score = figures._Recorded(lambda index: index[:, 0].astype(float))
    for rows in ([3, 1], [2], [5, 4, 6, 6]):
        score(np.array(rows)[:, None])
    assert score.curve() == [(1, 3.0), (4, 5.0), (6, 6.0), (7, 6.0)]


@pytest.mark.slow
def test_the_command_writes_every_figure(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "SEEDS", (0,))
    monkeypatch.setattr(figures, "CHANCE", 1)
    evolutions = []
    make, draw = figures.FIGURES["evolution"]
    monkeypatch.setitem(figures.FIGURES, "evolution", (lambda: evolutions.append(make()) or evolutions[0], draw))
    figures.main(tmp_path / "new")
    assert {file.stem for file in (tmp_path / "new").iterdir()} == set(figures.FIGURES)
    ends = {name: curves[0][-1] for name, curves in evolutions[0].items()}
    assert ends["default"][0] == ends["random"][0] == 20_000
    assert ends["paper"][1] < ends["default"][1] > ends["random"][1]
