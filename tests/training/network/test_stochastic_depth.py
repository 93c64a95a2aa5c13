"""Branches are dropped per sample, with the rates of the rule, and the mean stays."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fbnetv3 import Arch, Block, build_model
from fbnetv3.training.network.regularise import apply_regularisation
from fbnetv3.training.network.stochastic_depth import DropBranch, stochastic_depth_rates
from tests.training.network.examples import Counted, DropPath, Net, hooks, lin, small_resnet, two, within


def test_branches_are_dropped_per_sample_linearly_in_depth_and_the_mean_stays():
    n = 20000
    built = apply_regularisation(Counted(), stochastic_depth=0.4)
    assert stochastic_depth_rates(built.model) == pytest.approx(
        {"blocks.1.conv": 0.1, "blocks.2.conv": 0.2, "blocks.3.conv": 0.3}
    )
    out = built.model.train()(torch.zeros(n, 4, 1, 1))
    for i, rate in enumerate((0.0, 0.1, 0.2, 0.3)):
        dropped = out[:, i] == 0
        assert within(int(dropped.sum()), n, rate)
        assert out[~dropped, i].unique().tolist() == pytest.approx([1 / (1 - rate)])
        assert out[:, i].mean().item() == pytest.approx(1.0, abs=0.03)
    both = ((out[:, 2] == 0) & (out[:, 3] == 0)).sum()
    assert within(int(both), n, 0.2 * 0.3)  # branches are dropped independently


def test_a_resnet_block_without_its_branch_is_its_shortcut():
    model = apply_regularisation(small_resnet(), stochastic_depth=0.5).model.train()
    assert stochastic_depth_rates(model) == pytest.approx(
        {"layer2.0.bn2": 0.125, "layer3.0.bn2": 0.25, "layer4.0.bn2": 0.375}
    )
    block = model.layer4[0]
    x = torch.rand(200, 256, 1, 1)
    with torch.no_grad():
        out = block(x)
        shortcut = F.relu(block.downsample(x))
    alone = (out == shortcut).flatten(1).all(1)
    assert within(int(alone.sum()), 200, 0.375)


def test_gradients_flow_through_kept_branches_alone():
    model = apply_regularisation(Counted(2), stochastic_depth=0.8).model.train()
    out = model(torch.zeros(50, 2, 1, 1))
    out.sum().backward()
    kept = (out[:, 1] != 0).sum().item()
    assert 0 < kept < 50
    assert model.blocks[1].conv.bias.grad[1].item() == pytest.approx(kept / 0.6)
    assert model.blocks[0].conv.bias.grad[0].item() == pytest.approx(50)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_hook_drops_along_its_axis_and_leaves_further_outputs_alone(axis):
    module, hook = nn.Identity().train(), DropBranch(0.5, axis)
    first, second = hook(module, (), (torch.ones(30, 40), torch.ones(3)))
    samples = first if axis == 0 else first.T
    assert set(samples[:, 0].tolist()) == {0.0, 2.0}
    assert torch.equal(samples, samples[:, :1].expand_as(samples))
    assert torch.equal(second, torch.ones(3))
    out = torch.ones(4, 4)
    assert hook(module.eval(), (), out) is out


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_transformer_layers_drop_samples_not_tokens(batch_first):
    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.encoder(x))

    model = Custom().train()
    bare = copy.deepcopy(model)
    built = apply_regularisation(model, 0.0, 0.8)
    assert "wrapper on 4 residual branches (linear in depth up to 0.6)" in built.stochastic_depth
    seen = []
    model.encoder.layers[1].dropout2.register_forward_hook(lambda m, a, out: seen.append(out))
    x = torch.rand(50, 7, 8) if batch_first else torch.rand(7, 50, 8)
    model(x)
    dropped = (seen[0] == 0).all(-1)
    samples = dropped if batch_first else dropped.T
    assert torch.equal(samples.any(1), samples.all(1))
    assert within(int(samples.all(1).sum()), 50, 0.6)
    torch.testing.assert_close(model.eval()(x), bare.eval()(x))


def attend(s, x):
    y = s.norm(x)
    y, _ = s.attention(y, y, y)
    x = x + y
    return x + s.mlp(x)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_custom_attention_block_drops_samples_not_tokens(batch_first):
    parts = {"norm": nn.LayerNorm(4), "attention": nn.MultiheadAttention(4, 2, batch_first=batch_first), "mlp": two()}
    model = nn.Sequential(*(Net(attend, **copy.deepcopy(parts)) for _ in range(2)), lin()).train()
    apply_regularisation(model, 0.0, 0.8)
    assert stochastic_depth_rates(model) == pytest.approx({"0.mlp": 0.2, "1.attention": 0.4, "1.mlp": 0.6})
    seen = []
    for part in (model[1].attention, model[1].mlp):
        part.register_forward_hook(lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out))
    model(torch.rand(50, 7, 4) if batch_first else torch.rand(7, 50, 4))
    for out, rate in zip(seen, (0.4, 0.6), strict=True):
        dropped = (out == 0).all(-1)
        samples = dropped if batch_first else dropped.T
        assert torch.equal(samples.any(1), samples.all(1))
        assert within(int(samples.all(1).sum()), 50, rate)


def test_stochastic_depths_of_the_model_get_the_rate_and_no_hook():
    blocks = [Net(lambda s, x: x + s.drop(s.f(x)), f=lin(), drop=DropPath()) for _ in range(2)]
    blocks += [Net(lambda s, x: x + s.f(x), f=nn.Sequential(lin(), DropPath()))]
    blocks += [Net(lambda s, x: x + s.f(x), f=lin())]
    blocks += [Net(lambda s, x: x + s.g(s.drop(x)), drop=DropPath(), g=lin())]
    model = nn.Sequential(*blocks, nn.Linear(4, 2))
    assert stochastic_depth_rates(model) == {"0.drop": 0.0, "1.drop": 0.0, "2.f.1": 0.0, "4.drop": 0.0}
    built = apply_regularisation(model, 0.0, 0.5)
    assert stochastic_depth_rates(model) == pytest.approx(
        {"0.drop": 0.0, "1.drop": 0.1, "2.f.1": 0.2, "3.f": 0.3, "4.drop": 0.4}
    )
    assert [h.rate for h in hooks(model)] == pytest.approx([0.3])
    assert "wrapper on 1 residual branches, set on 4 stochastic depths of the model" in built.stochastic_depth


def test_this_packages_network_keeps_its_rule():
    arch = Arch(
        "small",
        28,
        Block("conv", 8, k=3, s=2),
        ((Block("ir", 8, k=3, n=2), Block("ir", 16, k=3, n=2)),),
        Block("pool", 16, e=2),
    )
    built = apply_regularisation(build_model(arch, 10), 0.2, 0.3)
    wanted = build_model(arch, 10, dropout=0.2, stochastic_depth=0.3)
    assert stochastic_depth_rates(built.model) == stochastic_depth_rates(wanted) != {}
    assert max(stochastic_depth_rates(wanted).values()) > 0
    assert built.model.dropout.p == 0.2
    assert not hooks(built.model)
