"""FBNetV3 in detectron2: importing this module registers backbones, an RPN head and a box head under these config keys.

    build_fbnetv3_c4_backbone, build_fbnetv3_fpn_backbone   MODEL.BACKBONE.NAME
    FBNetV3RPNHead                                          MODEL.RPN.HEAD_NAME
    FBNetV3BoxHead                                          MODEL.ROI_BOX_HEAD.NAME

All of them read `MODEL.FBNETV3` (see `config.py`). The feature maps of a backbone are c1 (stride 2) to c5 (stride 32), those
of an FPN p2 to p6.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ROI_BOX_HEAD_REGISTRY, RPN_HEAD_REGISTRY, Backbone, build_model
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor, nn

from fbnetv3.arch import Arch
from fbnetv3.counts import check_seed
from fbnetv3.detection.detector_parts import BoxHead, RPNHead, build_backbone, check_halving, load_arch
from fbnetv3.errors import InputError
from fbnetv3.training.engine import seeded

NORMS = ("BN", "SyncBN", "naiveSyncBN", "FrozenBN")


def build_detector(cfg: CfgNode) -> nn.Module:
    """Build the model of a config on its device, with fresh weights drawn from torch's global generator.

    Raises:
        InputError: an unknown architecture, feature map, norm, device or part, or a network that cannot be split.
    """
    # Tried out first, because detectron2 builds the whole model before it moves it to the device.
    try:
        torch.zeros(1, device=cfg.MODEL.DEVICE)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises an AssertionError
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the device {cfg.MODEL.DEVICE} of MODEL.DEVICE cannot be used ({reason}); give cpu, or a device of this machine"
        ) from None
    try:
        model: nn.Module = build_model(cfg)
    except KeyError as error:  # detectron2 raises this for an unknown name or feature map
        raise InputError(
            f"the config names something that does not exist: {error.args[0]}; IN_FEATURES of MODEL.RPN, ROI_HEADS and FPN "
            "must be feature maps of the backbone, which MODEL.FBNETV3.OUT_FEATURES lists, here "
            f"{', '.join(cfg.MODEL.FBNETV3.OUT_FEATURES)}"
        ) from error
    except InputError:
        raise
    except Exception as error:  # assertions and more, about values that its parts do not take
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"detectron2 cannot build this model ({words}); correct the config") from error
    return model


def build_seeded(cfg: CfgNode) -> nn.Module:
    """Build the model of a config with fresh weights drawn from `SEED`, and leave torch's global generator as it is.

    Raises:
        InputError: as `build_detector`.
    """
    return seeded(lambda: build_detector(cfg), seed_of(cfg))


def seed_of(cfg: CfgNode) -> int:
    """Return the seed of a config. detectron2's default of -1 means a random seed there, and 0 here.

    Raises:
        InputError: it is too large.
    """
    return check_seed(max(int(cfg.SEED), 0))


def convert_norms(module: Any, norm: str, device: str = "cpu") -> Any:
    """Return `module` with its batch norms converted to the kind `norm`, a value of `MODEL.FBNETV3.NORM`.

    `BN` leaves them as they are. `FrozenBN` fixes their statistics and weights. `SyncBN` is torch's synchronised norm on
    CUDA, and detectron2's naive one on other devices, which torch's does not support. `naiveSyncBN` is detectron2's on every
    device.

    Raises:
        InputError: an unknown kind.
    """
    if norm not in NORMS:
        raise InputError(f"MODEL.FBNETV3.NORM is {norm!r}; allowed: {', '.join(NORMS)}")
    if norm == "FrozenBN":
        return FrozenBatchNorm2d.convert_frozen_batchnorm(module)
    if norm == "SyncBN" and device.startswith("cuda"):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if norm != "BN":
        norms: list[Any] = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
        for part in norms:
            # The two classes have the same fields and differ in their forward, so the class alone is exchanged.
            part.__class__ = NaiveSyncBatchNorm
            # Mode "N" weights each process by its batch: the box heads of two processes see different numbers of regions.
            part._stats_mode = "N"
    return module


class FBNetV3Backbone(Backbone):  # type: ignore[misc]  # detectron2 has no types
    """The stem and stages of a network that compute the named feature maps; weights have the network's names.

    Args:
        features: names of the feature maps, c1 to c5.
        freeze_at: how much is frozen, counted as in detectron2's ResNet: 0 nothing, 1 the stem, 2 also the first stage, and
            so on. Frozen parts keep their weights, and by `FrozenBatchNorm2d` their statistics.

    Raises:
        InputError: an unknown feature map or norm, or `freeze_at` out of range.
    """

    def __init__(self, arch: Arch, features: list[str], freeze_at: int, norm: str, device: str, in_chans: int) -> None:
        super().__init__()
        network = build_backbone(arch, features, in_chans)
        self.arch = arch
        self.features = list(features)
        self.depths = network.depths
        self.stem = convert_norms(network.stem, norm, device)
        self.stages = convert_norms(network.stages, norm, device)
        # detectron2's base class reads these three attributes.
        self._out_features = list(features)
        self._out_feature_channels = dict(zip(features, network.feature_info.channels(), strict=True))
        self._out_feature_strides = dict(zip(features, network.feature_info.reduction(), strict=True))
        if not 0 <= freeze_at <= 1 + len(self.stages):
            raise InputError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}; allowed: 0 to {1 + len(self.stages)}")
        if freeze_at:
            self.stem = _frozen(self.stem)
        for i in range(freeze_at - 1):
            self.stages[i] = _frozen(self.stages[i])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps of images [N, C, H, W] by their names."""
        x = self.stem(x)
        maps = [x]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return {feature: maps[depth] for feature, depth in zip(self.features, self.depths, strict=True)}


def _frozen(module: nn.Module) -> Any:
    """Return a module whose weights and batch norm statistics no longer change."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    return FrozenBatchNorm2d.convert_frozen_batchnorm(module)


def build_fbnetv3_c4_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FBNetV3Backbone:
    """Build the backbone of `MODEL.FBNETV3.ARCH` with the feature maps `MODEL.FBNETV3.OUT_FEATURES`.

    Raises:
        InputError: an unknown architecture or feature map.
    """
    node = cfg.MODEL.FBNETV3
    features, freeze_at = list(node.OUT_FEATURES), cfg.MODEL.BACKBONE.FREEZE_AT
    return FBNetV3Backbone(load_arch(node.ARCH), features, freeze_at, node.NORM, cfg.MODEL.DEVICE, input_shape.channels)


def build_fbnetv3_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build detectron2's FPN on the feature maps `MODEL.FPN.IN_FEATURES`, which `MODEL.FBNETV3.OUT_FEATURES` must contain.

    Raises:
        InputError: as `build_fbnetv3_c4_backbone`, or a network whose feature maps do not halve.
    """
    bottom_up = build_fbnetv3_c4_backbone(cfg, input_shape)
    check_halving(bottom_up.arch)
    features, channels = cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(bottom_up, features, channels, cfg.MODEL.FPN.NORM, LastLevelMaxPool(), cfg.MODEL.FPN.FUSE_TYPE)


class FBNetV3RPNHead(RPNHead):
    """The RPN head of `MODEL.FBNETV3.ARCH`, for its feature map c4."""

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, *, arch: Arch, anchors: int, norm: str, device: str) -> None:
        super().__init__(arch, anchors)
        self.rows = convert_norms(self.rows, norm, device)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of `__init__` that a config gives.

        Raises:
            InputError: `MODEL.RPN.IN_FEATURES` is not c4 alone.
        """
        node, names = cfg.MODEL.FBNETV3, list(cfg.MODEL.RPN.IN_FEATURES)
        # Other feature maps have other channels: the detector would be built, and fail at its first image.
        if names != ["c4"]:
            raise InputError(
                f"FBNetV3RPNHead takes the feature map c4, not {', '.join(names)}; use StandardRPNHead for other maps"
            )
        # The generator knows how many anchors the config's sizes and ratios make. It has one number per feature map.
        anchors = build_anchor_generator(cfg, input_shape).num_anchors[0]
        return {"arch": load_arch(node.ARCH), "anchors": anchors, "norm": node.NORM, "device": cfg.MODEL.DEVICE}


class FBNetV3BoxHead(BoxHead):
    """The box head of `MODEL.FBNETV3.ARCH`, for regions of its feature map c4."""

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, *, arch: Arch, norm: str, device: str) -> None:
        super().__init__(arch)
        self.stages = convert_norms(self.stages, norm, device)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of `__init__` that a config gives.

        Raises:
            InputError: `MODEL.ROI_HEADS.IN_FEATURES` is not c4 alone.
        """
        node, names = cfg.MODEL.FBNETV3, list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
        if names != ["c4"]:
            raise InputError(
                f"FBNetV3BoxHead takes the feature map c4, not {', '.join(names)}; use FastRCNNConvFCHead for other maps"
            )
        return {"arch": load_arch(node.ARCH), "norm": node.NORM, "device": cfg.MODEL.DEVICE}

    @property
    def output_shape(self) -> ShapeSpec:
        """The shape of a region's vector, from which detectron2 builds the box predictor."""
        return ShapeSpec(channels=self.channels)


# Registered by calls instead of decorators, because decorators without types would hide the signatures above from mypy.
BACKBONE_REGISTRY.register(build_fbnetv3_c4_backbone)
BACKBONE_REGISTRY.register(build_fbnetv3_fpn_backbone)
RPN_HEAD_REGISTRY.register(FBNetV3RPNHead)
ROI_BOX_HEAD_REGISTRY.register(FBNetV3BoxHead)
