"""State dicts of the released code (mobile-vision) and of timm in this package's names, strictly, and ours in timm's.

What a state dict is, is read from its keys. timm's networks have no stem bias: ours is zero then, and the other way it is
folded into the stem's batch norm. They have padding k // 2 everywhere, so that timm's weights of fbnetv3_b fit
`fbnetv3_b_same_padding`, not the released network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fbnetv3.arch import Arch, find_arch, same_padding
from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.weight_file import check_state

# Averaged weights first: they are what a training evaluates and publishes.
_INSIDE = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")
_RELEASED_BLOCK = re.compile(r"backbone\.stages\.xif(\d+)_(\d+)\.(.+)")
_RELEASED_PARTS = {
    "pw": "expand",
    "dw": "depthwise",
    "pwl": "project",
    "se.se.0.conv": "se.reduce",
    "se.se.1": "se.expand",
}
_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")
_TIMM_IR = {
    "conv_pw": "expand.conv",
    "bn1": "expand.bn",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.bn",
    "se.conv_reduce": "se.reduce",
    "se.conv_expand": "se.expand",
    "conv_pwl": "project.conv",
    "bn3": "project.bn",
}
_TIMM_SEPARABLE = {"conv_dw": "depthwise.conv", "bn1": "depthwise.bn", "conv_pw": "project.conv", "bn2": "project.bn"}
_TIMM_ENDS = {"conv_stem": "stem.conv", "bn1": "stem.bn", "conv_head": "head.conv", "classifier": "classifier"}


def unwrap(checkpoint: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, averaged weights preferred; the prefix `module.` is removed.

    Understood: plain state dicts, and those under `state_dict_ema` (timm), `model_ema` (mobile-vision, torchvision),
    `ema`, `state_dict` or `model`, the first that is there and not empty.

    Raises:
        InputError: neither a checkpoint nor a state dict.
    """
    for key in _INSIDE:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping) and checkpoint[key]:
            return unwrap(checkpoint[key])
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise InputError(f"expected a state dict, got {type(checkpoint).__name__}; give a mapping of names to tensors")
    for key, value in checkpoint.items():
        if not isinstance(value, Tensor):
            raise InputError(f"expected a state dict, but {key!r} holds {type(value).__name__}, not a tensor")
    state = {str(key).removeprefix("module."): value for key, value in checkpoint.items()}
    state.pop("n_averaged", None)  # a counter that torch's AveragedModel keeps beside the weights
    return state


def is_released(checkpoint: Any) -> bool:
    """Whether the keys are the released code's."""
    return any(key.startswith("backbone.stages.") for key in unwrap(checkpoint))


def convert(checkpoint: Any, model: str | Arch) -> tuple[dict[str, Tensor], Arch]:
    """Weights of `model` in this package's names, and the architecture that they fit.

    That is `same_padding` of the architecture for timm's weights, and else the architecture itself. The number of classes
    and of input channels is read from the weights. Dtypes are kept.

    Raises:
        InputError: unknown model, or keys or shapes that are not those of the network; the message names the differences.
    """
    arch = model if isinstance(model, Arch) else find_arch(model)
    state = unwrap(checkpoint)
    if is_released(state):
        state = {_from_released(key, arch): value for key, value in state.items()}
    elif "conv_stem.weight" in state:
        arch, state = same_padding(arch), _from_timm(state, arch)
    return _checked(state, arch), arch


def convert_mobile_cv(state_dict: Mapping[str, Any], name: str | Arch) -> dict[str, Tensor]:
    """Convert a released state dict into one that `build_model(name)` loads strictly; see `convert`."""
    return convert(state_dict, name)[0]


def convert_to_timm(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Our weights of fbnetv3_d, fbnetv3_g or fbnetv3_b_same_padding in the names of timm's network (needs timm).

    Raises:
        InputError: a network that timm has not, or has as another function; or not its state dict.
    """
    import timm

    arch = find_arch(name)
    variant = arch.name.removesuffix("_same_padding")
    if arch != same_padding(arch) or variant not in timm.list_models("fbnetv3_?"):
        raise InputError(
            f"timm has no network that equals {name}; allowed: fbnetv3_b_same_padding, fbnetv3_d, fbnetv3_g"
        )
    ours = _checked(dict(state), arch)
    with torch.device("meta"):
        keys = timm.create_model(variant, num_classes=len(ours["classifier.weight"])).state_dict()
    mean, bias = ours["stem.bn.running_mean"], ours["stem.conv.bias"]
    ours["stem.bn.running_mean"] = mean - bias  # (x + bias - mean) is what the norm sees
    return {key: ours[name] for key, name in timm_names(keys, arch).items()}


def timm_names(keys: Iterable[str], arch: Arch) -> dict[str, str]:
    """Our name for each of timm's keys; one that fits no rule stands for itself and fails the strict check.

    timm groups blocks in other stages than we do, in the same order; its last block is our head's expansion.
    """
    keys = list(keys)
    theirs = sorted({(int(m[1]), int(m[2])) for m in map(_TIMM_BLOCK.fullmatch, keys) if m})
    ours = [f"stages.{i}.{j}" for i, rows in enumerate(arch.stages) for j in range(sum(row.n for row in rows))]
    blocks = dict(zip(theirs, [*ours, "head.expand"], strict=False))
    separable = {b for b in blocks if f"blocks.{b[0]}.{b[1]}.conv_pwl.weight" not in keys}

    def rename(key: str) -> str:
        match = _TIMM_BLOCK.fullmatch(key)
        if not match:
            module, _, leaf = key.rpartition(".")
            return f"{_TIMM_ENDS.get(module, module)}.{leaf}"
        block, (module, _, leaf) = (int(match[1]), int(match[2])), match[3].rpartition(".")
        prefix = blocks.get(block, f"blocks.{block}")
        if prefix == "head.expand":
            return f"{prefix}.{'bn' if module == 'bn1' else module}.{leaf}"
        return f"{prefix}.{(_TIMM_SEPARABLE if block in separable else _TIMM_IR).get(module, module)}.{leaf}"

    return {key: rename(key) for key in keys}


def _from_timm(state: Mapping[str, Tensor], arch: Arch) -> dict[str, Tensor]:
    renamed = {ours: state[key] for key, ours in timm_names(state, arch).items()}
    renamed["stem.conv.bias"] = torch.zeros_like(state["conv_stem.weight"][:, 0, 0, 0])
    return renamed


def _checked(state: dict[str, Tensor], arch: Arch) -> dict[str, Tensor]:
    """`state` in the network's order, if its keys and shapes are the network's, whatever its classes and channels."""
    weight, stem = state.get("classifier.weight"), state.get("stem.conv.weight")
    if weight is not None and weight.dim() == 4:  # a 1x1 convolution in the released code
        state["classifier.weight"] = weight = weight.flatten(1)
    if weight is None or stem is None or weight.dim() != 2 or stem.dim() != 4:
        raise InputError(f"not a state dict of {arch.name}: it has no usable stem and classifier weights")
    with torch.device("meta"):
        expected = build_model(arch, num_classes=len(weight), in_chans=stem.shape[1]).state_dict()
    check_state(state, expected, arch.name)
    return {key: state[key] for key in expected}


def _from_released(key: str, arch: Arch) -> str:
    """A released key in our names; one that fits no rule comes back as it is and fails the strict check."""
    if key.startswith("head.conv."):
        return "classifier." + key.removeprefix("head.conv.")
    match = _RELEASED_BLOCK.fullmatch(key)
    if not match:
        return key
    stage, block, rest = int(match[1]), int(match[2]), match[3]
    if stage == 0:
        return f"stem.{rest}"
    if stage == len(arch.stages) + 1:
        return {"pwl.conv.weight": "head.conv.weight"}.get(rest, "head." + rest.replace("pw.", "expand.", 1))
    for part, ours in _RELEASED_PARTS.items():
        if rest.startswith(part + "."):
            return f"stages.{stage - 1}.{block}.{ours}.{rest.removeprefix(part + '.')}"
    return key
