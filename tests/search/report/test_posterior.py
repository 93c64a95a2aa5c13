"""A posterior is fitted to the trials of a search, and asked about candidates inside the constraint."""

import dataclasses

import numpy as np
import pytest

from fbnetv3.search.nars.context import Context
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.report import posterior
from fbnetv3.search.report.posterior import DRAWS, Posterior
from tests.search.made_up import make_config, make_trials
from tests.search.report.known import NAMES, Known, column

QUICK = PredictorSettings(pretrain=False, members=2)
FEW = 200


@pytest.fixture(scope="module")
def fitted(space):
    """A posterior of 30 trials whose accuracy is that of the learning rate."""
    config = make_config()
    trials = [
        dataclasses.replace(
            t, acc1=[0.0, 60.0 + 20.0 * float(column(np.array([t.candidate]), "lr")[0]), 0.0][: t.epochs]
        )
        for t in make_trials(config, space, 6)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "SETTINGS", QUICK)
        patch.setattr(posterior, "POOL", FEW)
        return Posterior.of(Context.of(config), trials, 2)


def test_its_candidates_are_inside_the_constraint(fitted):
    assert len(fitted.rows) == FEW  # a part of the pool
    assert 150_000 <= fitted.costs.min() <= fitted.costs.max() <= 800_000


def test_it_believes_what_the_trials_say(fitted):
    known = 60 + 20 * column(fitted.rows, "lr")
    assert np.abs(fitted.mean(fitted.rows) - known).mean() < 2
    drawn = fitted.draw(fitted.rows[:6].reshape(2, 3, -1))
    assert drawn.shape == (DRAWS, 2, 3)
    assert np.abs(drawn.mean(axis=0).ravel() - known[:6]).mean() < 2


def test_two_trainings_differ_by_noise(fitted):
    twice = fitted.train_twice(fitted.rows[:5])
    assert twice.shape == (DRAWS, 2, 5)
    assert not np.array_equal(twice[:, 0], twice[:, 1])
    assert np.array_equal(twice, fitted.train_twice(fitted.rows[:5]))


def test_architectures_are_paired_with_recipes():
    known = Known(lambda rows, offset: rows[:, 0])
    first, second = known.rows[:2]
    pair = known.pair(first, second)
    recipe = NAMES.index("lr")
    assert pair.tolist() == [*first[:recipe], *second[recipe:]]


def test_different_recipes_and_architectures():
    known = Known(lambda rows, offset: rows[:, 0])
    rows = known.rows[[0, 0, 1, 2]]
    rows[2, NAMES.index("lr") :] = rows[0, NAMES.index("lr") :]
    object.__setattr__(known, "rows", rows)
    assert known.different(9, arch=True).tolist() == rows[[0, 2, 3]].tolist()
    assert known.different(9, arch=False).tolist() == rows[[0, 3]].tolist()
    assert len(known.different(2, arch=True)) == 2
