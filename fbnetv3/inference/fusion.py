"""The network with batch norms folded and activations fused into its convolutions, for CPUs, with torch alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fbnetv3.layers import ConvNormAct, SqueezeExcitation

_FUSED_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Hardswish: "hardswish", nn.ReLU: "relu", nn.Identity: "none"}


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into it, in place; the network must be in eval mode."""
    for module in network.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()


def fuse_network(network: nn.Module, example: Tensor) -> nn.Module:
    """Fold and fuse in place; returns the network, which then runs fastest on channels-last images of the example's size.

    Where torch has oneDNN, a convolution and its activation are one call on weights laid out ahead for the example's
    size, and they run in oneDNN at every size and thread count; elsewhere batch norms alone are folded.
    """
    fold_batch_norms(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if torch.backends.mkldnn.is_available():
        _replace(network, _input_sizes(network, example))
    return network


class FusedConv(nn.Module):
    """Convolution with bias and activation as one oneDNN call; what torch's own compiler makes of them."""

    def __init__(self, layer: ConvNormAct, size: torch.Size) -> None:
        super().__init__()
        conv = layer.conv
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = _FUSED_ACTIVATIONS[type(layer.act)]
        self.bias = conv.bias
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.geometry, list(size))

    def forward(self, x: Tensor) -> Tensor:
        """[N, cin, H, W] to [N, cout, H', W']."""
        call = torch.ops.mkldnn._convolution_pointwise
        return call(x, self.weight, self.bias, *self.geometry, self.activation, [], "")  # type: ignore[no-any-return]


class FusedSqueezeExcitation(nn.Module):
    """Squeeze-and-excitation whose 1x1 convolutions of a 1x1 map are matrix products; rescales its input in place."""

    def __init__(self, layer: SqueezeExcitation) -> None:
        super().__init__()
        self.reduce, self.act, self.expand, self.gate = layer.reduce, layer.act, layer.expand, layer.gate

    def forward(self, x: Tensor) -> Tensor:
        """Rescale every channel of [N, C, H, W]."""
        squeezed = self.act(F.linear(x.mean((2, 3)), self.reduce.weight.flatten(1), self.reduce.bias))
        scale = self.gate(F.linear(squeezed, self.expand.weight.flatten(1), self.expand.bias))
        return x.mul_(scale[:, :, None, None])


def _input_sizes(network: nn.Module, example: Tensor) -> dict[nn.Module, torch.Size]:
    """The size of what every ConvNormAct sees when the network runs on the example."""
    sizes: dict[nn.Module, torch.Size] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[layer] = inputs[0].shape

    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, ConvNormAct)]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    return sizes


def _replace(module: nn.Module, sizes: dict[nn.Module, torch.Size]) -> None:
    """Put fused modules in the place of those that they replace, innermost first."""
    for name, child in module.named_children():
        _replace(child, sizes)
        if isinstance(child, ConvNormAct):
            setattr(module, name, FusedConv(child, sizes[child]))
        elif isinstance(child, SqueezeExcitation):
            setattr(module, name, FusedSqueezeExcitation(child))
