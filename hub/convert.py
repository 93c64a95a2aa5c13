"""State dicts of the released code (mobile-vision) in this package's names, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fbnetv3.arch import Arch, find_arch
from fbnetv3.errors import InputError
from fbnetv3.model import build_model

_BLOCK = re.compile(r"backbone\.stages\.xif(\d+)_(\d+)\.(.+)")
_PARTS = {"pw": "expand", "dw": "depthwise", "pwl": "project", "se.se.0.conv": "se.reduce", "se.se.1": "se.expand"}


def unwrap(checkpoint: Any) -> dict[str, Tensor]:
    """The state dict inside a released checkpoint: `model_ema` when it is there and not None, else `state_dict`.

    A plain state dict is returned as it is; the prefix `module.` of data-parallel training is removed.

    Raises:
        InputError: neither a checkpoint nor a state dict.
    """
    for key in ("model_ema", "state_dict"):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            return unwrap(checkpoint[key])
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise InputError(f"expected a state dict, got {type(checkpoint).__name__}; give a mapping of names to tensors")
    for key, value in checkpoint.items():
        if not isinstance(value, Tensor):
            raise InputError(f"expected a state dict, but {key!r} holds {type(value).__name__}, not a tensor")
    return {str(key).removeprefix("module."): value for key, value in checkpoint.items()}


def convert_mobile_cv(state_dict: Mapping[str, Any], name: str | Arch) -> dict[str, Tensor]:
    """Convert a released state dict into one that `build_model(name)` loads strictly.

    Args:
        state_dict: keys as released, perhaps prefixed `module.`, perhaps inside `state_dict` or `model_ema`. Dtypes are kept.
        name: the network it belongs to. The number of classes and input channels is read from the state dict.

    Raises:
        InputError: unknown name, or keys or shapes that are not those of the network; the message names the differences.
    """
    arch = name if isinstance(name, Arch) else find_arch(name)
    released = unwrap(state_dict)
    converted = {_rename(key, arch): value for key, value in released.items()}
    weight = converted.get("classifier.weight")
    if weight is not None and weight.dim() == 4:
        converted["classifier.weight"] = weight = weight.flatten(1)
    stem = converted.get("stem.conv.weight")
    if weight is None or stem is None or weight.dim() != 2 or stem.dim() != 4:
        raise InputError(f"not a released state dict of {arch.name}: it has no usable stem and classifier weights")
    with torch.device("meta"):
        expected = build_model(arch, num_classes=len(weight), in_chans=stem.shape[1]).state_dict()
    check_state(converted, expected, arch.name)
    return {key: converted[key] for key in expected}


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Raise `InputError`, naming the differences, unless `state` has exactly the keys and shapes of `expected`."""
    shapes = [
        f"{key} is {list(state[key].shape)}, not {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    for what, keys in (
        ("missing", [key for key in expected if key not in state]),
        ("unexpected", [key for key in state if key not in expected]),
        ("of another shape", shapes),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"not a state dict of {name}: {len(keys)} entries {what}: {', '.join(keys[:3])}{more}")


def _rename(key: str, arch: Arch) -> str:
    """A released key in our names; one that fits no rule comes back as it is and fails the strict check."""
    if key.startswith("head.conv."):
        return "classifier." + key.removeprefix("head.conv.")
    match = _BLOCK.fullmatch(key)
    if not match:
        return key
    stage, block, rest = int(match[1]), int(match[2]), match[3]
    if stage == 0:
        return f"stem.{rest}"
    if stage == len(arch.stages) + 1:
        return {"pwl.conv.weight": "head.conv.weight"}.get(rest, "head." + rest.replace("pw.", "expand.", 1))
    for part, ours in _PARTS.items():
        if rest.startswith(part + "."):
            return f"stages.{stage - 1}.{block}.{ours}.{rest.removeprefix(part + '.')}"
    return key
