"""Importance finds what accuracy depends on, and nothing where it depends on nothing."""

import numpy as np

from fbnetv3.search.report.importance import FEWEST, REPEATS, permutation_importance
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.reader import load_space

SPACE = load_space("micro")
NAMES = [c.name for c in SPACE.coordinates]
ROWS = random_rows(SPACE, 60, np.random.default_rng(0))


def test_the_coordinate_that_decides_comes_first():
    lr = NAMES.index("lr")
    y = 60 + 20 * ROWS[:, lr] / SPACE.sizes[lr] + np.random.default_rng(1).normal(size=len(ROWS))
    found = permutation_importance(SPACE, ROWS, y, seed=0)
    mean = found.loss.mean(axis=0)
    assert found.loss.shape == (REPEATS, len(NAMES))
    assert found.names[mean.argmax()] == "lr"
    assert mean.max() > 10 * np.sort(mean)[-2]
    assert found.explained.min() > 0.8
    again = permutation_importance(SPACE, ROWS, y, seed=0)
    assert np.array_equal(found.loss, again.loss)


def test_noise_is_not_explained():
    found = permutation_importance(SPACE, ROWS, np.random.default_rng(2).normal(70, 3, len(ROWS)), seed=0)
    assert found.explained.mean() < 0.1
    assert np.abs(found.loss.mean(axis=0)).max() < 0.1


def test_few_or_equal_trials_say_nothing():
    assert permutation_importance(SPACE, ROWS[: FEWEST - 1], np.arange(FEWEST - 1.0), seed=0) is None
    assert permutation_importance(SPACE, ROWS, np.full(len(ROWS), 70.0), seed=0) is None
