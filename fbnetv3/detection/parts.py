"""A network cut for Faster R-CNN with the conv4 (C4) backbone: trunk, RPN rows, box head. Needs torch alone.

The trunk is the stem and the stages down to stride 16, the box head the stages after it, global average pooling at its
end; the RPN has the trunk's last row once more, with as many repeats. So the four networks of Table 5 are built (after the
public code of facebookresearch/d2go; the paper only says "conv4 (C4) backbone"), and so any other is cut.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from torch import Tensor, nn

from fbnetv3.arch import Arch, find_arch, same_padding
from fbnetv3.errors import InputError
from fbnetv3.features import FeatureNet, feature_info
from fbnetv3.hub.load import load_weights
from fbnetv3.hub.registry import read_registry
from fbnetv3.model import build_model, build_stage, initialise
from fbnetv3.pair_file import load_pair
from fbnetv3.weight_file import WeightFile, read_tensors

C4_STRIDE = 16


def detection_arch(name: str) -> Arch:
    """The architecture that a model name or a pair file means.

    Raises:
        InputError: no such model or file.
    """
    return load_pair(Path(name)).arch if name.endswith((".yaml", ".yml")) else find_arch(name)


def trunk_stages(arch: Arch) -> int:
    """How many stages the trunk has.

    Raises:
        InputError: no stage ends at stride 16, or none follows.
    """
    info = feature_info(arch)
    depth = dict(zip(info.reduction(), info.depths(), strict=True)).get(C4_STRIDE, 0)
    if depth in (0, len(arch.stages)):
        raise InputError(
            f"{arch.name} has stages of strides {', '.join(map(str, info.reduction()))}; a C4 detector needs one that ends "
            f"at stride {C4_STRIDE} and one after it"
        )
    return depth


def level_names(arch: Arch) -> list[str]:
    """A name for every map of `feature_info(arch)`: c1 has stride 2, c4 stride 16."""
    return [f"c{round(math.log2(reduction))}" for reduction in feature_info(arch).reduction()]


def build_trunk(arch: Arch, levels: list[str] | tuple[str, ...] = ("c4",), in_chans: int = 3) -> FeatureNet:
    """Stem and stages up to the deepest of `levels`; gives the maps in the order of the levels, `FeatureNet`'s names.

    Raises:
        InputError: a level that the network does not have.
    """
    names = level_names(arch)
    for level in levels:
        if level not in names:
            raise InputError(f"{arch.name} has no map {level!r}; available: {', '.join(names)}")
    return build_model(arch, 0, in_chans, features_only=True, out_indices=[names.index(level) for level in levels])


class RPNRows(nn.Module):
    """The RPN's rows and its two 1x1 convolutions: objectness, and four box coordinates, for every anchor of a place."""

    def __init__(self, arch: Arch, anchors: int) -> None:
        super().__init__()
        row = dataclasses.replace(arch.stages[trunk_stages(arch) - 1][-1], s=1)
        self.rows = build_stage([row], row.c)
        initialise(self.rows)  # the public code starts residual branches at one, this at zero, as the classifiers
        self.objectness = nn.Conv2d(row.c, anchors, 1)
        self.boxes = nn.Conv2d(row.c, 4 * anchors, 1)
        for conv in (self.objectness, self.boxes):  # as detectron2 and torchvision have it
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps [N, C, H, W] to logits [N, anchors, H, W] and coordinates [N, 4 x anchors, H, W], map by map."""
        hidden = [self.rows(x) for x in features]
        return [self.objectness(x) for x in hidden], [self.boxes(x) for x in hidden]


class BoxRows(nn.Module):
    """The stages after the trunk on pooled regions [N, C, R, R], then the global average [N, `channels`].

    The weights of `stages` have the network's own names.
    """

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        network = build_model(arch, 0)
        self.stages = network.stages[trunk_stages(arch) :]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.channels = arch.rows[-1].c

    def forward(self, x: Tensor) -> Tensor:
        """One vector for every region."""
        return self.pool(self.stages(x)).flatten(1)  # type: ignore[no-any-return]


def check_aligned(arch: Arch) -> None:
    """Raise `InputError` unless every map is half the one before, as an FPN needs it.

    Some released networks pad less than half a kernel; their `same_padding` variants take the same weights.
    """
    if any(row.padding != row.k // 2 for row in arch.rows):
        raise InputError(
            f"{arch.name} pads some rows by less than half their kernel, so that its maps do not halve, which an FPN needs; "
            f"give {arch.name}_same_padding, which takes the same weights, or a C4 detector"
        )


def classification_weights(weights: WeightFile | str | Path, arch: Arch) -> WeightFile:
    """Weights of a classifier of the same rows, whatever its resolution, head and classes.

    Weights of a released network also fit its `same_padding` variant: the same shapes, though another function.

    Args:
        weights: a weight file, its path, or what `hub.load.load_weights` takes: a registered source, a path or a URL.

    Raises:
        InputError: weights of another network, or what `load_weights` raises.
    """
    if isinstance(weights, WeightFile):
        file = weights
    elif Path(weights).is_file() and read_tensors(weights)[1] is not None:  # it says itself what it is for
        file = load_weights(None, weights)
    else:
        registry, name = read_registry(), arch.name.removesuffix("_same_padding")
        if not registry.of(name) and weights in {row.source for row in registry.rows}:
            raise InputError(f"there are no registered weights of {arch.name}; give a weight file of a training of it")
        file = load_weights(name if registry.of(name) else arch, weights)
    if arch.stem != file.arch.stem or arch.stages not in (file.arch.stages, same_padding(file.arch).stages):
        raise InputError(
            f"these are weights of {file.arch.name}, another network than {arch.name}; give those of its rows"
        )
    return file
