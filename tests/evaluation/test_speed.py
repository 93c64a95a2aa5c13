"""Times of a network: two sizes in turns, and what is said of the device."""

import pytest
import torch

from fbnetv3.evaluation.speed import BatchTime, measure_speed
from fbnetv3.inference.optimize import ROUNDS


class Watched(torch.nn.Module):
    """Notes the shapes that it is called with."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        assert not torch.is_grad_enabled()
        self.seen.append(tuple(x.shape))
        return x


def test_one_image_and_many_take_turns():
    model = Watched()
    speed = measure_speed(model, 1, 8, torch.device("cpu"), 4)
    # Each twice in every round: the first call fills the caches.
    assert model.seen == [*[(1, 1, 8, 8)] * 2, *[(4, 1, 8, 8)] * 2] * ROUNDS
    assert [row.batch for row in speed.batches] == [1, 4]
    assert all(0 < row.fastest <= row.ms <= row.slowest for row in speed.batches)
    assert (speed.side, speed.calls) == (8, ROUNDS)
    assert speed.device.startswith("cpu, ")


def test_a_single_image_is_timed_once():
    assert len(measure_speed(Watched(), 3, 4, torch.device("cpu"), 1).batches) == 1


def test_images_a_second():
    assert BatchTime(32, 16.0, 15.0, 20.0).images_per_s == pytest.approx(2000)
