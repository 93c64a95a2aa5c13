"""What a network needs is counted by hand, and the floor follows from it and from what the card reaches."""

import pytest
import timm
import torch
from torch import nn

from fbnetv3.arch import find_arch
from fbnetv3.benchmarks.gpu.floors import Needs, Rates, measure_rates, needs
from fbnetv3.complexity import cost
from fbnetv3.model import build_model

CPU = torch.device("cpu")


def test_a_small_network_by_hand():
    network = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 5))
    found = needs(network, (1, 2, 3, 3))
    convolution, linear = 2 * 9 + 8 + 4 * 9, 5 + 36 + 180 + 5  # input, weights (and bias), output
    assert found.macs == 9 * 4 * 2 + 36 * 5
    assert found.least == convolution + linear
    assert found.numbers == convolution + 2 * 36 + linear  # the activation reads and writes; flattening moves nothing


def test_a_depthwise_convolution_has_one_weight_map_for_a_channel():
    assert needs(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), (2, 6, 4, 4)).macs == 2 * 6 * 16 * 9


def test_weights_are_read_once_for_all_images():
    network = nn.Conv2d(2, 4, 1, bias=False)
    assert needs(network, (10, 2, 3, 3)).least == 10 * 2 * 9 + 8 + 10 * 4 * 9


def test_the_multiply_adds_are_those_of_the_closed_form():
    assert needs(build_model("fbnetv3_a"), (1, 3, 224, 224)).macs == cost(find_arch("fbnetv3_a")).conv
    theirs = needs(timm.create_model("fbnetv3_d"), (1, 3, 248, 248))
    assert theirs.macs == cost(find_arch("fbnetv3_d")).conv


def test_counting_leaves_the_network_as_it_is():
    network = nn.Conv2d(2, 4, 1)
    needs(network, (1, 2, 3, 3))
    assert network.weight.device == CPU
    assert network.training


@pytest.mark.parametrize(
    ("macs", "least", "precision", "seconds", "bound"),
    [
        (500, 10, "fp32", 10.0, "operations"),  # 1000 operations at 100 a second
        (500, 10, "bf16", 2.0, "operations"),  # at 500 a second, over 20 bytes at 20 a second
        (1, 100, "fp32", 20.0, "bytes"),  # 400 bytes at 20 a second
        (1, 100, "bf16", 10.0, "bytes"),
    ],
)
def test_the_floor_is_the_larger_of_two_times(macs, least, precision, seconds, bound):
    rates = Rates(20.0, {"fp32": 100.0, "bf16": 500.0})
    floor = rates.floor(Needs(macs, 0, least), precision)
    assert (floor.seconds, floor.bound) == (pytest.approx(seconds), bound)


def test_rates_are_measured_for_every_precision():
    rates = measure_rates(CPU, size=1 << 16, side=32)
    assert set(rates.products) == {"fp32", "tf32", "bf16"}
    assert min(rates.copy, *rates.products.values()) > 0
