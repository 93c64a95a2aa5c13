"""The plot of many budgets."""

import numpy as np
import pytest

from fbnetv3.search.report import front
from fbnetv3.search.report.front import write_front
from fbnetv3.search.runs.budgets import BudgetAnswer
from fbnetv3.search.space.constraints import Constraint


def answer(top, flops, params, mean, metric="flops"):
    index, std = np.zeros((len(flops), 1), np.int64), np.ones(len(flops))
    return BudgetAnswer(Constraint(metric, top), index, np.array(mean), std, np.array(flops), np.array(params), 2)


@pytest.fixture
def figures(monkeypatch):
    kept = []
    monkeypatch.setattr(front, "png_of", lambda figure: kept.append(figure) or b"a PNG")
    return kept


def dots(figure):
    return {c.get_label(): np.asarray(c.get_offsets()).tolist() for c in figure.axes[0].collections}


def test_candidates_their_front_and_the_answers_are_drawn(figures, tmp_path):
    answers = [answer(200, [190, 150], [7, 8], [61.0, 60.5]), answer(300, [290, 250], [9, 9], [62.0, 60.0])]
    write_front(answers, tmp_path)
    found, (axes,) = dots(figures[0]), figures[0].axes
    assert found["last generations"] == [[190, 61], [150, 60.5], [290, 62], [250, 60]]
    assert found["answers"] == [[190, 61], [290, 62]]
    (line,) = axes.lines
    assert np.asarray(line.get_data()).tolist() == [[150, 190, 290], [60.5, 61, 62]]  # 250 is worse than a cheaper one
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("flops", "predicted accuracy (%), 2 epochs")


def test_budgets_of_parameters_are_drawn_against_parameters(figures, tmp_path):
    write_front([answer(10, [190, 150], [7, 8], [61.0, 60.5], "params")], tmp_path)
    assert dots(figures[0])["answers"] == [[7, 61]]
    assert figures[0].axes[0].get_xlabel() == "params"


def test_the_plot_is_a_file_among_the_budgets(tmp_path):
    path = write_front([answer(200, [190, 150], [7, 8], [61.0, 60.5])], tmp_path)
    assert path == tmp_path / "budgets" / "front.png"
    assert path.read_bytes().startswith(b"\x89PNG")
