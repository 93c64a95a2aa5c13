"""FBNetV3 in detectron2: importing this module registers its backbones, RPN head and box head.

    build_fbnetv3_c4_backbone, build_fbnetv3_fpn_backbone   MODEL.BACKBONE.NAME
    FBNetV3RPNHead                                          MODEL.RPN.HEAD_NAME
    FBNetV3BoxHead                                          MODEL.ROI_BOX_HEAD.NAME

All read `MODEL.FBNETV3` (see `config.py`). A backbone's maps are c1 (stride 2) to c5 (stride 32), an FPN's p2 to p6.
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
from fbnetv3.detection.parts import BoxRows, RPNRows, build_trunk, check_aligned, detection_arch
from fbnetv3.errors import InputError

NORMS = ("BN", "SyncBN", "naiveSyncBN", "FrozenBN")


def build_detector(cfg: CfgNode) -> nn.Module:
    """The model of a config on its device, with fresh weights from torch's global generator.

    Raises:
        InputError: unknown architecture, map, norm, device or name of a part, or a network that cannot be cut so.
    """
    try:
        torch.zeros(1, device=cfg.MODEL.DEVICE)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"MODEL.DEVICE {cfg.MODEL.DEVICE} cannot be used ({reason}); give cpu, or one of this machine"
        ) from None
    try:
        model: nn.Module = build_model(cfg)
    except KeyError as error:  # detectron2's answer to a name or map that is not there
        raise InputError(
            f"the config names something that is not there: {error.args[0]}; IN_FEATURES of MODEL.RPN, ROI_HEADS and FPN are "
            f"maps of the backbone, which MODEL.FBNETV3.OUT_FEATURES names, here {', '.join(cfg.MODEL.FBNETV3.OUT_FEATURES)}"
        ) from error
    return model


def convert_norms(module: nn.Module, norm: str, device: str = "cpu") -> Any:
    """`module` with its batch norms turned into those of `norm`: BN leaves them, FrozenBN fixes their statistics.

    SyncBN is torch's on CUDA, and detectron2's naive one elsewhere, which torch's refuses; naiveSyncBN is that one anywhere.

    Raises:
        InputError: another norm.
    """
    if norm not in NORMS:
        raise InputError(f"MODEL.FBNETV3.NORM is {norm!r}; allowed: {', '.join(NORMS)}")
    if norm == "FrozenBN":
        return FrozenBatchNorm2d.convert_frozen_batchnorm(module)
    if norm == "SyncBN" and device.startswith("cuda"):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if norm != "BN":
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.__class__ = NaiveSyncBatchNorm  # same fields, another forward
                part._stats_mode = "N"  # type: ignore[assignment]  # processes have different numbers of regions
    return module


class FBNetV3Backbone(Backbone):  # type: ignore[misc]
    """The trunk of a network with the maps named; its weights have the network's own names.

    `freeze_at` as detectron2's ResNet has it: 0 freezes nothing, 1 the stem, 2 the stem and the first stage, and so on.
    Frozen are weights and, by `FrozenBatchNorm2d`, statistics.
    """

    def __init__(self, arch: Arch, levels: list[str], freeze_at: int, norm: str, device: str, in_chans: int) -> None:
        super().__init__()
        trunk = build_trunk(arch, levels, in_chans)
        self.arch = arch
        self.levels = list(levels)
        self.depths = trunk.depths
        self.stem = convert_norms(trunk.stem, norm, device)
        self.stages = convert_norms(trunk.stages, norm, device)
        self._out_features = list(levels)
        self._out_feature_channels = dict(zip(levels, trunk.feature_info.channels(), strict=True))
        self._out_feature_strides = dict(zip(levels, trunk.feature_info.reduction(), strict=True))
        if not 0 <= freeze_at <= 1 + len(self.stages):
            raise InputError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}; allowed: 0 to {1 + len(self.stages)}")
        if freeze_at:
            self.stem = _frozen(self.stem)
        for i in range(freeze_at - 1):
            self.stages[i] = _frozen(self.stages[i])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images [N, C, H, W] to maps by name."""
        x = self.stem(x)
        maps = [x]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return {level: maps[depth] for level, depth in zip(self.levels, self.depths, strict=True)}


def _frozen(module: nn.Module) -> Any:
    for parameter in module.parameters():
        parameter.requires_grad = False
    return FrozenBatchNorm2d.convert_frozen_batchnorm(module)


@BACKBONE_REGISTRY.register()  # type: ignore[untyped-decorator]
def build_fbnetv3_c4_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FBNetV3Backbone:
    """The backbone of `MODEL.FBNETV3.ARCH` with the maps `MODEL.FBNETV3.OUT_FEATURES`.

    Raises:
        InputError: unknown architecture or map.
    """
    node = cfg.MODEL.FBNETV3
    levels, frozen = list(node.OUT_FEATURES), cfg.MODEL.BACKBONE.FREEZE_AT
    arch = detection_arch(node.ARCH)
    return FBNetV3Backbone(arch, levels, frozen, node.NORM, cfg.MODEL.DEVICE, input_shape.channels)


@BACKBONE_REGISTRY.register()  # type: ignore[untyped-decorator]
def build_fbnetv3_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """detectron2's FPN on `MODEL.FPN.IN_FEATURES`, which `MODEL.FBNETV3.OUT_FEATURES` must have.

    Raises:
        InputError: a network whose maps do not halve (see `cut.check_aligned`), or as above.
    """
    bottom_up = build_fbnetv3_c4_backbone(cfg, input_shape)
    check_aligned(bottom_up.arch)
    features, channels = cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(bottom_up, features, channels, cfg.MODEL.FPN.NORM, LastLevelMaxPool(), cfg.MODEL.FPN.FUSE_TYPE)


@RPN_HEAD_REGISTRY.register()  # type: ignore[misc]
class FBNetV3RPNHead(RPNRows):
    """`cut.RPNRows` of `MODEL.FBNETV3.ARCH` on its c4 map."""

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, *, arch: Arch, anchors: int, norm: str, device: str) -> None:
        super().__init__(arch, anchors)
        self.rows = convert_norms(self.rows, norm, device)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """The arguments of a config."""
        node, arch = cfg.MODEL.FBNETV3, detection_arch(cfg.MODEL.FBNETV3.ARCH)
        names = list(cfg.MODEL.RPN.IN_FEATURES)
        if names != ["c4"]:
            raise InputError(f"FBNetV3RPNHead takes the map c4, not {', '.join(names)}; use StandardRPNHead for others")
        counts = build_anchor_generator(cfg, input_shape).num_anchors
        return {"arch": arch, "anchors": counts[0], "norm": node.NORM, "device": cfg.MODEL.DEVICE}


@ROI_BOX_HEAD_REGISTRY.register()  # type: ignore[misc]
class FBNetV3BoxHead(BoxRows):
    """`cut.BoxRows` of `MODEL.FBNETV3.ARCH`."""

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, *, arch: Arch, norm: str, device: str) -> None:
        super().__init__(arch)
        self.stages = convert_norms(self.stages, norm, device)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """The arguments of a config."""
        node, arch = cfg.MODEL.FBNETV3, detection_arch(cfg.MODEL.FBNETV3.ARCH)
        names = list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
        if names != ["c4"]:
            raise InputError(
                f"FBNetV3BoxHead takes the map c4, not {', '.join(names)}; use FastRCNNConvFCHead for others"
            )
        return {"arch": arch, "norm": node.NORM, "device": cfg.MODEL.DEVICE}

    @property
    def output_shape(self) -> ShapeSpec:
        """The vector of a region."""
        return ShapeSpec(channels=self.channels)
