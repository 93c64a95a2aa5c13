"""Torchvision's Faster R-CNN on a network of this package, for users without detectron2.

    model = faster_rcnn("fbnetv3_a", 20, weights="fb")

Backbone, RPN head and box head are the same as in the detectron2 models (`detector_parts.py`). The losses and the sampling
of proposals are torchvision's, and so is the region pooling, which lacks detectron2's half-pixel shift. Images are RGB with
values in 0..1.
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
from fbnetv3.detection.detector_parts import (
    BoxHead,
    RPNHead,
    backbone_depth,
    build_backbone,
    check_halving,
    load_arch,
    load_classifier_weights,
)
from fbnetv3.errors import InputError
from fbnetv3.features import FeatureNet
from fbnetv3.networks.weight_file import WeightFile, check_finite, check_state, load_values
from fbnetv3.transforms import IMAGENET_MEAN, IMAGENET_STD

# Anchor sizes in pixels and aspect ratios: the setting of d2go's public FBNetV3 detectors.
C4_SIZES, RATIOS = (32, 64, 96, 128, 160), (0.5, 1.0, 2.0)
PROPOSALS = 75  # kept at test time, section 4.3
# Inferred, because the paper gives no image size: at 432 x 560 the FLOPs are those of Table 5.
SHORT_SIDE, LONG_SIDE = 432, 720
FPN_FEATURES, FPN_CHANNELS, FPN_SIZES = (
    ("c2", "c3", "c4", "c5"),
    256,
    (32, 64, 128, 256, 512),
)  # torchvision's FPN setting


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
    """Build a Faster R-CNN with the conv4 (C4) backbone of section 4.3, or with a feature pyramid network (FPN).

    Args:
        arch: an architecture, a model name, or the path of a pair file.
        num_classes: number of classes without the background, which torchvision adds as label 0. Labels are
            1 .. num_classes.
        weights: weights of a classifier with the same stem and stages: a weight file, its path, or what `hub.load_weights`
            takes. They are loaded into backbone and box head (with an FPN: into the backbone only), and images are
            normalised as the classifier's were. None gives fresh weights and ImageNet's mean and standard deviation (std).
        fpn: build a pyramid over strides 4 to 32, with torchvision's RPN head and box head, instead of a C4 detector.
        freeze_at: how much of the backbone is frozen, batch norms included: 0 nothing, 1 the stem, 2 also the first stage,
            and so on.
        min_size: length in pixels to which the shorter side of an image is resized, unless the longer side would exceed
            `max_size`.
        settings: arguments of `torchvision.models.detection.FasterRCNN`. They override the settings made here.

    Raises:
        InputError: a network without stride 16 or, for an FPN, with too little padding; weights of another network; a
            number out of range.
    """
    arch = arch if isinstance(arch, Arch) else load_arch(str(arch))
    if type(num_classes) is not int or num_classes < 1:
        raise InputError(f"num_classes is {num_classes!r}; allowed: whole numbers from 1, background not counted")
    file = None if weights is None else load_classifier_weights(weights, arch)
    state = None if file is None else file.state
    in_chans = 3 if file is None else file.transforms.in_chans
    network, parts = (_fpn_parts if fpn else _c4_parts)(arch, num_classes + 1, in_chans, state)
    freeze(network, freeze_at)
    # Images must be normalised as in the classifier's training, or the loaded statistics of the norms would not fit.
    defaults = {
        "image_mean": IMAGENET_MEAN if file is None else file.transforms.mean,
        "image_std": IMAGENET_STD if file is None else file.transforms.std,
        "rpn_post_nms_top_n_test": PROPOSALS,
    }
    model = FasterRCNN(min_size=min_size, max_size=max_size, **{**defaults, **parts, **settings})
    # The licences of the classifier's weights bind the detector too, so the detector remembers its origins.
    model.derived_from = () if file is None else file.derived_from
    return model


def freeze(network: FeatureNet, freeze_at: int) -> None:
    """Freeze the first `freeze_at` parts of a backbone, its stem and then its stages: parameters and norm statistics.

    Raises:
        InputError: `freeze_at` is negative or larger than the number of parts.
    """
    parts = [network.stem, *network.stages]
    if type(freeze_at) is not int or not 0 <= freeze_at <= len(parts):
        raise InputError(
            f"freeze_at is {freeze_at!r}; allowed: 0 (nothing), 1 (the stem) to {len(parts)} (the whole backbone)"
        )
    for part in parts[:freeze_at]:
        part.requires_grad_(False)
        for module in list(part.modules()):  # a list, because the loop below replaces children
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, _frozen(child))


class Backbone(nn.Module):
    """A backbone whose feature maps are named as in torchvision's, "0" the largest, with an FPN on top if there is one.

    Its attributes `body` and `fpn` are named as in torchvision's `BackboneWithFPN`.
    """

    def __init__(self, body: FeatureNet, fpn: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.fpn = nn.Identity() if fpn is None else fpn
        self.out_channels = body.feature_info.channels()[-1] if fpn is None else FPN_CHANNELS

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps of images [N, in_chans, H, W] by name."""
        maps: dict[str, Tensor] = self.fpn({str(i): x for i, x in enumerate(self.body(x))})
        return maps


class Anchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """Anchors at fixed strides, in pixels.

    Torchvision's generator divides the image's side by the feature map's side to get the stride. That gives 18 for the 7
    locations of the released networks over 128 pixels, because these networks pad by less than half a kernel. Neighbouring
    locations are 16 pixels apart all the same.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], strides: Sequence[int]) -> None:
        super().__init__(tuple(map(tuple, sizes)), (RATIOS,) * len(sizes))
        self.strides = list(strides)

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """Return the boxes [locations x anchors, 4] of every feature map.

        Args:
            strides: what torchvision takes for the strides. Only the device and type of these tensors are used.
        """
        fixed = [
            [torch.full_like(x, stride) for x in guess] for stride, guess in zip(self.strides, strides, strict=True)
        ]
        boxes: list[Tensor] = super().grid_anchors(grid_sizes, fixed)
        return boxes


def _c4_parts(
    arch: Arch, labels: int, in_chans: int, state: Mapping[str, Tensor] | None
) -> tuple[FeatureNet, dict[str, Any]]:
    """Return the backbone's network of a C4 detector, and the arguments of `FasterRCNN` that are made from it."""
    backbone_depth(arch)  # its error says what a C4 detector needs; a missing c4 would only be named
    # Fresh weights are drawn in this order. Another order would give other weights for the same seed.
    network, box_head = build_backbone(arch, in_chans=in_chans), BoxHead(arch)
    if state is not None:
        for part in (network, box_head):
            _load_part(part, state, arch)
    strides = network.feature_info.reduction()
    return network, {
        "backbone": Backbone(network),
        "rpn_anchor_generator": Anchors([C4_SIZES], strides),
        "rpn_head": RPNHead(arch, len(C4_SIZES) * len(RATIOS)),
        "box_roi_pool": _region_pool(strides, 6),
        "box_head": box_head,
        "box_predictor": FastRCNNPredictor(box_head.channels, labels),
    }


def _fpn_parts(
    arch: Arch, labels: int, in_chans: int, state: Mapping[str, Tensor] | None
) -> tuple[FeatureNet, dict[str, Any]]:
    """Return the backbone's network of an FPN detector, and the arguments of `FasterRCNN` that are made from it."""
    check_halving(arch)
    network = build_backbone(arch, FPN_FEATURES, in_chans)
    if state is not None:
        _load_part(network, state, arch)
    info = network.feature_info
    fpn = FeaturePyramidNetwork(info.channels(), FPN_CHANNELS, LastLevelMaxPool())
    # The fifth map is the fourth one, pooled to half its size by `LastLevelMaxPool`.
    strides = [*info.reduction(), 2 * info.reduction()[-1]]
    return network, {
        "backbone": Backbone(network, fpn),
        "num_classes": labels,
        "rpn_anchor_generator": Anchors([(size,) for size in FPN_SIZES], strides),
        "box_roi_pool": _region_pool(info.reduction(), 7),
    }


def _load_part(part: nn.Module, state: Mapping[str, Tensor], arch: Arch) -> None:
    """Load into a part the entries of a classifier's state dict that it has: the names are the same."""
    entries = {key: state[key] for key in part.state_dict() if key in state}
    check_state(entries, part.state_dict(), arch.name)
    check_finite(entries, f"the weights of {arch.name}")
    load_values(part, entries)


def _region_pool(strides: Sequence[int], size: int) -> MultiScaleRoIAlign:
    """Return a pooling of regions to `size` x `size` from feature maps of these strides.

    Torchvision would compute the scales from the first image that it sees, and get wrong ones from a small image. So the
    scales are set here.
    """
    pool = MultiScaleRoIAlign([str(i) for i in range(len(strides))], size, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    # LevelMapper takes log2 of the smallest and the largest stride: bit_length is log2 + 1 for a power of 2.
    pool.map_levels = LevelMapper(strides[0].bit_length() - 1, strides[-1].bit_length() - 1)
    return pool


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    """Return a frozen batch norm with the weights and statistics of `norm`."""
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps).to(norm.weight)
    frozen.load_state_dict(norm.state_dict())
    return frozen
