"""A network with batch norms and activations fused into its convolutions: faster, with torch alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fbnetv3.layers import ConvNormAct, SqueezeExcitation, use_channels_last

_FUSED_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Hardswish: "hardswish", nn.ReLU: "relu", nn.Identity: "none"}


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place. The network must be in eval mode."""
    # In eval mode a batch norm is a multiplication and an addition per channel, which the weights and bias can absorb.
    for module in network.modules():
        # A synchronised norm of several GPUs is the same function in eval mode, but no `BatchNorm2d`.
        if isinstance(module, ConvNormAct) and isinstance(module.bn, nn.BatchNorm2d | nn.SyncBatchNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()


def fuse_network(network: nn.Module, example: Tensor) -> nn.Module:
    """Fuse a network in place and return it. It is fastest for images with channels last and of the example's size.

    On a CPU where torch has oneDNN, a convolution and its activation become one call, on weights that are laid out in advance
    for the example's size. They then use oneDNN for every size and number of threads. Elsewhere only batch norms are folded.
    """
    fold_batch_norms(network)
    use_channels_last(network)
    if example.device.type == "cpu" and torch.backends.mkldnn.is_available():
        _replace(network, _input_sizes(network, example))
    return network


class FusedConv(nn.Module):
    """Convolution, bias and activation in one call of oneDNN, the call that torch's compiler generates for them."""

    def __init__(self, layer: ConvNormAct, size: torch.Size) -> None:
        super().__init__()
        conv = layer.conv
        # As plain lists and numbers: the operator below takes nothing else.
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = _FUSED_ACTIVATIONS[type(layer.act)]
        self.bias = conv.bias
        # Reordering once here saves oneDNN the reordering in every call.
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.geometry, list(size))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, cout, H', W']."""
        call = torch.ops.mkldnn._convolution_pointwise
        out: Tensor = call(x, self.weight, self.bias, *self.geometry, self.activation, [], "")
        return out


class FusedSqueezeExcitation(nn.Module):
    """Squeeze-and-excitation with matrix products instead of 1x1 convolutions on a 1x1 map. It changes its input in place."""

    def __init__(self, layer: SqueezeExcitation) -> None:
        super().__init__()
        self.reduce, self.act, self.expand, self.gate = layer.reduce, layer.act, layer.expand, layer.gate

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of [N, C, H, W]."""
        squeezed = self.act(F.linear(x.mean((2, 3)), self.reduce.weight.flatten(1), self.reduce.bias))
        scale = self.gate(F.linear(squeezed, self.expand.weight.flatten(1), self.expand.bias))
        # In place: the input is the output of the depthwise convolution, which nobody else reads.
        return x.mul_(scale[:, :, None, None])


def _input_sizes(network: nn.Module, example: Tensor) -> dict[nn.Module, torch.Size]:
    """Return the size of every ConvNormAct's input when the network runs on the example."""
    sizes: dict[nn.Module, torch.Size] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[layer] = inputs[0].shape

    # Hooks on one run of the example: the sizes depend on strides and paddings of everything before.
    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, ConvNormAct)]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    return sizes


def _replace(module: nn.Module, sizes: dict[nn.Module, torch.Size]) -> None:
    """Replace modules by fused ones, the innermost ones first."""
    for name, child in module.named_children():
        _replace(child, sizes)  # a squeeze-and-excitation keeps its inner modules, so they must be replaced first
        if isinstance(child, ConvNormAct):
            setattr(module, name, FusedConv(child, sizes[child]))
        elif isinstance(child, SqueezeExcitation):
            setattr(module, name, FusedSqueezeExcitation(child))
