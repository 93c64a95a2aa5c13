import pytest
import torch
from torch import nn

from fbnetv3 import InputError, build_model
from fbnetv3.layers import InvertedResidual, StochasticDepth
from tests.test_arch import TINY


def test_classes_channels_and_dropout():
    model = build_model("fbnetv3_a", num_classes=7, in_chans=4, dropout=0.3)
    assert model.dropout.p == 0.3
    assert model.eval()(torch.zeros(2, 4, 64, 96)).shape == (2, 7)


@pytest.mark.parametrize("bad", [{"dropout": 1.0}, {"stochastic_depth": -0.1}, {"num_classes": 0}, {"in_chans": 2.0}])
def test_values_out_of_range(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        build_model(TINY, **bad)


def test_initialisation():
    torch.manual_seed(0)
    model = build_model("fbnetv3_a")
    last = model.stages[4][-1]
    depthwise = last.depthwise.conv.weight
    assert depthwise.std().item() == pytest.approx((2 / (depthwise.shape[0] * 25)) ** 0.5, rel=0.05)
    blocks = [b for b in model.modules() if isinstance(b, InvertedResidual)]
    assert any(b.residual for b in blocks)
    for block in blocks:
        assert block.project.bn.weight.eq(0).all() == block.residual


def test_same_generator_same_network():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_model(TINY).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_stochastic_depth_grows_linearly_in_residual_blocks_only():
    model = build_model("fbnetv3_a", stochastic_depth=0.2)
    blocks = [b for stage in model.stages for b in stage]
    for i, block in enumerate(blocks):
        assert block.drop.rate == pytest.approx(0.2 * i / len(blocks) if block.residual else 0.0)


def test_stochastic_depth_drops_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = StochasticDepth(0.25).train(), torch.ones(4000, 2, 1, 1)
    y = drop(x)
    assert sorted(set(y[:, 0].flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)
    assert drop.eval()(x) is x


def test_gradients_reach_every_parameter():
    model = build_model(TINY, 5, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # a residual branch starts at zero and would block its own gradient
            nn.init.ones_(module.weight)
    model(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
