"""Feature maps at every resolution, for detection and segmentation: which there are, and a network that returns them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError
from fbnetv3.layers import Stage, python_only


class FeatureInfo(list[dict[str, Any]]):
    """What is known of feature maps, in order: dicts of `num_chs`, `reduction` (product of strides) and `module`."""

    def channels(self) -> list[int]:
        """Channels of every map."""
        return [info["num_chs"] for info in self]

    def reduction(self) -> list[int]:
        """How many pixels of the image's side one of every map's side stands for."""
        return [info["reduction"] for info in self]

    def module_name(self) -> list[str]:
        """Name of the module in the network whose output every map is."""
        return [info["module"] for info in self]

    def depths(self) -> list[int]:
        """Place of every map's module in the network: 0 is the stem, 1 the first stage."""
        return [0 if name == "stem" else 1 + int(name.removeprefix("stages.")) for name in self.module_name()]


def feature_info(arch: Arch) -> FeatureInfo:
    """One map for each resolution at which the stem or a stage of `arch` ends: the deepest.

    A map's side is the image's divided by the reduction and rounded up, or a little less where a row pads by less than
    half its kernel (as the released A, B, C, E and F do at reductions 16 and 32).
    """
    reduction = arch.stem.s
    deepest = {reduction: {"num_chs": arch.stem.c, "reduction": reduction, "module": "stem"}}
    for i, rows in enumerate(arch.stages):
        reduction *= math.prod(row.s for row in rows)
        deepest[reduction] = {"num_chs": rows[-1].c, "reduction": reduction, "module": f"stages.{i}"}
    return FeatureInfo(deepest.values())


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Indices of chosen maps, counted from the first of `count`.

    Args:
        indices: negative ones count from the last; a number n means the last n maps, None all.

    Raises:
        InputError: out of range, or none at all.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 1 <= indices <= count:
            raise InputError(f"out_indices is {indices}; allowed: the last 1 to {count} maps, or a list of indices")
        return list(range(count - indices, count))
    if not indices or not all(-count <= i < count for i in indices):
        raise InputError(f"out_indices is {list(indices)}; allowed: one or more of {-count} to {count - 1}")
    return [i % count for i in indices]


class FeatureNet(nn.Module):
    """The stem and stages of a network up to the deepest map asked for; their names are the network's.

    So `load_state_dict(state, strict=False)` takes a classifier's weights. `feature_info` describes the maps returned.
    """

    def __init__(
        self, stem: nn.Module, stages: nn.Sequential, info: FeatureInfo, out_indices: int | Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(info[i] for i in take_indices(len(info), out_indices))
        self.depths = self.feature_info.depths()
        self.stem = stem
        self.stages = stages[: max(self.depths)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [N, in_chans, H, W] to maps [N, num_chs, H / reduction, W / reduction], in the order asked for."""
        x = self.stem(x)
        maps = [x]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[depth] for depth in self.depths]

    @python_only
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the stages' activations anew in the backward pass instead of keeping them."""
        checkpoint_stages(self.stages, enable)


def checkpoint_stages(stages: nn.Sequential, enable: bool) -> None:
    """Turn gradient checkpointing of every stage on or off."""
    for stage in stages:
        assert isinstance(stage, Stage)
        stage.grad_checkpointing = enable
