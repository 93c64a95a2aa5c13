"""The state dict inside a checkpoint: under which key it is, behind which prefix, and what other programs add to it.

Content decides. A network is found by the weights of its first convolution, so whatever stands before that name is a prefix:
`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning, and all of them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fbnetv3.arch import Arch
from fbnetv3.errors import InputError, quote
from fbnetv3.hub.notes import note
from fbnetv3.model import build_model
from fbnetv3.networks.weight_file import check_finite, check_state, listed

# Averaged weights come first: they are what a training evaluates and publishes.
_CHECKPOINT_KEYS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
DEEPEST = 5  # checkpoints inside each other
# The weights of the first convolution: in this package, in timm, and in the released code.
_FIRST = ("stem.conv.weight", "conv_stem.weight", "backbone.stages.xif0_0.conv.weight")
# Modules that torch puts around others, also in the middle of a network.
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What is no weight: a counter of torch's AveragedModel, and what thop counts into every module.
_COUNTERS = re.compile(r"(?:.*\.)?(?:n_averaged|total_ops|total_params)")


def unwrap(checkpoint: Any) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint, the averaged weights if there are some, without prefixes and counters.

    A checkpoint is a plain state dict, or has one under `state_dict_ema` (timm), `model_ema` (mobile-vision, torchvision),
    `ema`, `state_dict`, `model_state_dict` or `model`. The first of these that is not empty is taken. A note names the entries
    beside the network, such as the weights of a loss.

    Raises:
        InputError: neither a checkpoint nor a state dict, or one of several networks.
    """
    content = checkpoint
    for _ in range(DEEPEST):  # a damaged file may contain itself
        content = next((content[key] for key in _CHECKPOINT_KEYS if _has_mapping(content, key)), content)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"expected a state dict, got {type(content).__name__}; give a mapping of names to tensors")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"expected a state dict, but {quote(key)} is {type(value).__name__}, not a tensor; give a mapping of names to "
                "tensors"
            )
    state = {_WRAPPERS.sub("", str(key)): value for key, value in content.items()}
    state = {key: value for key, value in state.items() if not _COUNTERS.fullmatch(key)}
    prefix = _prefix(state)
    if beside := [key for key in state if not key.startswith(prefix)]:
        note(f"the network is under {prefix!r}; {len(beside)} entries beside it are left out: {listed(beside)}")
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _has_mapping(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping) and bool(content[key])


def _prefix(keys: Iterable[str]) -> str:
    """Return what stands before the names of the network."""
    found = {key.removesuffix(first) for key in keys for first in _FIRST if key == first or key.endswith(f".{first}")}
    if len(found) > 1:
        places = ", ".join(map(quote, sorted(found)))
        raise InputError(
            f"expected the state dict of one network, but there are {len(found)}, under {places}; give a file with one of them"
        )
    return found.pop() if found else ""


def checked(state: Mapping[str, Tensor], arch: Arch) -> dict[str, Tensor]:
    """Return `state` in the order of the network's keys, after a check that keys, shapes and values are the network's.

    The number of classes and of input channels may be any. The classifier may be missing, as with `num_classes=0`. Head and
    last stages may be missing too, as with `features_only`. Counters of batches that a program left out are zero.

    Raises:
        InputError: they are not the network's.
    """
    stem, classifier = state.get("stem.conv.weight"), state.get("classifier.weight")
    no_classifier = "classifier.bias" in state if classifier is None else classifier.dim() != 2
    if stem is None or stem.dim() != 4 or no_classifier:
        raise InputError(
            f"not a state dict of {arch.name}: it has no usable stem and classifier weights, but {listed([*state])}"
        )
    with torch.device("meta"):  # only the shapes are needed, no memory
        model = build_model(arch, 0 if classifier is None else len(classifier), stem.shape[1])
    expected = _part(model.state_dict(), state)
    zero = torch.zeros((), dtype=torch.long, device=stem.device)  # not on the default device, which may be another one
    counters = {key: zero.clone() for key in expected if key.endswith(".num_batches_tracked")}
    state = {**{key: value for key, value in counters.items() if key not in state}, **state}
    check_state(state, expected, arch.name)
    check_finite(state, f"the weights of {arch.name}")
    return {key: state[key] for key in expected}


def _part(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the entries of a network that a state dict of it should have: all, or those up to its last stage."""
    names = {_module(key) for key in state}
    if "classifier" in names or "head" in names:
        return expected
    modules = list(dict.fromkeys(map(_module, expected)))
    last = max((i for i, name in enumerate(modules) if name in names), default=0)
    return {key: value for key, value in expected.items() if _module(key) in modules[: last + 1]}


def _module(key: str) -> str:
    """Return the part of the network that a key belongs to: stem, stages.0, ..., head, classifier."""
    return ".".join(key.split(".")[: 2 if key.startswith("stages.") else 1])
