"""The network: its initialisation, classifier and pooling, gradient checkpointing and parameter groups."""

import copy
import dataclasses

import pytest
import timm.optim
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from fbnetv3 import InputError, build_model
from fbnetv3.arch import ARCH_A0, Block
from fbnetv3.complexity import cost
from fbnetv3.layers import InvertedResidual
from tests.test_arch import TINY

HEADLESS = dataclasses.replace(
    TINY,
    name="headless",
    stages=(*TINY.stages, (Block("conv", 24, k=3, n=2, s=2), Block("ir", 24, e=2, k=3, act="relu", dw_norm_act=False))),
    head=None,
)
EACH = pytest.mark.parametrize("arch", [TINY, ARCH_A0, HEADLESS], ids=lambda arch: arch.name)


def lively(arch, seed=0, **options):
    """A network in which no branch is zero and no norm an identity."""
    torch.manual_seed(seed)
    model = build_model(arch, **{"num_classes": 5} | options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, 0, 0.1)
    return model


def images(n=4, side=32, chans=3):
    return torch.randn(n, chans, side, side, generator=torch.Generator().manual_seed(1))


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_classes_channels_and_dropout():
    model = build_model("fbnetv3_a", num_classes=7, in_chans=4, dropout=0.3)
    assert model.dropout.p == 0.3
    assert model.eval()(torch.zeros(2, 4, 64, 96)).shape == (2, 7)


@pytest.mark.parametrize("bad", [{"dropout": 1.0}, {"stochastic_depth": -0.1}, {"num_classes": -1}, {"in_chans": 2.0}])
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


def test_gradients_reach_every_parameter():
    model = build_model(TINY, 5, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # a residual branch starts at zero and would block its own gradient
            nn.init.ones_(module.weight)
    model(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@EACH
def test_forward_is_features_then_head(arch):
    model, x = lively(arch).eval(), images()
    features = model.forward_features(x)
    assert features.shape[:2] == (4, model.num_features)
    pre_logits = model.forward_head(features, pre_logits=True)
    assert pre_logits.shape == (4, model.head_hidden_size) == (4, arch.features)
    assert torch.equal(model.forward_head(features), model(x))
    assert torch.equal(model.classifier(pre_logits), model(x))


def test_sizes_of_a_hand_countable_network():
    model = build_model(TINY, in_chans=1)
    assert (model.in_chans, model.num_classes, model.num_features, model.head_hidden_size) == (1, 1000, 32, 32)
    assert model.forward_features(images(2, 16, 1)).shape == (2, 32, 4, 4)
    assert build_model(ARCH_A0).num_features == 5 * 208
    assert build_model(HEADLESS).num_features == 24


def test_dropout_comes_before_the_classifier_in_training_only():
    model = lively(TINY, dropout=0.5)
    features = model.forward_features(images(64))
    dropped = model.forward_head(features, pre_logits=True).eq(0).float().mean()
    assert dropped > 0.3
    assert model.eval().forward_head(features, pre_logits=True).eq(0).float().mean() < 0.1


def test_without_classifier_the_network_returns_what_the_classifier_would_see():
    full, bare = lively(TINY).eval(), build_model(TINY, 0).eval()
    assert isinstance(bare.get_classifier(), nn.Identity)
    bare.load_state_dict({k: v for k, v in full.state_dict().items() if not k.startswith("classifier.")})
    x = images()
    assert torch.equal(bare(x), full.forward_head(full.forward_features(x), pre_logits=True))


def test_pooling_is_the_one_named():
    model, x = lively(TINY, num_classes=0).eval(), images()
    features = model.forward_features(x)
    mean, most = features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
    for name, pooled in (("avg", mean), ("max", most), ("avgmax", (mean + most) / 2)):
        model.reset_classifier(0, name)
        assert model.global_pool == name
        same(model(x), model.head.act(model.head.conv(pooled)).flatten(1))
    model.reset_classifier(0, "")
    assert torch.equal(model(x), model.head.act(model.head.conv(features)))
    assert model(x).shape == (4, 32, 8, 8)
    assert torch.equal(model.forward_head(features, pre_logits=True), model(x))


@EACH
def test_reset_classifier(arch):
    model = lively(arch).double().eval()
    body = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("classifier.")}
    old = model.get_classifier()
    model.reset_classifier(7)
    assert model.get_classifier() is model.classifier is not old
    assert model(images().double()).shape == (4, 7)
    assert model.num_classes == 7
    assert model.classifier.weight.dtype == torch.float64
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(model.state_dict()[k], v) for k, v in body.items())
    model.reset_classifier(0)
    assert model(images().double()).shape == (4, model.head_hidden_size)


@pytest.mark.parametrize(
    ("num_classes", "pool", "message"),
    [
        (-1, None, "num_classes is -1; allowed: whole numbers from 0"),
        (2, "mean", "global_pool is 'mean'; allowed: 'avg', 'max', 'avgmax', ''"),
        (2, "", "which means no pooling, but 2 classes need it"),
    ],
)
def test_a_refused_reset_changes_nothing(num_classes, pool, message):
    model, x = lively(TINY).eval(), images()
    before = model(x)
    with pytest.raises(InputError, match=message):
        model.reset_classifier(num_classes, pool)
    assert torch.equal(model(x), before)
    assert (model.num_classes, model.global_pool) == (5, "avg")
    with pytest.raises(InputError, match=message):
        build_model(TINY, num_classes, global_pool=pool or "")


# Gradient checkpointing


def train_step(model, checkpointing):
    model.train().set_grad_checkpointing(checkpointing)
    torch.manual_seed(7)
    losses = []
    for _ in range(2):  # two batches before one backward pass: recomputing the first must not disturb the second
        losses.append(cross_entropy(model(images()), torch.arange(4)))
    sum(losses).backward()
    return [torch.stack(losses), *(p.grad for p in model.parameters()), *model.buffers(), torch.get_rng_state()]


@EACH
def test_checkpointing_changes_no_number(arch):
    model = lively(arch, dropout=0.3, stochastic_depth=0.4)
    plain, saved = (train_step(copy.deepcopy(model), checkpointing) for checkpointing in (False, True))
    assert len(plain) == len(saved)
    assert all(torch.equal(a, b) for a, b in zip(plain, saved, strict=True))


def test_checkpointing_can_be_turned_off_again_and_leaves_evaluation_alone():
    model, x = lively(TINY).eval(), images()
    plain = model(x)
    model.set_grad_checkpointing()
    assert model.grad_checkpointing
    assert torch.equal(model(x), plain)
    model.set_grad_checkpointing(False)
    assert not any(getattr(module, "grad_checkpointing", False) for module in model.modules())


def kept_bytes(model, x):
    """Memory that a forward pass allocates and does not free while its output lives."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = model(x)
    assert output.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


def test_checkpointing_saves_activation_memory():
    model, x = lively(ARCH_A0).train(), images(2, 64)
    plain = kept_bytes(model, x)
    model.set_grad_checkpointing()
    assert 0 < kept_bytes(model, x) < 0.4 * plain


def test_checkpointing_when_compiled_updates_statistics_once():
    model = lively(TINY)
    plain = copy.deepcopy(model)
    model.set_grad_checkpointing()
    for net in (plain, torch.compile(model, backend="aot_eager", fullgraph=True)):
        net.train()(images()).square().sum().backward()
    same([p.grad for p in model.parameters()], [p.grad for p in plain.parameters()])
    same(list(model.buffers()), list(plain.buffers()))


# Parameter groups


def test_no_weight_decay_names_biases_and_norms():
    model = build_model(TINY)
    norms = {f"{n}.{p}" for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) for p in ("weight", "bias")}
    biases = {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    assert model.no_weight_decay() == norms | biases
    assert {"stem.conv.bias", "classifier.bias", "stages.1.0.se.reduce.bias"} <= biases


def test_layer_decay_grows_with_depth():
    model = build_model(TINY)  # groups: stem, three blocks, then head and classifier
    optimizer = timm.optim.create_optimizer_v2(model, "sgd", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    names = {parameter: name for name, parameter in model.named_parameters()}
    scales, decays = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            scales[names[parameter]], decays[names[parameter]] = group["lr_scale"], group["weight_decay"]
    expected = {
        "stem": 1 / 16,
        "stages.0.0": 1 / 8,
        "stages.0.1": 1 / 4,
        "stages.1.0": 1 / 2,
        "head": 1,
        "classifier": 1,
    }
    for prefix, scale in expected.items():
        assert {v for k, v in scales.items() if k.startswith(prefix + ".")} == {scale}, prefix
    assert {name for name, decay in decays.items() if decay == 0} == model.no_weight_decay()
    by_stage = timm.models.group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert len(set(by_stage.values())) == 1 + 2 + 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a0():
    from fvcore.nn import FlopCountAnalysis

    model = build_model("fbnetv3_a0").eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224))
    assert counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total() == cost(ARCH_A0).flops(
        "fvcore"
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == 6309976
    assert model.feature_info.channels() == [12, 24, 40, 104, 208]
