"""Losses are summed as if each had been fetched at once, and the first one that is not finite is named."""

import math

import pytest
import torch

from fbnetv3.training.step_losses import DivergedError, StepLosses
from tests.training.examples import RECIPE


def test_the_sum_is_that_of_every_single_loss():
    losses, expected = StepLosses(RECIPE, 1.5, 2), 1.5
    for step in range(3):
        parts = torch.rand(3)
        losses.add(parts, f"step {step}")
        # As Python adds float64 numbers: part by part, then step by step.
        value = 0.0
        for part in parts:
            value += part.item() / 3
        expected += value
    assert (losses.total, losses.steps) == (1.5, 2)
    assert losses.fetch() == losses.total == expected
    assert losses.steps == 5
    assert losses.fetch() == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_first_loss_that_is_not_finite_is_named(bad):
    losses = StepLosses(RECIPE)
    for step, value in enumerate((1.0, 2.0, bad, 1.0, bad)):
        losses.add(torch.tensor([value, 1.0]), f"step {step}, learning rate 0.1")
    with pytest.raises(DivergedError, match=r'the loss is (nan|inf) at step 2, learning rate 0.1; recipe .*"rmsprop"'):
        losses.fetch()
