"""The networks of the CIFAR-10 benchmark: released networks and baselines, changed for 32 x 32 images as in section 4.3."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fbnetv3.arch import Arch, find_arch
from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.training.network.factory import build
from fbnetv3.training.recipe import Recipe

BASE = 32  # section 4.3: side of the smallest network's input in pixels
SMALLEST = 224  # side of the same network's input on ImageNet, and of that of EfficientNet-B0 and the ResNets
_PLAIN = Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=2)  # without dropout and stochastic depth


@dataclass(frozen=True)
class Network:
    """A network of the benchmark.

    Attributes:
        name: the name in the result file.
        resolution: side of the square input in pixels.
        build: returns a new network for a number of classes and the dropout and stochastic depth of a recipe.
    """

    name: str
    resolution: int
    build: Callable[[int, Recipe], nn.Module]


def scaled_resolution(imagenet: int) -> int:
    """Return the input side on CIFAR-10 of a network whose side on ImageNet is `imagenet` pixels: 32 for 224, 46 for 320.

    Section 4.3 scales the input "for larger models based on the scaling ratio". The paper gives neither the ratio nor the
    rounding. Here it is the ratio to the smallest network's input on ImageNet, rounded to the nearest whole pixel (halves up),
    and never below the base.
    """
    return max(BASE, math.floor(BASE * imagenet / SMALLEST + 0.5))


def cifar_arch(name: str) -> Arch:
    """Return a released network, or its `same_padding` variant, as section 4.3 changes it for CIFAR-10: `fbnetv3_a_cifar`.

    Section 4.3 replaces "the second stride-two block with a stride-one block". Table 2 lists the convolution of the stem as its
    first block, which has stride two. The second is then the first inverted residual with stride two. (The paper does not say
    whether it counts the stem. Without it, the change would come one stage later.) The paddings are those of the released
    network: at 32 pixels the last feature map of fbnetv3_a is 1 x 1; with padding by half the kernel it would be 2 x 2.

    Raises:
        InputError: there is no such network.
    """
    arch = find_arch(name)
    strided = [index for index, rows in enumerate(arch.stages) if rows[0].s == 2]
    # `strided` has stages alone: where the stem has stride two, it is the first block, and the first of the stages the second.
    second = strided[1 - (arch.stem.s == 2)]
    stages = list(arch.stages)
    stages[second] = (dataclasses.replace(stages[second][0], s=1), *stages[second][1:])
    return dataclasses.replace(
        arch, name=f"{arch.name}_cifar", resolution=scaled_resolution(arch.resolution), stages=tuple(stages)
    )


def without_second_stride(model: nn.Module) -> nn.Module:
    """Change the second layer of stride two to stride one, in place, and return the model.

    The layers are convolutions and max-pools in the order of their definition. This is for baselines what `cifar_arch` is for
    released networks: it changes the first depthwise convolution with stride two of an EfficientNet, and the max-pool of a
    ResNet of torchvision.

    Raises:
        InputError: the model has fewer than two such layers.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d) and m.stride in (2, (2, 2))]
    if len(layers) < 2:
        raise InputError(
            f"{type(model).__name__} has {len(layers)} layers of stride two; the benchmark needs a second one to change"
        )
    # A convolution has a pair of strides, a max-pool one number.
    layers[1].stride = 1 if isinstance(layers[1], nn.MaxPool2d) else (1, 1)
    return model


def find_network(name: str) -> Network:
    """Return a network by name: `fbnetv3_a`, or a baseline such as `timm:NAME` or `torchvision:NAME`.

    Raises:
        InputError: there is no such network, or a baseline does not run after its second layer of stride two was changed.
    """
    if (released := name.removeprefix("fbnetv3:")).startswith("fbnetv3_"):
        arch = cifar_arch(released)
        return Network(released, arch.resolution, lambda classes, recipe: _fbnetv3(arch, classes, recipe))
    # Built once to learn its full name and its input on ImageNet; trainings build it again, with the data's classes.
    applied = build(name, _PLAIN, 10)
    source, _, bare = applied.name.partition(":")
    return _checked(
        Network(
            applied.name,
            scaled_resolution(_imagenet_side(source, bare, applied.model)),
            functools.partial(_baseline, applied.name),
        )
    )


def _fbnetv3(arch: Arch, classes: int, recipe: Recipe) -> nn.Module:
    """Return an FBNetV3 for colour images, with the regularisation of the recipe."""
    return build_model(arch, classes, 3, recipe.dropout, recipe.stochastic_depth)


def _baseline(name: str, classes: int, recipe: Recipe) -> nn.Module:
    """Return a network of timm or torchvision with one stride less."""
    applied = build(name, recipe, classes)
    return without_second_stride(applied.model)


def _imagenet_side(source: str, name: str, model: Any) -> int:
    """Return the side in pixels of a baseline's input on ImageNet, as its library states it."""
    if source == "timm":
        return int(model.pretrained_cfg["input_size"][-1])
    if source == "torchvision":
        from torchvision.models import get_model_weights

        return int(next(iter(get_model_weights(name))).transforms().crop_size[0])
    return SMALLEST


def _checked(network: Network) -> Network:
    """Return the network after a check that it runs.

    If a changed layer is on a branch whose shortcut keeps its stride, the two feature maps have different sizes. This check
    finds it before any training.
    """
    try:
        count_flops(network, 10)
    except RuntimeError as error:
        raise InputError(
            f"{network.name} does not run at {network.resolution} pixels after its second stride of two was changed to one "
            f"({str(error).splitlines()[0]}); give another baseline"
        ) from None
    return network


def count_flops(network: Network, classes: int) -> tuple[int, int]:
    """Return the multiply-adds of convolutions and linear layers on one image, counted by fvcore, and all parameters."""
    model = network.build(classes, _PLAIN).eval()
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, network.resolution, network.resolution))
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    # Pools and norms are left out: how fvcore counts them depends on how an implementation writes them.
    return int(counted["conv"] + counted["linear"]), sum(p.numel() for p in model.parameters())
