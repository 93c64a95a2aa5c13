"""Torchvision's Faster R-CNN on a network of this package, for users without detectron2.

    model = faster_rcnn("fbnetv3_a", 20, weights="fb")

The parts are those of the detectron2 models (`cut.py`); what torchvision does itself is its own: losses, sampling of
proposals, and a region pooling without detectron2's half-pixel shift. Images are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import LevelMapper

from fbnetv3.arch import Arch
from fbnetv3.detection.parts import (
    BoxRows,
    RPNRows,
    build_trunk,
    check_aligned,
    classification_weights,
    detection_arch,
    trunk_stages,
)
from fbnetv3.errors import InputError
from fbnetv3.features import FeatureNet
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD
from fbnetv3.weight_file import WeightFile, check_state

C4_SIZES, RATIOS = (32, 64, 96, 128, 160), (0.5, 1.0, 2.0)  # of anchors, in pixels: d2go's public FBNetV3 setting
PROPOSALS = 75  # at test: section 4.3
SHORT_SIDE, LONG_SIDE = 432, 720  # inferred: the paper gives no size, Table 5's costs come out at 432x560
FPN_LEVELS, FPN_CHANNELS, FPN_SIZES = ("c2", "c3", "c4", "c5"), 256, (32, 64, 128, 256, 512)  # as torchvision's own


def faster_rcnn(
    arch: Arch | str | Path,
    num_classes: int,
    *,
    weights: WeightFile | str | Path | None = None,
    fpn: bool = False,
    freeze_at: int = 0,
    min_size: int = SHORT_SIDE,
    max_size: int = LONG_SIDE,
    **settings: Any,
) -> FasterRCNN:
    """Faster R-CNN with the conv4 (C4) backbone, as in section 4.3, or with a feature pyramid (FPN).

    Args:
        arch: an architecture, a model name or a pair file.
        num_classes: without background, which torchvision adds as label 0: labels are 1 .. num_classes.
        weights: of a classifier of these rows, what `cut.classification_weights` takes, loaded into trunk and box head
            (FPN: trunk only); images are normalised as theirs were. None: fresh weights, ImageNet's mean and deviation.
        fpn: pyramid over strides 4 to 32, with torchvision's RPN and box head, instead of C4.
        freeze_at: how much of the trunk learns nothing, batch norm included: 0 nothing, 1 the stem, 2 the first stage too, ...
        min_size: shorter side that images are resized to, in pixels, unless the longer one would exceed `max_size`.
        settings: of `torchvision.models.detection.FasterRCNN`; they win over those made here.

    Raises:
        InputError: the network has no suitable strides, or pads too little for an FPN; weights of another network; a count
            out of range.
    """
    arch = arch if isinstance(arch, Arch) else detection_arch(str(arch))
    if type(num_classes) is not int or num_classes < 1:
        raise InputError(f"num_classes is {num_classes!r}; allowed: whole numbers from 1, background not counted")
    file = None if weights is None else classification_weights(weights, arch)
    state = None if file is None else file.state
    in_chans = 3 if file is None else file.transforms.in_chans
    trunk, parts = (_fpn_parts if fpn else _c4_parts)(arch, num_classes + 1, in_chans, state)
    freeze(trunk, freeze_at)
    made = {
        "image_mean": IMAGENET_MEAN if file is None else file.transforms.mean,
        "image_std": IMAGENET_STD if file is None else file.transforms.std,
        "rpn_post_nms_top_n_test": PROPOSALS,
    }
    model = FasterRCNN(min_size=min_size, max_size=max_size, **{**made, **parts, **settings})
    model.derived_from = () if file is None else file.derived_from  # whose licences bind the detector too
    return model


def freeze(trunk: FeatureNet, freeze_at: int) -> None:
    """Keep the first `freeze_at` of stem and stages as they are: their parameters learn nothing, their norms are fixed.

    Raises:
        InputError: more than there are.
    """
    parts = [trunk.stem, *trunk.stages]
    if type(freeze_at) is not int or not 0 <= freeze_at <= len(parts):
        raise InputError(f"freeze_at is {freeze_at!r}; allowed: 0 (nothing), 1 (the stem) to {len(parts)} (the trunk)")
    for part in parts[:freeze_at]:
        part.requires_grad_(False)
        for module in list(part.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, _frozen(child))


class Backbone(nn.Module):
    """The trunk's maps under the names that torchvision gives maps, "0" the finest, through a pyramid if there is one."""

    def __init__(self, trunk: FeatureNet, pyramid: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.pyramid = nn.Identity() if pyramid is None else pyramid
        self.out_channels = trunk.feature_info.channels()[-1] if pyramid is None else FPN_CHANNELS

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images [N, in_chans, H, W] to maps."""
        return self.pyramid({str(i): x for i, x in enumerate(self.trunk(x))})  # type: ignore[no-any-return]


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors at given strides, in pixels.

    Torchvision divides the image's side by the map's, which gives 18 for the released networks' 7 places over 128 pixels,
    as they pad less than half a kernel; a place stands for 16 all the same.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], strides: Sequence[int]) -> None:
        super().__init__(tuple(map(tuple, sizes)), (RATIOS,) * len(sizes))
        self.strides = list(strides)

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """Boxes [places x anchors, 4] of every map; `strides`, torchvision's guess, only says where tensors live."""
        own = [[torch.full_like(x, stride) for x in guess] for stride, guess in zip(self.strides, strides, strict=True)]
        return super().grid_anchors(grid_sizes, own)  # type: ignore[no-any-return]


def _c4_parts(
    arch: Arch, labels: int, in_chans: int, state: Mapping[str, Tensor] | None
) -> tuple[FeatureNet, dict[str, Any]]:
    trunk_stages(arch)  # says what is wrong better than a missing map
    trunk, box_head = build_trunk(arch, in_chans=in_chans), BoxRows(arch)
    if state is not None:
        for part in (trunk, box_head):
            _fill(part, state, arch)
    strides = trunk.feature_info.reduction()
    return trunk, {
        "backbone": Backbone(trunk),
        "rpn_anchor_generator": Anchors([C4_SIZES], strides),
        "rpn_head": RPNRows(arch, len(C4_SIZES) * len(RATIOS)),
        "box_roi_pool": _pool(strides, 6),
        "box_head": box_head,
        "box_predictor": FastRCNNPredictor(box_head.channels, labels),
    }


def _fpn_parts(
    arch: Arch, labels: int, in_chans: int, state: Mapping[str, Tensor] | None
) -> tuple[FeatureNet, dict[str, Any]]:
    check_aligned(arch)
    trunk = build_trunk(arch, FPN_LEVELS, in_chans)
    if state is not None:
        _fill(trunk, state, arch)
    info = trunk.feature_info
    pyramid = FeaturePyramidNetwork(info.channels(), FPN_CHANNELS, LastLevelMaxPool())
    return trunk, {
        "backbone": Backbone(trunk, pyramid),
        "num_classes": labels,
        "rpn_anchor_generator": Anchors([(size,) for size in FPN_SIZES], [*info.reduction(), 2 * info.reduction()[-1]]),
        "box_roi_pool": _pool(info.reduction(), 7),
    }


def _fill(part: nn.Module, state: Mapping[str, Tensor], arch: Arch) -> None:
    """Load of a classifier's weights those of a part, which has the classifier's names."""
    own = {key: state[key] for key in part.state_dict() if key in state}
    check_state(own, part.state_dict(), arch.name)
    part.load_state_dict(own)


def _pool(strides: Sequence[int], size: int) -> MultiScaleRoIAlign:
    """Regions to `size` x `size`. Torchvision would guess the scales from the first images it sees, wrongly from small ones."""
    pool = MultiScaleRoIAlign([str(i) for i in range(len(strides))], size, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = LevelMapper(strides[0].bit_length() - 1, strides[-1].bit_length() - 1)
    return pool


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps).to(norm.weight)
    frozen.load_state_dict(norm.state_dict())
    return frozen
