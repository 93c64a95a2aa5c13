"""The two networks of Table 1: ResNet-18 with 1.4 times the width, or twice the depth.

The paper gives neither widths nor costs. Here all widths (64, 128, 256, 512, and the stem's) are multiplied and rounded to
multiples of 8 as in the search space (`complexity.round_width`). Twice the depth means four basic blocks a stage instead of
two. Blocks, names of weights and initialisation are torchvision's.

For small images there are narrower versions of both. With `base_width`, every rounded width is multiplied by `base_width`/64.
The result is a whole number, because both are multiples of 8.

At 1000 classes and 224x224 pixels, without norms in the count of operations, resnet18_wide has 22,738,992 parameters and
3,437,261,696 multiply-adds, resnet18_deep has 24,230,952 parameters and 3,663,761,408 multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from fbnetv3.complexity import round_width
from fbnetv3.errors import InputError, available

WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetShape:
    """Factor of all widths, and number of basic blocks in each stage."""

    width: float
    blocks: tuple[int, int, int, int]


RESNETS = {"resnet18_wide": ResNetShape(1.4, (2, 2, 2, 2)), "resnet18_deep": ResNetShape(1.0, (4, 4, 4, 4))}


def build_resnet(name: str, num_classes: int = 1000, in_chans: int = 3, base_width: int = WIDTHS[0]) -> nn.Module:
    """Return a network of `RESNETS` with new weights: a torchvision `ResNet` for inputs [N, in_chans, H, W].

    Args:
        base_width: the width that replaces ResNet-18's 64, a multiple of 8. All other widths change in proportion.

    Raises:
        InputError: an unknown name, or a number out of range.
    """
    if name not in RESNETS:
        raise InputError(f"unknown ResNet {name!r}; {available(name, RESNETS)}")
    for label, value in (("num_classes", num_classes), ("in_chans", in_chans)):
        if type(value) is not int or value < 1:
            raise InputError(f"{label} is {value!r}; allowed: whole numbers from 1")
    if type(base_width) is not int or base_width < 8 or base_width % 8:
        raise InputError(f"base_width is {base_width!r}; allowed: multiples of 8")
    from torchvision.models.resnet import BasicBlock, ResNet

    shape = RESNETS[name]
    # Rounded at full size first, so that both sizes of a network have the same proportions.
    full = [int(round_width(width * shape.width)) for width in WIDTHS]
    stem, *_, features = widths = [width * base_width // WIDTHS[0] for width in full]
    model = ResNet(BasicBlock, list(shape.blocks), num_classes)
    # torchvision's constructor fixes the widths. The layers that differ are built again, with its method.
    model.inplanes = stem
    model.conv1 = nn.Conv2d(in_chans, stem, 7, 2, 3, bias=False)
    model.bn1 = nn.BatchNorm2d(stem)
    for i, (width, count) in enumerate(zip(widths, shape.blocks, strict=True)):
        setattr(model, f"layer{i + 1}", model._make_layer(BasicBlock, width, count, stride=1 if i == 0 else 2))
    model.fc = nn.Linear(features, num_classes)
    # torchvision's initialisation, for the layers that were built again and, harmlessly, for the others once more.
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return cast(nn.Module, model)
