"""Convert state dicts of the released code (mobile-vision) and of timm into this package's names, and ours into timm's.

The keys of a state dict tell which code it comes from. Every conversion is strict: keys and shapes must be exactly those of
the network. timm's networks differ from ours in two ways. They have no bias in the stem, so our bias becomes zero, and in the
other direction it is folded into the stem's batch norm. They have padding k // 2 everywhere, so timm's weights of fbnetv3_b
fit `fbnetv3_b_same_padding`, not the released network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fbnetv3.arch import Arch, find_arch, same_padding
from fbnetv3.errors import InputError
from fbnetv3.hub.state_dict import checked, unwrap

# Names of the released code: `xif2_0` is block 0 of its stage 2, which is our stage 1. Its stage 0 is the stem.
_RELEASED_BLOCK = re.compile(r"backbone\.stages\.xif(\d{1,3})_(\d{1,3})\.(.+)")
_RELEASED_PARTS = {
    "pw": "expand",
    "dw": "depthwise",
    "pwl": "project",
    "se.se.0.conv": "se.reduce",
    "se.se.1": "se.expand",
}
# Names of timm: blocks with an expansion have other names than depthwise separable ones.
_TIMM_BLOCK = re.compile(r"blocks\.(\d{1,3})\.(\d{1,3})\.(.+)")
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


def is_released(checkpoint: Any) -> bool:
    """Return whether the keys of a checkpoint are those of the released code."""
    return any(key.startswith("backbone.stages.") for key in unwrap(checkpoint))


def convert(checkpoint: Any, model: str | Arch) -> tuple[dict[str, Tensor], Arch]:
    """Return weights of `model` under this package's names, and the architecture that they fit.

    timm's weights fit the `same_padding` variant of the architecture, all others the architecture itself. The weights may
    have any number of classes and input channels. Dtypes are kept.

    Raises:
        InputError: an unknown model, or keys or shapes that are not those of the network; the message names the differences.
    """
    arch = model if isinstance(model, Arch) else find_arch(model)
    state = unwrap(checkpoint)
    if is_released(state):
        state = {_from_released(key, arch): value for key, value in state.items()}
    elif "conv_stem.weight" in state:
        arch, state = same_padding(arch), _from_timm(state, arch)
    return checked(_flat_classifier(state), arch), arch


def convert_mobile_cv(state_dict: Mapping[str, Any], name: str | Arch) -> dict[str, Tensor]:
    """Return a state dict of the released code under the names of `build_model(name)`; see `convert` for errors."""
    return convert(state_dict, name)[0]


def convert_to_timm(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return our weights under the names of timm's network. Needs timm.

    Args:
        name: fbnetv3_d, fbnetv3_g or fbnetv3_b_same_padding.

    Raises:
        InputError: timm does not have the network, or has one that computes another function; or a state dict of another
            network.
    """
    import timm

    arch = find_arch(name)
    variant = arch.name.removesuffix("_same_padding")
    if arch != same_padding(arch) or variant not in timm.list_models("fbnetv3_?"):
        raise InputError(
            f"timm has no network that equals {name}; allowed: fbnetv3_b_same_padding, fbnetv3_d, fbnetv3_g"
        )
    ours = checked(_flat_classifier(dict(state)), arch)
    if "head.conv.weight" not in ours:
        raise InputError(
            f"the weights of {arch.name} end before the head, which timm's network has; give complete weights"
        )
    with torch.device("meta"):  # only the keys are needed, no memory
        keys = timm.create_model(variant, num_classes=len(ours.get("classifier.weight", ()))).state_dict()
    mean, bias = ours["stem.bn.running_mean"], ours["stem.conv.bias"]
    # The norm computes x + bias - mean, so without the bias it needs the mean minus the bias.
    ours["stem.bn.running_mean"] = mean - bias
    return {key: ours[name] for key, name in timm_names(keys, arch).items()}


def timm_names(keys: Iterable[str], arch: Arch) -> dict[str, str]:
    """Return our name for each of timm's keys.

    timm groups the blocks into other stages, but in the same order. Its last block is the expansion of our head. A key that
    fits no rule keeps its name, so that the strict check afterwards reports it.
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
    """Return timm's weights under our names, with a stem bias of zero."""
    renamed = {ours: state[key] for key, ours in timm_names(state, arch).items()}
    weight = state["conv_stem.weight"]
    dtype = weight.dtype if weight.is_floating_point() else None
    renamed["stem.conv.bias"] = torch.zeros(weight.shape[:1], dtype=dtype, device=weight.device)
    return renamed


def _flat_classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which the classifier is a matrix: it is a 1x1 convolution in the released code."""
    weight = state.get("classifier.weight")
    return state if weight is None or weight.dim() != 4 else state | {"classifier.weight": weight.flatten(1)}


def _from_released(key: str, arch: Arch) -> str:
    """Return our name for a key of the released code.

    A key that fits no rule keeps its name, so that the strict check afterwards reports it.
    """
    if key.startswith("head.conv."):
        return "classifier." + key.removeprefix("head.conv.")
    match = _RELEASED_BLOCK.fullmatch(key)
    if not match:
        return key
    stage, block, rest = int(match[1]), int(match[2]), match[3]
    if stage == 0:
        return f"stem.{rest}"
    if stage == len(arch.stages) + 1:  # the head is the released code's last stage
        return {"pwl.conv.weight": "head.conv.weight"}.get(rest, "head." + rest.replace("pw.", "expand.", 1))
    # The dot after the part's name distinguishes `pw` from `pwl`.
    for part, ours in _RELEASED_PARTS.items():
        if rest.startswith(part + "."):
            return f"stages.{stage - 1}.{block}.{ours}.{rest.removeprefix(part + '.')}"
    return key
