"""The released networks in timm's registry: importing this module registers them.

    import timm, fbnetv3.hub.timm_models
    timm.create_model("fbnetv3_released_a", pretrained=True)

They are called `fbnetv3_released_a` .. `_g` (and `_a0`), since timm's own fbnetv3_b is another function.
Tags: `fb_in1k` (the released weights, CC BY-NC 4.0) and, where timm's network is the same function, `ra2_in1k`. Files are
fetched and checked as everywhere in this package.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from fbnetv3.arch import ARCH_A0, ARCHS, Arch
from fbnetv3.complexity import parts
from fbnetv3.hub.convert import convert
from fbnetv3.hub.load import fetch_registered
from fbnetv3.hub.registry import Weights, read_registry
from fbnetv3.model import FBNetV3, build_model

_SOURCE_KEYS = {"file", "url", "state_dict", "hf_hub_id"}  # with one of these the user says where the weights are


def timm_name(model: str) -> str:
    """`fbnetv3_a` is `fbnetv3_released_a` in timm's registry."""
    return model.replace("fbnetv3_", "fbnetv3_released_")


def _tag(source: str) -> str:
    return f"{source.removeprefix('timm_')}_in1k"


def _cfg(arch: Arch, row: Weights | None) -> dict[str, Any]:
    """timm's description of weights; without any, of the architecture at its own size."""
    side = arch.resolution if row is None else row.transforms.crop
    cfg: dict[str, Any] = {
        "input_size": (3, side, side),
        "pool_size": (_pool_side(arch, side),) * 2,
        "num_classes": 1000,
        "first_conv": "stem.conv",
        "classifier": "classifier",
    }
    if row is not None:
        t = row.transforms
        cfg |= {
            "url": row.url,
            "crop_pct": t.crop / t.resize,
            "interpolation": t.interpolation,
            "mean": t.mean,
            "std": t.std,
            "license": row.licence.lower().replace(" ", "-"),
            "paper_ids": "arXiv:2006.02049",
        }
    return cfg


def _pool_side(arch: Arch, side: int) -> int:
    """Side of the map that is pooled."""
    return int([part.side for part in parts(arch, resolution=side) if part.name.startswith("stages.")][-1])


def _same_function(model: str) -> tuple[Weights, ...]:
    """The registered weights of a model that fit the released network itself."""
    return tuple(row for row in read_registry().of(model) if row.arch.name == model)


def _network(arch: Arch, drop_rate: float = 0.0, drop_path_rate: float = 0.0, **kwargs: Any) -> FBNetV3:
    """timm's names for our arguments."""
    model: FBNetV3 = build_model(arch, dropout=drop_rate, stochastic_depth=drop_path_rate, **kwargs)
    return model


def _adapt(row: Weights, checkpoint: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """What timm loads: the checkpoint in our names; the model remembers where it came from."""
    state, _ = convert(checkpoint, row.arch)
    model.derived_from = (row.id,)  # type: ignore[assignment]
    return state


def _entrypoint(arch: Arch) -> Callable[..., nn.Module]:
    name = timm_name(arch.name)

    def build(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> nn.Module:
        rows = {_tag(row.source): row for row in _same_function(arch.name)}
        tag = getattr(pretrained_cfg, "tag", pretrained_cfg) or next(iter(rows), None)
        row = rows.get(str(tag))  # a whole configuration of the user's own has no row: timm loads what it names
        if pretrained and row is not None:
            overlay = dict(kwargs.get("pretrained_cfg_overlay") or {})
            if not overlay.keys() & _SOURCE_KEYS:
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
