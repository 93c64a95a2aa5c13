"""The loops of the training benchmark: what is equal, what differs, and by how much."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fbnetv3.benchmarks.speed import loops
from fbnetv3.benchmarks.speed.loops import CASES, Loop, by_hand, difference, equal, states, timm_loop

SHORT = dataclasses.replace(CASES["small"], batch=8, rounds=3)


def test_a_case_always_starts_from_the_same_weights():
    assert equal(SHORT.network(), SHORT.network())
    moved = SHORT.network()
    with torch.no_grad():
        next(moved.parameters()).add_(1e-3)
    assert not equal(moved, SHORT.network())


def test_counters_of_batch_norms_are_no_state():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    assert len(states(network)) == 6  # of 7: weight and bias twice, running mean and variance
    assert all(tensor.is_floating_point() for tensor in states(network))


def test_images_tell_when_an_epoch_begins():
    begun = []
    data = SHORT.data(lambda: begun.append(True))
    assert data.count("train") == loops.STEPS * SHORT.batch
    assert begun == []
    next(iter(data.epoch("crop_flip", SHORT.batch, np.random.default_rng(0), loops.ProcessRank())))
    assert begun == [True]
    colour = dataclasses.replace(SHORT, channels=3, side=20).data()
    assert colour.train.images.shape == (32, 3, 20, 20)


def test_timms_loop_is_the_one_by_hand_up_to_rounding():
    hand, theirs = by_hand(SHORT), timm_loop(SHORT)
    losses = [loop.epoch(0, np.random.default_rng([0, 0])) for loop in (hand, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert 0 < difference(theirs, hand, SHORT.network()) < 1e-3


def test_a_difference_is_a_share_of_the_largest_change():
    def network(weight):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, weight)
        layer.register_buffer("mean", torch.tensor(weight))
        return layer

    one, other = (Loop(lambda number, rng: 0.0, network(w), network(w)) for w in (3.0, 2.0))
    assert difference(one, other, network(0.0)) == 0.5
    with pytest.raises(ValueError, match="moving average"):
        difference(dataclasses.replace(one, average=None), other, network(0.0))
