"""FLOPs and parameters, counted by hand and by fvcore."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.arch import ARCHS, find_arch
from fbnetv3.complexity import (
    Cost,
    check_resolution,
    conv_side,
    cost,
    inverted_residual,
    parts,
    round_width,
    runs,
    smallest_resolution,
)
from tests.test_arch import TINY


@pytest.mark.parametrize(
    ("width", "rounded"),
    [
        (6, 8),
        (10, 16),
        (18, 24),
        (26, 32),
        (30, 32),
        (54, 56),
        (66, 64),
        (84, 88),
        (12, 16),
        (1, 8),
        (8, 8),
        (224, 224),
    ],
)
def test_rounding_of_widths(width, rounded):
    assert round_width(width) == rounded


@given(st.integers(1, 4096))
def test_rounding_loses_at_most_five_percent_and_is_a_multiple_of_eight(width):
    rounded = round_width(width)
    assert rounded % 8 == 0
    assert rounded >= 0.95 * width
    assert rounded <= width + 8
    assert round_width(rounded) == rounded


def test_cost_of_a_network_counted_by_hand():
    # stem 16->8: 8*1*9 weights on 8x8; ir 8->8 twice, no expansion: dw 8*9 + pw 64 on 8x8; ir 8->16 stride 2, mid 24:
    # pw 192 on 8x8, dw 24*25 on 4x4, SE 24<->8 (8/4 rounds to 8): 384, pool 24*16, pwl 384 on 4x4; head 16->32 on 4x4, pool
    # 32*16, 32->32, no-op pool 32; classifier 32->10.
    conv = 72 * 64 + 2 * (72 + 64) * 64 + 192 * 64 + 600 * 16 + 384 + 384 * 16 + 512 * 16 + 1024 + 320
    counted = cost(TINY, num_classes=10, in_chans=1)
    assert counted.conv == conv
    assert counted.pool == 24 * 16 + 32 * 16
    assert counted.noop_pool == 32
    assert counted.weights == 72 + 2 * 136 + 192 + 600 + 384 + 384 + 512 + 1024 + 320
    assert counted.flops() == conv + 384 + 512 + 32
    with pytest.raises(InputError, match="unknown FLOPs convention 'mine'; available: published, fvcore"):
        counted.flops("mine")


@pytest.mark.parametrize(
    "row",
    [
        Block("ir", 16, k=5, e=4, n=2, s=2, se=True, act="relu", se_from="expanded", dw_norm_act=False),
        Block("ir", 24, k=3, e=5, s=2, pad=0),
        Block("conv", 16, k=3, n=2, s=2),
    ],
)
@pytest.mark.parametrize("head", [TINY.head, None])
def test_closed_form_equals_fvcore_for_every_kind_of_row(row, head):
    from fvcore.nn import FlopCountAnalysis

    arch = Arch("odd", 30, Block("conv", 12, k=5, s=2), ((Block("ir", 12, k=3),), (row,)), head)
    model = build_model(arch, num_classes=7, in_chans=2).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, 2, 30, 30))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = cost(arch, 7, 2)
    assert counter.total() == counted.flops("fvcore")
    assert sum(p.numel() for p in model.parameters()) == counted.params("fvcore")


def test_costs_add_up_from_the_modules():
    modules = list(parts(TINY, num_classes=10, in_chans=1))
    assert [part.name for part in modules] == ["stem", "stages.0", "stages.1", "head", "classifier"]
    assert [(part.channels, part.side) for part in modules] == [(8, 8), (8, 8), (16, 4), (32, 1), (10, 1)]
    assert sum((part.cost for part in modules), Cost()) == cost(TINY, 10, 1)
    assert modules[0].cost.conv == 72 * 64


def test_a_larger_image_costs_more_operations_and_no_parameters():
    small, large = cost(TINY), cost(TINY, resolution=32)
    assert large.conv > 3 * small.conv
    assert (large.weights, large.extras) == (small.weights, small.extras)


def test_arrays_are_counted_elementwise():
    widths, expansions, kernels = np.array([8, 16, 24]), np.array([1, 3, 4]), np.array([3, 5, 3])
    together, sides = inverted_residual(16, widths, kernels, expansions, 2, 14, se=True)
    for i in range(3):
        alone, side = inverted_residual(16, int(widths[i]), int(kernels[i]), int(expansions[i]), 2, 14, se=True)
        assert side == sides[i] == 7
        assert [int(np.broadcast_to(count, 3)[i]) for count in together] == list(alone)


@pytest.mark.parametrize(("side", "k", "s", "pad", "out"), [(8, 3, 1, 1, 8), (8, 3, 2, 1, 4), (7, 5, 2, 1, 3)])
def test_the_side_of_an_output(side, k, s, pad, out):
    assert conv_side(side, k, s, pad) == out
    assert torch.nn.Conv2d(1, 1, k, s, pad)(torch.zeros(1, 1, side, side)).shape[-1] == out


def test_conventions_count_different_things():
    counted = Cost(conv=10, pool=2, noop_pool=1, norm=4, weights=5, extras=3)
    assert (counted.flops(), counted.flops("fvcore")) == (13, 20)
    assert (counted.params(), counted.params("fvcore")) == (5, 8)
    assert counted.times(3) == Cost(30, 6, 3, 12, 15, 9)
    for call in (counted.flops, counted.params):
        with pytest.raises(InputError, match="convention 'mine'; available: published, fvcore"):
            call("mine")


@pytest.mark.parametrize("name", ["fbnetv3_a", "fbnetv3_e", "fbnetv3_f"])
def test_images_on_which_a_network_cannot_run(name):
    arch, least = find_arch(name), smallest_resolution(find_arch(name))
    assert least == {"fbnetv3_a": 49, "fbnetv3_e": 17, "fbnetv3_f": 33}[name]
    model = build_model(arch).eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, least, least))
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 3, least - 1, least - 1))
    assert cost(arch, resolution=least).flops() > 0
    for side in (0, -8, 1, least - 1):
        with pytest.raises(
            InputError, match=f"{name} cannot run on images of {side} x {side}: .*; give {least} or more"
        ):
            cost(arch, resolution=side)


def test_most_networks_run_on_images_of_any_size():
    assert smallest_resolution(ARCHS["fbnetv3_d"]) == smallest_resolution(TINY) == 1
    assert cost(TINY, resolution=1).flops() > 0
    check_resolution(TINY)


def test_a_padding_does_not_bring_a_map_back():
    # 4 pixels less 4 are none, from which a padding would make a map of 8 again.
    arch = Arch("x", 8, Block("conv", 8, k=3, s=2), ((Block("ir", 8, k=5, pad=0), Block("ir", 8, k=3, pad=5)),), None)
    assert not runs(arch)
    with pytest.raises(InputError, match="give 9 or more pixels"):
        cost(arch)


def test_a_network_that_never_runs():
    arch = Arch("x", 8, Block("conv", 8, k=3, s=100_000), ((Block("ir", 8, k=5, pad=0),),), None)
    with pytest.raises(InputError, match="images of any size are too small"):
        cost(arch)
