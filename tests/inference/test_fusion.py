"""The fused network: the same logits with fewer modules. Needs torch alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fbnetv3 import build_model
from fbnetv3.inference.export import frozen_copy
from fbnetv3.inference.fusion import FusedConv, FusedSqueezeExcitation, fold_batch_norms, fuse_network
from fbnetv3.layers import ConvNormAct, SqueezeExcitation
from tests.inference.examples import ARCH, NO_HEAD, images, logits, trained_like

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", [ARCH, NO_HEAD], ids=lambda arch: arch.name)
def test_folding_keeps_the_logits_and_leaves_no_norm(arch):
    model = trained_like(arch)
    network = frozen_copy(model, images(2))
    fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    close(network(images(3)), logits(model, images(3)))


def test_a_folded_convolution_by_hand():
    layer = ConvNormAct(1, 1, bias=False).eval().requires_grad_(False)
    layer.conv.weight.fill_(3.0)
    layer.bn.running_mean.fill_(2.0)
    layer.bn.running_var.fill_(4.0 - layer.bn.eps)  # std 2
    layer.bn.weight.fill_(5.0)
    layer.bn.bias.fill_(1.0)
    fold_batch_norms(layer)
    # 5 * (3x - 2) / 2 + 1 = 7.5x - 4
    assert layer.conv.weight.item() == pytest.approx(7.5)
    assert layer.conv.bias.item() == pytest.approx(-4.0)


def test_synchronised_norms_of_a_gpu_are_folded_too():
    model = trained_like()
    network = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)).eval().requires_grad_(False)
    fold_batch_norms(network)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    close(network(images(3)), logits(model, images(3)))


def test_elsewhere_than_on_the_cpu_nothing_is_left_to_onednn():
    with torch.device("meta"):  # stands for a GPU
        network, example = build_model(ARCH, 10).eval().requires_grad_(False), torch.empty(2, 3, 32, 32)
    fused = fuse_network(network, example)
    assert not any(isinstance(module, FusedConv | nn.BatchNorm2d) for module in fused.modules())
    assert fused(example).shape == (2, 10)


@needs_onednn
@pytest.mark.parametrize("arch", [ARCH, NO_HEAD], ids=lambda arch: arch.name)
def test_a_fused_network_gives_the_logits_at_any_size(arch):
    model = trained_like(arch)
    fused = fuse_network(frozen_copy(model, images(2)), images(2))
    for x in (images(2), images(1), images(3, side=48)):
        with torch.no_grad():
            close(fused(x.contiguous(memory_format=torch.channels_last)), logits(model, x))


@needs_onednn
def test_activations_are_in_the_convolutions():
    fused = fuse_network(frozen_copy(trained_like(), images(1)), images(1))
    assert not any(isinstance(module, nn.BatchNorm2d | ConvNormAct | SqueezeExcitation) for module in fused.modules())
    left = [name for name, module in fused.named_modules() if isinstance(module, nn.Hardswish | nn.ReLU)]
    assert all(".se." in name or name.startswith("head.") for name in left), left
    kinds = {module.activation for module in fused.modules() if isinstance(module, FusedConv)}
    assert kinds == {"hardswish", "relu", "none"}


def test_without_onednn_batch_norms_are_folded_nevertheless(monkeypatch):
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    monkeypatch.setattr("fbnetv3.inference.fusion.FusedConv", None)  # must not be used
    model = trained_like()
    fused = fuse_network(frozen_copy(model, images(2)), images(2))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    close(fused(images(3)), logits(model, images(3)))


def test_squeeze_and_excitation_as_matrix_products():
    torch.manual_seed(0)
    layer = SqueezeExcitation(8, 4, "hswish").eval()
    x = torch.randn(2, 8, 5, 6)
    expected = x * F.hardsigmoid(layer.expand(F.hardswish(layer.reduce(x.mean((2, 3), keepdim=True)))))
    with torch.no_grad():
        found = FusedSqueezeExcitation(copy.deepcopy(layer))(x.clone())
    close(found, expected)
    close(layer(x), expected)
