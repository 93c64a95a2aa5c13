"""The released networks in timm's registry. Importing this module registers them.

    import timm, fbnetv3.hub.timm_models
    timm.create_model("fbnetv3_released_a", pretrained=True)

They are called `fbnetv3_released_a` .. `_g` and `fbnetv3_released_a0`, because timm's fbnetv3_b computes another function. The
tags are `fb_in1k` (the released weights, CC BY-NC 4.0) and, where timm's network computes the same function,
`ra2_in1k`. Weight files are downloaded and checked as everywhere in this package. `checkpoint_path=` takes files of the
released code, of timm, and of this package.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from fbnetv3.arch import ARCH_A0, ARCHS, Arch, find_arch
from fbnetv3.complexity import parts
from fbnetv3.errors import InputError
from fbnetv3.hub.convert import convert, is_released
from fbnetv3.hub.load import fetch_registered
from fbnetv3.hub.registry import RegisteredWeights, read_registry
from fbnetv3.model import FBNetV3, build_model
from fbnetv3.networks.weight_file import UNKNOWN

_SOURCE_KEYS = {"file", "url", "state_dict", "hf_hub_id"}  # with one of these a user gives the weights' place


def timm_name(model: str) -> str:
    """Return the name of a model in timm's registry: `fbnetv3_released_a` for `fbnetv3_a`."""
    return model.replace("fbnetv3_", "fbnetv3_released_")


def _tag(source: str) -> str:
    """Return timm's tag of a source: timm appends the data set, and does not name itself."""
    return f"{source.removeprefix('timm_')}_in1k"


def _cfg(arch: Arch, row: RegisteredWeights | None) -> dict[str, Any]:
    """Return timm's description of registered weights, or without any that of the architecture at its own resolution."""
    side = arch.resolution if row is None else row.transforms.crop
    cfg: dict[str, Any] = {
        "input_size": (3, side, side),
        # timm's tests of a model compare this with the feature map.
        "pool_size": (_pool_side(arch, side),) * 2,
        "num_classes": 1000,
        "first_conv": "stem.conv",
        "classifier": "classifier",
    }
    if row is not None:
        t = row.transforms
        cfg |= {
            "url": row.url,
            "crop_pct": t.crop / t.resize,  # timm computes the size to resize to from this ratio
            "interpolation": t.interpolation,
            "mean": t.mean,
            "std": t.std,
            "license": row.licence.lower().replace(" ", "-"),
            "paper_ids": "arXiv:2006.02049",
        }
    return cfg


def _pool_side(arch: Arch, side: int) -> int:
    """Return the side of the feature map that is pooled, for images of side `side`."""
    return int([part.side for part in parts(arch, resolution=side) if part.name.startswith("stages.")][-1])


def _same_function(model: str) -> tuple[RegisteredWeights, ...]:
    """Return the registered weights of a model that fit the released network itself, not its padding variant."""
    return tuple(row for row in read_registry().rows_of(model) if row.arch.name == model)


def _network(
    arch: Arch,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> FBNetV3:
    """Build a network from arguments with timm's names."""
    model: FBNetV3 = build_model(arch, dropout=drop_rate, stochastic_depth=drop_path_rate, **kwargs)
    model.register_load_state_dict_pre_hook(functools.partial(_read_checkpoint, arch))  # type: ignore[no-untyped-call]
    return model.to(device=device, dtype=dtype)


def _read_checkpoint(
    arch: Arch, model: nn.Module, state: dict[str, Any], prefix: str, *arguments: Any
) -> None:  # as torch calls it
    """Give a state dict of the released code or of timm our names, before torch loads it.

    timm's `checkpoint_path=` calls `load_state_dict` without asking the network for a filter.
    """
    foreign = is_released(state) or "conv_stem.weight" in state
    if prefix or not foreign:  # a prefix: the network is a part of another one, whose file it is
        return
    converted, found = convert(dict(state), arch)
    if found != arch:
        raise InputError(
            f"these are timm's weights, which fit {found.name}, another function than {arch.name}; load them with "
            f"fbnetv3.create_model, which builds {found.name}"
        )
    state.clear()
    state.update(converted)
    model.derived_from = (UNKNOWN,)  # type: ignore[assignment]  # a file does not say whose weights it has


def _adapt(row: RegisteredWeights, checkpoint: dict[str, Any], model: Any) -> dict[str, Tensor]:
    """Return a checkpoint under our names for timm to load, and set the origin that the model remembers."""
    state, _ = convert(checkpoint, find_arch(row.arch.name))
    model.derived_from = (row.id,)
    return state


def _entrypoint(arch: Arch) -> Callable[..., nn.Module]:
    """Return the function that timm calls to build a network."""
    name = timm_name(arch.name)

    def build(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> nn.Module:
        # timm gives a configuration, a tag, or nothing, which means the first registered weights.
        rows = {_tag(row.source): row for row in _same_function(arch.name)}
        tag = getattr(pretrained_cfg, "tag", pretrained_cfg) or next(iter(rows), None)
        # A configuration that the user wrote has no row. timm then loads the weights that it names.
        row = rows.get(str(tag))
        if pretrained and row is not None:
            overlay = dict(kwargs.get("pretrained_cfg_overlay") or {})
            if not overlay.keys() & _SOURCE_KEYS:
                # timm would download without our checks of the hash, so it gets a file that is already there.
                overlay["file"] = str(fetch_registered(row))
            kwargs |= {"pretrained_cfg_overlay": overlay, "pretrained_filter_fn": functools.partial(_adapt, row)}
        model: nn.Module = build_model_with_cfg(
            functools.partial(_network, arch),
            name,
            pretrained,
            pretrained_cfg=pretrained_cfg,
            feature_cfg={"feature_cls": "getter"},
            **kwargs,
        )
        return model

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{arch.name} as released by the paper's authors."
    return build


_MODELS = (*ARCHS.values(), ARCH_A0)
# timm looks for a module's `default_cfgs` and for its functions by name.
default_cfgs = generate_default_cfgs(
    {
        f"{timm_name(row.model)}.{_tag(row.source)}": _cfg(arch, row)
        for arch in _MODELS
        for row in _same_function(arch.name)
    }
    | {f"{timm_name(ARCH_A0.name)}.untrained": _cfg(ARCH_A0, None)}
)
for _arch in _MODELS:
    setattr(sys.modules[__name__], timm_name(_arch.name), register_model(_entrypoint(_arch)))
