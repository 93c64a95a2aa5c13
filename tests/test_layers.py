"""The blocks: stochastic depth by its draws, pooling, squeeze-and-excitation, shapes."""

import pytest
import torch
from torch import nn

from fbnetv3 import Block
from fbnetv3.layers import (
    AvgMaxPool,
    ConvNormAct,
    InvertedResidual,
    PoolHead,
    SqueezeExcitation,
    StochasticDepth,
    activation,
    pooling,
    use_channels_last,
)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_stochastic_depth_drops_samples_and_keeps_the_mean():
    drop, x = StochasticDepth(0.25).train(), torch.ones(4000, 2, 1, 1)
    y = drop(x)
    assert sorted(set(y[:, 0].flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)
    assert drop.eval()(x) is x
    assert repr(drop) == "StochasticDepth(rate=0.25)"


def test_stochastic_depth_draws_one_number_a_sample():
    drop, x = StochasticDepth(0.5).train(), torch.randn(64, 2, 3, 3)
    torch.manual_seed(2)
    dropped = drop(x)
    torch.manual_seed(2)
    assert torch.equal(dropped, x * (torch.rand(64).view(64, 1, 1, 1) >= 0.5) / 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_drops_the_samples_that_float32_drops(dtype):
    # bfloat16 has no number between 1/256 and 0: drawn in it, a rate of 0.001 would drop 0.4% of the samples.
    drop, x = StochasticDepth(0.001).train(), torch.ones(20_000, 1, 1, 1)
    masks = []
    for images in (x, x.to(dtype)):
        torch.manual_seed(0)
        masks.append(drop(images) == 0)
    assert torch.equal(*masks)
    assert 0 < masks[0].sum() < 60
    assert drop(x.to(dtype)).dtype == dtype


def test_a_rate_of_zero_draws_nothing():
    state, x = torch.get_rng_state(), torch.ones(2, 1, 1, 1)
    assert StochasticDepth(0.0).train()(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_pools_by_name():
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(1, 1, 2, 2)
    assert [pooling(name)(x).item() for name in ("avg", "max", "avgmax")] == [3.0, 6.0, 4.5]
    assert pooling("")(x) is x
    assert AvgMaxPool(1)(x).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(("name", "at"), [("hswish", [0.0, 0.0, 3.0]), ("relu", [0.0, 0.0, 3.0])])
def test_activations_by_name(name, at):
    assert activation(name)(torch.tensor([-3.0, 0.0, 3.0])).tolist() == at
    assert activation("hswish")(torch.tensor([1.0])).item() == pytest.approx(4 / 6)


def test_a_convolution_leaves_parts_out():
    bare = ConvNormAct(2, 3, norm=False)
    assert isinstance(bare.bn, nn.Identity)
    assert isinstance(bare.act, nn.Identity)
    assert bare.conv.bias is None
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(bare(x), bare.conv(x))


def test_squeeze_and_excitation_scales_whole_channels():
    layer, x = SqueezeExcitation(4, 2, "relu"), torch.rand(2, 4, 3, 3) + 0.5
    scales = (layer(x) / x).flatten(2)
    assert torch.allclose(scales, scales[:, :, :1].expand_as(scales), atol=1e-6)
    assert ((scales >= 0) & (scales <= 1)).all()


@pytest.mark.parametrize(
    ("row", "stride", "residual", "expanded"),
    [
        (Block("ir", 8, k=3), 1, True, False),
        (Block("ir", 8, k=3, e=2), 1, True, True),
        (Block("ir", 16, k=3, e=2), 1, False, True),
        (Block("ir", 8, k=3, e=2), 2, False, True),
    ],
)
def test_a_block_is_residual_if_its_shapes_allow(row, stride, residual, expanded):
    block = InvertedResidual(8, row, stride, stochastic_depth=0.5).eval()
    assert block.residual == residual
    assert isinstance(block.expand, ConvNormAct) == expanded
    assert block.drop.rate == (0.5 if residual else 0.0)
    x = torch.randn(2, 8, 6, 6)
    branch = block.project(block.se(block.depthwise(block.expand(x))))
    assert block(x).shape == (2, row.c, 6 // stride, 6 // stride)
    assert torch.equal(block(x), x + branch if residual else branch)


def test_a_head_without_row_only_pools():
    x = torch.randn(2, 3, 4, 4)
    head = PoolHead(3, None)
    assert head.expand(x) is x
    assert torch.allclose(head(x).flatten(1), x.mean((2, 3)), atol=1e-6)
    full = PoolHead(8, Block("pool", 5, e=2)).eval()
    assert full(full.expand(torch.randn(2, 8, 4, 4))).shape == (2, 5, 1, 1)


def test_channels_last_is_a_layout_of_the_same_weights():
    layer = nn.Conv2d(4, 4, 3)
    before = layer.weight.clone()
    assert use_channels_last(layer) is layer
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.weight, before)
