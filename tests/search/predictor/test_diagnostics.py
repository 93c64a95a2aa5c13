"""Predicted and exact statistics of architectures that the encoder has not seen."""

import dataclasses

import numpy as np
import pytest

from fbnetv3.search.predictor.diagnostics import Statistic, held_out_statistics
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import sobol
from tests.search.spaces import Counting

MICRO = load_space("micro")
ROWS = sobol(MICRO, 3, 0)
NAMES, LABELS = MICRO.statistics(ROWS)


class Stub:
    """A predictor that predicts given statistics, and keeps what it was asked."""

    def __init__(self, labels, **settings):
        self.settings = dataclasses.replace(PredictorSettings(), **settings)
        self.labels, self.asked = labels, None

    def predict_labels(self, x_arch):
        self.asked = x_arch
        return self.labels


@pytest.mark.parametrize(
    ("exact", "predicted", "r2"),
    [
        ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), 1.0),
        ((1.0, 2.0, 3.0), (2.0, 2.0, 2.0), 0.0),  # the mean explains nothing
        ((1.0, 2.0, 3.0), (1.0, 2.0, 4.0), 0.5),  # a squared error of 1 of a squared distance of 2
        ((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), -3.0),
        ((2.0, 2.0), (1.0, 2.0), 0.0),
    ],
    ids=["exact", "mean", "half", "reversed", "constant"],
)
def test_the_explained_share_of_the_variance_by_hand(exact, predicted, r2):
    assert Statistic("flops", exact, predicted).r2 == pytest.approx(r2)


def test_costs_are_shown_out_of_all_statistics():
    predicted = LABELS + np.arange(LABELS.shape[1])
    flops, params = held_out_statistics(MICRO, Stub(predicted), ROWS)
    assert (flops.name, params.name) == ("flops", "params")
    assert flops.exact == flops.predicted == tuple(LABELS[:, 0].tolist())
    assert params.exact == tuple(LABELS[:, 1].tolist())
    assert params.predicted == tuple((LABELS[:, 1] + 1).tolist())


class Mixed(Counting):
    """A space whose costs are not its first statistics."""

    def statistics(self, index):
        return ("ms", "params", "flops"), np.stack(
            [index[:, 0], self.cost(index).params(), self.cost(index).flops()], axis=1
        )


@pytest.mark.parametrize(
    ("rich_labels", "predicted"),
    [(True, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), (False, [[2.0, 3.0], [5.0, 6.0]])],
    ids=["all statistics", "costs alone"],
)
def test_costs_are_found_among_the_statistics_that_the_predictor_learnt(rich_labels, predicted):
    rows = np.array([[3, 4, 0], [9, 8, 1]])
    found = held_out_statistics(Mixed.make(), Stub(np.array(predicted), rich_labels=rich_labels), rows)
    assert found == (
        Statistic("flops", (34, 98), (3.0, 6.0)),
        Statistic("params", (4, 8), (2.0, 5.0)),
    )


def test_the_predictor_sees_the_architecture_alone():
    stub = Stub(LABELS)
    held_out_statistics(MICRO, stub, ROWS)
    assert np.array_equal(stub.asked, encode(MICRO, ROWS)[:, arch_mask(MICRO)])


def test_without_pretraining_there_is_nothing_to_show():
    stub = Stub(LABELS, pretrain=False)
    assert held_out_statistics(MICRO, stub, ROWS) == ()
    assert stub.asked is None
