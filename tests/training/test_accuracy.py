"""Hits by hand, and the split that a finished training is measured on."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from fbnetv3.training.accuracy import Accuracy, final_split, measure, top_hits
from fbnetv3.training.data.memory import Split
from tests.training.examples import FULL, first


class Constant(torch.nn.Module):
    """Says class 3, whatever it sees; classes 0 to 4 are the first five."""

    def forward(self, x):
        return F.one_hot(torch.full((len(x),), 3), 10).float() - torch.arange(10) / 100


def with_val(labels):
    return dataclasses.replace(FULL, val=Split(FULL.val.images[: len(labels)], torch.tensor(labels)))


def test_the_first_and_the_first_five_by_hand():
    logits = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    assert top_hits(logits, torch.tensor([0, 0])) == (1, 1)
    assert top_hits(logits, torch.tensor([4, 1])) == (0, 2)
    assert top_hits(logits[:, :2], torch.tensor([1, 1])) == (1, 2)  # fewer than five classes


def test_accuracy_counts_hits():
    assert measure(Constant(), FULL, "val") == Accuracy(10.0, 50.0)
    accuracy = measure(Constant(), with_val([3, 1, 3]), "val")
    assert math.isclose(accuracy.acc1, 200 / 3)
    assert measure(Constant(), with_val([3, 9]), "val") == Accuracy(50.0, 50.0)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_in_eval_mode_meanwhile(training):
    class Watched(Constant):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return super().forward(x)

    model = Watched().train(training)
    measure(model, with_val([3]), "val")
    assert model.training == training


def test_a_finished_training_is_measured_on_test_or_else_on_val():
    assert final_split(FULL) == "test"
    assert final_split(dataclasses.replace(FULL, test=first(FULL.test, 0))) == "val"
