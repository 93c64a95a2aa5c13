"""Feature maps at every resolution, for detection and segmentation: what they are, and a network that returns them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError
from fbnetv3.layers import Stage, python_only


# timm's FeatureInfo has the same methods, so code for timm's backbones works with these networks.
class FeatureInfo(list[dict[str, Any]]):
    """Facts about feature maps, a dict for each map: `num_chs`, `reduction` (product of the strides) and `module`."""

    def channels(self) -> list[int]:
        """Return the number of channels of every map."""
        return [info["num_chs"] for info in self]

    def reduction(self) -> list[int]:
        """Return the reduction of every map: the side of the image divided by the side of the map."""
        return [info["reduction"] for info in self]

    def module_name(self) -> list[str]:
        """Return the names of the modules in the network whose outputs the maps are."""
        return [info["module"] for info in self]

    def depths(self) -> list[int]:
        """Return the depth of every map's module in the network: 0 is the stem, 1 the first stage."""
        return [0 if name == "stem" else 1 + int(name.removeprefix("stages.")) for name in self.module_name()]


def feature_info(arch: Arch) -> FeatureInfo:
    """Return the deepest map at every resolution at which the stem or a stage of `arch` ends.

    The side of a map is the side of the image divided by the reduction, rounded up. It is a little less where a row pads by
    less than half its kernel, as the released A, B, C, E and F do at reductions 16 and 32.
    """
    reduction = arch.stem.s
    # Keyed by reduction, in the order of the network; dicts keep that order.
    deepest = {reduction: {"num_chs": arch.stem.c, "reduction": reduction, "module": "stem"}}
    for i, rows in enumerate(arch.stages):
        reduction *= math.prod(row.s for row in rows)
        # A stage without stride overwrites the map of the same resolution before it: the deepest one stays.
        deepest[reduction] = {"num_chs": rows[-1].c, "reduction": reduction, "module": f"stages.{i}"}
    return FeatureInfo(deepest.values())


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return the indices of the chosen maps, from 0 to `count` - 1.

    Args:
        indices: a list, in which negative indices count from the end; a number n for the last n maps; None for all.

    Raises:
        InputError: an index out of range, or no index.
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
    """The stem and the stages of a network up to the deepest requested map.

    The modules have the names that they have in the network, so `load_state_dict(state, strict=False)` accepts a
    classifier's weights. `feature_info` describes the maps that a call returns.
    """

    def __init__(
        self, stem: nn.Module, stages: nn.Sequential, info: FeatureInfo, out_indices: int | Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(info[i] for i in take_indices(len(info), out_indices))
        self.depths = self.feature_info.depths()
        self.stem = stem
        self.stages = stages[: max(self.depths)]  # depth d is the output of stage d - 1

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images [N, in_chans, H, W] to maps [N, num_chs, H / reduction, W / reduction], in the requested order."""
        x = self.stem(x)
        maps = [x]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[depth] for depth in self.depths]

    @python_only
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations of the stages in the backward pass instead of keeping them: less memory."""
        checkpoint_stages(self.stages, enable)


def checkpoint_stages(stages: nn.Sequential, enable: bool) -> None:
    """Turn gradient checkpointing on or off in every stage."""
    for stage in stages:
        assert isinstance(stage, Stage)
        stage.grad_checkpointing = enable
