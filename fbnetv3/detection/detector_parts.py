"""Parts of a Faster R-CNN that come from a network of this package: backbone, RPN head, box head. Needs torch alone.

A detector with the conv4 (C4) backbone splits the network at stride 16. The backbone is the stem and the stages down to
stride 16. The RPN head is another copy of the backbone's last row. The box head is the stages after stride 16, followed by
global average pooling. The public code of facebookresearch/d2go splits the four networks of Table 5 in this way; the paper
only says "conv4 (C4) backbone". This module splits every network in the same way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from fbnetv3.arch import Arch, find_arch, same_padding
from fbnetv3.errors import InputError
from fbnetv3.features import FeatureNet, feature_info
from fbnetv3.hub.load import load_weights
from fbnetv3.hub.registry import read_registry
from fbnetv3.model import build_model, build_stage, initialise
from fbnetv3.networks.weight_file import WeightFile, read_tensors
from fbnetv3.pair_file import load_pair

C4_STRIDE = 16


def load_arch(name: str) -> Arch:
    """Return the architecture of a model name or of a pair file.

    Raises:
        InputError: no such model or file.
    """
    return load_pair(Path(name)).arch if name.endswith((".yaml", ".yml")) else find_arch(name)


def backbone_depth(arch: Arch) -> int:
    """Return the number of stages in the C4 backbone: those down to stride 16.

    Raises:
        InputError: no stage ends at stride 16, or no stage follows it.
    """
    # The deepest stage at stride 16: several stages may end there.
    info = feature_info(arch)
    depth = dict(zip(info.reduction(), info.depths(), strict=True)).get(C4_STRIDE, 0)
    if depth in (0, len(arch.stages)):
        raise InputError(
            f"{arch.name} has stages of strides {', '.join(map(str, info.reduction()))}; a C4 detector needs one that ends "
            f"at stride {C4_STRIDE} and one after it"
        )
    return depth


def feature_names(arch: Arch) -> list[str]:
    """Return a name for every feature map of `feature_info(arch)`: c1 has stride 2, c4 has stride 16."""
    return [f"c{round(math.log2(reduction))}" for reduction in feature_info(arch).reduction()]


def build_backbone(arch: Arch, features: Sequence[str] = ("c4",), in_chans: int = 3) -> FeatureNet:
    """Build the stem and the stages up to the deepest of the named feature maps, which it returns in the order given.

    Its weights have the names that they have in the network.

    Raises:
        InputError: a feature map that the network does not have.
    """
    names = feature_names(arch)
    for feature in features:
        if feature not in names:
            raise InputError(f"{arch.name} has no feature map {feature!r}; available: {', '.join(names)}")
    return build_model(arch, 0, in_chans, features_only=True, out_indices=[names.index(name) for name in features])


class RPNHead(nn.Module):
    """The RPN's hidden blocks, then one 1x1 convolution for objectness and one for four box coordinates per anchor.

    The hidden blocks are another copy of the backbone's last row, with stride 1 and as many repeats.

    Args:
        anchors: number of anchors per location.
    """

    def __init__(self, arch: Arch, anchors: int) -> None:
        super().__init__()
        row = dataclasses.replace(arch.stages[backbone_depth(arch) - 1][-1], s=1)
        # The attribute names are part of the keys in saved weights, so they must not change.
        self.rows = build_stage([row], row.c)
        # Residual branches start at zero here, as in the classifiers. The public code starts them at one.
        initialise(self.rows)
        self.objectness = nn.Conv2d(row.c, anchors, 1)
        self.boxes = nn.Conv2d(row.c, 4 * anchors, 1)
        for conv in (self.objectness, self.boxes):  # the initialisation of detectron2 and torchvision
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return for each feature map [N, C, H, W] logits [N, anchors, H, W] and box coordinates [N, 4 x anchors, H, W]."""
        hidden = [self.rows(x) for x in features]
        return [self.objectness(x) for x in hidden], [self.boxes(x) for x in hidden]


class BoxHead(nn.Module):
    """The stages after the C4 backbone and global average pooling: one vector of `channels` numbers per region.

    The weights of `stages` have the names that they have in the network.
    """

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        network = build_model(arch, 0)
        # A slice of the network's stages keeps their numbers, so that a classifier's weights load without renaming.
        self.stages = network.stages[backbone_depth(arch) :]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.channels = arch.rows[-1].c

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors [N, channels] of pooled regions [N, C, R, R]."""
        pooled: Tensor = self.pool(self.stages(x))
        return pooled.flatten(1)


def check_halving(arch: Arch) -> None:
    """Raise `InputError` unless every feature map is half as large as the one before, which an FPN needs.

    Some released networks pad by less than half a kernel, so that their feature maps are smaller than half. Their
    `same_padding` variants take the same weights.
    """
    if any(row.padding != row.k // 2 for row in arch.rows):
        raise InputError(
            f"{arch.name} pads some rows by less than half their kernel, so that its feature maps do not halve as an FPN "
            f"needs it; give {arch.name}_same_padding, which takes the same weights, or a C4 detector"
        )


def load_classifier_weights(weights: WeightFile | str | Path, arch: Arch) -> WeightFile:
    """Return the weights of a classifier with the same stem and stages as `arch`; resolution, head and classes may differ.

    Weights of a released network are also accepted for its `same_padding` variant: the shapes are the same, although the
    variant computes another function.

    Args:
        weights: a weight file, its path, or what `hub.load_weights` takes: a registered source, a path or a URL.

    Raises:
        InputError: weights of another network, or an error of `hub.load_weights`.
    """
    if isinstance(weights, WeightFile):
        file = weights
    elif Path(weights).is_file() and read_tensors(weights)[1] is not None:  # the file itself names its network
        file = load_weights(None, weights)
    else:
        # Registered weights are listed under the name of the released network, not under that of its variant.
        registry, name = read_registry(), arch.name.removesuffix("_same_padding")
        if not registry.rows_of(name) and weights in {row.source for row in registry.rows}:
            raise InputError(
                f"there are no registered weights of {arch.name}; give a weight file of a classifier trained with it"
            )
        file = load_weights(name if registry.rows_of(name) else arch, weights)
    blocks = file.blocks
    if arch.stem != blocks.stem or arch.stages not in (blocks.stages, same_padding(blocks).stages):
        raise InputError(
            f"these are weights of {blocks.name}, which is another network than {arch.name}; give weights of {arch.name}"
        )
    return file
