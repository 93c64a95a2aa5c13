"""Surrogates: estimates of pairs that a table of trainings does not have."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from fbnetv3 import InputError
from fbnetv3.search.collect.surrogate import Surrogate, cross_check
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table import TableSpace
from tests.search.collect.made_up import additive

NOISE = 1.0


@pytest.fixture(scope="module")
def space():
    return load_space("micro")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A collection whose trainings have a noise of one point; no training diverges."""
    return additive(tmp_path_factory.mktemp("collection"), NOISE)


def test_a_surrogate_estimates_pairs_that_the_table_does_not_have(space, table):
    made_up, truth = table
    some = np.arange(len(truth)) % 4 > 0
    part = dataclasses.replace(
        made_up,
        table=made_up.table[some],
        labels={name: values[some] for name, values in made_up.labels.items()},
        trainings=made_up.trainings[some],
        acc1=made_up.acc1[some],
    )
    surrogate = Surrogate.fit(space, part)
    assert spearmanr(surrogate(made_up.table[~some]), truth[~some]).statistic > 0.9
    assert surrogate.noise(float(np.median(truth))) == pytest.approx(NOISE, rel=0.7)  # few pairs have several trainings


def test_good_pairs_have_the_noise_of_good_pairs(space, table):
    made_up, truth = table
    rng = np.random.default_rng(0)
    std = np.where(truth > np.median(truth), 0.1, 3.0)
    acc1 = truth[:, None, None] + std[:, None, None] * rng.normal(size=(len(truth), 3, 1))
    noisy = dataclasses.replace(made_up, acc1=acc1, trainings=np.full(len(truth), 3))
    surrogate = Surrogate.fit(space, noisy)
    assert surrogate.noise(float(truth.max())) < 0.5  # a few bad pairs were lucky three times
    assert surrogate.noise(100.0) == surrogate.noise(float(truth.max()))
    assert surrogate.noise(float(truth.min())) == pytest.approx(3.0, rel=0.3)


def test_the_check_by_hand(space, table):
    made_up, _ = table
    check = cross_check(space, made_up)
    assert 0.8 < check.rank < 1
    assert check.rank_of_best < check.rank
    assert 0.3 < check.error < 1.5
    several = made_up.final[made_up.trainings > 1]
    assert check.ceiling == pytest.approx(spearmanr(several[:, 0], several[:, 1]).statistic)
    assert check.noise == made_up.noise()
    assert dataclasses.astuple(check) == dataclasses.astuple(cross_check(space, made_up))


def test_a_table_of_noise_has_no_rank(space, table):
    made_up, _ = table
    noise = 50 + np.random.default_rng(1).normal(size=made_up.acc1.shape)
    check = cross_check(space, dataclasses.replace(made_up, acc1=np.where(np.isnan(made_up.acc1), np.nan, noise)))
    assert abs(check.rank) < 0.4


def test_a_table_of_another_space_and_one_without_repeats_are_refused(space, table):
    made_up, _ = table
    with pytest.raises(InputError, match="is of another space than cifar"):
        Surrogate.fit(load_space("cifar"), made_up)
    once = dataclasses.replace(made_up, trainings=np.ones_like(made_up.trainings), acc1=made_up.acc1[:, :1])
    with pytest.raises(InputError, match="has no pair with several trainings"):
        Surrogate.fit(space, once)
    check = cross_check(space, once)
    assert (check.ceiling, check.ceiling_of_best, check.noise) == (None, None, None)
    assert isinstance(made_up, TableSpace)
