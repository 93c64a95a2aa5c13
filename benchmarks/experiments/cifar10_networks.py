"""The networks of the CIFAR-10 benchmark: the released ones and baselines as section 4.3 puts them on 32 x 32 images."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fbnetv3.arch import Arch, find_arch
from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.training.network.build import build
from fbnetv3.training.recipe import Recipe

BASE = 32  # section 4.3: pixels of the smallest network's input
SMALLEST = 224  # pixels of that network's input on ImageNet; of EfficientNet-B0's and the ResNets' too


@dataclass(frozen=True)
class Network:
    """One point of the plot: a square input side in pixels, and a fresh network for a number of classes and a recipe."""

    name: str
    resolution: int
    build: Callable[[int, Recipe], nn.Module]


def scaled_resolution(imagenet: int) -> int:
    """Input side on CIFAR-10 of a network whose side on ImageNet is `imagenet` pixels: 32 for 224, 46 for 320.

    Section 4.3 scales "for larger models based on the scaling ratio". Read here as the ratio to the smallest network's input
    on ImageNet, rounded to the nearest whole pixel, halves up, and never below the base; the paper gives neither the ratio
    nor the rounding.
    """
    return max(BASE, math.floor(BASE * imagenet / SMALLEST + 0.5))


def cifar_arch(name: str) -> Arch:
    """A released network (or its `same_padding` variant) as section 4.3 puts it on CIFAR-10: `fbnetv3_a_cifar`, ...

    Section 4.3 replaces "the second stride-two block with a stride-one block". Table 2 lists the stem's convolution as its
    first block, of stride two; the second is then the first inverted residual with stride two. (Were only inverted
    residuals counted, the change would come one stage later. The paper does not say.) Paddings stay those of the released
    network; at 32 pixels they leave fbnetv3_a a last map of 1 x 1 where padding by half the kernel leaves 2 x 2.

    Raises:
        InputError: no such network.
    """
    arch = find_arch(name)
    strided = [index for index, rows in enumerate(arch.stages) if rows[0].s == 2]
    second = strided[1 - (arch.stem.s == 2)]
    stages = list(arch.stages)
    stages[second] = (dataclasses.replace(stages[second][0], s=1), *stages[second][1:])
    return dataclasses.replace(
        arch, name=f"{arch.name}_cifar", resolution=scaled_resolution(arch.resolution), stages=tuple(stages)
    )


def without_second_stride(model: nn.Module) -> nn.Module:
    """Give the second convolution or max-pool of stride two, in order of definition, stride one, in place.

    That is what `cifar_arch` does, for baselines: in an EfficientNet the first depthwise convolution with stride two, in a
    torchvision ResNet the max-pool.

    Raises:
        InputError: fewer than two such layers.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d) and m.stride in (2, (2, 2))]
    if len(layers) < 2:
        raise InputError(
            f"{type(model).__name__} has {len(layers)} layers of stride two; the benchmark changes the second"
        )
    layers[1].stride = 1 if isinstance(layers[1], nn.MaxPool2d) else (1, 1)
    return model


def find_network(name: str) -> Network:
    """A network of the plot by name: `fbnetv3_a`, or a baseline as `timm:NAME`, `torchvision:NAME`.

    Raises:
        InputError: no such network, or a baseline that does not run with its second layer of stride two changed.
    """
    if (own := name.removeprefix("fbnetv3:")).startswith("fbnetv3_"):
        arch = cifar_arch(own)
        return Network(own, arch.resolution, lambda classes, recipe: _fbnetv3(arch, classes, recipe))
    applied = build(name, 10)
    source, _, bare = applied.name.partition(":")
    return _checked(
        Network(
            applied.name,
            scaled_resolution(_imagenet_side(source, bare, applied.model)),
            functools.partial(_baseline, applied.name),
        )
    )


def _fbnetv3(arch: Arch, classes: int, recipe: Recipe) -> nn.Module:
    return build_model(arch, classes, 3, recipe.dropout, recipe.stochastic_depth)


def _baseline(name: str, classes: int, recipe: Recipe) -> nn.Module:
    applied = build(name, classes, dropout=recipe.dropout, stochastic_depth=recipe.stochastic_depth)
    return without_second_stride(applied.model)


def _imagenet_side(source: str, name: str, model: nn.Module) -> int:
    if source == "timm":
        return int(model.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    if source == "torchvision":
        from torchvision.models import get_model_weights

        return int(next(iter(get_model_weights(name))).transforms().crop_size[0])
    return SMALLEST


def _checked(network: Network) -> Network:
    """A changed stride beside a shortcut that kept its own gives maps that do not add up: say so before any training."""
    try:
        count_flops(network, 10)
    except RuntimeError as error:
        raise InputError(
            f"{network.name} does not run at {network.resolution} pixels with its second stride two made one "
            f"({str(error).splitlines()[0]}); give another baseline"
        ) from None
    return network


def count_flops(network: Network, classes: int) -> tuple[int, int]:
    """Multiply-adds of convolutions and linear layers on one image, by fvcore, and all parameters."""
    model = network.build(classes, Recipe(optimizer="sgd", lr=0.1, epochs=1, batch_size=2)).eval()
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, network.resolution, network.resolution))
    counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    return int(counted["conv"] + counted["linear"]), sum(p.numel() for p in model.parameters())
