"""Importance finds what accuracy depends on, and nothing where it depends on nothing."""

import numpy as np
import pytest

from fbnetv3.search.report import importance
from fbnetv3.search.report.importance import FEWEST, permutation_importance
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.reader import load_space

SPACE = load_space("micro")
NAMES = [c.name for c in SPACE.coordinates]
LR = NAMES.index("lr")
ROWS = random_rows(SPACE, 60, np.random.default_rng(0))
REPEATS = 2


@pytest.fixture(scope="module", autouse=True)
def few_repeats():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "REPEATS", REPEATS)
        yield


@pytest.fixture(scope="module")
def decided(few_repeats):
    """The importance where the learning rate decides, with noise of 1 percentage point."""
    y = 60 + 20 * ROWS[:, LR] / SPACE.sizes[LR] + np.random.default_rng(1).normal(size=len(ROWS))
    return permutation_importance(SPACE, ROWS, y, seed=0)


def test_the_coordinate_that_decides_is_the_most_important_by_far(decided):
    mean = decided.loss.mean(axis=0)
    assert decided.names[mean.argmax()] == "lr"
    assert mean.max() > 10 * np.sort(mean)[-2]


def test_what_depends_on_one_coordinate_is_explained(decided):
    assert decided.explained.min() > 0.8


def test_every_repeat_has_a_loss_of_every_coordinate(decided):
    assert decided.names == tuple(NAMES)
    assert decided.loss.shape == (REPEATS, len(NAMES))
    assert decided.explained.shape == (REPEATS,)


def test_the_same_seed_gives_the_same_importance():
    y = 60 + np.arange(FEWEST, dtype=float)
    first, again, other = (permutation_importance(SPACE, ROWS[:FEWEST], y, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.loss, again.loss)
    assert not np.array_equal(first.loss, other.loss)


def test_noise_is_not_explained():
    found = permutation_importance(SPACE, ROWS, np.random.default_rng(2).normal(70, 3, len(ROWS)), seed=0)
    assert found.explained.mean() < 0.1
    assert np.abs(found.loss.mean(axis=0)).max() < 0.1


def test_an_exact_predictor_by_hand(monkeypatch):
    column, fitted = int(arch_mask(SPACE).sum()), []  # the first column of the recipe is the learning rate

    class Exact:
        """A predictor that knows that the accuracy is the encoded learning rate."""

        def __init__(self, mask, *, seed, settings):
            pass

        def fit(self, x, y):
            fitted.append(len(x))

        def predict(self, x):
            return x[:, column].astype(float), np.zeros(len(x))

    monkeypatch.setattr(importance, "AccuracyPredictor", Exact)
    found = permutation_importance(SPACE, ROWS, encode(SPACE, ROWS)[:, column].astype(float), seed=0)
    assert found.explained.tolist() == [1.0] * REPEATS
    assert (np.delete(found.loss, LR, axis=1) == 0).all()
    assert (found.loss[:, LR] > 1).all()  # the mean squared difference of random pairs is twice the variance
    assert set(fitted) == {48}  # four fifths of 60


@pytest.mark.parametrize("count", [0, FEWEST - 1])
def test_few_trials_say_nothing(count):
    assert permutation_importance(SPACE, ROWS[:count], np.arange(count, dtype=float), seed=0) is None


def test_equal_accuracies_say_nothing():
    assert permutation_importance(SPACE, ROWS, np.full(len(ROWS), 70.0), seed=0) is None
